"""Cross-entropies, report fingerprints, symmetric InfoNCE and triplets as equations; two processes agree with one."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from radscribe.modeling.modeling_losses import (
    IGNORED,
    gather_rows,
    info_nce,
    report_cross_entropy,
    text_fingerprints,
    triplet_loss,
    word_cross_entropy,
)


@pytest.fixture
def pairs():
    """Unit vectors of four studies: films (4, 8), reports (4, 8)."""
    torch.manual_seed(0)
    return F.normalize(torch.randn(4, 8), dim=-1), F.normalize(torch.randn(4, 8), dim=-1)


def one_sided(visual, text, scale):
    """InfoNCE from films to reports, written out study by study."""
    terms = [-(scale * v @ text[i]) + torch.logsumexp(scale * text @ v, 0) for i, v in enumerate(visual)]
    return sum(terms) / len(terms)


def test_cross_entropy_is_the_mean_over_words():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[1, 2, 0], [4, 0, 3]])
    expected = -logits.log_softmax(-1).gather(-1, labels[..., None]).mean()
    torch.testing.assert_close(word_cross_entropy(logits, labels), expected)


def test_cross_entropy_of_no_knowledge_is_log_of_the_vocabulary():
    loss = word_cross_entropy(torch.zeros(2, 3, 7), torch.ones(2, 3, dtype=torch.long))
    assert loss.item() == pytest.approx(math.log(7))


def test_cross_entropy_leaves_padding_out():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 4, 5), torch.tensor([[1, 2, IGNORED, IGNORED]])
    torch.testing.assert_close(word_cross_entropy(logits, labels), word_cross_entropy(logits[:, :2], labels[:, :2]))


def test_cross_entropy_of_half_precision_is_computed_in_full():
    assert (
        word_cross_entropy(torch.zeros(1, 2, 5, dtype=torch.bfloat16), torch.tensor([[1, 2]])).dtype == torch.float32
    )


def test_the_reports_cross_entropy_is_a_sum_over_words_and_a_mean_over_reports():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[1, 2, 0], [4, IGNORED, IGNORED]])
    expected = sum(word_cross_entropy(logits[i : i + 1, :n], labels[i : i + 1, :n]) * n for i, n in ((0, 3), (1, 1)))
    torch.testing.assert_close(report_cross_entropy(logits, labels), expected / 2)


def test_equal_reports_have_equal_fingerprints_whatever_their_padding():
    short, long = torch.tensor([[5, 6, 2]]), torch.tensor([[5, 6, 2, IGNORED, IGNORED]])
    assert text_fingerprints(short) == text_fingerprints(long)


@pytest.mark.parametrize("other", [[6, 5, 2], [5, 6, 6], [5, 2, IGNORED], [0, 5, 6], [5, 6, 0]])
def test_other_words_or_another_order_give_another_fingerprint(other):
    assert text_fingerprints(torch.tensor([[5, 6, 2]])) != text_fingerprints(torch.tensor([other]))


def test_fingerprints_of_many_long_reports_do_not_collide():
    torch.manual_seed(0)
    labels = torch.randint(0, 1000, (3000, 100)).unique(dim=0)
    assert len(text_fingerprints(labels).unique()) == len(labels)


def test_info_nce_is_the_mean_of_both_directions(pairs):
    visual, text = pairs
    expected = (one_sided(visual, text, 5.0) + one_sided(text, visual, 5.0)) / 2
    torch.testing.assert_close(info_nce(visual, text, torch.tensor(5.0), torch.arange(4)), expected)


def test_info_nce_is_symmetric_in_its_modalities(pairs):
    visual, text = pairs
    scale, prints = torch.tensor(5.0), torch.arange(4)
    torch.testing.assert_close(info_nce(visual, text, scale, prints), info_nce(text, visual, scale, prints))


def test_aligned_pairs_have_no_loss():
    rows = torch.eye(4)
    assert info_nce(rows, rows, torch.tensor(100.0), torch.arange(4)).item() == pytest.approx(0, abs=1e-6)


def test_swapped_pairs_have_a_great_loss():
    rows = torch.eye(4)
    assert info_nce(rows, rows.roll(1, 0), torch.tensor(100.0), torch.arange(4)).item() == pytest.approx(100)


def test_a_study_with_the_same_report_is_no_negative():
    rows = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), dim=-1)
    same = info_nce(rows, rows, torch.tensor(100.0), torch.tensor([7, 7, 8]))
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_two_films_of_equal_report_do_not_push_each_other_away(pairs):
    visual, text = (rows.clone().requires_grad_() for rows in pairs)
    info_nce(visual, text, torch.tensor(5.0), torch.tensor([7, 7, 7, 7])).backward()
    torch.testing.assert_close(visual.grad, torch.zeros_like(visual))


def test_a_batch_of_one_study_gives_zero(pairs):
    visual, text = pairs
    assert info_nce(visual[:1], text[:1], torch.tensor(5.0), torch.zeros(1)).item() == 0


def test_the_temperature_is_learned(pairs):
    scale = torch.tensor(5.0, requires_grad=True)
    info_nce(*pairs, scale, torch.arange(4)).backward()
    assert scale.grad.abs() > 0


def test_one_process_gathers_its_own_rows(pairs):
    assert gather_rows(pairs[0]) is pairs[0]


@pytest.fixture(params=["hardest", "semi_hard"])
def negatives(request):
    return request.param


def test_triplets_cost_nothing_where_the_match_is_nearer_by_the_margin(negatives):
    rows = torch.eye(4)  # cosines 1 and 0
    assert triplet_loss(rows, rows, 0.9, torch.arange(4), negatives) == 0


def test_triplets_cost_what_the_margin_lacks_in_both_directions(negatives):
    rows = torch.eye(4)
    assert triplet_loss(rows, rows, 1.25, torch.arange(4), negatives).item() == pytest.approx(2 * 0.25)


def test_equal_similarities_cost_two_margins(negatives):
    rows = torch.ones(4, 8)
    assert triplet_loss(rows, rows, 0.2, torch.arange(4), negatives).item() == pytest.approx(0.4)


def hardest(match, others):
    return max(others)


def semi_hard(match, others):
    return max([other for other in others if other <= match], default=min(others))


@pytest.mark.parametrize("choose", [hardest, semi_hard])
def test_triplets_take_the_hard_negative_of_each_direction(pairs, choose):
    visual, text = pairs
    cosines, terms = (visual @ text.T).tolist(), []
    for i in range(4):
        others = [j for j in range(4) if j != i]
        for row in ([cosines[i][j] for j in others], [cosines[j][i] for j in others]):
            terms.append(max(0.2 - cosines[i][i] + choose(cosines[i][i], row), 0))
    loss = triplet_loss(visual, text, 0.2, torch.arange(4), choose.__name__)
    assert loss.item() == pytest.approx(sum(terms) / 4)


def test_where_every_negative_is_nearer_the_least_similar_is_the_semi_hard_one():
    rows = torch.eye(2)
    assert triplet_loss(rows, rows.flip(0), 0.2, torch.arange(2), "semi_hard").item() == pytest.approx(2 * 1.2)


def test_lengths_of_vectors_do_not_count_in_triplets(pairs, negatives):
    visual, text = pairs
    prints = torch.arange(4)
    scaled = triplet_loss(3 * visual, text * torch.tensor([[1.0], [2.0], [5.0], [0.1]]), 0.2, prints, negatives)
    torch.testing.assert_close(scaled, triplet_loss(visual, text, 0.2, prints, negatives))


def test_a_pair_is_never_its_own_negative(negatives):
    """Were it one, no margin could ever be reached: its cosine less itself is 0."""
    assert triplet_loss(torch.eye(2), torch.eye(2), 0.9, torch.arange(2), negatives) == 0


def test_equal_reports_are_never_negatives(pairs, negatives):
    visual, text = (rows.clone().requires_grad_() for rows in pairs)
    loss = triplet_loss(visual, text, 0.2, torch.tensor([7, 7, 7, 7]), negatives)
    loss.backward()
    assert loss == 0 and visual.grad.abs().max() == 0


def test_a_study_beside_two_of_one_report_has_them_as_its_negatives(negatives):
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert triplet_loss(rows, rows, 1.0, torch.tensor([7, 7, 8]), negatives) == 0
    assert triplet_loss(rows, rows, 1.5, torch.tensor([7, 7, 8]), negatives).item() == pytest.approx(1.0)


def test_triplets_of_one_study_are_zero_and_their_gradient_is_too(pairs, negatives):
    visual, text = (rows[:1].clone().requires_grad_() for rows in pairs)
    loss = triplet_loss(visual, text, 0.2, torch.zeros(1), negatives)
    loss.backward()
    assert loss == 0 and visual.grad.eq(0).all() and text.grad.eq(0).all()


def test_a_batch_with_one_study_that_has_no_negative_keeps_finite_gradients(pairs, negatives):
    visual, text = (rows[:2].clone().requires_grad_() for rows in pairs)
    triplet_loss(visual, text, 2.0, torch.zeros(2), negatives).backward()
    assert visual.grad.isfinite().all() and text.grad.isfinite().all()


def test_triplets_of_half_precision_are_computed_in_full(pairs, negatives):
    visual, text = (rows.bfloat16() for rows in pairs)
    assert triplet_loss(visual, text, 0.2, torch.arange(4), negatives).dtype == torch.float32


def _contrast(name, visual, text, fingerprints):
    """The loss of this name; spawned processes cannot be handed a lambda."""
    if name == "info_nce":
        return info_nce(visual, text, torch.tensor(5.0), fingerprints)
    return triplet_loss(visual, text, 0.5, fingerprints, name)


def _contrast_half(rank, file, name, visual, text, results):
    """One of two processes: the loss of the whole batch from its half, and the gradient that comes back to it."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    rows = slice(2 * rank, 2 * rank + 2)
    half = visual[rows].clone().requires_grad_()
    loss = _contrast(name, half, text[rows], torch.arange(4)[rows])
    loss.backward()
    results[rank] = (loss.item(), half.grad.tolist())
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["info_nce", "hardest", "semi_hard"])
def test_two_processes_contrast_over_both_batches(pairs, tmp_path, name):
    """Gradients arrive summed over the two processes' losses; DistributedDataParallel divides them by two again."""
    visual, text = pairs
    whole = visual.clone().requires_grad_()
    expected = _contrast(name, whole, text, torch.arange(4))
    expected.backward()
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_contrast_half, (str(tmp_path / "meet"), name, visual, text, results), nprocs=2)
        losses, gradients = zip(*(results[rank] for rank in range(2)), strict=True)
    assert losses == pytest.approx([expected.item()] * 2)
    torch.testing.assert_close(torch.tensor(gradients).flatten(0, 1), 2 * whole.grad)
