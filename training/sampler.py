"""The order in which studies are learnt where a batch shall hold reports of about one length."""

from collections.abc import Iterator, Sequence

import torch
from transformers import ProcessorMixin

from ..modeling.modeling_losses import IGNORED


def count_words(processor: ProcessorMixin, reports: list[str]) -> list[int]:
    """Words that are learnt of each report, end mark included."""
    return [int((words != IGNORED).sum()) for words in processor(text=reports)["labels"]]


class AlikeLengths(torch.utils.data.Sampler[int]):
    """An epoch of studies; those that share a batch have reports of about one length, so little is padding.

    A random batch of 16 IU X-ray reports is padded to 57 words where their mean is 33. Batches come in random order:
    `LengthGroupedSampler` of Transformers goes from long to short again and again.

    Args:
        lengths: words of each study's report.
        batch_size: studies that are padded together, those of all processes and accumulated steps.
        seed: an epoch's order follows from it and the epoch's number, so that a resumed run goes on in its order.
        weights: an epoch is so many draws of studies by these, with replacement; None: every study once.
    """

    NOISE = 5.0  # words; without it the same studies would always meet

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, weights: torch.Tensor | None = None
    ) -> None:
        self.lengths, self.batch_size, self.seed, self.weights = torch.tensor(lengths), batch_size, seed, weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Accelerate before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        studies = torch.arange(len(self))
        if self.weights is not None:
            studies = torch.multinomial(self.weights, len(self), replacement=True, generator=generator)
        noise = self.NOISE * torch.rand(len(self), generator=generator)
        batches = studies[(self.lengths[studies] + noise).argsort()].split(self.batch_size)
        full = len(self) // self.batch_size
        order = [
            *torch.randperm(full, generator=generator).tolist(),
            *range(full, len(batches)),
        ]  # the rest comes last
        return iter([study for place in order for study in batches[place].tolist()])
