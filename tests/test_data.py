"""Studies as models take them: items, repeatable augmentation, collation, the shuffled control."""

import zipfile

import datasets
import numpy as np
import pytest
import torch

from radscribe.processing.augmentation_cxr import CXRAugmentation
from radscribe.processing.image_processing_cxr import CXRImageProcessor, read_grey
from radscribe.processing.processing_mcsam import MCSAMProcessor
from radscribe.processing.processing_text import build_tokenizer
from radscribe.training.data import StudyFilms, collate_with, shuffled_films, single_films
from tests.tools.make_dicom import make_dicom


@pytest.fixture
def studies(draw_film):
    """Three studies of one, two and three films."""
    films = [str(draw_film(f"{i}.png", 40, 32)) for i in range(6)]
    return datasets.Dataset.from_dict(
        {
            "study_id": ["a", "b", "c"],
            "images": [films[:1], films[1:3], films[3:]],
            "views": [["frontal"], ["frontal", "lateral"], ["frontal", "lateral", ""]],
            "findings": ["Lungs are clear.", "Heart is large.", "Lungs."],
        }
    )


@pytest.fixture
def numbered():
    """numbered(n): n studies whose film and finding carry their number."""

    def make(n):
        films = [[f"{i}.png"] for i in range(n)]
        views, names = [[f"view {i}"] for i in range(n)], [str(i) for i in range(n)]
        return datasets.Dataset.from_dict({"study_id": names, "images": films, "views": views, "findings": names})

    return make


@pytest.fixture
def processor():
    tokenizer = build_tokenizer(["Lungs are clear.", "Heart is large."], min_frequency=1)
    return MCSAMProcessor(CXRImageProcessor(size=16, num_channels=1), tokenizer, max_length=12)


@pytest.fixture
def augmentation():
    return CXRAugmentation(degrees=10.0, zoom=0.1, shift=0.1, exposure=0.2, contrast=0.2)


def pixels(item):
    return [np.asarray(film) for film in item["images"]]


def _first_pixels(items):
    """A collator: the first film of a batch of one study."""
    return pixels(items[0])[0]


def test_there_is_one_item_a_study(studies):
    assert len(StudyFilms(studies)) == 3


def test_an_item_is_the_studys_films_and_findings(studies):
    item = StudyFilms(studies)[1]
    assert item == {"images": [read_grey(path) for path in studies[1]["images"]], "text": "Heart is large."}


def test_films_are_read_anew_each_time(studies):
    films = StudyFilms(studies)
    assert films[0]["images"][0] is not films[0]["images"][0]


def test_kept_films_are_read_once(studies, processor):
    films = StudyFilms(studies, keep=processor.image_processor)
    assert films[0]["images"][0] is films[0]["images"][0]


def test_kept_films_are_augmented_each_time(studies, augmentation, processor):
    films = StudyFilms(studies, augmentation, keep=processor.image_processor)
    assert not np.array_equal(pixels(films[0])[0], pixels(films[0])[0])


def test_augmentation_leaves_the_kept_film_alone(studies, augmentation, processor):
    films = StudyFilms(studies, augmentation, keep=processor.image_processor)
    films[0]
    path = studies[0]["images"][0]
    assert films.kept[path] == processor.image_processor.fit_film(path)


def test_augmentation_changes_films(studies, augmentation, draw_film):
    augmented, plain = StudyFilms(studies, augmentation)[0]["images"][0], np.asarray(draw_film("p.png", 40, 32))
    assert not np.array_equal(np.asarray(augmented), plain)


def test_augmentation_repeats_under_one_torch_seed(studies, augmentation):
    films = StudyFilms(studies, augmentation)
    first, second = (pixels(films[2]) for _ in range(2) if torch.manual_seed(3))
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))


def test_augmentation_differs_from_visit_to_visit(studies, augmentation):
    torch.manual_seed(3)
    films = StudyFilms(studies, augmentation)
    assert not np.array_equal(pixels(films[0])[0], pixels(films[0])[0])


def test_large_films_are_shrunk_before_they_are_augmented(draw_film, augmentation):
    films = datasets.Dataset.from_dict({"images": [[str(draw_film("large.png", 400, 300))]], "findings": [""]})
    sizes = [StudyFilms(films, augmentation, shrink=side)[0]["images"][0].size for side in (None, 100, 500)]
    assert max(sizes[0]) == max(sizes[2]) == 400 and max(sizes[1]) == 100
    assert sizes[1] == (100, 75) or sizes[1] == (75, 100)


def test_films_that_are_not_augmented_stay_as_they_are(draw_film):
    films = datasets.Dataset.from_dict({"images": [[str(draw_film("large.png", 400, 300))]], "findings": [""]})
    assert max(StudyFilms(films, shrink=100)[0]["images"][0].size) == 400


def test_the_films_of_a_study_are_changed_apart(draw_film, augmentation):
    twice = [str(draw_film("same.png"))] * 2
    studies = datasets.Dataset.from_dict({"images": [twice], "findings": [""]})
    assert not np.array_equal(*pixels(StudyFilms(studies, augmentation)[0]))


@pytest.mark.slow
def test_workers_augment_differently_and_repeatably(studies, augmentation):
    """Two epochs of two workers under one seed: equal from run to run, unlike from epoch to epoch."""

    def run():
        torch.manual_seed(5)
        films = StudyFilms(studies, augmentation)
        loader = torch.utils.data.DataLoader(films, num_workers=2, persistent_workers=True, collate_fn=_first_pixels)
        return [np.stack(list(loader)) for _ in range(2)]

    first, second = run(), run()
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    assert not np.array_equal(*first)


def test_a_batch_has_the_inputs_of_the_model(studies, processor):
    batch = collate_with(processor, max_views=4)([StudyFilms(studies)[i] for i in range(3)])
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "pixel_values": (3, 3, 1, 16, 16),
        "view_mask": (3, 3),
        "labels": (3, 5),
    }


def test_a_batch_is_cut_to_the_views_of_the_model(studies, processor):
    batch = collate_with(processor, max_views=2)([StudyFilms(studies)[i] for i in range(3)])
    assert batch["view_mask"].tolist() == [[1, 0], [1, 1], [1, 1]]


def test_the_first_views_are_the_ones_kept(studies, processor):
    cut = collate_with(processor, max_views=2)([StudyFilms(studies)[2]])
    first = processor(images=[studies[2]["images"][:2]], return_tensors="pt")
    torch.testing.assert_close(cut["pixel_values"], first["pixel_values"])


@pytest.mark.parametrize("studies_of_set", [2, 3, 40])
def test_no_study_keeps_its_films(numbered, studies_of_set):
    studies = numbered(studies_of_set)
    for seed in range(10):
        assert all(row["images"] != [f"{row['study_id']}.png"] for row in shuffled_films(studies, seed))


@pytest.mark.parametrize("studies_of_set", [2, 3, 40])
def test_every_film_is_used_once(numbered, studies_of_set):
    studies = numbered(studies_of_set)
    for seed in range(10):
        assert sorted(shuffled_films(studies, seed)["images"]) == sorted(studies["images"])


def test_shuffling_repeats_for_a_seed(numbered):
    studies = numbered(30)
    assert list(shuffled_films(studies, 4)["images"]) == list(shuffled_films(studies, 4)["images"])


def test_seeds_shuffle_differently(numbered):
    studies = numbered(30)
    assert list(shuffled_films(studies, 4)["images"]) != list(shuffled_films(studies, 5)["images"])


def test_shuffling_leaves_reports_with_their_studies(numbered):
    shuffled = shuffled_films(numbered(30), 0)
    assert list(shuffled["findings"]) == list(shuffled["study_id"]) == [str(i) for i in range(30)]


def test_views_move_with_their_films(numbered):
    assert all(row["images"][0][:-4] == row["views"][0][5:] for row in shuffled_films(numbered(30), 0))


def test_a_single_study_cannot_be_shuffled(numbered):
    with pytest.raises(ValueError, match="`--shuffle-images` needs at least two studies to swap films. Got 1"):
        shuffled_films(numbered(1), 0)


def test_named_files_are_one_study_of_several_views(draw_film):
    paths = [draw_film("front.png"), draw_film("side.png")]
    studies = single_films(paths)
    assert len(studies) == 1 and studies[0]["images"] == [str(path) for path in paths]


def test_a_study_of_named_files_is_called_after_the_first(draw_film):
    assert single_films([draw_film("front.png"), draw_film("side.png")])[0]["study_id"] == "front"


def test_a_named_file_that_is_no_film_is_refused(draw_film, tmp_path):
    (tmp_path / "notes.png").write_text("no film")
    with pytest.raises(ValueError, match="notes.png` is no image"):
        single_films([draw_film("front.png"), tmp_path / "notes.png"])


def test_a_folder_is_one_study_called_by_its_name(draw_film, tmp_path):
    films = [str(draw_film("one/a.png")), str(draw_film("one/b.png"))]
    study = single_films([tmp_path / "one"])[0]
    assert study["images"] == films and study["study_id"] == "one"


def test_films_of_a_zip_are_read_as_those_of_its_files(draw_film, tmp_path):
    films = [draw_film("a.png", 40, 32), draw_film("b.png", 24, 32)]
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.write(films[1], "b.png")
    mixed = single_films([tmp_path / "one.zip", films[0]])
    assert mixed[0]["study_id"] == "one"
    assert StudyFilms(mixed)[0]["images"] == [read_grey(films[1]), read_grey(films[0])]


def test_views_of_named_dicom_files_are_theirs(tmp_path):
    pytest.importorskip("pydicom")
    film = np.arange(400, dtype=np.uint16).reshape(20, 20)
    paths = [make_dicom(tmp_path / f"{view}.dcm", film, ViewPosition=view) for view in ("LL", "PA")]
    study = single_films(paths)[0]
    assert (study["study_id"], study["views"]) == ("LL", ["frontal", "lateral"])
    assert study["images"] == [str(paths[1]), str(paths[0])]


def test_a_named_file_that_is_missing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.png"):
        single_films([tmp_path / "gone.png"])
