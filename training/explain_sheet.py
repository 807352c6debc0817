"""A picture of an explanation: a row a sentence, and one for each observation that the decoder was told, beside the
films with its heat over them. PIL alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .explain import Explanation
from .sheet import FAINT, FILM, FONT_SIZE, FOOTER, INK, MARGIN, PAPER, TEXT_WIDTH, save_rows, wrap_text

COLOUR = np.array([255, 60, 0], np.float32)  # red, as on the page
STRONGEST = 0.75  # share of the colour at the hottest place: the film stays to be seen


def draw_explanation(explanation: Explanation, target: Path) -> Path:
    """Save the picture as PNG and return its path; each row is scaled to its own hottest place."""
    font = ImageFont.load_default(size=FONT_SIZE)
    rows = []
    for sentence in explanation.sentences:
        heat = explanation.heat_of(range(sentence.start, sentence.stop))
        # How much the hottest place counts cannot be seen where each row is scaled to it.
        times = "over 1,000" if (less := np.exp(heat.max())) > 1000 else f"{less:.3g}"
        hidden = f"with the hottest window hidden {times} times less likely"
        rows.append((sentence.text, f"confidence {sentence.confidence:.0%}\n{hidden}", heat))
    for told in (observation for observation in explanation.observations if observation.told):
        rows.append((f"Told to the decoder: {told.name}", f"probability {told.probability:.0%}", told.by_place))
    whose = f"Report given, read by {explanation.model}. " if explanation.given else f"By {explanation.model}. "
    foot = (whose if explanation.model else "") + FOOTER
    return save_rows([_draw_row(explanation, *row, font) for row in rows], font, target, foot)


def _draw_row(explanation: Explanation, text: str, facts: str, places: np.ndarray, font: Any) -> Image.Image:
    films = paint_films(explanation, places)
    for film in films:
        film.thumbnail((FILM, FILM), Image.Resampling.LANCZOS)
    row = Image.new("RGB", (len(films) * (FILM + MARGIN) + TEXT_WIDTH, max(film.height for film in films)), PAPER)
    for number, film in enumerate(films):
        row.paste(film, (number * (FILM + MARGIN), 0))
    draw, left = ImageDraw.Draw(row), len(films) * (FILM + MARGIN)
    lines = wrap_text(text, font, TEXT_WIDTH)
    draw.multiline_text((left, 0), "\n".join(lines), fill=INK, font=font)
    draw.multiline_text((left, round(FONT_SIZE * 1.35) * (len(lines) + 1)), facts, fill=FAINT, font=font)
    return row


def paint_films(explanation: Explanation, places: np.ndarray) -> list[Image.Image]:
    """Each film with what is above 0 of these places (V, h, w) over it, in the film's own pixels."""
    heat = explanation.on_films(places.clip(min=0))
    hottest = max(float(warmth.max()) for warmth in heat) or 1.0
    painted = []
    for film, warmth in zip(explanation.films, heat, strict=True):
        share = STRONGEST * (warmth / hottest)[..., None] ** 1.5  # faint heat would be a veil over all of the film
        painted.append(Image.fromarray(((1 - share) * film[..., None] + share * COLOUR).astype(np.uint8)))
    return painted
