"""Reports of several calls and processes: each study once, in order, nothing lost by a kill, nothing mixed."""

import json

import pytest

from radscribe.training.report_parts import ReportParts, files_of

NAMES = ["a", "b", "c", "d"]


@pytest.fixture
def parts(tmp_path):
    """parts(rank): those of one file, asked for the same."""
    return lambda rank=0, **asked: ReportParts(tmp_path / "out.jsonl", {"split": "test"} | asked, rank)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_file_is_in_the_order_of_the_split_whoever_wrote_first(parts, tmp_path):
    parts(1).add(["d", "b"], ["D", "B"])
    parts(0).add(["c", "a"], ["C", "A"])
    parts().merge(NAMES)
    assert rows(tmp_path / "out.jsonl") == [{"id": name, "report": name.upper()} for name in NAMES]


def test_parts_are_gone_once_they_are_merged(parts, tmp_path):
    begun = parts()
    begun.add(["a"], ["A"])
    begun.merge(["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_new_call_knows_what_another_wrote(parts):
    parts(3).add(["b"], ["B"])
    assert parts(0).done == {"b": "B"}


def test_each_report_is_on_the_disk_before_the_next_is_waited_for(parts):
    def reports():
        yield "A"
        assert parts().done == {"a": "A"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts().add(["a", "b"], reports())
    assert parts().done == {"a": "A"}


def test_a_line_that_a_kill_cut_short_is_written_again(parts):
    begun = parts()
    begun.add(["a", "b"], ["A", "B"])
    begun.part.write_text(begun.part.read_text()[:-9])
    assert parts().done == {"a": "A"}


def test_parts_of_another_question_are_refused_in_one_line(parts):
    parts(bf16=False).add(["a"], ["A"])
    with pytest.raises(ValueError, match="an unfinished call with another `bf16`. Remove it, or ask the same.$"):
        parts(bf16=True)


def test_a_missing_report_is_not_passed_over(parts):
    begun = parts()
    begun.add(["a"], ["A"])
    with pytest.raises(KeyError, match="b"):
        begun.merge(["a", "b"])
    assert begun.folder.is_dir()


@pytest.mark.parametrize("name", ["model.safetensors", "generation_config.json"])
def test_weights_and_settings_that_were_changed_are_another_model(tmp_path, name):
    (tmp_path / name).write_bytes(b"1")
    before = files_of(str(tmp_path))
    (tmp_path / name).write_bytes(b"22")
    assert files_of(str(tmp_path)) != before and files_of("a/name-of-the-hub") == []
