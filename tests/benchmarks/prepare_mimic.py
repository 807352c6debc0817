"""Seconds and peak memory of `prepare mimic-cxr` for few and for many made-up studies, each in a process of its own.

    python -m tests.benchmarks.prepare_mimic FOLDER [--studies 2000 200000] [--embedded 512 8192] [--processes 2]
        [--cases tables annotation embed]

Three cases: MIMIC-CXR-JPG's tables with a zip of reports; R2Gen's annotation.json; and the tables with --embed, whose
films are JPEG files of noise, 256 pixels a side. The trees are made once and kept in FOLDER. Memory is the sum over
the process and its workers of their proportional set size (Linux, /proc/PID/smaps_rollup: pages that they share count
once), sampled some 20 times a second; `before` is what importing the package takes.
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from tests.tools.make_mimic import TINY, make_mimic, write_annotation

CASES = ("tables", "annotation", "embed")
_CALL = """
import json, sys, time
from pathlib import Path
from radscribe.training.readers.mimic_cxr import prepare_mimic_cxr
from radscribe.training.readers.summary import describe
print("ready", flush=True)
sys.stdin.readline()
begun = time.perf_counter()
answer = prepare_mimic_cxr(sys.argv[1], sys.argv[2], processes=int(sys.argv[3]), embed=sys.argv[4] == "embed")
describe(Path(sys.argv[2]))  # as the command does
print(json.dumps({"seconds": time.perf_counter() - begun, "kept": sum(answer["kept"].values())}))
"""


def family_memory(pid: int) -> tuple[float, float]:
    """MiB of a process and its children, shared pages counted once, and the anonymous part of it; 0 where it ended.

    Anonymous memory is what the program holds; the rest are pages of libraries and of data sets that are mapped, which
    the system gives back where it is short, and shares with whatever else runs.
    """
    try:
        fields = dict(line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        children = [
            int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except OSError:
        return 0.0, 0.0
    own = [int(fields.get(name, 0)) / 1024 for name in ("Pss:", "Pss_Anon:")]
    found = [own, *(family_memory(child) for child in children)]
    return sum(one[0] for one in found), sum(one[1] for one in found)


def make_source(folder: Path, case: str, studies: int) -> Path:
    """The made-up tree of a case, made unless it is there. An annotation's films are those of the tables' tree."""
    if case == "annotation":
        films, src = make_source(folder, "tables", studies) / "files", folder / f"annotation_{studies}"
        if not src.exists():
            src.mkdir()
            (src / "files").symlink_to(films.absolute())
            write_annotation(src, studies)
        return src
    src = folder / f"{'mimic' if case == 'tables' else 'embed'}_{studies}"
    if not src.exists():
        make_mimic(src, studies, film=TINY if case == "tables" else draw_jpeg())
    return src


def draw_jpeg() -> bytes:
    """A JPEG file of noise, 256 pixels a side."""
    file = io.BytesIO()
    Image.effect_noise((256, 256), 50).save(file, "JPEG", quality=95)
    return file.getvalue()


def measure(src: Path, out: Path, processes: int, case: str) -> dict[str, Any]:
    """Prepare `src` and report seconds, studies kept, memory (all, anonymous) before and at its peak."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", _CALL, str(src), str(out), str(processes), case]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as call:
        assert call.stdin and call.stdout
        call.stdout.readline()
        before = peak = family_memory(call.pid)
        call.stdin.write("\n")
        call.stdin.flush()
        while call.poll() is None:
            peak = tuple(map(max, peak, family_memory(call.pid)))
            time.sleep(0.03)
        answer = json.loads(call.stdout.read().splitlines()[-1])
    shutil.rmtree(out)
    return answer | {"before": before, "peak": peak}


def compare(folder: Path, case: str, sizes: list[int], processes: int) -> None:
    """Measure a case at both sizes and print the figures and the ratio of the peaks."""
    results = []
    for studies in sizes:
        result = measure(make_source(folder, case, studies), folder / f"out_{case}_{studies}", processes, case)
        results.append(result)
        (peak, anonymous), (before, anonymous_before) = result["peak"], result["before"]
        print(
            f"{case} {studies:>9,} studies: {result['seconds']:.1f} s, {studies / result['seconds']:,.0f} a second, "
            f"{result['kept']:,} kept, peak {peak:.0f} MiB ({before:.0f} before), "
            f"of it anonymous {anonymous:.0f} ({anonymous_before:.0f} before)",
            flush=True,
        )
    ratios = [many / few for few, many in zip(results[0]["peak"], results[1]["peak"], strict=True)]
    print(f"{case} peak memory, many to few: {ratios[0]:.3f}, anonymous {ratios[1]:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, nargs=2, default=[2000, 200_000])
    parser.add_argument("--embedded", type=int, nargs=2, default=[512, 8192])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for case in given.cases:
        compare(given.folder, case, given.embedded if case == "embed" else given.studies, given.processes)


if __name__ == "__main__":
    main()
