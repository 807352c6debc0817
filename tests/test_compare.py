"""`compare`: the same figures as `evaluate`, two answers side by side, and what is printed of them."""

import io

import pytest
from rich.console import Console

from radscribe.training.compare import compare, show
from radscribe.training.readers.studies import save_studies
from radscribe.training.score import evaluate

TRUTH = {
    "a": "The heart is enlarged. There is a small left pleural effusion.",
    "b": "The heart is normal in size. Lungs are clear.",
    "c": "No pleural effusion or pneumothorax. Lungs are clear.",
    "d": "There is edema.",
}


@pytest.fixture
def references(tmp_path, study):
    """A prepared set with four studies to be predicted in `val`."""
    training = [study(f"train{i}", findings="Lungs are clear. The heart is normal in size.") for i in range(3)]
    unseen = [study(name, split="val", findings=text) for name, text in TRUTH.items()]
    save_studies(training + unseen, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def truth_file(write_lines):
    return write_lines("truth.jsonl", [{"id": name, "report": text} for name, text in TRUTH.items()])


@pytest.fixture
def constant_file(write_lines):
    return write_lines("constant.jsonl", [{"id": name, "report": "Lungs are clear."} for name in TRUTH])


@pytest.fixture
def result(constant_file, truth_file, references):
    return compare(constant_file, truth_file, references, "val", "full", rounds=99)


def print_comparison(result: dict, width: int = 80) -> str:
    stream = io.StringIO()
    show(result, Console(file=stream, width=width))
    return stream.getvalue()


def test_a_file_does_not_differ_from_itself(truth_file, references):
    rows = compare(truth_file, truth_file, references, "val", rounds=50)["figures"].values()
    assert {(row["difference"], row["p"]) for row in rows} == {(0.0, 1.0)}


def test_the_difference_is_b_less_a(result):
    assert result["figures"]["bleu_4"]["difference"] > 0
    assert result["figures"]["label.Edema.f1"] == {"a": 0.0, "b": 1.0, "difference": 1.0} | {
        "p": result["figures"]["label.Edema.f1"]["p"]
    }


def test_the_figures_are_those_of_evaluate(result, constant_file, references, without_java):
    expected = evaluate(constant_file, references, "val", "full", resamples=0)
    for name in ("bleu_1", "bleu_4", "rouge_l", "cider"):
        assert result["figures"][name]["a"] == pytest.approx(expected["scores"][name])
    clinical = expected["clinical"]["uncertain_positive"]["14"]
    assert result["figures"]["clinical_14.macro.f1"]["a"] == pytest.approx(clinical["macro"]["f1"])


def test_studies_stand_in_the_splits_order_with_their_differences(result):
    assert [row["id"] for row in result["per_study"]] == list(TRUTH)
    assert result["per_study"][3]["clinical_14.micro.f1"] == {"a": 0.0, "b": 1.0, "difference": 1.0}


def test_ids_in_another_order_are_matched(result, truth_file, write_lines, references):
    turned = write_lines("turned.jsonl", [{"id": name, "report": "Lungs are clear."} for name in reversed(TRUTH)])
    assert compare(turned, truth_file, references, "val", "full", rounds=99)["figures"] == result["figures"]


def test_a_study_without_a_report_is_refused_unless_allowed(write_lines, truth_file, references, capsys):
    short = write_lines("short.jsonl", [{"id": name, "report": TRUTH[name]} for name in "abc"])
    with pytest.raises(ValueError, match="lacks 1 of the 4"):
        compare(truth_file, short, references, "val")
    found = compare(truth_file, short, references, "val", rounds=9, allow_missing=True)
    assert found["per_study"][3]["cider"]["b"] == 0 and "scored as empty" in capsys.readouterr().err


def test_an_unknown_protocol_is_refused(truth_file, references):
    with pytest.raises(ValueError, match="Got 'bleu'"):
        compare(truth_file, truth_file, references, "val", "bleu")


def test_phantoms_are_examined(tmp_path, study, write_lines):
    rows = [{"name": "effusion/left/small/-", "image": 0, "box": []}]
    text = "Small left pleural effusion."
    save_studies([study("phantom-0-000001", split="val", findings=text, labels=rows)], tmp_path / "phantoms")
    right = write_lines("right.jsonl", [{"id": "phantom-0-000001", "report": text}])
    wrong = write_lines("wrong.jsonl", [{"id": "phantom-0-000001", "report": "Heart size is normal."}])
    found = compare(wrong, right, tmp_path / "phantoms", "val", rounds=9)
    assert found["figures"]["finding_f1.micro"]["difference"] == 1
    assert "finding F1 (exam)" in print_comparison(found)


def test_the_page_says_what_the_p_values_are_not(result):
    words = " ".join(print_comparison(result).split())
    assert "not corrected for the number of figures" in words
    assert "METEOR has no interval and no p-value" in words


def test_the_table_holds_every_f1_that_is_not_0(result):
    printed = print_comparison(result)
    assert "clinical_14_uncertain_negative.example.f1" in printed and "label.Edema.f1" in printed
    assert "label.Fracture.f1" not in printed and ".recall" not in printed


def test_the_studies_that_differ_most_come_first(result):
    rows = print_comparison(result).split("Largest differences in CIDEr")[1].split("Largest")[0].splitlines()
    changes = [abs(float(row.split()[-1])) for row in rows if row.strip() and row.split()[0] in TRUTH]
    assert changes == sorted(changes, reverse=True) and len(changes) == 4


def test_studies_that_do_not_differ_are_not_listed(result, truth_file, references):
    assert "4 of 4 studies differ" in print_comparison(result)
    same = compare(truth_file, truth_file, references, "val", rounds=9)
    assert "Largest differences" not in print_comparison(same)


def test_markup_in_names_is_printed_as_it_is(result):
    assert "[red]x.jsonl" in print_comparison(result | {"a": "[red]x.jsonl"})
