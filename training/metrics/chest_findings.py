"""Agreement on the 14 CheXpert observations, read off the reports by rules, as a metric of the `evaluate` library."""

import datasets
import evaluate

from .clinical import clinical_scores, label_written
from .rule_labeller import label_reports


class ChestFindings(evaluate.Metric):
    """`ChestFindings().compute(predictions=[...], references=[...])` -> {"clinical_f1", "clinical_f1_macro"}.

    Micro and macro F1 over the 14 labels, uncertain as positive; other conventions: `clinical_scores`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="CheXpert (Irvin et al. 2019) for the observations; the rules are radscribe's",
            inputs_description="one report and one reference a study, raw or cleaned",
            features=datasets.Features(predictions=datasets.Value("string"), references=datasets.Value("string")),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        written = label_written(label_reports, predictions)
        scores = clinical_scores(written, label_reports(references))["uncertain_positive"]["14"]
        return {"clinical_f1": scores["micro"]["f1"], "clinical_f1_macro": scores["macro"]["f1"]}
