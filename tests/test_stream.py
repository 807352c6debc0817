"""A stream gives each study once an epoch whoever reads it, in an order that repeats, and goes on where it stopped."""

import io
import itertools
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from radscribe.processing.augmentation_cxr import CXRAugmentation
from radscribe.processing.image_processing_cxr import read_grey
from radscribe.training.readers.embed import FILM_FEATURES
from radscribe.training.readers.studies import load_studies
from radscribe.training.stream import StudyStream
from radscribe.training.train import train
from tests.tools.make_dicom import make_dicom

STUDIES, SHARDS = 24, 6


def as_png(grey):
    file = io.BytesIO()
    Image.fromarray(np.full((24, 24), grey, np.uint8)).save(file, "png")
    return file.getvalue()


def write_shards(folder, films=None, studies=STUDIES, shards=SHARDS):
    """Shards whose study i says "i" and is a film of grey value i."""
    (folder / "parquet").mkdir()
    for number in range(shards):
        rows = range(number, studies, shards)
        table = pa.Table.from_pylist(
            [
                {"study_id": f"s{i}", "split": "train", "images": [f"{i}.png"], "views": ["frontal"], "labels": []}
                | {"findings": str(i), "impression": "", "indication": "", "comparison": ""}
                | {"films": [(films or {}).get(i, as_png(i))]}
                for i in rows
            ],
            schema=FILM_FEATURES.arrow_schema,
        )
        pq.write_table(table, folder / "parquet" / f"train-{number:05d}-of-{shards:05d}.parquet", row_group_size=2)
    return folder


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path)


def stream(folder, rank=0, world=1, batch_size=2, **options):
    return StudyStream(folder, 7, 5, rank, world, batch_size, **options)


def texts(studies, count):
    return [study["text"] for study in itertools.islice(iter(studies), count)]


def loaded(studies, batches, workers=0):
    """The texts of the first batches, as a DataLoader of so many workers gives them."""
    loader = torch.utils.data.DataLoader(
        studies, batch_size=2, num_workers=workers, collate_fn=lambda rows: [row["text"] for row in rows]
    )
    return list(itertools.islice(loader, batches))


def test_an_epoch_has_every_study_once_and_the_next_another_order(shards):
    both = texts(stream(shards), 2 * STUDIES)
    first, second = both[:STUDIES], both[STUDIES:]
    assert sorted(first, key=int) == sorted(second, key=int) == [str(i) for i in range(STUDIES)]
    assert first != second


def test_films_are_those_of_their_report(shards):
    for study in itertools.islice(iter(stream(shards)), 5):
        assert np.asarray(study["images"][0]).mean() == int(study["text"])


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_the_studies(shards, world):
    counts = [4 * len(range(rank, SHARDS, world)) for rank in range(world)]  # four studies a shard
    parts = [texts(stream(shards, rank, world), counts[rank]) for rank in range(world)]
    assert sorted(sum(parts, []), key=int) == [str(i) for i in range(STUDIES)]


def test_workers_share_the_studies_of_their_process(shards):
    batches = loaded(stream(shards), STUDIES // 2, workers=2)
    assert sorted(sum(batches, []), key=int) == [str(i) for i in range(STUDIES)]


def test_a_stream_repeats(shards):
    assert texts(stream(shards), 30) == texts(stream(shards), 30)


@pytest.mark.parametrize(("workers", "learnt"), [(0, 5), (0, 14), (2, 4), (2, 16)])
def test_a_resumed_stream_goes_on_where_it_stopped(shards, workers, learnt):
    whole, rest = loaded(stream(shards), 20, workers), stream(shards)
    rest.learnt = learnt
    assert loaded(rest, 20 - learnt, workers) == whole[learnt:]


def test_workers_that_stopped_out_of_turn_lose_no_study(shards):
    """Their turns shift by one: a batch of the next epoch comes before the last one of this."""
    rest = stream(shards)
    rest.learnt = 5
    before, after = loaded(stream(shards), 5, 2), loaded(rest, STUDIES // 2 - 4, 2)
    assert set(sum(before + after, [])) == {str(i) for i in range(STUDIES)}


def test_augmentation_repeats_and_differs_between_studies_and_epochs(tmp_path):
    folder = write_shards(tmp_path, {i: as_png(100) for i in range(STUDIES)})
    change = CXRAugmentation(exposure=0.5)

    def greys():
        films = itertools.islice(iter(stream(folder, augmentation=change)), 2 * STUDIES)
        return [float(np.asarray(study["images"][0]).mean()) for study in films]

    assert greys() == greys() and len(set(greys())) > STUDIES


def test_more_workers_than_shards_are_no_endless_wait(tmp_path):
    folder = write_shards(tmp_path, studies=4, shards=1)
    assert sorted(sum(loaded(stream(folder), 2, workers=2), [])) == ["0", "1", "2", "3"]


def test_a_damaged_film_is_named_and_passed_over(tmp_path, capsys):
    folder = write_shards(tmp_path, {5: b"no film", 9: as_png(9)[:45]})
    seen = texts(stream(folder), STUDIES - 2)
    assert sorted(map(int, seen)) == [i for i in range(STUDIES) if i not in (5, 9)]
    said = capsys.readouterr().err
    assert "study s5 is passed over" in said and "film 1 of study s9" in said


def test_dicom_films_are_those_of_their_files(tmp_path):
    pytest.importorskip("pydicom")
    path = make_dicom(tmp_path / "film.dcm", np.arange(576, dtype=np.uint16).reshape(24, 24))
    folder = write_shards(tmp_path, dict.fromkeys(range(STUDIES), path.read_bytes()))
    assert next(iter(stream(folder)))["images"] == [read_grey(path)]


def test_too_many_damaged_films_end_it(tmp_path, monkeypatch):
    monkeypatch.setattr("radscribe.training.stream.MOST_BAD", 3)
    folder = write_shards(tmp_path, {i: b"no film" for i in range(4)})
    with pytest.raises(ValueError, match="^More than 3 studies cannot be read, the last: film 1 of study s"):
        texts(stream(folder), STUDIES)


def cut_short(shard):
    shard.write_bytes(shard.read_bytes()[:-40])


def test_a_damaged_shard_is_named_and_passed_over(tmp_path, capsys):
    folder = write_shards(tmp_path, shards=12)
    cut_short(folder / "parquet" / "train-00003-of-00012.parquet")
    assert sorted(map(int, texts(stream(folder), STUDIES - 2))) == [i for i in range(STUDIES) if i % 12 != 3]
    assert "train-00003-of-00012.parquet is passed over: it is no whole Parquet file" in capsys.readouterr().err


def test_a_shard_that_is_damaged_inside_is_passed_over_from_there_on(tmp_path, capsys):
    folder = write_shards(tmp_path, shards=12)
    shard = folder / "parquet" / "train-00003-of-00012.parquet"
    data = bytearray(shard.read_bytes())
    data[4:200] = bytes(196)
    shard.write_bytes(bytes(data))
    others = {i for i in range(STUDIES) if i % 12 != 3}
    assert others <= set(map(int, texts(stream(folder), STUDIES)))
    assert "the rest of" in capsys.readouterr().err


def test_too_many_damaged_shards_are_refused(shards):
    cut_short(shards / "parquet" / "train-00003-of-00006.parquet")
    with pytest.raises(ValueError, match=r"^1 of 6 shards in `[^\n]*` cannot be read.$"):
        stream(shards)


def test_a_process_that_can_read_nothing_ends_the_run(tmp_path):
    folder = write_shards(tmp_path, studies=4, shards=1)
    shard = folder / "parquet" / "train-00000-of-00001.parquet"
    shard.write_bytes(b"PAR1" + bytes(300) + shard.read_bytes()[304:])
    with pytest.raises(ValueError, match="^None of the shards of a worker can be read.$"):
        texts(stream(folder), 1)


def test_a_set_without_shards_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has none: `radscribe prepare --embed`.$"):
        stream(tmp_path)


def test_fewer_shards_than_processes_are_refused(shards):
    with pytest.raises(ValueError, match="has 6 shards for 8 processes: each needs one.$"):
        stream(shards, world=8)


@pytest.mark.slow
def test_a_run_on_a_stream_that_was_cut_off_ends_like_one_that_was_not(settings, phantoms, tmp_path):
    """Bit by bit, augmentation included; the shards are made of the phantoms."""
    data = tmp_path / "data"
    data.mkdir()
    for path in phantoms.iterdir():
        (data / path.name).symlink_to(path)
    (data / "parquet").mkdir()
    rows = load_studies(phantoms, "train").to_list()
    rows = [row | {"films": [open(path, "rb").read() for path in row["images"]]} for row in rows]
    for number in range(2):
        table = pa.Table.from_pylist(rows[number::2], schema=FILM_FEATURES.arrow_schema)
        pq.write_table(table, data / "parquet" / f"train-{number:05d}-of-00002.parquet")
    changes = {"stream_buffer": 3, "dataset": str(data), "select_by": "loss", "max_steps": 6}
    changes |= {"keep_films": False}
    changes["augmentation"] = {"exposure": 0.3}
    train("mcsam_phantom", settings(tmp_path / "whole", **changes))
    run = tmp_path / "cut"
    train("mcsam_phantom", settings(run, **changes))
    shutil.rmtree(run / "checkpoints" / "checkpoint-6")
    for name in ("result.json", "metrics.jsonl"):
        (run / name).unlink()
    train("mcsam_phantom", settings(run, **changes), resume=True)
    assert {json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()} == {6}
    last = "checkpoints/checkpoint-6/model.safetensors"
    whole, cut = (load_file(folder / last) for folder in (tmp_path / "whole", run))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert json.loads((run / "result.json").read_text())["steps"] == 6
