"""The page's tables leave out what no answer has and put intervals beside the values."""

from radscribe.training.page.page_tables import (
    answer_tables,
    conventions_table,
    exam_tables,
    labels_table,
    parts_table,
    removed_table,
)


def test_a_column_that_no_answer_has_is_left_out():
    words, _ = answer_tables({"scores": {"cider": 0.3}})
    assert words.columns == ["CIDEr"]


def test_a_value_that_one_answer_lacks_is_a_dash():
    beside = {"nearest_neighbour": {"scores": {"cider": 0.2}}}
    words, _ = answer_tables({"scores": {"cider": 0.3, "meteor": 0.1}, "beside": beside})
    assert words.rows[1].cells == [("–", ""), (".200", "")]


def test_an_interval_is_small_print_and_one_without_width_is_none():
    words, _ = answer_tables(
        {"scores": {"cider": 1.5, "bleu_4": 0.0}, "intervals": {"cider": [1.25, 1.75], "bleu_4": [0.0, 0.0]}}
    )
    assert words.rows[0].cells == [(".000", ""), ("1.50", "1.25–1.75")]


def test_the_model_stands_first_and_answers_in_the_pages_order():
    keys = ["most_frequent_report", "best_single_report", "nearest_neighbour", "shuffled_images"]
    result = {"scores": {"cider": 0.3}, "beside": {key: {"scores": {"cider": 0.2}} for key in keys}}
    names = [row.name for row in answer_tables(result)[0].rows]
    assert names[:2] == ["The model", "The model, images shuffled"] and names[-1] == "Commonest report"


def test_normal_and_abnormal_stand_side_by_side():
    table = parts_table({"scores": {"cider": 1.0}} | {p: {"studies": 3, "cider": 0.2} for p in ("normal", "abnormal")})
    assert table.groups == [("3 normal studies", 1), ("3 abnormal studies", 1)]
    assert table.columns == ["CIDEr", "CIDEr"]


def test_a_split_without_abnormal_studies_is_not_taken_apart():
    assert not parts_table({"normal": {"studies": 3, "cider": 0.2}, "abnormal": {"studies": 0}})


def test_tables_without_data_are_false():
    assert not any([removed_table({}), labels_table({}), conventions_table({}), parts_table({}), *exam_tables({})])
