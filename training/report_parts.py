"""Reports of a split written by any number of processes: each study once, kept as they come, merged at the end.

OUT.parts/ holds asked.json, what the reports are of, and a file of JSON lines for each process of each call. A call
that was killed is gone on with by the same command, with any number of processes; another question is refused.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .readers.parts import write_whole


class ReportParts:
    """The parts of one file of reports.

    Args:
        out: the file to be.
        asked: what the reports are of; parts that were begun for something else are refused.
        rank: of this process.

    Raises:
        ValueError: parts that are of something else.
    """

    def __init__(self, out: Path, asked: dict[str, Any], rank: int) -> None:
        self.out, self.folder = out, out.with_name(out.name + ".parts")
        question = self.folder / "asked.json"
        if question.is_file() and (begun := json.loads(question.read_text())) != asked:
            named = ", ".join(f"`{name}`" for name in asked if begun.get(name) != asked[name])
            raise ValueError(
                f"{self.folder} holds parts of an unfinished call with another {named}. Remove it, or ask the same."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(question, lambda path: path.write_text(json.dumps(asked)))
        self.done = self._read()
        self.part = self.folder / f"{time.time_ns()}-{rank:05d}.jsonl"

    def _read(self) -> dict[str, str]:
        """{id: report} of all parts. A line that a kill cut short is no line: its study is written again."""
        done = {}
        for part in sorted(self.folder.glob("*.jsonl")):
            for line in part.read_text(encoding="utf-8").split("\n")[:-1]:
                row = json.loads(line)
                done[row["id"]] = row["report"]
        return done

    def add(self, names: Sequence[str], reports: Iterable[str]) -> None:
        """Write these reports as they come; each line is on the disk before the next report is waited for."""
        with self.part.open("w", encoding="utf-8") as file:
            for name, report in zip(names, reports, strict=True):
                file.write(json.dumps({"id": name, "report": report}) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def merge(self, names: Sequence[str]) -> None:
        """All reports in the order of the split: written to `out` as a whole, and the parts removed."""
        done = self._read()
        lines = "".join(json.dumps({"id": name, "report": done[name]}) + "\n" for name in names)
        write_whole(self.out, lambda path: path.write_text(lines, encoding="utf-8"))
        shutil.rmtree(self.folder)


def files_of(folder: str | Path) -> list[list[Any]]:
    """Name, size and time of change of a local folder's weights and settings; none of what is no folder."""
    files = sorted(path for path in Path(folder).glob("*") if path.suffix in (".safetensors", ".json"))
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
