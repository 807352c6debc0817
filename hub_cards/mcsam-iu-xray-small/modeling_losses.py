"""Losses as pure functions: word cross-entropy (teacher forcing), symmetric InfoNCE and the hardest-negative triplet.

Shapes: B studies of this process, G studies of all processes, T words, D width.
The contrastive losses gather their batch across ranks, unless asked not to: with one process G = B.
"""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # label of a padded position, as everywhere in Transformers


def word_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the words: (B, T, vocabulary), (B, T) -> (). Padding (-100) is left out."""
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)


def report_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over a report's words, mean over reports (UAR, Eq. 5): (B, T, vocabulary), (B, T) -> ()."""
    words = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return words / len(labels)


def text_fingerprints(labels: Tensor) -> Tensor:
    """One integer a report, equal for equal texts whatever their padding: (B, T) -> (B,).

    A polynomial hash in wrapping 64-bit arithmetic: ranks that padded to different lengths can compare by it.
    """
    powers = torch.ones(labels.shape[1], dtype=torch.long, device=labels.device).fill_(1_000_003).cumprod(0)
    return ((labels + 1) * powers * (labels != IGNORED)).sum(1)


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all ranks, gradients included: (B, ...) -> (G, ...)."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    return torch.cat(dist_nn.all_gather(rows.contiguous()))


def info_nce(visual: Tensor, text: Tensor, scale: Tensor, fingerprints: Tensor, everywhere: bool = True) -> Tensor:
    """Symmetric InfoNCE with in-batch negatives (mcsam.md section 3): (B, D), (B, D), (), (B,) -> ().

    `visual` and `text` are unit vectors, row i of one matching row i of the other; `scale` is 1 / temperature.
    `everywhere`: with the batches of all ranks; else each rank with its own, G = B.
    """
    if everywhere:
        visual, text, fingerprints = gather_rows(visual), gather_rows(text), gather_rows(fingerprints)
    scores = scale * visual @ text.T  # (G, G)
    # Plain InfoNCE takes every other report as a negative. Two studies with the very same report (frequent for normal
    # films) are no negatives of each other, so their cells are left out; the paper's remedy, if any, is unknown.
    same_text = fingerprints[:, None] == fingerprints[None, :]
    others = same_text & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(others, torch.finfo(scores.dtype).min)
    target = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


def triplet_loss(
    visual: Tensor, text: Tensor, margin: float, fingerprints: Tensor, negatives: str, everywhere: bool = True
) -> Tensor:
    """L_Global, a hinge against one hard negative in each direction (UAR, Eq. 10): (B, D), (B, D), (B,) -> ().

    <.,.> of the equation is the cosine. Row i of `visual` matches row i of `text`. A batch without negatives gives 0.
    negatives: "hardest" is the most similar row of the batch that does not match (VSE++); "semi_hard" the most similar
        of those that are no nearer than the match, else the least similar (FaceNet).
    everywhere: as `info_nce`.
    """
    visual, text = (F.normalize(rows.float(), dim=-1) for rows in (visual, text))
    if everywhere:
        visual, text, fingerprints = gather_rows(visual), gather_rows(text), gather_rows(fingerprints)
    cosines = visual @ text.T  # (G, G)
    # Two studies with the very same report are no negatives of each other, of which the paper says nothing.
    is_negative = fingerprints[:, None] != fingerprints[None, :]
    positive = cosines.diagonal()
    loss = cosines.new_zeros(())
    for rows in (cosines, cosines.T):  # films against reports, reports against films
        hard = _hard_negatives(rows, positive, is_negative, negatives)
        loss = loss + F.relu(margin - positive + hard).mean()
    return loss


def _hard_negatives(cosines: Tensor, positive: Tensor, is_negative: Tensor, kind: str) -> Tensor:
    """The cosine of each row's hard negative, -inf without any: (G, G), (G,), (G, G) -> (G,)."""
    candidates = cosines.masked_fill(~is_negative, -torch.inf)
    if kind == "hardest":
        return candidates.amax(dim=1)
    below = candidates.masked_fill(candidates > positive[:, None], -torch.inf).amax(dim=1)
    least = cosines.masked_fill(~is_negative, torch.inf).amin(dim=1)
    return torch.where(below.isinf() & is_negative.any(dim=1), least, below)
