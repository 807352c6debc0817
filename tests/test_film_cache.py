"""Films that a frozen reader reads once: the same answers as at every step, in parts that are whole."""

import os

import datasets
import numpy as np
import pytest
import torch

from radscribe.processing.augmentation_cxr import CXRAugmentation
from radscribe.processing.image_processing_cxr import CXRImageProcessor
from radscribe.processing.processing_mcsam import MCSAMProcessor
from radscribe.processing.processing_text import build_tokenizer
from radscribe.training import film_cache
from radscribe.training.build import load_checkpoint
from radscribe.training.data import StudyFilms, collate_with
from radscribe.training.film_cache import ReadFilms, cache_key, read_films


@pytest.fixture
def studies(draw_film):
    """Three studies of one, two and three films."""
    films = [str(draw_film(f"{i}.png", 40, 32 + 5 * i)) for i in range(6)]
    images, findings = [films[:1], films[1:3], films[3:]], ["Lungs are clear.", "Heart is large.", "Lungs."]
    return datasets.Dataset.from_dict({"images": images, "findings": findings})


@pytest.fixture
def processor():
    tokenizer = build_tokenizer(["Lungs are clear.", "Heart is large."], min_frequency=1)
    return MCSAMProcessor(CXRImageProcessor(size=16, num_channels=1), tokenizer, max_length=12)


def tokenize(films):
    """A reader of one's own: (n, C, H, W) -> (n, 4), sums of the film's quarters, up to some thousands."""
    quarters = films[:, 0].unflatten(1, (2, -1)).unflatten(3, (2, -1)).abs().sum((2, 4))
    return (10 * quarters.flatten(1)).long()


@pytest.fixture
def read(studies, processor, tmp_path):
    """read(reader=..., views=..., copies=..., augmentation=...): the studies' answers as items."""

    def make(reader=tokenize, views=4, copies=1, augmentation=None, folder="cache"):
        films = StudyFilms(studies, augmentation)

        def prepare(images):
            return processor.image_processor(images, return_tensors="pt")["pixel_values"][:, 0]

        answers = read_films(films, reader, prepare, tmp_path / folder, views, copies, workers=0)
        return ReadFilms(answers, films, views, copies, "visual_ids")

    return make


def test_answers_are_those_that_the_films_get_in_a_batch(studies, processor, read):
    collate, items = collate_with(processor, 4), read()
    films = collate([StudyFilms(studies)[i] for i in range(3)])
    batch = collate([items[i] for i in range(3)])
    expected = tokenize(films["pixel_values"].flatten(0, 1)).view(3, 3, 4) * films["view_mask"][..., None]
    assert torch.equal(batch["visual_ids"], expected) and batch["visual_ids"].max() > 255
    assert all(torch.equal(batch[name], films[name]) for name in ("view_mask", "labels"))


def test_studies_of_fewer_views_are_padded_with_zeros(processor, read):
    batch = collate_with(processor, 4)([read()[0], read()[2]])
    assert batch["view_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["visual_ids"].shape == (2, 3, 4) and batch["visual_ids"][0, 1:].eq(0).all()


@pytest.mark.parametrize(("views", "expected"), [(4, [1, 2, 3]), (2, [1, 2, 2])])
def test_a_study_has_its_own_views_as_many_as_the_model_takes(read, views, expected):
    assert [len(read(views=views)[i]["visual_ids"]) for i in range(3)] == expected


def test_there_is_one_item_a_study_with_its_findings(studies, read):
    items = read()
    assert [items[i]["text"] for i in range(len(items))] == list(studies["findings"])


def test_codes_of_a_large_codebook_stay_what_they_are(processor, read):
    """The DALL-E dVAE has 8,192, the largest VQ model of Janus 16,384."""
    items = read(lambda films: torch.full((len(films), 1), 16383))
    assert collate_with(processor, 4)([items[0]])["visual_ids"].tolist() == [[[16383]]]


def test_a_visit_takes_one_of_a_films_versions(read):
    items = read(copies=3, augmentation=CXRAugmentation(degrees=10.0, shift=0.1))
    assert len({tuple(items[0]["visual_ids"].flatten().tolist()) for _ in range(100)}) == 3


def test_parts_smaller_than_the_set_change_nothing(read, monkeypatch):
    whole = read()
    monkeypatch.setattr(film_cache, "PART", 2)
    parts = read(folder="parts")
    assert len(parts.answers) == 3
    assert all(torch.equal(parts[i]["visual_ids"], whole[i]["visual_ids"]) for i in range(3))


def test_a_call_that_was_cut_off_goes_on_with_what_is_missing(read, monkeypatch):
    monkeypatch.setattr(film_cache, "PART", 2)
    seen = []

    def fail_at_the_end(films):
        seen.append(len(films))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return tokenize(films)

    monkeypatch.setattr(film_cache, "BATCH", 4)
    with pytest.raises(KeyboardInterrupt):
        read(fail_at_the_end)
    counted = []
    items = read(lambda films: (counted.append(len(films)), tokenize(films))[1])
    assert counted == [2] and len(items[2]["visual_ids"]) == 3


def test_what_was_read_is_not_read_again(read):
    read()

    def never(films):
        raise AssertionError

    assert len(read(never)) == 3


def test_features_are_kept_in_half_precision(read):
    assert read(lambda films: films)[0]["visual_ids"].dtype == torch.float16


def test_the_key_tells_readers_settings_and_films_apart(studies):
    films, reader = StudyFilms(studies), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    key = cache_key(reader, films, {"a": 1})
    assert cache_key(reader, films, {"a": 1}) == key != cache_key(reader, films, {"a": 2})
    assert cache_key(torch.nn.Linear(2, 2), films, {"a": 1}) != key
    path = films.paths[0][0]
    os.utime(path, ns=(0, 0))
    assert cache_key(reader, films, {"a": 1}) != key


def test_a_model_learns_from_features_as_from_films(checkpoint, draw_film):
    model, processor = load_checkpoint(str(checkpoint))
    model.eval()
    films = [[draw_film("a.png", 40, 32)], [draw_film("b.png", 32, 40), draw_film("c.png")]]
    batch = processor(images=films, text=["The lungs are clear."] * 2, return_tensors="pt")
    pixels = batch.pop("pixel_values")
    with torch.no_grad():
        features = model.encoder.visual.backbone(pixels.flatten(0, 1)).last_hidden_state
        features = features.view(*pixels.shape[:2], *features.shape[1:])
        loss = [
            model(**batch, **films).loss.item() for films in ({"pixel_values": pixels}, {"visual_features": features})
        ]
    assert np.isclose(*loss)
