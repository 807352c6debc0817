"""What the commands of cli.py print: a result as JSON, or as a person reads it."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any


def plain(value: Any) -> Any:
    """A result as strict JSON takes it: no NaN or infinity (null), no numpy scalars, no paths."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    number = float(value)  # numpy and torch scalars too
    return number if math.isfinite(number) else None


def print_json(value: Any) -> None:
    print(json.dumps(plain(value), ensure_ascii=False))


def print_result(work: Callable[[], Any], show: Callable[[Any], None], as_json: bool) -> None:
    """Do the work and print its result; with `as_json` whatever libraries print on stdout is sent to stderr."""
    if not as_json:
        show(work())
        return
    with contextlib.redirect_stdout(sys.stderr):
        result = work()
    print_json(result)


def written(value: Any) -> str:
    """A value as a person reads it: floats to four digits, dicts as "name value, name value"."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {written(part)}" for name, part in value.items())
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_values(result: dict[str, Any]) -> None:
    """Print a result as `key: value` lines, its `rows` (a list of dicts with equal keys) as a table."""
    from rich.console import Console
    from rich.table import Table

    for key, value in result.items():
        if key != "rows":
            print(f"{key}: {written(value)}")
    if rows := result.get("rows"):
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*map(written, row.values()))
        Console().print(table)
