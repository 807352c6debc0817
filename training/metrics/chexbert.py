"""CheXbert (Smit et al., EMNLP 2020): a BERT that labels a report with the 14 CheXpert observations.

The weights, `chexbert.pth`, are the user's to get (https://github.com/stanfordmlgroup/CheXbert; commercial use needs
a licence) and are never fetched here. The published file is a torch pickle whose "model_state_dict" holds
"module.bert.*" (BERT-base, wrapped in DataParallel) and "module.linear_heads.N.weight/bias": 13 heads of 4 classes and
a 14th, "No Finding", of 2. The heads read the last hidden state of [CLS]; BERT's pooler, which is in the file too, is
passed over. Facts from src/{constants,label,bert_tokenizer,models/bert_labeler}.py of that repository.

Tested on random weights in the published layout only: the real ones could not be had. Before figures are published,
compare a few labels with those of the authors' own `label.py`.

Shapes: S reports, B batch, T tokens, D width of BERT.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer, PreTrainedTokenizerBase

from .rule_labeller import BLANK, NEGATIVE, OBSERVATIONS, POSITIVE, UNCERTAIN

# CheXbert's own orders: of its heads, and of the classes in each ("No Finding" has the first two alone).
HEADS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
CLASSES = (BLANK, POSITIVE, NEGATIVE, UNCERTAIN)
HEAD_SIZES = [len(CLASSES)] * 13 + [2]
MAX_TOKENS = 512  # [CLS] and [SEP] included

_PREFIX = "module."
_HEAD_WIDTH = 64  # of every published BERT; a state dict does not tell the number of attention heads


class CheXbertLabeller:
    """Labels reports with CheXbert.

    Args:
        weights: the published `chexbert.pth`.
        vocabulary: a vocab.txt, a folder with a tokenizer or a name on the Hub; CheXbert was trained on
            bert-base-uncased's.
        batch_size: reports a step; changes speed and memory, no label.

    Raises:
        FileNotFoundError, IsADirectoryError: `weights` is no file.
        ValueError: `weights` is not in the published layout, or `vocabulary` is missing or of another size.
    """

    def __init__(self, weights: Path, vocabulary: str = "bert-base-uncased", batch_size: int = 32) -> None:
        state = read_weights(Path(weights))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.batch_size = batch_size
        self.head_weight, self.head_bias = (part.to(self.device) for part in _stack_heads(state, weights))
        self.bert = _build_bert(state, weights).to(self.device)
        self.tokenizer = load_vocabulary(vocabulary, self.bert.config.vocab_size)
        self.max_tokens = min(MAX_TOKENS, self.bert.config.max_position_embeddings)

    def label_reports(self, reports: Sequence[str]) -> np.ndarray:
        """Codes of rule_labeller.py, columns in the order of `OBSERVATIONS`: S reports -> (S, 14) int8."""
        labels = np.empty((len(reports), len(OBSERVATIONS)), dtype=np.int8)
        columns = [HEADS.index(name) for name in OBSERVATIONS]
        codes = np.array(CLASSES, dtype=np.int8)
        for rows, ids in self._batches(reports):
            classes = [logits.argmax(-1) for logits in self.score_tokens(ids).split(HEAD_SIZES, dim=-1)]
            labels[rows] = codes[torch.stack(classes, dim=-1).cpu().numpy()][:, columns]
        return labels

    @torch.inference_mode()
    def score_tokens(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Logits of all heads side by side, padded to the longest: B lists of token ids -> (B, 54)."""
        padding = self.tokenizer.pad_token_id
        padded = [torch.tensor(tokens) for tokens in ids]
        tokens = torch.nn.utils.rnn.pad_sequence(padded, batch_first=True, padding_value=padding).to(self.device)
        lengths = torch.tensor([len(tokens) for tokens in ids], device=self.device)
        mask = torch.arange(tokens.size(1), device=self.device) < lengths[:, None]  # (B, T)
        hidden = self.bert(input_ids=tokens, attention_mask=mask.long()).last_hidden_state  # (B, T, D)
        return F.linear(hidden[:, 0], self.head_weight, self.head_bias)

    def _batches(self, reports: Sequence[str]) -> Iterator[tuple[list[int], list[list[int]]]]:
        """(rows, token ids) of a batch, longest first: little padding, and too large a batch fails at once."""
        encoded = self._encode(reports)
        order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield rows, [encoded[row] for row in rows]

    def _encode(self, reports: Sequence[str]) -> list[list[int]]:
        """[CLS] words [SEP] of each report, cut as CheXbert cuts; white space becomes single spaces before."""
        texts = [" ".join(report.split()) for report in reports]
        if not texts:
            return []
        return list(self.tokenizer(texts, truncation=True, max_length=self.max_tokens)["input_ids"])


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of CheXbert's file without its DataParallel prefix, on the CPU in fp32.

    Only tensors and plain containers are unpickled, so the file can run no code.
    """
    if path.is_dir():
        raise IsADirectoryError(f"CheXbert's weights are the file chexbert.pth. Got the folder {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"CheXbert's weights {path} do not exist; get chexbert.pth from its authors.")
    expected = 'expected CheXbert\'s chexbert.pth, a torch file with a "model_state_dict" of "module.*" tensors'
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read as weights; {expected}.") from error
    state = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ValueError(f'{path} holds no "model_state_dict" of tensors; {expected}.')
    if not any(name.startswith(_PREFIX) for name in state):
        raise ValueError(f'{path} has no "{_PREFIX}*" among its {len(state)} tensors; {expected}.')
    return {name.removeprefix(_PREFIX): tensor.float() for name, tensor in state.items()}


def _take(state: dict[str, Tensor], name: str, dimensions: int, path: Path) -> Tensor:
    """A tensor by its name, which must have so many dimensions."""
    tensor = state.get(name)
    if tensor is None or tensor.dim() != dimensions:
        got = "none" if tensor is None else f"{tuple(tensor.shape)}"
        raise ValueError(f'{path}: "{_PREFIX}{name}" is expected with {dimensions} dimensions. Got {got}.')
    return tensor


def _stack_heads(state: dict[str, Tensor], path: Path) -> tuple[Tensor, Tensor]:
    """The 14 heads as one linear layer: (54, D), (54,)."""
    width = _take(state, "bert.embeddings.word_embeddings.weight", 2, path).size(1)
    weights, biases = [], []
    for number, size in enumerate(HEAD_SIZES):
        weights.append(_take(state, f"linear_heads.{number}.weight", 2, path))
        biases.append(_take(state, f"linear_heads.{number}.bias", 1, path))
        if weights[-1].shape != (size, width) or biases[-1].shape != (size,):
            raise ValueError(
                f'{path}: "{_PREFIX}linear_heads.{number}" ({HEADS[number]}) must be ({size}, {width}) and ({size},). '
                f"Got {tuple(weights[-1].shape)} and {tuple(biases[-1].shape)}."
            )
    if extra := [name for name in state if name.startswith(f"linear_heads.{len(HEADS)}.")]:
        raise ValueError(f'{path}: {len(HEADS)} heads are expected. Got a further one, "{_PREFIX}{extra[0]}".')
    return torch.cat(weights), torch.cat(biases)


def _build_bert(state: dict[str, Tensor], path: Path) -> BertModel:
    """BERT with the file's weights; its sizes are read off their shapes."""
    words, width = _take(state, "bert.embeddings.word_embeddings.weight", 2, path).shape
    layers = {int(found[1]) for name in state if (found := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))}
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, width // _HEAD_WIDTH),
        intermediate_size=_take(state, "bert.encoder.layer.0.intermediate.dense.weight", 2, path).size(0),
        max_position_embeddings=_take(state, "bert.embeddings.position_embeddings.weight", 2, path).size(0),
        type_vocab_size=_take(state, "bert.embeddings.token_type_embeddings.weight", 2, path).size(0),
    )
    bert = BertModel(config, add_pooling_layer=False)
    # Constant positions are in files of Transformers 3.1 to 4.30 and in no other.
    unused = ("bert.pooler.", "bert.embeddings.position_ids")
    own = {name: tensor for name, tensor in state.items() if name.startswith("bert.") and not name.startswith(unused)}
    try:
        bert.load_state_dict({name.removeprefix("bert."): tensor for name, tensor in own.items()})
    except RuntimeError as error:  # its first line is a heading, the second names a tensor
        said = " ".join(str(error).split("\n", 1)[-1].split())
        raise ValueError(f'{path}: "{_PREFIX}bert.*" are not the tensors of a BERT: {said[:200]}.') from error
    return bert.eval()


def load_vocabulary(vocabulary: str, words: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a vocab.txt, a folder or a Hub name; it must have as many words as BERT has embeddings."""
    try:
        if Path(vocabulary).is_file():
            tokenizer: PreTrainedTokenizerBase = BertTokenizer(vocabulary)
        else:
            tokenizer = AutoTokenizer.from_pretrained(vocabulary)
    except Exception as error:  # whatever Transformers, the Hub and the file system raise: the user needs the way out
        raise ValueError(
            f"The vocabulary {vocabulary!r} cannot be loaded; give bert-base-uncased's vocab.txt, its folder, or a "
            "Hub name that can be reached."
        ) from error
    if len(tokenizer) != words:
        raise ValueError(
            f"The vocabulary {vocabulary!r} has {len(tokenizer)} words and CheXbert's BERT {words}; give the one it "
            "was trained on (bert-base-uncased)."
        )
    return tokenizer
