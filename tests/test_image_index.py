"""Film names across the public copies, and the index of a source's image files."""

import pytest

from radscribe.training.readers.image_index import film_name, index_images


@pytest.mark.parametrize(
    "name",
    [
        "CXR1_1_IM-0001-4001.png",
        "CXR1_1_IM-0001-4001",
        "CXR1_IM-0001-4001.png",
        "1_IM-0001-4001.dcm.png",
        "images/1_IM-0001-4001.jpg",
        "1_IM-0001-4001.JPEG",
        "1_IM-0001-4001.dcm",
    ],
)
def test_one_film_has_one_name_in_every_copy(name):
    assert film_name(name) == "1_IM-0001-4001"


def test_films_are_found_in_any_folder_below(tmp_path, draw_film):
    path = draw_film("a/b/1_IM-0001-4001.dcm.png")
    assert index_images(tmp_path) == {"1_IM-0001-4001": path}


def test_images_that_are_no_films_of_iu_xray_are_left_out(tmp_path, draw_film):
    draw_film("x/0.png")
    draw_film("y/0.png")
    assert index_images(tmp_path) == {}


def test_a_dicom_file_counts_where_its_film_is_no_picture(tmp_path, draw_film):
    path = draw_film("a/1_IM-0001-4001.png")
    for name in ("1_IM-0001-4001.dcm", "2_IM-0652-1001.dcm"):
        (tmp_path / name).touch()
    assert index_images(tmp_path) == {"1_IM-0001-4001": path, "2_IM-0652-1001": tmp_path / "2_IM-0652-1001.dcm"}


def test_a_film_that_lies_there_twice_is_refused(tmp_path, draw_film):
    draw_film("a/1_IM-0001-4001.png")
    draw_film("b/CXR1_1_IM-0001-4001.png")
    with pytest.raises(ValueError, match="SRC must hold each film once. .* are the same film; remove one"):
        index_images(tmp_path)
