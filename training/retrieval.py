"""Which report belongs to these films? The rank of the true one by cosine (UAR, Fig. 3).

    python -m radscribe.training.retrieval MODEL --dataset DIR [--split val]

Films and reports of a split are embedded as the model's alignment loss compares them, before the Transformer. A rank
is 1 + the number of reports, other than the true text, that are nearer; by chance it is half of the studies.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor

from .build import load_checkpoint
from .data import StudyFilms, collate_with
from .errors import one_line
from .readers.studies import load_studies


def rank_reports(cosines: Tensor, texts: list[str]) -> Tensor:
    """Rank of the true report of each study, 1 = nearest; ties share the middle: (S films, S reports) -> (S,)."""
    kinds = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    kind = torch.tensor([kinds[text] for text in texts])
    others = kind[:, None] != kind[None, :]  # a report that another study has word for word is as true
    true = cosines.diagonal()[:, None]
    return 1 + ((cosines > true) & others).sum(1) + 0.5 * ((cosines == true) & others).sum(1)


def retrieve(model: str, dataset: Path, split: str = "val", batch_size: int = 32) -> dict[str, Any]:
    """Ranks of the true reports among all of the split.

    Returns:
        `studies`, `median_rank`, `recall_1`, `recall_5`, `recall_10` (shares), and `true_cosine`, `other_cosine`: the
        mean cosine of matching and of all other pairs.

    Raises:
        ValueError: no such checkpoint, data set or split; a model that embeds no reports.
    """
    studies = load_studies(dataset, split)
    if len(studies) < 2:
        raise ValueError(f"Ranks need at least two studies. The split `{split}` has {len(studies)}.")
    network, processor = load_checkpoint(model)
    films, reports = _embed(network.eval(), StudyFilms(studies), processor, batch_size)
    cosines = F.normalize(films, dim=-1) @ F.normalize(reports, dim=-1).T  # (S, S)
    ranks = rank_reports(cosines, list(studies["findings"]))
    others = ~torch.eye(len(ranks), dtype=torch.bool)
    recalls = {f"recall_{k}": round((ranks <= k).float().mean().item(), 4) for k in (1, 5, 10)}
    return {
        "studies": len(ranks),
        "median_rank": ranks.float().median().item(),
        **recalls,
        "true_cosine": round(cosines.diagonal().mean().item(), 4),
        "other_cosine": round(cosines[others].mean().item(), 4),
    }


@torch.inference_mode()
def _embed(network: Any, films: StudyFilms, processor: Any, batch_size: int) -> tuple[Tensor, Tensor]:
    """Pooled films and reports of all studies: (S, D), (S, D)."""
    collate = collate_with(processor, network.config.max_views)
    loader = torch.utils.data.DataLoader(films, batch_size=batch_size, collate_fn=collate)
    pairs = [
        (
            network.encoder(batch["pixel_values"], batch["view_mask"]).visual_semantics,
            network.embed_reports(batch["labels"]),
        )
        for batch in track(loader, "embedding", console=Console(stderr=True), transient=True)
    ]
    visual, text = zip(*pairs, strict=True)
    return torch.cat(visual).float(), torch.cat(text).float()


def main() -> None:
    """The command of the module's head; one JSON document on stdout."""
    parser = argparse.ArgumentParser(description="Rank of the true report by cosine.")
    parser.add_argument("model")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    try:
        print(json.dumps(retrieve(arguments.model, arguments.dataset, arguments.split)))
    except (ValueError, OSError) as error:
        print(f"Error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
