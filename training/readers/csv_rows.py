"""A csv or csv.gz as a stream of rows, with one line for each way in which it can be broken."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO


def _open_text(path: Path) -> TextIO:
    """A table as text, gzipped or not; a byte order mark is dropped."""
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")


def read_rows(path: Path, needed: Sequence[str], blank: str | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """Stream the rows with the number of their (last) line.

    needed: columns that must be there; the others come along.
    blank: what stands in the cells that a short row lacks; None: a row that is too short for `needed` is an error.

    Raises ValueError with one line that names the file: a missing column (with those found), a short row, a file that
    is cut short, no gzip, not UTF-8 or no csv.
    """
    try:
        with _open_text(path) as text:
            rows = csv.DictReader(text, restval=blank)
            found = list(rows.fieldnames or [])
            if missing := [name for name in needed if name not in found]:
                raise ValueError(f"{path} has no column {', '.join(missing)}. It has: {', '.join(found) or 'none'}.")
            for row in rows:
                if any(row[name] is None for name in needed):
                    raise ValueError(f"{path} line {rows.line_num} is cut short: it has fewer columns than line 1.")
                yield rows.line_num, row
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); download it again.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}); save it as UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{path} is no csv ({error}).") from error
