"""Seconds and peak memory of `prepare mimic-cxr` for few and for many made-up studies, each in a process of its own.

    python -m tests.benchmarks.prepare_mimic FOLDER [--studies 2000 200000] [--processes 2]

The trees are made once and kept in FOLDER. Memory is the sum over the process and its workers of their proportional
set size (Linux, /proc/PID/smaps_rollup: pages that they share count once), sampled 10 times a second; `before` is what
importing the package takes.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.tools.make_mimic import make_mimic

_CALL = """
import json, sys, time
from pathlib import Path
from radscribe.training.readers.mimic_cxr import prepare_mimic_cxr
from radscribe.training.readers.summary import describe
print("ready", flush=True)
sys.stdin.readline()
begun = time.perf_counter()
answer = prepare_mimic_cxr(sys.argv[1], sys.argv[2], processes=int(sys.argv[3]))
describe(Path(sys.argv[2]), 10, "mimic")  # as the command does
print(json.dumps({"seconds": time.perf_counter() - begun, "kept": sum(answer["kept"].values())}))
"""


def family_memory(pid: int) -> float:
    """MiB of a process and its children, shared pages counted once; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        children = [
            int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except OSError:
        return 0.0
    own = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) / 1024
    return own + sum(family_memory(child) for child in children)


def measure(src: Path, out: Path, processes: int) -> dict[str, Any]:
    """Prepare `src` and report seconds, studies kept, memory before and at its peak."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", _CALL, str(src), str(out), str(processes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as call:
        assert call.stdin and call.stdout
        call.stdout.readline()
        before = peak = family_memory(call.pid)
        call.stdin.write("\n")
        call.stdin.flush()
        while call.poll() is None:
            peak = max(peak, family_memory(call.pid))
            time.sleep(0.1)
        answer = json.loads(call.stdout.read().splitlines()[-1])
    shutil.rmtree(out)
    return answer | {"before_mib": before, "peak_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, nargs=2, default=[2000, 200_000])
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    results = []
    for studies in given.studies:
        src = given.folder / f"mimic_{studies}"
        if not src.exists():
            make_mimic(src, studies)
        result = measure(src, given.folder / f"out_{studies}", given.processes)
        results.append(result)
        print(
            f"{studies:>9,} studies: {result['seconds']:.1f} s, {studies / result['seconds']:,.0f} a second, "
            f"{result['kept']:,} kept, peak {result['peak_mib']:.0f} MiB ({result['before_mib']:.0f} before)",
            flush=True,
        )
    few, many = results
    growth = [one["peak_mib"] - one["before_mib"] for one in results]
    print(f"peak memory, many to few: {many['peak_mib'] / few['peak_mib']:.3f} (above the import: {growth} MiB)")


if __name__ == "__main__":
    main()
