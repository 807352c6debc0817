"""A report while it is written: the words of a first draft, then the report, then what it comes from.

The shipped models draw many candidates of a report at once and choose one of them at the end, so no word of the report
itself is known before. What can be shown is the first candidate, as it is drawn.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from .explain import Explanation, explain_study
from .facts import TrainingFacts


@dataclass(frozen=True)
class Words:
    """What is written so far: of a draft, or the whole report."""

    text: str
    is_report: bool


class _Listener(StoppingCriteria):
    """Hands on the first candidate's words after each position; it never stops the writing."""

    def __init__(self, processor: Any, said: SimpleQueue) -> None:
        self.processor, self.said = processor, said

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """(S * C, T) -> (S * C,), all False."""
        self.said.put(Words(self.processor.decode(input_ids[0]), is_report=False))
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def count_drafts(network: Any) -> int:
    """How many candidates the model draws of a report."""
    return getattr(network.generation_config, "num_candidates", None) or 1


def follow_report(
    network: Any, processor: Any, films: Sequence[Any], facts: TrainingFacts | None, model: str = ""
) -> Iterator[Words | Explanation]:
    """A draft again and again as it grows, the report of these films of one study, at the end its Explanation.

    Who closes the iterator early ends the work before the next step of the model. One study at a time: the model must
    not be used beside.

    Raises:
        ValueError: as `explain_study`.
    """
    said: SimpleQueue[Words | None] = SimpleQueue()
    unheard = threading.Event()

    def go_on(*module_and_inputs: Any) -> None:
        if unheard.is_set():
            raise CancelledError

    work = partial(
        explain_study,
        *(network, processor, films),
        facts=facts,
        model=model,
        told=lambda report: said.put(Words(report, is_report=True)),
        stopping_criteria=StoppingCriteriaList([_Listener(processor, said)]),
    )
    hook = network.register_forward_pre_hook(go_on)
    try:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            future.add_done_callback(lambda _: said.put(None))
            try:
                while (words := said.get()) is not None:
                    yield words
            finally:
                unheard.set()
        yield future.result()
    finally:
        hook.remove()
