"""The picture of samples: films at the left, wrapped text at the right."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from radscribe.training.sheet import FILM, TEXT_WIDTH, draw_sheet, load_thumbnail, wrap_text
from tests.tools.make_dicom import make_dicom


def sample(*images):
    return {"id": "a", "report": "Clear. " * 40, "truth": "", "images": list(map(str, images))}


def test_wrapped_lines_keep_every_word_and_fit():
    font = ImageFont.load_default(size=15)
    lines = wrap_text("no focal consolidation " * 12, font, 200)
    assert " ".join(lines) == ("no focal consolidation " * 12).strip()
    assert max(map(font.getlength, lines)) <= 200


def test_a_picture_is_saved_with_a_row_a_study(tmp_path, draw_film):
    films = draw_film("a.png"), draw_film("b.png")
    with Image.open(draw_sheet([sample(*films), sample(films[0])], tmp_path / "new" / "sheet.png")) as page:
        assert page.width > 2 * FILM + TEXT_WIDTH and page.height > 2 * FILM


def test_sixteen_bit_films_are_stretched_to_eight(tmp_path):
    pixels = np.linspace(1000, 3000, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    assert np.asarray(load_thumbnail(str(tmp_path / "deep.png"))).max() == 255


def test_a_dicom_film_is_shown(tmp_path):
    pytest.importorskip("pydicom")
    film = make_dicom(tmp_path / "film.dcm", np.arange(1600, dtype=np.uint16).reshape(40, 40))
    assert load_thumbnail(str(film)).size == (40, 40)


def test_another_file_ending_is_refused(tmp_path, draw_film):
    with pytest.raises(ValueError, match="must end in .png"):
        draw_sheet([sample(draw_film("a.png"))], tmp_path / "sheet.txt")


def test_a_picture_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one sample"):
        draw_sheet([], tmp_path / "sheet.png")
