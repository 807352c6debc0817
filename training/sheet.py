"""A picture of a few studies: the films of each beside the generated report and the true one.

Pixels: each study is a row as high as its films (224) or as its text, whichever is higher.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..processing.image_processing_cxr import read_grey

FILM = 224  # pixels of a film's longest side
MARGIN = 16
TEXT_WIDTH = 560
FONT_SIZE = 15
MAX_VIEWS = 2  # frontal and lateral; a third film would squeeze the text
INK, FAINT, PAPER = "#1b1b1b", "#6b6b6b", "#ffffff"
FOOTER = "radscribe: research software, not a medical device."


def load_thumbnail(path: str, size: int = FILM) -> Image.Image:
    """A film as an 8-bit grey picture of at most `size` pixels a side; 16 bits are stretched to 8.

    Raises what `read_grey` does.
    """
    film = read_grey(path).convert("L")
    film.thumbnail((size, size), Image.Resampling.LANCZOS)
    return film


def jpeg_url(picture: Image.Image, quality: int) -> str:
    """A picture as it stands in a page of one file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def wrap_text(text: str, font: Any, width: int) -> list[str]:
    """Lines of whole words, each at most `width` pixels wide; a single longer word stands alone."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _text_block(sample: dict[str, Any], font: Any) -> list[tuple[str, str]]:
    """(line, colour) of what stands beside the films."""
    block = [(sample["id"], FAINT)]
    for heading, key in (("Report", "report"), ("Truth", "truth")):
        block += [("", INK), (heading, FAINT)]
        block += [(line, INK) for line in wrap_text(sample[key] or "(nothing)", font, TEXT_WIDTH)]
    return block


def _draw_row(sample: dict[str, Any], views: int, font: Any) -> Image.Image:
    """One study: its films at the left, the text at the right."""
    block = _text_block(sample, font)
    line_height = round(FONT_SIZE * 1.35)
    height = max(FILM, line_height * len(block)) + MARGIN
    row = Image.new("RGB", (views * (FILM + MARGIN) + TEXT_WIDTH, height), PAPER)
    for position, path in enumerate(sample["images"][:views]):
        row.paste(load_thumbnail(path), (position * (FILM + MARGIN), 0))
    draw = ImageDraw.Draw(row)
    for number, (line, colour) in enumerate(block):
        draw.text((views * (FILM + MARGIN), number * line_height), line, fill=colour, font=font)
    return row


def check_target(target: Path, what: str, ending: str) -> None:
    """Raise ValueError for a file that could not be written, or with another ending; asked before the long work."""
    target = Path(target).absolute()
    if target.suffix.lower() != ending:
        raise ValueError(f"The {what}'s name must end in {ending}. Got {target.name}.")
    folder = next(parent for parent in target.parents if parent.exists())
    try:
        if target.is_dir():
            raise IsADirectoryError
        tempfile.TemporaryFile(
            dir=folder
        ).close()  # rights alone do not say: root has all, and a disk may be read-only
    except OSError as error:
        raise ValueError(f"The {what} {target} cannot be written: choose another folder.") from error


def check_sheet(target: Path, samples: int) -> None:
    """Raise ValueError for no samples or a file that could not be written; asked before the long work, not after."""
    if samples < 1:
        raise ValueError("A picture needs at least one sample; ask for some with --samples.")
    check_target(target, "picture", ".png")


def draw_sheet(samples: list[dict[str, Any]], target: Path) -> Path:
    """Save the picture of `samples` ({"id", "report", "truth", "images"}) as PNG and return its path.

    Raises ValueError for no samples or another file ending.
    """
    target = Path(target)
    check_sheet(target, len(samples))
    font = ImageFont.load_default(size=FONT_SIZE)
    views = min(MAX_VIEWS, max(len(sample["images"]) for sample in samples))
    rows = [_draw_row(sample, views, font) for sample in samples]
    return save_rows(rows, font, target)


def save_rows(rows: list[Image.Image], font: Any, target: Path, foot: str = FOOTER) -> Path:
    """Save rows one below the other, as wide as the widest, with a line at the foot."""
    height = sum(row.height + MARGIN for row in rows) + 2 * MARGIN + FONT_SIZE
    page = Image.new("RGB", (max(row.width for row in rows) + 2 * MARGIN, height), PAPER)
    top = MARGIN
    for row in rows:
        page.paste(row, (MARGIN, top))
        top += row.height + MARGIN
    ImageDraw.Draw(page).text((MARGIN, top), foot, fill=FAINT, font=font)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.save(target)
    return target
