"""Optimal transport plans and their gradients, word vectors, topics of a corpus whose themes are known."""

import numpy as np
import pytest
import torch

from radscribe.modeling import modeling_topics
from radscribe.modeling.modeling_topics import (
    SHARPNESS,
    TopicModel,
    drop_common_words,
    initial_memory,
    learn_topics,
    nearest_words,
    sinkhorn,
    word_vectors,
)

WORDS = 24  # 0-3 special tokens, 4-13 the first theme, 14-23 the second


@pytest.fixture
def reports():
    """400 reports of eight words, each of one theme; both themes have ten words."""
    rng = np.random.default_rng(0)
    return [(rng.choice(10, 8) + 4 + 10 * (i % 2)).tolist() for i in range(400)]


@pytest.fixture
def problem():
    """Costs (J, U, K), word shares (J, U) and topic shares (J, K) of three reports."""
    torch.manual_seed(0)
    cost = torch.rand(3, 6, 4, dtype=torch.float64)
    words, topics = (torch.rand(3, n, dtype=torch.float64) + 0.1 for n in (6, 4))
    return cost, words / words.sum(1, keepdim=True), topics / topics.sum(1, keepdim=True)


@pytest.fixture
def converged(monkeypatch):
    """Sinkhorn to the end instead of NSTM's tolerance."""
    monkeypatch.setattr(modeling_topics, "TOLERANCE", 1e-12)
    monkeypatch.setattr(modeling_topics, "MAX_ITERATIONS", 10_000)


def unrolled(cost, words, topics):
    """Plain Sinkhorn in logarithms, every step differentiable: plan, <P, C> and <P, C> - entropy / alpha."""
    u, v = torch.zeros_like(words), torch.zeros_like(topics)
    for _ in range(300):
        u = words.log() - torch.logsumexp(v[:, None] - SHARPNESS * cost, 2)
        v = topics.log() - torch.logsumexp(u[:, :, None] - SHARPNESS * cost, 1)
    plan = (u[:, :, None] + v[:, None] - SHARPNESS * cost).exp()
    transport = (plan * cost).sum((1, 2))
    return plan, transport, transport + (plan * plan.log()).sum((1, 2)) / SHARPNESS


def test_the_plan_moves_the_word_shares(problem):
    cost, words, topics = problem
    torch.testing.assert_close(sinkhorn(cost, words, topics)[0].sum(2), words, atol=5e-3, rtol=0)


def test_the_plan_arrives_at_the_topic_shares(problem):
    cost, words, topics = problem
    torch.testing.assert_close(sinkhorn(cost, words, topics)[0].sum(1), topics, atol=5e-3, rtol=0)


def test_the_plan_is_that_of_plain_sinkhorn(problem, converged):
    torch.testing.assert_close(sinkhorn(*problem)[0], unrolled(*problem)[0])


def test_the_value_is_the_cost_of_the_plan(problem, converged):
    torch.testing.assert_close(sinkhorn(*problem)[1], unrolled(*problem)[1])


def test_words_that_cost_nothing_to_move_have_no_transport():
    cost, share = 1 - torch.eye(3)[None], torch.tensor([[0.2, 0.3, 0.5]])
    assert sinkhorn(cost, share, share)[1].item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_to_the_cost_is_that_of_entropic_transport(problem, converged):
    """Against autograd through every iteration."""
    cost, words, topics = problem
    first, second = cost.clone().requires_grad_(), cost.clone().requires_grad_()
    sinkhorn(first, words, topics)[1].sum().backward()
    unrolled(second, words, topics)[2].sum().backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_the_gradient_to_the_topic_shares_is_that_of_entropic_transport(problem, converged):
    """Through a softmax, as in the model: shares sum to one, so only that part of the gradient is defined."""
    cost, words, topics = problem
    first, second = topics.log().requires_grad_(), topics.log().requires_grad_()
    sinkhorn(cost, words, first.softmax(-1))[1].sum().backward()
    unrolled(cost, words, second.softmax(-1))[2].sum().backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_at_the_shipped_tolerance_the_gradient_still_points_the_same_way(problem):
    cost, words, topics = problem
    first, second = topics.log().requires_grad_(), topics.log().requires_grad_()
    sinkhorn(cost, words, first.softmax(-1))[1].sum().backward()
    unrolled(cost, words, second.softmax(-1))[2].sum().backward()
    assert torch.cosine_similarity(first.grad, second.grad, dim=-1).min() > 0.95


def test_padded_words_change_no_plan(problem, converged):
    cost, words, topics = problem
    padded = torch.cat([cost, torch.rand(3, 2, 4, dtype=torch.float64)], dim=1)
    plan, value = sinkhorn(padded, torch.nn.functional.pad(words, (0, 2)), topics)
    expected = sinkhorn(cost, words, topics)
    torch.testing.assert_close((plan[:, :6], value), expected)
    assert (plan[:, 6:] == 0).all()


def test_padded_words_change_no_loss():
    torch.manual_seed(0)
    model = TopicModel(torch.randn(WORDS, 5), topics=3).eval()
    ids, counts = torch.tensor([[4, 5, 6], [7, 8, 9]]), torch.tensor([[1.0, 2.0, 1.0], [3.0, 1.0, 1.0]])
    padded = [torch.nn.functional.pad(part, (0, 2)) for part in (ids, counts)]
    torch.testing.assert_close(model(ids, counts), model(*padded))


def test_the_loss_reaches_topics_and_encoder():
    torch.manual_seed(0)
    model = TopicModel(torch.randn(WORDS, 5), topics=3)
    model(torch.tensor([[4, 5], [7, 8]]), torch.tensor([[1.0, 2.0], [1.0, 1.0]])).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in (model.topics, *model.encoder[0].parameters()))


def test_words_of_one_theme_have_vectors_of_one_direction(reports):
    vectors = torch.from_numpy(word_vectors(reports, WORDS, dim=4))
    closeness = torch.nn.functional.normalize(vectors[4:], dim=-1)
    closeness = closeness @ closeness.T
    within = torch.cat([closeness[:10, :10].flatten(), closeness[10:, 10:].flatten()])
    assert within.mean() > closeness[:10, 10:].mean() + 0.5


def test_word_vectors_hold_the_greatest_singular_values_of_positive_mutual_information():
    """Against the dense matrix, counted by hand: 0 1 and 1 2 are neighbours thrice, 2 3 and 0 3 once."""
    pairs = np.array([[0, 3, 0, 1], [3, 0, 3, 0], [0, 3, 0, 1], [1, 0, 1, 0]])
    share = pairs.sum(1) / pairs.sum()
    with np.errstate(divide="ignore"):
        information = np.log(pairs / pairs.sum() / np.outer(share, share)).clip(min=0)
    expected = np.sort(np.linalg.svd(information)[1])[-2:]
    vectors = word_vectors([[0, 1], [1, 2]] * 3 + [[2, 3], [3, 0]], vocab_size=4, dim=2, window=1)
    np.testing.assert_allclose(vectors.T @ vectors, np.diag(expected), atol=1e-5)


def test_words_that_never_occur_have_zero_vectors(reports):
    assert not word_vectors(reports, WORDS, dim=4)[:4].any()


def test_word_vectors_repeat(reports):
    np.testing.assert_array_equal(word_vectors(reports, WORDS, dim=4), word_vectors(reports, WORDS, dim=4))


def test_words_beyond_the_window_are_no_context():
    near, far = ([[0, 1, 2, 3]] for _ in range(2))
    near, far = word_vectors(near, 4, dim=3, window=1), word_vectors(far, 4, dim=3, window=3)
    assert not np.allclose(near @ near.T, far @ far.T)


def test_memory_wider_than_the_vocabulary_is_refused(reports):
    with pytest.raises(ValueError, match=r"`memory_dim` must be below the 20 words .* Got 20; lower it\."):
        word_vectors(reports, WORDS, dim=20)


def test_reports_without_two_words_are_refused():
    with pytest.raises(ValueError, match="reports of at least two words"):
        word_vectors([[4], [], [5]], WORDS, dim=2)


def test_words_of_more_than_half_of_the_reports_are_dropped():
    assert drop_common_words([[1, 2], [1, 3], [1, 4], [2, 5]]) == [[2], [3], [4], [2, 5]]


@pytest.fixture(scope="module")
def learned():
    """Word vectors, topics and losses of 400 reports in all of the 500 steps."""
    rng = np.random.default_rng(0)
    themes = [(rng.choice(10, 8) + 4 + 10 * (i % 2)).tolist() for i in range(400)]
    vectors, losses = word_vectors(themes, WORDS, dim=4), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_topics, "BATCH", 40)  # NSTM's 200 would make 100 steps of so few reports
        topics = learn_topics(themes, vectors, topics=2, seed=0, on_step=lambda step, loss: losses.append(loss))
    return vectors, topics, losses


@pytest.mark.slow
def test_topics_separate_the_words_of_two_themes(learned):
    vectors, topics, _ = learned
    themes = [set((words >= 14).tolist()) for words in nearest_words(topics, vectors, count=8)]
    assert sorted(themes, key=str) == [{False}, {True}]


@pytest.mark.slow
def test_the_loss_of_the_topics_falls(learned):
    losses = learned[2]
    assert len(losses) == 500 and np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.3


def test_steps_are_counted_for_progress(reports, monkeypatch):
    monkeypatch.setattr(modeling_topics, "MAX_STEPS", 3)
    steps = []
    learn_topics(reports, word_vectors(reports, WORDS, 4), 2, seed=0, on_step=lambda step, loss: steps.append(step))
    assert steps == [1, 2, 3]


def test_nearest_words_are_the_closest_by_angle():
    vectors = np.array([[2, 0], [0, 3], [1, 1]], dtype=np.float32)
    assert nearest_words(torch.tensor([[0.1, 1.0]]), vectors, count=2).tolist() == [[1, 2]]


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(modeling_topics, "MAX_STEPS", 3)


@pytest.mark.parametrize("how", ["ot", "kmeans", "random"])
def test_the_same_seed_gives_the_same_memory(reports, few_steps, how):
    first, second = (initial_memory(reports, WORDS, size=3, dim=4, how=how, seed=5) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("how", ["ot", "random"])
def test_another_seed_gives_another_memory(reports, few_steps, how):
    first, second = (initial_memory(reports, WORDS, size=3, dim=4, how=how, seed=seed) for seed in (5, 6))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("how", ["ot", "kmeans", "random"])
def test_memory_rows_have_length_one(reports, few_steps, how):
    rows = initial_memory(reports, WORDS, size=3, dim=4, how=how, seed=0)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(3))


@pytest.mark.parametrize("how", ["ot", "kmeans", "random"])
def test_memory_rows_are_single_precision(reports, few_steps, how):
    assert initial_memory(reports, WORDS, size=3, dim=4, how=how, seed=0).dtype == torch.float32


@pytest.mark.parametrize("how", ["ot", "kmeans", "random"])
def test_making_a_memory_leaves_the_global_dice_alone(reports, few_steps, how):
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1), np.random.RandomState(0).rand()
    torch.manual_seed(0)
    initial_memory(reports, WORDS, size=3, dim=4, how=how, seed=0)
    assert (torch.rand(1), np.random.rand()) == expected


def test_kmeans_rows_are_the_themes(reports):
    rows = initial_memory(reports, WORDS, size=2, dim=4, how="kmeans", seed=0)
    themes = [set((words >= 14).tolist()) for words in nearest_words(rows, word_vectors(reports, WORDS, 4))]
    assert sorted(themes, key=str) == [{False}, {True}]


def test_an_empty_report_among_others_is_left_out(reports, few_steps):
    assert torch.isfinite(initial_memory([[], *reports], WORDS, size=3, dim=4, how="ot", seed=0)).all()


def test_an_unknown_start_of_the_memory_is_refused(reports):
    with pytest.raises(ValueError, match="`memory_init` must be 'ot', 'kmeans' or 'random'. Got 'pca'"):
        initial_memory(reports, WORDS, size=3, dim=4, how="pca", seed=0)


def test_more_topics_than_words_are_possible(reports, few_steps):
    rows = initial_memory(reports, WORDS, size=40, dim=4, how="ot", seed=0)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(40))


def test_more_means_than_words_are_refused(reports):
    """They would be rows of zeros."""
    with pytest.raises(ValueError, match="`memory_size` .* 20 words"):
        initial_memory(reports, WORDS, size=40, dim=4, how="kmeans", seed=0)


def test_reports_that_are_all_alike_give_a_memory_or_one_line(few_steps):
    """Own studies of the first day: every word stands in more than half of the reports."""
    try:
        assert initial_memory([[4, 5, 6, 7, 8]] * 9, WORDS, size=3, dim=2, how="ot", seed=0).shape == (3, 2)
    except ValueError as error:
        assert "\n" not in str(error)


def test_a_single_report_gives_a_memory_or_one_line(few_steps):
    try:
        assert initial_memory([[4, 5, 6, 7, 8]], WORDS, size=3, dim=2, how="ot", seed=0).shape == (3, 2)
    except ValueError as error:
        assert "reports" in str(error)
