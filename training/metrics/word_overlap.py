"""BLEU-1..4, ROUGE-L and CIDEr as a metric of the `evaluate` library."""

import datasets
import evaluate

from .nlg import nlg_scores


class WordOverlap(evaluate.Metric):
    """`WordOverlap().compute(predictions=[...], references=[...])` -> {"bleu_1", ..., "rouge_l", "cider"}.

    Texts stand in a protocol's form already (protocols.py). METEOR is left out: its Java start-up costs more than all
    else, `radscribe evaluate` has it.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="pycocoevalcap: BLEU, ROUGE-L, CIDEr-D of the MS-COCO caption evaluation",
            inputs_description="one cleaned report and one cleaned reference a study",
            features=datasets.Features(predictions=datasets.Value("string"), references=datasets.Value("string")),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return nlg_scores(predictions, references, meteor=False)
