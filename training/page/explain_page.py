"""An explanation as one page that opens anywhere: films, words to click, heat painted over the films by the page.

One file without network: the films are data URLs, the heat is its few numbers, and all text reaches the page as JSON
that the script sets as text, so that nothing in a report can become markup.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..explain import STOP, Explanation, Sentence, explain
from ..explain_sheet import draw_explanation
from ..sheet import check_target, jpeg_url

_TEMPLATE = Path(__file__).with_name("explain_template.html")
UNKNOWN = "<unk>"  # of our own tokenizers
LONGEST = 1024  # pixels of a film's longer side on the page
JPEG_QUALITY = 85
_HOW = (
    "What counts: a window of the film is hidden, and the words become so much less likely; of several words the sum. "
    "What the decoder was told stays meanwhile: where a model has observations, most of a finding comes by them. "
    "Where it looks: the decoder's attention, which measures nothing of the kind. Learnt mask: UAR's, one for all "
    "films; painted is how much more open a place is than the least open one. Each picture is scaled to its own "
    "highest place. Confidence is the geometric mean of a sentence's word "
    "probabilities: how sure the model is of the wording, not how true it is."
)


def explain_to_files(
    images: list[Path], model: str, report: str | None, png: Path | None, html: Path | None
) -> dict[str, Any]:
    """`radscribe explain`: explain one study (files, folders, zips), write the picture and the page where asked for.

    Returns the JSON form. Raises as `open_study` and `explain` do, and before the long work for names that do not end
    in .png and .html.
    """
    if png is not None:
        check_target(png, "picture", ".png")
    if html is not None:
        check_target(html, "page", ".html")
    explanation = explain(images, model, report)
    if png is not None:
        draw_explanation(explanation, png)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(explanation_html(explanation), encoding="utf-8")
    return explanation_json(explanation)


def explanation_html(explanation: Explanation) -> str:
    """The page as text."""
    data = explanation_json(explanation)
    for view, film in zip(data["views"], explanation.films, strict=True):
        view["url"] = data_url(film, LONGEST)
    for word, shown in zip(data["words"], _as_written(explanation), strict=True):
        word["shown"] = shown
    text = json.dumps(data | {"how": _HOW}, ensure_ascii=True)
    # A script ends at the first "</", in a string too.
    return _TEMPLATE.read_text(encoding="utf-8").replace("__DATA__", text.replace("<", "\\u003c"))


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """All of an explanation but the films' pixels, as JSON takes it.

    `views` say where on a film the h x w places of `heat`, `mask` and `by_place` lie: `box` is left, top, right and
    bottom in pixels of the film, and may reach beyond it.
    """
    e = explanation
    return {
        "model": e.model,
        "report": e.report,
        "given": e.given,
        "sentences": [vars(sentence) for sentence in e.sentences],
        "words": [{"text": w, "probability": float(p)} for w, p in zip(e.words, e.probability, strict=True)],
        "views": [
            {"width": film.shape[1], "height": film.shape[0], "box": list(box)}
            for film, box in zip(e.films, e.boxes, strict=True)
        ],
        "heat": _round(e.heat),
        "attention": _round(e.attention),
        "mask": None if e.mask is None else _round(e.mask),
        "similarity": e.similarity,
        "topics": [vars(t) | {"by_word": _round(t.by_word), "by_place": _round(t.by_place)} for t in e.topics],
        "observations": [vars(o) | {"told": o.told, "by_place": _round(o.by_place)} for o in e.observations],
        "warnings": e.warnings,
    }


def _round(values: np.ndarray) -> Any:
    """Nested lists of numbers with four decimals more than the largest of them needs."""
    largest = float(np.abs(values).max(initial=0))
    digits = 4 - int(np.floor(np.log10(largest))) if largest > 0 else 0
    return np.round(values.astype(float), digits).tolist()


def _as_written(explanation: Explanation) -> list[str]:
    """Each word as it stands in its sentence, with capitals and full stops; what is no word to a reader is ""."""
    shown = list(explanation.words)
    for sentence in explanation.sentences:
        own = range(sentence.start, sentence.stop)
        written = _pieces(sentence)
        # A report that the model has written leaves out the mark of an unknown word; one that is given keeps it.
        silent = [{STOP}, {STOP, UNKNOWN}]
        for places in ([t for t in own if shown[t] not in marks] for marks in silent):
            if len(written) == len(places):  # else the tokenizer cuts words: its pieces as they are
                pieces = dict(zip(places, written, strict=True))
                shown[sentence.start : sentence.stop] = [pieces.get(t, "") for t in own]
                break
    return shown


def _pieces(sentence: Sentence) -> list[str]:
    """The words of a sentence as written, a full stop with the word before it."""
    return sentence.text.replace(" .", ".").split()


def data_url(film: np.ndarray, longest: int) -> str:
    """A grey film (H, W) uint8 as a JPEG of at most so many pixels a side."""
    picture = Image.fromarray(film)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return jpeg_url(picture, JPEG_QUALITY)
