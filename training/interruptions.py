"""What a run does when it is stopped from outside: a job's time is up, a disk is full, a process was killed.

A checkpoint is whole when its trainer_state.json is there, which Trainer writes last: one that a kill or a full disk
cut short is never resumed from.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

# How Python, safetensors and torch say that a disk is full.
NO_ROOM = ("No space left", "quota exceeded", "os error 28", "PytorchStreamWriter failed", "iostream error")
ASK_EVERY = 8  # steps between two rounds in which the processes ask one another


class StopOnSignal(TrainerCallback):
    """SIGTERM (SLURM: preempted, or time is up): finish the step, save a checkpoint, stop.

    With several processes the signal may reach one before another: all stop at the same step, the next of every
    ASK_EVERY.
    """

    def __init__(self) -> None:
        self.told = self.stopped = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts SIGTERM is a request; after it, however it ends, what it was before."""
        self.process, self.before = os.getpid(), signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, self.before)

    def _hear(self, *signal_and_frame: Any) -> None:
        if (
            os.getpid() != self.process
        ):  # a pool ends its forked workers so: one that only noted it would hang the pool
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        self.told = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._all_agree(args, state.global_step):
            if state.is_world_process_zero:
                print(f"told to stop: checkpoint-{state.global_step} is being saved", file=sys.stderr, flush=True)
            control.should_save = control.should_training_stop = self.stopped = True

    def _all_agree(self, args: TrainingArguments, step: int) -> bool:
        if args.world_size == 1 or not dist.is_initialized():
            return self.told
        if step % ASK_EVERY:
            return False
        anyone = torch.tensor(int(self.told), device=args.device)
        dist.all_reduce(anyone, op=dist.ReduceOp.MAX)
        return bool(anyone)


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was saved to its end; None without any."""
    numbered = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for checkpoint in numbered:
        if _is_whole(checkpoint):
            return checkpoint
        print(f"{checkpoint} was not saved to its end: it does not count", file=sys.stderr)
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return state["global_step"] == int(checkpoint.name.split("-")[1])


@contextmanager
def room_to_save(run: Path) -> Iterator[None]:
    """Around what saves: a full disk is one line, and what was cut short gives its room back.

    Raises:
        OSError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if not any(words in str(error) for words in NO_ROOM):
            raise
        for checkpoint in (run / "checkpoints").glob("checkpoint-*"):
            if not _is_whole(checkpoint):
                shutil.rmtree(checkpoint, ignore_errors=True)
        raise OSError(
            f"The disk of `{run}` is full. The checkpoints saved before are whole: make room, then `--resume`."
        ) from error
