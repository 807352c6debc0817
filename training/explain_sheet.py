"""A picture of an explanation: a row a sentence, the films with its heat over them beside its words. PIL alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .explain import Explanation, Sentence
from .sheet import FAINT, FILM, FONT_SIZE, INK, MARGIN, PAPER, TEXT_WIDTH, save_rows, wrap_text

COLOUR = np.array([255, 60, 0], np.float32)  # red, as on the page
STRONGEST = 0.75  # share of the colour at the hottest place: the film stays to be seen


def draw_explanation(explanation: Explanation, target: Path) -> Path:
    """Save the picture as PNG and return its path; each row is scaled to its own hottest place."""
    font = ImageFont.load_default(size=FONT_SIZE)
    rows = [_draw_row(explanation, sentence, font) for sentence in explanation.sentences]
    return save_rows(rows, font, target)


def _draw_row(explanation: Explanation, sentence: Sentence, font: Any) -> Image.Image:
    films = paint_films(explanation, sentence)
    for film in films:
        film.thumbnail((FILM, FILM), Image.Resampling.LANCZOS)
    row = Image.new("RGB", (len(films) * (FILM + MARGIN) + TEXT_WIDTH, max(film.height for film in films)), PAPER)
    for number, film in enumerate(films):
        row.paste(film, (number * (FILM + MARGIN), 0))
    draw, left = ImageDraw.Draw(row), len(films) * (FILM + MARGIN)
    lines = wrap_text(sentence.text, font, TEXT_WIDTH)
    draw.multiline_text((left, 0), "\n".join(lines), fill=INK, font=font)
    below = round(FONT_SIZE * 1.35) * (len(lines) + 1)
    # Each row is scaled to its own hottest place: how much that one counts must be said.
    lost = explanation.heat[sentence.start : sentence.stop].sum(0).max()
    facts = (
        f"confidence {sentence.confidence:.0%}\nwith the hottest window hidden {np.exp(lost):.3g} times less likely"
    )
    draw.multiline_text((left, below), facts, fill=FAINT, font=font)
    return row


def paint_films(explanation: Explanation, sentence: Sentence) -> list[Image.Image]:
    """Each film with the sentence's heat over it, in the film's own pixels."""
    words = range(sentence.start, sentence.stop)
    heat = [explanation.heat_on_film(words, view) for view in range(len(explanation.films))]
    hottest = max(float(h.max()) for h in heat) or 1.0
    painted = []
    for film, warmth in zip(explanation.films, heat, strict=True):
        share = STRONGEST * (warmth / hottest)[..., None] ** 1.5  # faint heat would be a veil over all of the film
        painted.append(Image.fromarray(((1 - share) * film[..., None] + share * COLOUR).astype(np.uint8)))
    return painted
