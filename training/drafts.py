"""A report while it is written: the words of the first draft one after the other, then the report explained.

The shipped models draw many candidates of a report at once and choose one of them at the end, so no word of the report
itself is known before. What can be shown is the first candidate, as it is drawn.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from .explain import Explanation, explain_study


class _Reporter(StoppingCriteria):
    """Tells the first candidate's words after each position, and ends the writing when nobody listens any more."""

    def __init__(self, processor: Any, words: SimpleQueue) -> None:
        self.processor, self.words, self.unheard = processor, words, threading.Event()

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """(S * C, T) -> (S * C,), nothing of it done."""
        if self.unheard.is_set():
            raise CancelledError
        self.words.put(self.processor.decode(input_ids[0]))
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def count_drafts(network: Any) -> int:
    """How many candidates the model draws of a report."""
    return getattr(network.generation_config, "num_candidates", None) or 1


def follow_report(network: Any, processor: Any, films: Sequence[Any]) -> Iterator[str | Explanation]:
    """The first draft so far, again and again while it grows; at the end the Explanation of the report.

    Who closes the iterator early ends the writing within a word.

    Raises:
        ValueError: as `explain_study`.
    """
    words: SimpleQueue[str | None] = SimpleQueue()
    reporter = _Reporter(processor, words)
    with ThreadPoolExecutor(1) as pool:
        criteria = StoppingCriteriaList([reporter])
        future = pool.submit(explain_study, network, processor, films, stopping_criteria=criteria)
        future.add_done_callback(lambda _: words.put(None))
        try:
            while (draft := words.get()) is not None:
                yield draft
        finally:
            reporter.unheard.set()
    yield future.result()
