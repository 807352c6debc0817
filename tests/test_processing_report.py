"""Films and reports to MCSAM's inputs, ids back to sentences, keywords merged, saved and loaded whole."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, PretrainedConfig

from radscribe.processing.image_processing_cxr import CXRImageProcessor
from radscribe.processing.processing_mcsam import MCSAMProcessor
from radscribe.processing.processing_text import build_tokenizer

REPORTS = ["Heart size normal. No effusion.", "Heart large. PICC line tip in SVC."]


@pytest.fixture
def processor():
    tokenizer = build_tokenizer(REPORTS, min_frequency=1)
    return MCSAMProcessor(CXRImageProcessor(size=32), tokenizer, max_length=12)


@pytest.fixture
def film():
    return np.arange(40 * 40, dtype=np.uint8).reshape(40, 40)


def words(processor, labels):
    return processor.tokenizer.convert_ids_to_tokens([i for i in labels if i != -100])


def test_films_and_reports_give_the_model_inputs(processor, film):
    batch = processor([[film, film], [film]], REPORTS, return_tensors="pt")
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "pixel_values": (2, 2, 3, 32, 32),
        "view_mask": (2, 2),
        "labels": (2, 10),
    }


def test_input_names_are_those_that_come_out(processor, film):
    assert set(processor(film, REPORTS[0])) == set(processor.model_input_names)


def test_labels_are_the_cleaned_words_and_the_end_token(processor):
    labels = processor(text=REPORTS[0])["labels"][0]
    assert words(processor, labels) == "heart size normal . no effusion . </s>".split()


def test_shorter_labels_are_padded_with_minus_100(processor):
    labels = processor(text=REPORTS, return_tensors="pt")["labels"]
    assert (labels[0, 8:] == -100).all() and (labels[1] != -100).all() and labels.dtype == torch.int64


def test_images_alone_give_no_labels(processor, film):
    assert set(processor(film)) == {"pixel_values", "view_mask"}


def test_text_alone_gives_labels_alone(processor):
    assert set(processor(text=REPORTS)) == {"labels"}


@pytest.mark.parametrize(("count", "ended"), [(10, True), (11, False), (12, False)])
def test_long_report_loses_its_end_token_as_in_r2gen(processor, count, ended):
    report = "heart " * (count - 1)  # and the dot that cleaning adds: `count` words
    labels = processor(text=report)["labels"][0]
    assert len(labels) == 11 and (labels[-1] == processor.tokenizer.eos_token_id) == ended


def test_report_style_decides_the_cleaning():
    tokenizer = build_tokenizer(REPORTS, 1)
    rows = [
        MCSAMProcessor(CXRImageProcessor(), tokenizer, report_style=style)(text="Heart.\nLarge.")["labels"][0]
        for style in ("iu", "mimic")
    ]
    assert [tokenizer.decode(row) for row in rows] == ["heart large . </s>", "heart . large . </s>"]


# keywords -----------------------------------------------------------------------------------------------------------


def test_flat_keywords_reach_films_and_reports(processor, film):
    batch = processor(film, REPORTS[0], size=48, fit="crop", max_length=5)
    assert batch["pixel_values"].shape[-1] == 48 and batch["labels"].shape == (1, 4)


def test_nested_keywords_reach_films_and_reports(processor, film):
    settings = {"images_kwargs": {"size": 48}, "text_kwargs": {"padding": "max_length", "max_length": 20}}
    batch = processor(film, REPORTS[0], return_tensors="np", **settings)
    assert batch["pixel_values"].shape[-1] == 48 and batch["labels"].shape == (1, 19)


def test_keywords_of_one_call_do_not_stay(processor, film):
    processor(film, REPORTS[0], size=48, max_length=5)
    assert processor(film, REPORTS[0])["pixel_values"].shape[-1] == 32


def test_truncation_and_padding_can_be_turned_off(processor):
    labels = processor(text=["heart " * 30, "heart"], truncation=False, padding=False)["labels"]
    assert [len(row) for row in labels] == [32, 3]


# decoding -----------------------------------------------------------------------------------------------------------


def test_labels_decode_to_readable_sentences(processor):
    labels = processor(text=REPORTS, return_tensors="pt")["labels"]
    assert processor.batch_decode(labels) == REPORTS


def test_clean_form_is_what_the_scores_need(processor):
    labels = processor(text=REPORTS)["labels"]
    assert processor.batch_decode(labels, clean=True)[0] == "heart size normal . no effusion ."


def test_generated_ids_decode_up_to_the_end_token(processor):
    end, start, pad = 2, 1, 0
    no, effusion, stop = processor.tokenizer.convert_tokens_to_ids(["no", "effusion", "."])
    ids = torch.tensor([start, no, effusion, stop, end, effusion, pad])
    assert processor.decode(ids) == "No effusion."


def test_unknown_word_is_scored_but_not_read(processor):
    ids = processor(text="Heart enlarged.")["labels"][0]
    assert processor.decode(ids, clean=True) == "heart <unk> ." and processor.decode(ids) == "Heart."


def test_special_tokens_show_when_asked_for(processor):
    assert processor.decode([1, 3, 2, 0, -100], skip_special_tokens=False) == "<s> <unk> </s> <pad>"


def test_report_of_the_end_token_alone_is_empty(processor):
    assert processor.batch_decode([[1, 2, 0], []]) == ["", ""]


@pytest.mark.parametrize("rows", [1, 2])
def test_pipelines_find_their_post_processing(processor, rows):
    labels = processor(text=REPORTS[:1] * 2, return_tensors="pt")["labels"]
    generated = labels[0] if rows == 1 else labels
    assert processor.post_process_image_text_to_text(generated, skip_special_tokens=True) == REPORTS[:1] * rows


# saving -------------------------------------------------------------------------------------------------------------


class StandInConfig(PretrainedConfig):
    """A model type of our own for the Auto classes, whatever the package has registered."""

    model_type = "processor_test"


@pytest.fixture
def saved(processor, tmp_path):
    """A saved processor beside the config of a registered model type."""
    AutoConfig.register("processor_test", StandInConfig, exist_ok=True)
    AutoImageProcessor.register(StandInConfig, slow_image_processor_class=CXRImageProcessor, exist_ok=True)
    AutoProcessor.register(StandInConfig, MCSAMProcessor, exist_ok=True)
    StandInConfig().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("loader", [MCSAMProcessor, AutoProcessor])
def test_loaded_processor_gives_the_same_inputs(processor, saved, film, loader):
    loaded = loader.from_pretrained(saved)
    assert type(loaded) is MCSAMProcessor
    before, after = (p([film], ["Heart large."], return_tensors="pt") for p in (processor, loaded))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_own_settings_survive_saving(processor, saved):
    processor.max_length, processor.report_style = 77, "mimic"
    processor.save_pretrained(saved)
    loaded = MCSAMProcessor.from_pretrained(saved)
    assert (loaded.max_length, loaded.report_style) == (77, "mimic")


def test_image_processor_loads_alone(saved):
    assert type(AutoImageProcessor.from_pretrained(saved)) is CXRImageProcessor


def test_folder_has_the_files_that_both_versions_read(saved):
    names = {path.name for path in saved.iterdir()}
    assert {"processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert '"PreTrainedTokenizerFast"' in (saved / "tokenizer_config.json").read_text()


# bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs `images`, `text` or both"),
        ({"text": []}, "`text` is an empty list"),
        ({"text": [None]}, "`report` must be a string"),
        ({"images": [np.zeros((20, 20))] * 2, "text": ["Clear."]}, "one report for each study. Got 1 for 2"),
        ({"images": "missing.png", "text": "Clear."}, "No image at `missing.png`"),
    ],
)
def test_bad_input_is_refused_in_one_line(processor, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        processor(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", [{"max_length": 1}, {"report_style": "padchest"}])
def test_bad_settings_are_refused(processor, settings):
    with pytest.raises(ValueError, match="must be"):
        MCSAMProcessor(processor.image_processor, processor.tokenizer, **settings)
