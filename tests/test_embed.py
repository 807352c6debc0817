"""Shards with the films in them: every study once, bytes as on disk, a second call goes on."""

import pytest
from datasets import load_dataset
from rich.console import Console

from radscribe.training.readers import embed, staged
from radscribe.training.readers.embed import embed_films, plan_shards
from radscribe.training.readers.mimic_cxr import prepare_mimic_cxr
from radscribe.training.readers.studies import load_splits
from tests.tools.make_mimic import make_mimic

PARTS = {0: {"train": 3, "val": 1}, 1: {"train": 2}, 2: {"train": 2, "test": 1}}


def test_shards_hold_every_study_of_a_split_once():
    train = [shard.pieces for shard in plan_shards(PARTS, 4) if shard.split == "train"]
    assert train == [[(0, 0, 3), (1, 0, 1)], [(1, 1, 2), (2, 0, 2)]]


def test_names_count_the_shards_of_the_split():
    names = [shard.name for shard in plan_shards(PARTS, 4)]
    assert names == [f"{name}.parquet" for name in ("train-00000-of-00002", "train-00001-of-00002")] + [
        "val-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
    ]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """OUT of 20 made-up studies with their films, written in shards of 6 by two processes, and the answer."""
    folder = tmp_path_factory.mktemp("embed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "SHARD_STUDIES", 6)
        src = make_mimic(folder / "src", 20)
        answer = prepare_mimic_cxr(src, folder / "out", views="all", processes=2, embed=True)
    return folder / "out", answer


def read_shards(out, tmp_path, split="train"):
    files = str(out / "parquet" / f"{split}-*.parquet")
    return load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))


def test_the_answer_counts_the_shards(embedded):
    out, answer = embedded
    assert answer["shards"] == len(list((out / "parquet").iterdir())) == 5


def test_shards_hold_the_records_of_the_data_set(embedded, tmp_path):
    shards = read_shards(embedded[0], tmp_path).remove_columns("films")
    assert shards.to_list() == load_splits(embedded[0])["train"].to_list()


def test_films_are_the_files_of_the_images(embedded, tmp_path):
    for row in read_shards(embedded[0], tmp_path):
        assert row["films"] == [open(path, "rb").read() for path in row["images"]]


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """(src, out, written): an embedding that ended before its third shard, and the shards written since."""
    written, real = [], embed._write_shard

    def fail_at_third(work, folder, shard):
        if shard.name.startswith("train-00002"):
            raise KeyboardInterrupt
        real(work, folder, shard)

    def write(work, folder, shard):
        written.append(shard.name)
        real(work, folder, shard)

    monkeypatch.setattr(embed, "SHARD_STUDIES", 6)
    monkeypatch.setattr(embed, "_write_shard", fail_at_third)
    src = make_mimic(tmp_path / "src", 20)
    with pytest.raises(KeyboardInterrupt):
        prepare_mimic_cxr(src, tmp_path / "out", processes=1, embed=True)
    monkeypatch.setattr(embed, "_write_shard", write)
    return src, tmp_path / "out", written


def test_a_second_call_writes_only_the_missing_shards(begun):
    src, out, written = begun
    prepare_mimic_cxr(src, out, processes=1, embed=True)
    assert [name[:11] for name in written] == ["train-00002", "val-00000-o", "test-00000-"]


def test_half_a_shard_of_a_killed_call_does_not_stay(begun):
    src, out, _ = begun
    (out / "parquet" / "train-00002-of-00003.parquet.1.new").touch()
    prepare_mimic_cxr(src, out, processes=1, embed=True)
    assert not list((out / "parquet").glob("*.new"))


def test_an_image_that_is_gone_is_named(begun, tmp_path):
    src, out, _ = begun
    for film in src.glob("files/*/*/*/*.jpg"):
        film.unlink()
    with pytest.raises(FileNotFoundError, match=".jpg"):
        embed_films(out / ".work", tmp_path / "new", 1, Console(quiet=True))


def test_shards_are_cut_anew_where_a_study_comes_back(tmp_path, monkeypatch):
    """A call with --skip-broken is cut off behind its shards; then the missing film is found, and asked for."""
    src, out = make_mimic(tmp_path / "src", 20), tmp_path / "out"
    film = min(src.glob("files/*/*/*/*.jpg"))
    content = film.read_bytes()
    film.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(staged, "assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_mimic_cxr(src, out, views="all", processes=1, embed=True, skip_broken=True)
    film.write_bytes(content)
    prepare_mimic_cxr(src, out, views="all", processes=1, embed=True)
    for split, studies in load_splits(out).items():
        assert sorted(read_shards(out, tmp_path, split)["study_id"]) == sorted(studies["study_id"])


def test_an_empty_film_is_named(tmp_path):
    src = make_mimic(tmp_path / "src", 2)
    film = min(src.glob("files/*/*/*/*.jpg"))
    film.unlink()
    film.touch()
    with pytest.raises(ValueError, match=f"names an image that is an empty file: .*{film.name}"):
        prepare_mimic_cxr(src, tmp_path / "out", views="all", processes=1)
