"""The benchmark at tiny sizes: rows of one form, equal parts on both sides, ratios of what was measured."""

import json
from dataclasses import replace

import pytest
import torch

from tests.benchmarks import bench, growth, loader
from tests.benchmarks.bench_models import SETS, Size, make_batch, make_model, make_reference

RESNET = {"layer_type": "basic", "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
TINY = Size(
    views=2,
    words=5,
    vocab_size=20,
    width=16,
    feed_forward=24,
    layers=2,
    heads=2,
    bank=32,
    films={"mcsam": 32, "uar": 16},
    backbone=RESNET,
    tokenizer={"hidden_size": 4, "vocab_size": 40},
)
BOTH = pytest.mark.parametrize("name", bench.MODELS)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def run(tmp_path):
    """run("decode", ...): the answer of a benchmark of the tiny sizes, and what it wrote."""

    def measure(*what, **changes):
        out = tmp_path / "below" / "bench.json"
        given = bench.make_parser().parse_args(["--out", str(out), "--what", *what])
        vars(given).update(
            {"sets": ["iu"], "batches": [2], "repeats": 1, "threads": torch.get_num_threads()} | changes
        )
        return bench.bench(given, {"iu": TINY, "mimic": replace(TINY, views=1)}), json.loads(out.read_text())

    return measure


@BOTH
def test_both_sides_have_equal_decoders(name):
    ours, reference = make_model(name, TINY), make_reference(name, TINY)
    stock = reference.decoder.model.decoder
    assert {n: p.shape for n, p in ours.decoder.named_parameters()} == {
        n: p.shape for n, p in stock.named_parameters()
    }
    assert ours.lm_head.weight.shape == reference.decoder.lm_head.weight.shape


@BOTH
def test_both_sides_have_equal_visual_layers(name):
    ours, reference = make_model(name, TINY), make_reference(name, TINY)
    assert count(ours.encoder.encoder.encoder) == count(reference.encoder.encoder) > 0


def test_both_sides_of_mcsam_have_the_same_backbone():
    ours, reference = make_model("mcsam", TINY), make_reference("mcsam", TINY)
    assert count(ours.encoder.visual.backbone) == count(reference.encoder.reader.backbone) > 0


def test_both_sides_of_uar_have_the_same_tokenizer_and_table():
    ours, reference = make_model("uar", TINY).encoder.unifier, make_reference("uar", TINY).encoder.reader
    assert count(ours) == count(reference) > 0


@BOTH
def test_both_decoders_read_equally_many_visual_tokens(name):
    films = make_batch(name, TINY, 2, "cpu")["pixel_values"]
    states = [make(name, TINY).get_encoder()(pixel_values=films) for make in (make_model, make_reference)]
    assert states[0].last_hidden_state.shape == states[1].last_hidden_state.shape


@BOTH
@pytest.mark.parametrize("make", [make_model, make_reference])
def test_every_report_has_the_full_length(name, make):
    films = make_batch(name, TINY, 2, "cpu")["pixel_values"]
    reports = bench.write(make(name, TINY).eval(), TINY.words, pixel_values=films)
    assert reports.shape == (2, 1 + TINY.words) and not (reports[:, 1:-1] == bench.END).any()


@BOTH
def test_decoding_twice_writes_the_same(name):
    act = bench.prepare("decode", make_model(name, TINY), make_batch(name, TINY, 2, "cpu"), "fp32")
    assert act().tolist() == act().tolist()


def test_the_sets_are_those_of_the_peers():
    facts = {name: (size.views, size.words, size.vocab_size) for name, size in SETS.items()}
    assert facts == {"iu": (2, 60, 761), "mimic": (1, 100, 4335)}


@pytest.mark.parametrize("what", bench.TURNS)
def test_rows_have_the_schema(run, what):
    answer, written = run(what, dtypes=["fp32"])
    assert written == answer and [tuple(row) for row in answer["rows"]] == [bench.FIELDS] * 2


def test_each_dtype_and_batch_has_a_row(run):
    rows = run("encode", models=["uar"], batches=[1, 2])[0]["rows"]
    assert [(row["batch"], row["dtype"]) for row in rows] == [(1, "fp32"), (1, "bf16"), (2, "fp32"), (2, "bf16")]


def test_ratio_is_ours_to_the_reference_in_fp32(run):
    rows = run("decode", models=["mcsam"])[0]["rows"]
    assert all(row["ratio"] == row["seconds"] / row["reference_seconds"] for row in rows)
    assert rows[0]["reference_seconds"] == rows[1]["reference_seconds"]


def test_what_has_a_process_of_its_own_is_measured_there(run, monkeypatch):
    figures = iter([100.0, 150.0, 60.0])
    monkeypatch.setattr(bench, "in_own_process", lambda *case: next(figures))
    rows = run("memory", models=["uar"])[0]["rows"]
    assert [(row["dtype"], row["ratio"], row["unit"]) for row in rows] == [("fp32", 1.5, "MiB"), ("bf16", 0.6, "MiB")]


@pytest.mark.slow
@pytest.mark.parametrize("what", bench.ALONE)
def test_a_process_of_its_own_measures_something(run, what):
    row = run(what, models=["mcsam"], dtypes=["fp32"])[0]["rows"][0]
    assert row["seconds"] > 0 and row["reference_seconds"] > 0


def test_the_machine_is_described(run):
    machine = run("encode", models=["mcsam"], dtypes=["fp32"])[0]["machine"]
    assert {"cpu", "threads", "torch", "transformers", "date"} <= machine.keys()


def test_turns_are_medians_without_the_first_round(monkeypatch):
    seconds = iter([9.0, 9.0, 1.0, 10.0, 3.0, 30.0, 2.0, 20.0])
    monkeypatch.setattr(bench, "clock", lambda act, device: next(seconds))
    assert bench.take_turns({"reference": print, "fp32": print}, 3, "cpu") == {"reference": 2.0, "fp32": 20.0}


@pytest.mark.parametrize("axis", ["views", "beams", "bank", "batch"])
def test_growth_measures_each_value_of_an_axis(monkeypatch, axis):
    monkeypatch.setattr(growth, "BASE", replace(TINY, views=1, words=2))
    monkeypatch.setattr(growth, "PLACES", {"uar": 4})
    given = growth.make_parser().parse_args(["--out", "unused.json", "--repeats", "1"])
    values = [32, 64] if axis == "bank" else [1, 2]
    assert [(row["value"], row["seconds"] > 0) for row in growth.measure_axis("uar", axis, values, given)] == [
        (value, True) for value in values
    ]


def test_growth_writes_rows_and_a_figure(tmp_path, monkeypatch):
    row = {"model": "uar", "axis": "words", "value": 30, "seconds": 1.0, "ms_a_step": 5.0, "ratio": 1.0}
    monkeypatch.setattr(growth, "measure_axis", lambda *case: [row])
    monkeypatch.setattr(growth, "measure_word_share", lambda *case: 0.01)
    given = growth.make_parser().parse_args(["--out", str(tmp_path / "growth.json"), "--axes", "words"])
    vars(given).update(models=["uar"], threads=torch.get_num_threads())
    assert json.loads(json.dumps(growth.grow(given))) == json.loads((tmp_path / "growth.json").read_text())
    assert (tmp_path / "growth.png").stat().st_size > 0


@pytest.mark.parametrize("name", ["uar", "mcsam"])
def test_the_share_of_the_words_is_part_of_decoding(monkeypatch, name):
    monkeypatch.setattr(growth, "BASE", replace(TINY, views=1, words=2))
    monkeypatch.setattr(growth, "PLACES", {"uar": 4, "mcsam": 4})
    given = growth.make_parser().parse_args(["--out", "unused.json", "--repeats", "1"])
    assert 0 < growth.measure_word_share(name, given) < 1


def test_growth_is_measured_against_the_first_value_of_an_axis(monkeypatch):
    monkeypatch.setattr(growth, "prepare", lambda *case: None)
    monkeypatch.setattr(growth, "take_turns", lambda acts, *more: dict(zip(acts, [3.0, 12.0], strict=True)))
    given = growth.make_parser().parse_args(["--out", "unused.json"])
    rows = growth.measure_axis("uar", "words", [30, 60], given)
    assert [(row["ms_a_step"], row["ratio"]) for row in rows] == [(100.0, 1.0), (200.0, 2.0)]


def test_the_loader_is_counted_from_files_and_from_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "FILMS", {"small": (40, 32)})
    monkeypatch.setattr(loader, "model_rate", lambda given: 2.0)
    options = ["--films", "4", "--batch", "2", "--workers", "0", "--threads", str(torch.get_num_threads())]
    given = loader.make_parser().parse_args(["--out", str(tmp_path / "loader.json"), *options])
    rows = loader.measure(given)["rows"]
    assert [row["kept"] for row in rows] == [False, True]
    assert all(row["ratio"] == row["films_a_second"] / 2 > 0 for row in rows)
    assert json.loads((tmp_path / "loader.json").read_text())["rows"] == rows
