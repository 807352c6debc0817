"""Several candidate reports for a study, and the choice of the one that fits its films.

Beam search writes what is likely for any film, and most films are normal: it says the same of nearly all. Both models
have learnt how near a report is to films (SAM's contrastive loss, L_Global); here that chooses among candidates that
are drawn from the decoder's own distribution. Neither paper does so: it is ours, and off where no number is given.

Shapes: S studies, C candidates of each, T words, V words of the vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from .modeling_losses import IGNORED


def check_candidates(number: int, temperature: float, options: dict[str, Any]) -> None:
    """Raise for a number of candidates that cannot work, or for options of `generate()` that make no sense with it."""
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"`num_candidates` must be a whole number of at least 1. Got {number!r}.")
    if temperature <= 0:
        raise ValueError(f"`candidate_temperature` must be above 0. Got {temperature!r}.")
    for name in ("streamer", "return_dict_in_generate", "num_return_sequences", "assistant_model"):
        if options.get(name) not in (None, False, 1):
            raise ValueError(f"`num_candidates` returns the words of one report a study. Leave out `{name}`.")


class FixedNoise(LogitsProcessor):
    """Drawing words with noise that is the same for every study, in every batch, on every machine.

    The largest of logits plus Gumbel noise is a draw from their softmax. Noise that depends on candidate and position
    alone makes a study's candidates the same whether it is written alone or among others, today or tomorrow. Rows are
    studies, the candidates of each side by side.
    """

    def __init__(self, candidates: int, temperature: float) -> None:
        self.candidates, self.temperature = candidates, temperature
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (S * C, V) -> 0 at the word drawn, -infinity elsewhere. Called once a position."""
        uniform = torch.rand(self.candidates, scores.shape[-1], generator=self.generator).clamp(1e-9, 1 - 1e-7)
        noise = -(-uniform.log()).log()  # (C, V)
        noisy = scores.float() / self.temperature + noise.repeat(len(scores) // self.candidates, 1).to(scores.device)
        drawn = torch.full_like(scores, float("-inf"))
        return drawn.scatter_(-1, noisy.argmax(-1, keepdim=True), 0.0)


def as_labels(sequences: Tensor, end: int) -> Tensor:
    """[start, words, end, padding] of `generate()`, (..., T + 1) -> words and end mark, -100 behind them, (..., T)."""
    labels = sequences[..., 1:]
    is_end = (labels == end).long()
    ended = is_end.cumsum(-1) - is_end > 0
    return labels.masked_fill(ended, IGNORED)


def mean_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean log-probability of a report's words: (R, T, V), (R, T) -> (R,)."""
    seen = labels != IGNORED
    words = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]  # (R, T)
    return (words * seen).sum(-1) / seen.sum(-1).clamp(min=1)


def choose(likelihood: Tensor, similarity: Tensor) -> Tensor:
    """The candidate that is both likely and near the films, each in units of its spread: (S, C), (S, C) -> (S,)."""
    return (_standardise(likelihood) + _standardise(similarity)).argmax(-1)


def _standardise(scores: Tensor) -> Tensor:
    centred: Any = scores - scores.mean(-1, keepdim=True)
    return centred / centred.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
