"""Topics of a report corpus by optimal transport: what MCSAM's memory bank starts from (mcsam.md section 2.1).

The paper learns "latent topics from the corpus of radiology reports with optimal transport" and names no method.
Our reading is the neural Sinkhorn topic model (NSTM, Zhao et al., ICLR 2021): a report's word distribution is moved
onto its topic distribution at the cost 1 - cos(word, topic); the topic vectors that make this cheap are the memory.

Shapes: J reports of a batch, U distinct words of the longest one, W words of the vocabulary, K topics, E vector width.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from ot.batch import solve_batch
from scipy.cluster.vq import kmeans2
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds
from torch import Tensor, nn

# NSTM's released settings (S7 of mcsam.md).
SHARPNESS = 20.0  # alpha: entropic regularisation is 1 / alpha
RECONSTRUCTION_WEIGHT = 0.07  # eps
HIDDEN, KEPT = 200, 0.75  # width of the topic encoder, share that its dropout keeps
LEARNING_RATE, BATCH, EPOCHS = 1e-3, 200, 50
TOLERANCE = 0.5e-2
# NSTM goes up to 1000 iterations and has no cap on steps. A plan that is a little off still points the topics the
# right way, and MIMIC-CXR's 50 epochs would be 67,000 steps.
MAX_ITERATIONS, MAX_STEPS = 100, 500
# NSTM's corpora come without stop words. A share instead of a list of ours: it also drops the full stop and what
# nearly every radiologist writes, and needs no language.
COMMON = 0.5


def word_vectors(reports: list[list[int]], vocab_size: int, dim: int, window: int = 5) -> np.ndarray:
    """Vectors of words from the training reports alone: positive PMI within a window, truncated SVD.

    NSTM takes ready GloVe vectors. Ours come from the reports, so that nothing is downloaded and every word has one.

    Args:
        reports: word ids of each training report.
        vocab_size: W.
        dim: E, below `vocab_size`.
        window: words to each side that count as context.

    Returns:
        (W, E), rows of words that never occur are zero.

    Raises:
        ValueError: `dim` is not below the number of words that occur.
    """
    pairs: Counter[tuple[int, int]] = Counter()
    for words in reports:
        for i, word in enumerate(words):
            pairs.update((word, other) for other in words[i + 1 : i + 1 + window])
    if not pairs:
        raise ValueError("Topics need reports of at least two words. Got none; check the training split.")
    (first, second), counts = np.array(list(pairs)).T, np.array(list(pairs.values()), dtype=float)
    joint = csr_array((counts, (first, second)), shape=(vocab_size, vocab_size))
    joint = (joint + joint.T).tocoo()
    word_share = joint.sum(axis=1) / joint.sum()  # (W,)
    if dim >= (word_share > 0).sum():
        raise ValueError(
            f"`memory_dim` must be below the {(word_share > 0).sum()} words that occur in the training reports. "
            f"Got {dim}; lower it."
        )
    row, column = joint.coords
    pmi = np.log(joint.data / joint.sum() / (word_share[row] * word_share[column]))
    ppmi = csr_array((pmi.clip(min=0), (row, column)), shape=joint.shape)
    start = np.random.default_rng(0).standard_normal(vocab_size)  # a fixed start makes the iteration repeatable
    left, strength, _ = svds(ppmi, k=dim, v0=start)
    # Unseen words come out of the iteration as noise of 1e-17, which has a direction like any other vector.
    return (left * np.sqrt(strength) * (word_share > 0)[:, None]).astype(np.float32)


def drop_common_words(reports: list[list[int]]) -> list[list[int]]:
    """Reports without the words that stand in more than half of them."""
    present = Counter(word for words in reports for word in set(words))
    return [[word for word in words if present[word] <= COMMON * len(reports)] for words in reports]


def sinkhorn(cost: Tensor, words: Tensor, topics: Tensor) -> tuple[Tensor, Tensor]:
    """Entropic optimal transport of every report at once: (J, U, K), (J, U), (J, K) -> plan (J, U, K), value (J,).

    The value carries exact gradients to the cost (the plan) and to the topic shares (the dual potential), both by
    the envelope theorem: nothing is unrolled. Padded words have mass 0.
    """
    result = solve_batch(
        cost.detach(),
        reg=1 / SHARPNESS,
        a=words,
        b=topics.detach(),
        method="sinkhorn",  # not in logarithms: log 0 of padded words would never converge
        tol=TOLERANCE,
        max_iter=MAX_ITERATIONS,
        grad="detach",
    )
    plan = result.plan
    potential = result.potentials[1].clamp(min=1e-30).log() / SHARPNESS  # (J, K)
    # A potential is known up to a constant; shares sum to one, so only its centred part has an effect.
    potential = potential - potential.mean(dim=1, keepdim=True)
    value = (plan * cost).sum((1, 2)) + (potential * (topics - topics.detach())).sum(1)
    return plan, value


class TopicModel(nn.Module):
    """NSTM: topic vectors G and the encoder that tells a report's topics from its words."""

    vectors: Tensor  # registered as a buffer

    def __init__(self, vectors: Tensor, topics: int) -> None:
        super().__init__()
        self.register_buffer("vectors", F.normalize(vectors, dim=-1))  # (W, E), fixed as in NSTM
        self.topics = nn.Parameter(torch.empty(topics, vectors.shape[1]))  # G: (K, E)
        nn.init.trunc_normal_(self.topics, std=0.1)
        self.encoder = nn.Sequential(
            nn.Linear(len(vectors), HIDDEN), nn.ReLU(), nn.Dropout(1 - KEPT), nn.Linear(HIDDEN, topics)
        )
        self.norm = nn.BatchNorm1d(topics)

    def forward(self, ids: Tensor, counts: Tensor) -> Tensor:
        """L_OT of a batch: distinct word ids (J, U) and their counts (J, U), 0 where padded -> ()."""
        bags = counts.new_zeros(len(ids), len(self.vectors)).scatter_add_(1, ids, counts)  # x: (J, W)
        shares = self.norm(self.encoder(bags)).softmax(-1)  # b: (J, K)
        closeness = self.vectors @ F.normalize(self.topics, dim=-1).T  # 1 - C: (W, K)
        # NSTM's code takes softmax(x), which gives mass to words that the report does not have. We take the counts
        # themselves: transport then runs over the few words of a report, whatever the vocabulary.
        words = counts / counts.sum(1, keepdim=True)  # a: (J, U)
        _, transport = sinkhorn(1 - closeness[ids], words, shares)
        likelihood = (shares @ closeness.T).log_softmax(-1)  # (J, W)
        return (transport - RECONSTRUCTION_WEIGHT * (bags * likelihood).sum(1)).mean()


def learn_topics(
    reports: list[list[int]],
    vectors: np.ndarray,
    topics: int,
    seed: int,
    on_step: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Topic vectors of the training reports: word ids a report, (W, E) -> (K, E).

    Args:
        on_step: called with the number of steps done and the loss, for progress.
    """
    ids, counts = _distinct_words(reports)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TopicModel(torch.from_numpy(vectors), topics)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        for step, batch in enumerate(_topic_batches(len(ids), generator), start=1):
            width = int((counts[batch] > 0).sum(1).max())  # U of this batch
            loss = model(ids[batch, :width], counts[batch, :width])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if on_step is not None:
                on_step(step, loss.item())
    return model.topics.detach()


def nearest_words(topics: Tensor, vectors: np.ndarray, count: int = 8) -> Tensor:
    """Ids of the words closest to each topic: (K, E), (W, E) -> (K, count)."""
    words = F.normalize(torch.from_numpy(vectors), dim=-1)
    return (F.normalize(topics, dim=-1) @ words.T).topk(count, dim=-1).indices


def initial_memory(reports: list[list[int]], vocab_size: int, size: int, dim: int, how: str, seed: int) -> Tensor:
    """First rows of the memory bank from the training reports, of unit length: -> (M, D_M).

    Args:
        how: `ot` (the paper's topics), or one of the rivals that the ablation compares: `kmeans` of the word vectors,
            `random` normal rows.

    Raises:
        ValueError: an unknown `how`, or what `word_vectors` raises.
    """
    generator = torch.Generator().manual_seed(seed)
    if how == "random":
        return F.normalize(torch.randn(size, dim, generator=generator), dim=-1)
    if how not in ("ot", "kmeans"):
        raise ValueError(f"`memory_init` must be 'ot', 'kmeans' or 'random'. Got {how!r}.")
    vectors = word_vectors(reports, vocab_size, dim)
    if how == "kmeans":
        used = vectors[np.abs(vectors).sum(1) > 0]
        if size > len(used):
            raise ValueError(f"`memory_size` must be at most the {len(used)} words of the reports. Got {size}.")
        rows = torch.from_numpy(kmeans2(used, size, minit="++", rng=seed)[0])
    else:
        rows = learn_topics(drop_common_words(reports), vectors, size, seed)
    # The cost is a cosine, so topics have a direction but no length of their own.
    return F.normalize(rows, dim=-1)


def _topic_batches(reports: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of each step's reports. Neighbours, which have like many words, so that little padding is moved."""
    batches = [batch for batch in torch.arange(reports).split(BATCH) if len(batch) > 1]
    steps = min(MAX_STEPS, EPOCHS * len(batches))
    while steps > 0:
        for number in torch.randperm(len(batches), generator=generator)[:steps].tolist():
            yield batches[number]
        steps -= len(batches)


def _distinct_words(reports: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Word ids and counts of each report, padded, shortest report first: -> (J, U) long, (J, U) float.

    Empty reports are left out.
    """
    bags = sorted((Counter(words) for words in reports if words), key=len)
    if len(bags) < 2:
        raise ValueError("Topics need training reports that differ in their words. Use `memory_init=random` instead.")
    width = len(bags[-1])
    ids, counts = torch.zeros(len(bags), width, dtype=torch.long), torch.zeros(len(bags), width)
    for row, bag in enumerate(bags):
        ids[row, : len(bag)] = torch.tensor(list(bag))
        counts[row, : len(bag)] = torch.tensor(list(bag.values()), dtype=torch.float)
    return ids, counts
