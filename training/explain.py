"""Seeing why: for each word and sentence of a report, where in the films, the memory and the training it comes from.

    explanation = explain(["frontal.png", "lateral.png"], model="uar-iu-xray-small")
    explanation.on_films(explanation.heat_of([3, 4]))  # of two words, in the films' own pixels

Heat shows what a model used, which need not be what a radiologist would look at. See heat_maps.py for how it is
computed, `python -m radscribe.training.pointing_game` for how often it lies where the finding is.

Shapes: T words, V views, G x G places where a window of a film is hidden, h x w places that visual tokens stand for,
H x W pixels of a film, M rows of the memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..modeling.modeling_candidates import as_labels
from ..processing.image_processing_cxr import read_grey
from ..processing.processing_text import clean_report, restore_report
from ..processing.study_files import open_study
from .build import load_checkpoint
from .facts import TrainingFacts
from .film_domain import strange_line
from .heat_maps import Reading, read_report, topic_words
from .processes import this_process

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of a film
STOP = "."
TOPICS, WORDS_OF_A_TOPIC = 6, 8  # rows of the memory that are told of a study, and words that tell what a row is about


@dataclass
class Sentence:
    """Words `start` to `stop` (not included) of the report, as a person would write them.

    `confidence` is the geometric mean of their probabilities, each behind the words before it: how sure the model is
    of the wording, given these films. It is not the probability that the sentence is true. `common` says in how many
    training reports the sentence stands; "" where the checkpoint does not tell, or the sentence is not whole.
    """

    text: str
    start: int
    stop: int
    confidence: float
    common: str = ""


@dataclass
class Topic:
    """A row of MCSAM's memory that a study retrieves.

    Args:
        row: its number in the bank.
        words: those of the vocabulary that retrieve it most, with the weight they give it.
        share: of what films and report retrieve, how much this row is; films and report count alike.
        by_word: weight that each word of the report gives it, (T,).
        by_place: weight that each place of the films gives it, (V, h, w).
    """

    row: int
    words: list[tuple[str, float]]
    share: float
    by_word: np.ndarray
    by_place: np.ndarray


@dataclass
class Observation:
    """A finding that the decoder is told of from a probability of `threshold` on, each finding's own.

    `by_place` is what its logit loses where a window is hidden, (V, G, G).
    """

    name: str
    probability: float
    threshold: float
    by_place: np.ndarray

    @property
    def told(self) -> bool:
        return self.probability >= self.threshold


@dataclass
class Explanation:
    """A report and what it comes from; `films` are grey, upright, 0..255, (H, W) each.

    Args:
        words: of the report, T of them, as the model reads them.
        probability: of each word behind those before it, (T,).
        boxes: where on each film the places lie: what the model sees of it.
        heat: log-probability that each word loses where a window is hidden, in nats, (T, V, G, G).
        attention: of each word, sum 1 over all places of all views, (T, V, h, w).
        mask: UAR's, how open each place is at each position, (T, V, h, w) from 0 to 1; None without its second stage.
        similarity: cosine of films and report in the space they share; None where there is none.
        model: its name, "" where nobody said.
        given: whether the report was given, and not written by the model.
        warnings: of films unlike those that the model has learnt from, of a given report that it cannot read whole.
    """

    report: str
    words: list[str]
    probability: np.ndarray
    sentences: list[Sentence]
    films: list[np.ndarray]
    boxes: list[Box]
    heat: np.ndarray
    attention: np.ndarray
    mask: np.ndarray | None
    similarity: float | None
    topics: list[Topic] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    model: str = ""
    given: bool = False
    warnings: list[str] = field(default_factory=list)

    def heat_of(self, words: Sequence[int]) -> np.ndarray:
        """What these words together lose where a window is hidden, 0 where hiding helps: (V, G, G), nats."""
        return self.heat[list(words)].sum(0).clip(min=0)

    def attention_of(self, words: Sequence[int]) -> np.ndarray:
        """Mean attention of these words: (V, h, w)."""
        return self.attention[list(words)].mean(0)

    def on_films(self, places: np.ndarray) -> list[np.ndarray]:
        """Values of places (V, h, w), of any part of this explanation, in the films' own pixels: (H, W) each."""
        return [on_film(*row) for row in zip(places, self.boxes, (film.shape for film in self.films), strict=True)]


def on_film(places: np.ndarray, box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """Values of h x w places that lie in `box` of a film -> its pixels (H, W), between places by straight lines."""
    (h, w), (left, top, right, bottom), (height, width) = places.shape, box, shape
    wide, high = w / (right - left), h / (bottom - top)  # places a pixel
    step = (wide, 0, -left * wide, 0, high, -top * high)
    grid = Image.fromarray(np.ascontiguousarray(places, np.float32))
    film = grid.transform((width, height), Image.Transform.AFFINE, step, resample=Image.Resampling.BILINEAR)
    return np.asarray(film, np.float32)


def explain(images: Any, model: str, report: str | None = None) -> Explanation:
    """The report of one study's films and what it comes from.

    Args:
        images: the views of ONE study: files, folders, zips (study_files.py); or Pillow images, arrays.
        model: a run's folder, a checkpoint that comes with the package, or a Hub name.
        report: what is to be explained in place of the model's own report.

    Raises:
        ValueError: no films or more than the model takes, a report without words (given, or the model's own), no such
            model, a damaged film.
    """
    given = list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    if all(isinstance(image, (str, Path)) for image in given):
        given = [read_grey(film.film, film.where) for film in open_study(given)]
    network, processor = load_checkpoint(model)
    network = network.to(this_process().device).eval()
    return explain_study(network, processor, given, report, TrainingFacts.load(model), model)


def explain_study(
    network: Any,
    processor: Any,
    images: Sequence[Any],
    report: str | None = None,
    facts: TrainingFacts | None = None,
    model: str = "",
    told: Callable[[str], Any] = str,
    **generation: Any,
) -> Explanation:
    """As `explain`, with a network and processor that are loaded already, and the facts of its training set.

    `told` is called with the report as soon as it stands, long before what it comes from is known; `generation` is for
    `generate()`.
    """
    most = network.config.max_views
    if not 1 <= len(images) <= most:
        raise ValueError(f"A study has 1 to {most} views for this model. Got {len(images)} images.")
    films = [read_grey(image, where=f"`images[{number}]`") for number, image in enumerate(images)]
    inputs = {
        name: tensor.to(network.device) for name, tensor in processor(images=[films], return_tensors="pt").items()
    }
    inputs["pixel_values"] = inputs["pixel_values"].to(network.dtype)
    labels = _label_words(network, processor, inputs, report, generation).to(network.device)
    told(text := processor.decode(labels[0], clean=report is not None))
    ids = [word for word in labels[0].tolist() if word not in (network.config.eos_token_id, -100)]
    if not ids:
        raise ValueError("The model writes no word for these films: there is nothing to explain.")
    reading = read_report(network, inputs, labels)
    words = [processor.tokenizer.decode([word]) for word in ids]
    likely = reading.log_probability.cpu().float().numpy()[: len(words)]
    return Explanation(
        report=text if report is None else restore_report(text),
        words=words,
        probability=np.exp(likely),
        sentences=_cut_sentences(words, likely, processor.tokenizer.unk_token, report is None, facts),
        films=[np.asarray(film).clip(0, 255).astype(np.uint8) for film in films],
        boxes=[processor.image_processor.seen_box(*film.size) for film in films],
        heat=_numbers(reading.heat)[: len(words)],
        attention=_numbers(reading.attention)[: len(words)],
        mask=None if reading.mask is None else _numbers(reading.mask)[: len(words)],
        similarity=reading.similarity,
        topics=_find_topics(network, processor.tokenizer, reading, len(words)),
        observations=_list_observations(network, reading),
        model=model,
        given=report is not None,
        warnings=[*_warn_of_films(network, inputs, facts), *_warn_of_report(processor, report)],
    )


def _label_words(
    network: Any, processor: Any, inputs: dict[str, Tensor], report: str | None, generation: dict[str, Any]
) -> Tensor:
    """Ids of the report's words, (1, T): the one that is given, else the one that the model writes."""
    if report is None:
        return as_labels(network.generate(**inputs, **generation), network.config.eos_token_id)
    labels = processor(text=[report], return_tensors="pt")["labels"]
    if not any(map(str.isalnum, processor.decode(labels[0]))):
        raise ValueError(
            f"`report` must have words that the model knows. Got {report!r}; leave it out for the model's own."
        )
    return labels


def _cut_sentences(
    words: list[str], likely: np.ndarray, unknown: str, is_written: bool, facts: TrainingFacts | None
) -> list[Sentence]:
    """Sentences end with a full stop; the last one may lack it.

    Of a report that the model has written readers are spared the mark of an unknown word, as `generate` spares them;
    in one that is given it stands for a word that they know.
    """
    ends = [number + 1 for number, word in enumerate(words) if word == STOP]
    ends += [len(words)] if words[-1] != STOP else []
    starts = [0, *ends[:-1]]
    sentences = []
    for start, stop in zip(starts, ends, strict=True):
        own = words[start:stop]
        text = restore_report(" ".join(word for word in own if word != unknown or not is_written))
        is_whole = own[-1] == STOP and unknown not in own
        common = facts.tell_share(text) if facts is not None and is_whole else ""
        sentences.append(Sentence(text, start, stop, float(np.exp(likely[start:stop].mean())), common))
    return sentences


def _find_topics(network: Any, tokenizer: Any, reading: Reading, words: int) -> list[Topic]:
    """The rows of the memory that the study retrieves most, first the one of the largest share."""
    if reading.memory_of_words is None or reading.memory_of_films is None:
        return []
    by_word, by_place = _numbers(reading.memory_of_words)[:words], _numbers(reading.memory_of_films)
    share = (by_word.mean(0) + by_place.mean((0, 1, 2))) / 2
    vocabulary = topic_words(network)
    vocabulary[[*tokenizer.all_special_ids, tokenizer.convert_tokens_to_ids(STOP)]] = 0
    topics = []
    for row in np.argsort(-share)[:TOPICS]:
        best = vocabulary[:, row].topk(min(WORDS_OF_A_TOPIC, len(vocabulary)))
        named = [(tokenizer.decode([i]), w) for w, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
        topics.append(Topic(int(row), named, float(share[row]), by_word[:, row], by_place[..., row]))
    return topics


def _list_observations(network: Any, reading: Reading) -> list[Observation]:
    """Likeliest first."""
    if reading.observation_heat is None or reading.observation_logits is None:
        return []
    probabilities = reading.observation_logits.sigmoid().tolist()
    named = zip(network.config.observations.items(), probabilities, _numbers(reading.observation_heat), strict=True)
    listed = [Observation(name, p, threshold, places) for (name, threshold), p, places in named]
    return sorted(listed, key=lambda observation: -observation.probability)


def _warn_of_films(network: Any, inputs: dict[str, Tensor], facts: TrainingFacts | None) -> list[str]:
    """What is to be told of films that are strange to the model."""
    found = None if facts is None else facts.strangeness(network, inputs)
    if found is None:
        return []
    line = strange_line(found.tolist(), [f"Film {number}" for number in range(1, len(found) + 1)])
    return [] if line is None else [line]


def _warn_of_report(processor: Any, report: str | None) -> list[str]:
    """What is to be told of a given report that the model reads in part only."""
    if report is None:
        return []
    words, known = clean_report(report, processor.report_style).split(), processor.tokenizer.get_vocab()
    read = processor.max_length - 1
    lacking = dict.fromkeys(word for word in words[:read] if word not in known)
    warnings = [f"The model does not know, and reads as <unk>: {', '.join(lacking)}."] if lacking else []
    if len(words) > read:
        warnings.append(f"The model reads {read} words: the {len(words) - read} behind them are left out.")
    return warnings


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().to(torch.float32).numpy()
