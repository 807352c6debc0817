"""What a reader needs to judge or repeat a run: versions, hardware, the code's commit, the command."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .processes import this_process


def environment() -> dict[str, Any]:
    """What a reader needs to judge or repeat a run: versions, hardware, the code's commit."""
    names = ("radscribe", "torch", "transformers", "datasets", "accelerate", "tokenizers", "timm", "POT")
    return {
        "versions": {name: version(name) for name in names},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "processes": this_process().num_processes,
        "commit": _commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _commit() -> str | None:
    """The commit of the code; None outside of a repository or without git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return None
    return found.stdout.strip() or None
