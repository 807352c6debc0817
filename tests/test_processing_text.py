"""The R2Gen cleaning rules with their oddities, the way back to sentences, and the word-level tokenizer."""

import json
import random

import pytest
from transformers import AutoTokenizer

from radscribe.processing.processing_text import build_tokenizer, clean_report, restore_report, save_tokenizer

# style, report as written, what R2Gen's code makes of it (white space made single). Made-up sentences.
ODDITIES = [
    # plain sentences: lower case, the dot a word of its own
    ("iu", "Heart size normal. No effusion.", "heart size normal . no effusion ."),
    ("iu", "No final stop", "no final stop ."),
    ("iu", "", "."),
    ("iu", "   ", "."),
    # enumerations: "1. " goes anywhere, 2 to 5 as words, with or without a dot before; 6 and up stay
    ("iu", "1. Clear lungs. 2. No effusion. 3. Old fracture.", "clear lungs . no effusion . old fracture ."),
    ("iu", "Findings 2. Clear lungs 5. No effusion", "findings . clear lungs . no effusion ."),
    ("iu", "5. Clear. 6. Quiet. 7. Still.", "5 . clear . 6 . quiet . 7 . still ."),
    ("iu", "11. rib fracture.", "1rib fracture ."),
    ("iu", "Collapse of T11. No effusion.", "collapse of t1no effusion ."),
    ("iu", "Edema grade 3. Effusion.", "edema grade . effusion ."),
    ("iu", "Edema grade 3.", "edema grade 3 ."),
    ("iu", "2. Clear.", "2 . clear ."),
    # deleted characters fuse what stood around them
    ("iu", "A 1.5 cm nodule.", "a 15 cm nodule ."),
    ("iu", 'PA/lateral views, "AP" too; patient\'s films (2)?', "palateral views ap too patients films 2 ."),
    ("iu", "back\\slash 50% & more! a_b ^ {c} [d] *e* x+y", "backslash 50 more ab c d e xy ."),
    # the accidental range `:-[` takes : ; < = > ? @ [ and leaves the hyphen; other signs stay
    ("iu", "Follow-up: <2> a=b a@b", "follow-up 2 ab ab ."),
    ("iu", "# $ ~ | `", "# $ ~ | ` ."),
    # dots: three passes for IU, eight for MIMIC-CXR; a sentence ends at dot and space only
    ("iu", "Clear... Heart normal.", "clear . heart normal ."),
    ("iu", "Clear.Heart normal.", "clearheart normal ."),
    ("iu", "Clear" + "." * 8 + " Heart.", "clear . heart ."),
    ("iu", "Clear. . Heart.", "clear . . heart ."),
    ("iu", ". Heart.", ". heart ."),
    # white space: IU leaves newlines to the final single spacing, so a sentence may not end at one
    ("iu", "Clear.\nHeart   normal.", "clear heart normal ."),
    ("mimic", "Clear.\nHeart   normal.", "clear . heart normal ."),
    ("mimic", "Compared to ____ the   heart\nis\n\nlarge.", "compared to the heart is large ."),
    ("mimic", "Clear" + "." * 200 + " Heart.", "clear . heart ."),
    ("mimic", "1. Clear\n2. Heart normal.", "clear . heart normal ."),
    # marks of removed names stay words
    ("iu", "Seen by XXXX on XXXX-XXXX.", "seen by xxxx on xxxx-xxxx ."),
]


@pytest.mark.parametrize(("style", "report", "cleaned"), ODDITIES)
def test_cleaning_is_r2gen_bug_for_bug(style, report, cleaned):
    assert clean_report(report, style) == cleaned


@pytest.mark.parametrize("report", ["Clear.", "1. A. 2. B.", "a_b: c"])
def test_styles_agree_where_there_are_no_newlines_or_runs(report):
    assert clean_report(report, "iu") == clean_report(report, "mimic")


def noisy_reports(count: int) -> list[str]:
    """Reports of random pieces that the rules care about, and some they should not."""
    rng = random.Random(0)
    pieces = [". ", ".", "..", " ", "\n", "1. ", "2. ", " 3. ", "t11", "5.", "1", "2", "10", "_", "xxxx", "-", "~"]
    pieces += ["ct", "x-ray", "1.5 cm", "A", "word", "'", "/", ":", "[", "]", "é", "İ", "ß", "Σ", "\xa0", "\u2028"]
    return ["".join(rng.choices(pieces, k=rng.randrange(25))) for _ in range(count)]


@pytest.mark.parametrize("style", ["iu", "mimic"])
def test_restored_sentences_clean_to_the_same_words_again(style):
    for report in [*(row[1] for row in ODDITIES), *noisy_reports(2000)]:
        cleaned = clean_report(report, style)
        for any_style in ("iu", "mimic"):
            assert clean_report(restore_report(cleaned), any_style) == cleaned, report


@pytest.mark.parametrize("style", ["iu", "mimic"])
def test_cleaning_twice_changes_nothing(style):
    for report in noisy_reports(2000):
        assert clean_report(clean_report(report, style), style) == clean_report(report, style)


@pytest.mark.parametrize(
    ("cleaned", "restored"),
    [
        ("heart size normal . no effusion .", "Heart size normal. No effusion."),
        ("no ct of t11-t12 on pa view by xxxx .", "No CT of T11-T12 on PA view by XXXX."),
        ("fracture of t11 . no effusion .", "Fracture of T11 . No effusion."),
        ("15 cm nodule .", "15 cm nodule."),
        ("a . . c .", "A. . C."),
        (".", ""),
        ("", ""),
        ("clear . there is no", "Clear. There is no"),
    ],
)
def test_restored_report_reads_like_sentences(cleaned, restored):
    assert restore_report(cleaned) == restored


def test_unknown_style_is_refused_in_one_line():
    with pytest.raises(ValueError, match='`style` must be "iu" or "mimic". Got \'chexpert\''):
        clean_report("Clear.", "chexpert")


def test_report_that_is_no_string_is_refused():
    with pytest.raises(ValueError, match="`report` must be a string. Got NoneType"):
        clean_report(None)


REPORTS = ["Heart normal. No effusion.", "Heart large. No edema.", "Heart normal."]


@pytest.fixture
def tokenizer():
    return build_tokenizer(REPORTS, min_frequency=2)


def test_words_are_numbered_by_count_then_alphabet_after_the_special_tokens(tokenizer):
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert words == ["<pad>", "<s>", "</s>", "<unk>", ".", "heart", "no", "normal"]


def test_special_tokens_are_where_the_models_expect_them(tokenizer):
    ids = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    assert ids == (0, 1, 2, 3)


def test_encoding_appends_the_end_token_alone(tokenizer):
    assert tokenizer("heart large .")["input_ids"] == [5, 3, 4, 2]


def test_decoding_joins_words_by_one_space(tokenizer):
    assert tokenizer.decode([5, 7, 4, 6, 4]) == "heart normal . no ."


def test_tokenizer_gives_only_ids_and_mask(tokenizer):
    assert set(tokenizer("heart")) == {"input_ids", "attention_mask"}


def test_vocabulary_does_not_depend_on_the_order_of_reports(tokenizer):
    assert build_tokenizer(REPORTS[::-1], min_frequency=2).get_vocab() == tokenizer.get_vocab()


def test_saved_tokenizer_is_the_same_after_loading(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.decode(loaded("heart normal .")["input_ids"]) == "heart normal . </s>"


def test_saved_tokenizer_names_a_class_that_both_versions_know(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reports": []}, "`reports` is empty"),
        ({"reports": ["A b."], "min_frequency": 2}, "`min_frequency`=2 leaves no word"),
        ({"reports": ["", ""], "min_frequency": 1}, "leaves no word"),
        ({"reports": "Clear."}, "must be a list of reports"),
        ({"reports": ["Clear."], "min_frequency": 0}, "must be at least 1"),
    ],
)
def test_vocabulary_without_words_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        build_tokenizer(**arguments)
    assert "\n" not in str(error.value)
