"""CheXbert on random weights of a tiny BERT in the layout of the published file; the real weights are never here."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from radscribe.training.metrics.chexbert import HEADS, CheXbertLabeller, read_weights
from radscribe.training.metrics.rule_labeller import BLANK, NEGATIVE, OBSERVATIONS, POSITIVE, UNCERTAIN

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] no the is are heart lungs clear large left effusion small right mild . , ##s"
REPORTS = [
    "The heart is large.",
    "No effusion.\nThe lungs  are clear. The heart is mild, small, large.",
    "",
    "Lungs clear.",
    "The left effusion is small and the right effusion is large.",
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A vocab.txt of a few words."""
    path = tmp_path_factory.mktemp("words") / "vocab.txt"
    path.write_text("\n".join(WORDS.split()) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def bert():
    """A random tiny BERT of two attention heads, with its pooler."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    # the usual 0.02 gives every report the same labels
    config = BertConfig(vocab_size=len(WORDS.split()), max_position_embeddings=16, initializer_range=0.4, **sizes)
    return BertModel(config).eval()


@pytest.fixture(scope="module")
def published(bert):
    """published(): a fresh state dict under the published names."""
    generator = torch.Generator().manual_seed(1)
    heads = [torch.randn(2 if name == "No Finding" else 4, 129, generator=generator) for name in HEADS]

    def make():
        state = OrderedDict((f"module.bert.{name}", tensor.clone()) for name, tensor in bert.state_dict().items())
        for number, head in enumerate(heads):
            state[f"module.linear_heads.{number}.weight"] = head[:, :128].clone()
            state[f"module.linear_heads.{number}.bias"] = head[:, 128].clone()
        return state

    return make


@pytest.fixture
def save(tmp_path):
    """save(content): a torch file."""

    def write(content):
        torch.save(content, tmp_path / "chexbert.pth")
        return tmp_path / "chexbert.pth"

    return write


@pytest.fixture
def labeller(published, save, vocabulary):
    """labeller(batch_size=2): CheXbert of the random weights."""
    weights = save({"epoch": 3, "model_state_dict": published(), "optimizer_state_dict": {"state": {}}})
    return lambda **settings: CheXbertLabeller(weights, vocabulary, **settings)


def test_labels_are_those_of_a_forward_pass_by_hand(labeller, bert, published, vocabulary):
    """One report at a time, the 14 heads one after another, codes by name."""
    tokenizer, state = BertTokenizer(vocabulary), published()
    expected = []
    for report in REPORTS:
        ids = tokenizer(report.replace("\n", " "))["input_ids"]
        ids = ids if len(ids) <= 16 else [*ids[:15], tokenizer.sep_token_id]
        with torch.no_grad():
            first = bert(torch.tensor([ids])).last_hidden_state[0, 0]
        found = {}
        for number, name in enumerate(HEADS):
            weight, bias = (state[f"module.linear_heads.{number}.{part}"] for part in ("weight", "bias"))
            found[name] = [BLANK, POSITIVE, NEGATIVE, UNCERTAIN][int((weight @ first + bias).argmax())]
        expected.append([found[name] for name in OBSERVATIONS])
    labels = labeller().label_reports(REPORTS)
    assert labels.tolist() == expected
    assert len(np.unique(labels, axis=0)) > 1  # random weights that tell reports apart


def test_labels_are_int8_of_a_row_a_report(labeller):
    labels = labeller().label_reports(REPORTS)
    assert labels.dtype == np.int8 and labels.shape == (len(REPORTS), 14)


def test_no_reports_have_no_labels(labeller):
    assert labeller().label_reports([]).shape == (0, 14)


@pytest.mark.parametrize("code", [BLANK, POSITIVE, NEGATIVE, UNCERTAIN])
@pytest.mark.parametrize("name", ["Cardiomegaly", "Support Devices", "Pleural Effusion"])
def test_a_head_speaks_for_its_observation_alone(published, save, vocabulary, name, code):
    """All heads say blank, but one."""
    state = published()
    for key in state:
        if "linear_heads" in key:
            state[key].zero_()
    state[f"module.linear_heads.{HEADS.index(name)}.bias"][[BLANK, POSITIVE, NEGATIVE, UNCERTAIN].index(code)] = 1
    labels = CheXbertLabeller(save({"model_state_dict": state}), vocabulary).label_reports(REPORTS[:1])[0]
    assert dict(zip(OBSERVATIONS, labels, strict=True)) == dict.fromkeys(OBSERVATIONS, BLANK) | {name: code}


def test_the_second_class_of_no_finding_is_positive(published, save, vocabulary):
    state = published()
    state["module.linear_heads.13.bias"] += torch.tensor([0.0, 1000.0])
    labels = CheXbertLabeller(save({"model_state_dict": state}), vocabulary).label_reports(REPORTS)
    assert (labels[:, OBSERVATIONS.index("No Finding")] == POSITIVE).all()


def test_no_finding_is_never_negative_or_uncertain(labeller):
    assert set(labeller().label_reports(REPORTS)[:, OBSERVATIONS.index("No Finding")]) <= {BLANK, POSITIVE}


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_padding_changes_no_label(labeller, batch_size):
    together = labeller(batch_size=5).label_reports(REPORTS)
    assert (labeller(batch_size=batch_size).label_reports(REPORTS) == together).all()


def test_padding_changes_no_logit(labeller):
    model = labeller()
    short, long = [2, 9, 3], [2, 5, 6, 7, 8, 9, 3]
    torch.testing.assert_close(model.score_tokens([short, long])[:1], model.score_tokens([short]))


def test_labels_keep_the_order_of_the_reports(labeller):
    labels = labeller(batch_size=2).label_reports(REPORTS)
    assert (labeller(batch_size=2).label_reports(REPORTS[::-1])[::-1] == labels).all()


def test_white_space_of_a_report_does_not_matter(labeller):
    model = labeller()
    assert model._encode(["\n The heart\n\n is  large. "]) == model._encode(["The heart is large."])


def test_an_empty_report_is_its_two_marks(labeller):
    model = labeller()
    assert model._encode([" \n"]) == [[model.tokenizer.cls_token_id, model.tokenizer.sep_token_id]]


def test_a_long_report_is_cut_and_keeps_its_end_mark(labeller):
    """[CLS], the first words, [SEP]: CheXbert's cut at 512 tokens, here at the 16 positions of the tiny BERT."""
    model = labeller()
    (ids,) = model._encode(["heart " * 40])
    assert len(ids) == 16 and ids[-1] == model.tokenizer.sep_token_id


def test_files_with_stored_positions_load_too(published, save, vocabulary, labeller):
    """Transformers 3.1 to 4.30 wrote them."""
    state = published() | {"module.bert.embeddings.position_ids": torch.arange(16)[None]}
    labels = CheXbertLabeller(save({"model_state_dict": state}), vocabulary).label_reports(REPORTS)
    assert (labels == labeller().label_reports(REPORTS)).all()


def test_half_precision_is_read_as_single(save):
    assert read_weights(save({"model_state_dict": {"module.a": torch.ones(1).half()}}))["a"].dtype == torch.float32


def _without(name):
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without("module.linear_heads.4.bias"), r'"module.linear_heads.4.bias" is expected with 1 dim.*Got none\.$'),
        (_without("module.bert.encoder.layer.1.output.dense.bias"), "Missing key.*layer.1.output.dense.bias"),
        (_without("module.bert.embeddings.word_embeddings.weight"), "word_embeddings.weight.* Got none"),
        (lambda state: state | {"module.linear_heads.13.bias": torch.zeros(4)}, r"\(No Finding\) must be \(2, 128\)"),
        (lambda state: state | {"module.linear_heads.14.bias": torch.zeros(4)}, "14 heads are expected"),
        (lambda state: state | {"module.bert.embeddings.LayerNorm.bias": torch.zeros(4)}, "size mismatch"),
        (lambda state: {key.removeprefix("module."): value for key, value in state.items()}, r'has no "module\.\*"'),
        (lambda state: {"module.a": 3}, 'holds no "model_state_dict" of tensors'),
    ],
)
def test_other_weights_are_one_line_that_names_what_was_expected(published, save, vocabulary, change, said):
    path = save({"model_state_dict": change(published())})
    with pytest.raises(ValueError, match=said) as error:
        CheXbertLabeller(path, vocabulary)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


class Code:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize("content", [Code(), {"state_dict": {}}, [1], torch.zeros(2)])
def test_another_torch_file_is_one_line_and_runs_nothing(save, vocabulary, content, capsys):
    with pytest.raises(ValueError, match="expected CheXbert's chexbert.pth") as error:
        CheXbertLabeller(save(content), vocabulary)
    assert "\n" not in str(error.value) and not capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut short", b"\x80\x02\x95"])
def test_a_file_that_is_no_torch_file_is_one_line(tmp_path, vocabulary, content):
    path = tmp_path / "chexbert.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as weights; expected CheXbert's") as error:
        CheXbertLabeller(path, vocabulary)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path, vocabulary):
    with pytest.raises(FileNotFoundError, match="none.pth do not exist"):
        CheXbertLabeller(tmp_path / "none.pth", vocabulary)
    with pytest.raises(IsADirectoryError, match="Got the folder"):
        CheXbertLabeller(tmp_path, vocabulary)


def test_a_vocabulary_may_be_a_folder(labeller, published, save, vocabulary, tmp_path):
    BertTokenizer(vocabulary).save_pretrained(tmp_path / "tokenizer")
    model = CheXbertLabeller(save({"model_state_dict": published()}), str(tmp_path / "tokenizer"))
    assert (model.label_reports(REPORTS) == labeller().label_reports(REPORTS)).all()


def test_a_vocabulary_that_is_not_there_is_one_line(published, save):
    with pytest.raises(
        ValueError, match="'nowhere/none' cannot be loaded; give bert-base-uncased's vocab.txt"
    ) as error:
        CheXbertLabeller(save({"model_state_dict": published()}), "nowhere/none")
    assert "\n" not in str(error.value)


def test_a_vocabulary_of_another_size_is_refused(published, save, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS.split(), "more"]) + "\n")
    with pytest.raises(ValueError, match="has 22 words and CheXbert's BERT 21"):
        CheXbertLabeller(save({"model_state_dict": published()}), str(tmp_path / "vocab.txt"))
