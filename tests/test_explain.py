"""A report and what it comes from: geometry, sentences, topics, and a model that looks at one bright square."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from radscribe.modeling.modeling_report import ReportEncoderOutput, ReportOutput
from radscribe.training.build import load_checkpoint
from radscribe.training.explain import explain, explain_study, on_film
from radscribe.training.facts import TrainingFacts, count_sentences
from radscribe.training.heat_maps import GRID


@pytest.fixture(scope="module", params=["checkpoint", "uar_checkpoint", "words_checkpoint"])
def model(request):
    network, processor = load_checkpoint(str(request.getfixturevalue(request.param)))
    return network.eval(), processor


@pytest.fixture
def films():
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (50, 40), np.uint8), random.integers(0, 255, (40, 60), np.uint8)]


class Looker(torch.nn.Module):
    """A model to which every word is the likelier, the brighter the film's square of 255 is; all else is dark."""

    def __init__(self, eos):
        super().__init__()
        self.config = SimpleNamespace(max_views=2, eos_token_id=eos, model_type="looker")
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.decoder = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
        self.encoder = self.encode
        self.encode.__func__.visual = SimpleNamespace(read=lambda films, mask: films[:, 0].clamp(min=0).sum((1, 2, 3)))

    def encode(self, pixel_values=None, view_mask=None, visual_features=None):
        bright = pixel_values.clamp(min=0).sum((2, 3, 4)) if visual_features is None else visual_features
        return ReportEncoderOutput(last_hidden_state=bright)

    def _shift_labels(self, labels):
        return labels

    def forward(self, decoder_input_ids, encoder_outputs, use_cache, output_attentions=False):
        B, T = decoder_input_ids.shape
        chosen = (
            torch.nn.functional.one_hot(decoder_input_ids, 40)
            * encoder_outputs.last_hidden_state.sum(1)[:, None, None]
        )
        return ReportOutput(logits=chosen / 100, cross_attentions=(torch.full((B, 1, T, 8), 1 / 8),))


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize(("height", "width"), [(96, 96), (120, 80), (64, 110)])
def test_heat_lies_on_the_bright_square_whatever_the_film_went_through(fit, height, width, checkpoint):
    processor = load_checkpoint(str(checkpoint))[1]
    images = processor.image_processor
    images.size, images.resize, images.fit, images.image_mean, images.image_std = 48, 60, fit, [0.0], [1.0]
    top, left, side = height // 2 + 4, width // 2 - 20, 12
    film = np.zeros((height, width), np.uint8)
    film[top : top + side, left : left + side] = 255
    explanation = explain_study(Looker(2), processor, [film], "The lungs are clear.")
    heat = explanation.on_films(explanation.heat_of([0, 1, 2]))[0]
    assert heat.shape == film.shape
    rows, columns = np.indices(heat.shape)
    centre = (rows * heat).sum() / heat.sum(), (columns * heat).sum() / heat.sum()
    assert centre == pytest.approx((top + side / 2, left + side / 2), abs=3)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert top - 3 <= y < top + side + 3 and left - 3 <= x < left + side + 3


def test_places_fill_their_box_and_nothing_else():
    heat = on_film(np.ones((3, 3)), (10, 5, 40, 20), (30, 50))
    assert heat[5:20, 10:40].min() == pytest.approx(1)
    assert heat.sum() == pytest.approx(15 * 30)


def test_a_box_beyond_the_film_is_cut_at_its_edge():
    places = np.array([[1.0, 2.0], [3.0, 4.0]])
    heat = on_film(places, (-20, 0, 20, 40), (40, 20))  # the film is the right half of the box
    assert heat.shape == (40, 20)
    assert heat[:5, -1] == pytest.approx(2, abs=0.3) and heat[-5:, -1] == pytest.approx(4, abs=0.3)


def test_the_models_own_report_is_that_of_generate(model, films):
    network, processor = model
    inputs = processor(images=[films], return_tensors="pt")
    report = processor.batch_decode(network.generate(**inputs))[0]
    assert explain_study(network, processor, films).report == report


def test_a_given_report_is_explained_in_place_of_the_models(model, films):
    explanation = explain_study(*model, films, "The heart is enlarged. The lungs are clear.")
    assert [sentence.text for sentence in explanation.sentences] == ["The heart is enlarged.", "The lungs are clear."]
    assert explanation.words == "the heart is enlarged . the lungs are clear .".split()


def test_a_sentences_confidence_is_the_geometric_mean_of_its_words(model, films):
    explanation = explain_study(*model, films, "The heart is enlarged. The lungs are clear.")
    second = explanation.sentences[1]
    assert (second.start, second.stop) == (5, 10)
    assert second.confidence == pytest.approx(np.prod(explanation.probability[5:10]) ** (1 / 5))


def test_every_part_speaks_of_the_same_words(model, films):
    explanation = explain_study(*model, films, "The lungs are clear.")
    assert (
        len(explanation.words) == len(explanation.probability) == len(explanation.heat) == len(explanation.attention)
    )
    assert explanation.heat.shape == (5, 2, GRID, GRID)
    assert all(topic.by_word.shape == (5,) for topic in explanation.topics)


def test_a_sentence_without_a_full_stop_is_one_too(model, films):
    long = "The heart is enlarged. " * 3  # the model takes eleven words
    sentences = explain_study(*model, films, long).sentences
    assert [sentence.stop for sentence in sentences] == [5, 10, 11]


def test_topics_come_by_their_share_and_name_words(checkpoint, films):
    network, processor = load_checkpoint(str(checkpoint))
    topics = explain_study(network.eval(), processor, films).topics
    assert [topic.share for topic in topics] == sorted((topic.share for topic in topics), reverse=True)
    assert sum(topic.share for topic in topics) == pytest.approx(1)  # all four rows
    known = set(processor.tokenizer.get_vocab()) - set(processor.tokenizer.all_special_tokens) - {"."}
    assert all(word in known for topic in topics for word, weight in topic.words if weight > 0)


def test_observations_are_told_above_their_thresholds(checkpoint, films):
    named = {"Edema": 0.001, "Fracture": 0.999}
    network, processor = load_checkpoint(str(checkpoint), observations=named)
    told = {o.name: o.told for o in explain_study(network.eval(), processor, films).observations}
    assert told == {"Edema": True, "Fracture": False}


def test_films_are_the_upright_grey_ones(model, films):
    colour = np.stack([films[0]] * 3, axis=-1)
    explanation = explain_study(*model, [colour], "The lungs are clear.")
    assert np.abs(explanation.films[0].astype(int) - films[0]).max() <= 1


def test_a_model_that_writes_nothing_is_one_line(model, films, monkeypatch):
    network, processor = model
    ids = torch.tensor([[network.config.decoder_start_token_id, network.config.eos_token_id]])
    monkeypatch.setattr(network, "generate", lambda **inputs: ids)
    with pytest.raises(ValueError, match="writes no word for these films: there is nothing to explain"):
        explain_study(network, processor, films)


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_or_many_films_are_refused(model, films, count):
    with pytest.raises(ValueError, match=f"1 to 2 views for this model. Got {count} images."):
        explain_study(*model, (films * 2)[:count])


@pytest.mark.parametrize("report", ["", " . ", "--", "Zzyzx qqq."])
def test_a_report_without_words_that_the_model_knows_is_refused(model, films, report):
    with pytest.raises(ValueError, match="must have words that the model knows"):
        explain_study(*model, films, report)


def test_a_checkpoint_is_named_as_everywhere(checkpoint, draw_film):
    explanation = explain([draw_film("a.png")], str(checkpoint), "The lungs are clear.")
    assert explanation.films[0].shape == (64, 64)


def test_how_common_a_sentence_is_and_strange_films_are_told_from_the_checkpoints_facts(checkpoint, films):
    network, processor = load_checkpoint(str(checkpoint))
    reports = ["The lungs are clear.", "The lungs are clear. The heart is enlarged.", "No effusion.", "No edema."]

    class Facts(TrainingFacts):
        def strangeness(self, network, batch):
            return np.array([0.5, 2.0])

    facts = Facts(*count_sentences(reports, "iu"), style="iu", films=None)
    told = explain_study(network.eval(), processor, films, "The lungs are clear. The heart is enlarged.", facts)
    assert [sentence.common for sentence in told.sentences] == [
        "in 2 of 4 training reports (50.0%)",
        "in at most 1 of 4 training reports",
    ]
    (warning,) = told.warnings
    assert warning.startswith("Film 2 looks unlike the films this model learnt from (strangeness 2.0;")


def test_without_facts_nothing_is_said_of_the_training(model, films):
    explanation = explain_study(*model, films, "The lungs are clear.")
    assert explanation.sentences[0].common == "" and explanation.warnings == []


def test_words_of_a_given_report_that_the_model_does_not_know_are_shown_and_named(model, films):
    explanation = explain_study(*model, films, "The lungs are barely clear.")
    assert explanation.report == explanation.sentences[0].text == "The lungs are <unk> clear."
    assert explanation.warnings == ["The model does not know, and reads as <unk>: barely."]


def test_a_sentence_with_an_unknown_word_or_cut_off_is_not_looked_up(checkpoint, films):
    network, processor = load_checkpoint(str(checkpoint))
    facts = TrainingFacts(*count_sentences(["The lungs are clear."] * 2, "iu"), style="iu", films=None)
    long = "The lungs are <unk> clear. The lungs are clear. The lungs"
    told = explain_study(network.eval(), processor, films, long, facts)
    assert [bool(sentence.common) for sentence in told.sentences] == [False, True]
    assert told.warnings[-1] == "The model reads 11 words: the 3 behind them are left out."


def test_an_explanation_says_whose_report_it_is(checkpoint, draw_film):
    written, given = (
        explain(draw_film("a.png"), str(checkpoint), report) for report in (None, "The lungs are clear.")
    )
    assert (written.model, written.given, given.given) == (str(checkpoint), False, True)


def test_a_folder_is_one_study(checkpoint, draw_film, tmp_path):
    draw_film("study/a.png")
    draw_film("study/b.png")
    assert len(explain(tmp_path / "study", str(checkpoint), "The lungs are clear.").films) == 2


def test_the_report_is_told_before_what_it_comes_from_is_known(model, films):
    heard = []
    explanation = explain_study(*model, films, told=heard.append)
    assert heard == [explanation.report]
