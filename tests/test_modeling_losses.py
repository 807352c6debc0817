"""Word cross-entropy, report fingerprints and symmetric InfoNCE as equations; two processes agree with one."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from radscribe.modeling.modeling_losses import IGNORED, gather_rows, info_nce, text_fingerprints, word_cross_entropy


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


def _contrast_half(rank, file, visual, text, results):
    """One of two processes: the loss of the whole batch from its half, and the gradient that comes back to it."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    rows = slice(2 * rank, 2 * rank + 2)
    half = visual[rows].clone().requires_grad_()
    loss = info_nce(half, text[rows], torch.tensor(5.0), torch.arange(4)[rows])
    loss.backward()
    results[rank] = (loss.item(), half.grad.tolist())
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_contrast_over_both_batches(pairs, tmp_path):
    """Gradients arrive summed over the two processes' losses; DistributedDataParallel divides them by two again."""
    visual, text = pairs
    whole = visual.clone().requires_grad_()
    expected = info_nce(whole, text, torch.tensor(5.0), torch.arange(4))
    expected.backward()
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_contrast_half, (str(tmp_path / "meet"), visual, text, results), nprocs=2)
        losses, gradients = zip(*(results[rank] for rank in range(2)), strict=True)
    assert losses == pytest.approx([expected.item()] * 2)
    torch.testing.assert_close(torch.tensor(gradients).flatten(0, 1), 2 * whole.grad)
