"""Which of several processes this is, for torchrun and `accelerate launch` alike."""

import os

import torch
from accelerate import PartialState


def on_cpu() -> bool:
    """Whether there is but a CPU. Accelerate has to be told: else each process takes itself for the only one."""
    return not torch.accelerator.is_available()


def shards_weights() -> bool:
    """Whether `accelerate launch` was asked for FSDP, which cuts each weight into rows and wants them contiguous."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def this_process() -> PartialState:
    """Accelerate's state: this process's index, how many there are, its device."""
    return PartialState(cpu=on_cpu())
