"""Do the short ways of writing change a report? A trained model on a split, by the stock layers, as shipped, in bf16.

    python -m tests.tools.equal_reports MODEL data/iu_xray [--split val] [--studies N] [--no-bf16]

- stock: every word through the memory or aligner anew, and through the stock decoder's layers, whose films stand once
  for every beam;
- fast: as the package writes: tables instead, films once a study, the short way through the layers. In fp32 its
  reports must be those of the stock layers, each and all; exit code 1 where one differs;
- bf16: the same under `torch.autocast`. Printed: the share of equal reports and what validation says of both.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import EvalPrediction

from radscribe.modeling.modeling_decoder import ReportDecoder
from radscribe.modeling.modeling_report import FoldedTable
from radscribe.training.build import load_checkpoint
from radscribe.training.data import StudyFilms, collate_with
from radscribe.training.readers.studies import is_phantom_set, load_studies
from radscribe.training.trainer import report_metrics

FIGURES = ("bleu_4", "rouge_l", "cider", "clinical_f1", "clinical_f1_macro", "finding_f1", "distinct")


@contextmanager
def stock_ways() -> Iterator[None]:
    """Inside, nothing is folded into tables and no step takes the short way."""
    plain = patch.object(FoldedTable, "look_up", lambda self, ids, table, function: function(table(ids)))
    long = patch.object(ReportDecoder, "_takes_short_way", lambda *given: False)
    with plain, long:
        yield


@torch.no_grad()
def write_all(network: Any, processor: Any, studies: Any) -> tuple[Tensor, float]:
    """Words of the studies' reports (studies, length), and the seconds it took."""
    loader = DataLoader(
        StudyFilms(studies), batch_size=16, collate_fn=collate_with(processor, network.config.max_views)
    )
    words = []
    begun = time.perf_counter()
    for batch in loader:
        written = network.generate(pixel_values=batch["pixel_values"], view_mask=batch["view_mask"])
        padding = network.config.max_words - written.shape[1]
        words.append(F.pad(written, (0, padding), value=network.config.pad_token_id))
    return torch.cat(words), time.perf_counter() - begun


def score(processor: Any, words: Tensor, studies: Any) -> dict[str, float]:
    """What validation while training would say."""
    references = processor.batch_decode(processor(text=list(studies["findings"]))["labels"], clean=True)
    labels = list(studies["labels"]) if is_phantom_set(studies["study_id"]) else None
    return report_metrics(processor, references, labels)(EvalPrediction(words.numpy(), words.numpy()))


def main(given: argparse.Namespace) -> int:
    """Print the table; 1 where fast reports differ from the stock ones."""
    network, processor = load_checkpoint(given.model)
    network.eval()
    studies = load_studies(given.dataset, given.split)
    studies = studies.select(range(min(given.studies or len(studies), len(studies))))
    found: dict[str, tuple[Tensor, float]] = {}
    with stock_ways():
        found["stock fp32"] = write_all(network, processor, studies)
    found["fast fp32"] = write_all(network, processor, studies)
    if given.bf16:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found["fast bf16"] = write_all(network, processor, studies)
    stock = found["stock fp32"][0]
    table = Table("reports", "equal to stock", *FIGURES, "seconds", title=f"{given.model}, {len(studies)} studies")
    for name, (words, seconds) in found.items():
        scores = score(processor, words, studies)
        equal = (words == stock).all(dim=1).double().mean().item()
        figures = [f"{scores[figure]:.3f}" if figure in scores else "–" for figure in FIGURES]
        table.add_row(name, f"{equal:.3f}", *figures, f"{seconds:.0f}")
    Console(width=140).print(table)
    return int(not torch.equal(found["fast fp32"][0], stock))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--studies", type=int, default=None)
    parser.add_argument("--no-bf16", dest="bf16", action="store_false")
    sys.exit(main(parser.parse_args()))
