"""Several candidate reports for a study, and the choice of the one that fits its films.

Beam search writes what is likely for any film, and most films are normal: it says the same of nearly all. Here reports
are drawn from the decoder's own distribution, and three things choose among them: how likely a report is, how near it
is to the films in the space that both models have learnt (SAM's contrastive loss, L_Global), and how much the others
agree with it (minimum Bayes risk: Kumar & Byrne, HLT-NAACL 2004). Neither paper does so: it is ours, and off where no
number is given.

Shapes: S studies, C candidates of each, T words, V words of the vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from .modeling_losses import IGNORED

LONGEST = 4  # words of a run, as BLEU and CIDEr count them


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


def agreement(labels: Tensor) -> Tensor:
    """How alike a candidate is to the others of its study: (S, C, T) -> (S, C).

    The mean over lengths n of 1 to LONGEST of the cosine between counts of runs of n words.
    """
    total = torch.zeros(labels.shape[:2], device=labels.device)
    runs, inside = torch.zeros_like(labels), torch.ones_like(labels, dtype=torch.bool)
    for n in range(min(LONGEST, labels.shape[-1])):
        words = labels[..., n:]
        # One number a run, in wrapping 64-bit arithmetic; what ends behind the report is no run.
        runs = (runs[..., : words.shape[-1]] * 1_000_003) ^ (words + 1)
        inside = inside[..., : words.shape[-1]] & (words != IGNORED)
        for study in range(len(labels)):  # all pairs of runs of all studies at once would not fit a small machine
            total[study] += _mean_cosine(runs[study], inside[study]) / LONGEST
    return total


def _mean_cosine(runs: Tensor, inside: Tensor) -> Tensor:
    """The mean cosine of each candidate's counts to those of the others: (C, R), (C, R) -> (C,)."""
    same = runs[:, None, :, None] == runs[None, :, None, :]  # (C, C, R, R)
    common = (same & inside[:, None, :, None] & inside[None, :, None, :]).sum((-1, -2)).float()
    length = common.diagonal().sqrt().clamp(min=1)
    cosines = common / (length[:, None] * length[None, :])
    return (cosines.sum(-1) - cosines.diagonal()) / max(len(runs) - 1, 1)


def choose(*scores: Tensor) -> Tensor:
    """The candidate with the best sum of scores, each in units of its spread: any number of (S, C) -> (S,)."""
    return sum(map(_standardise, scores), torch.zeros(())).argmax(-1)


def _standardise(scores: Tensor) -> Tensor:
    centred: Any = scores - scores.mean(-1, keepdim=True)
    return centred / centred.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
