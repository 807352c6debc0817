"""Are the scores still those that others computed? Trivial answers on IU X-ray's validation split, protocol r2gen.

    python -m tests.tools.known_values data/iu_xray

The values were computed outside of this package. The studies are not ours to ship, hence a tool and no test.
"""

import sys
from pathlib import Path

from radscribe.training.metrics.nlg import NlgScorer
from radscribe.training.protocols import choose_protocol, load_truth
from radscribe.training.trivial import trivial_reports

KNOWN = {
    "most_frequent_report": {"bleu_4": 0.0640, "rouge_l": 0.2947, "cider": 0.3335, "meteor": 0.1035},
    "best_single_report": {"bleu_4": 0.1771, "rouge_l": 0.3469, "cider": 0.3392, "meteor": 0.2110},
}
TOLERANCE = 0.00006  # they are known to four digits


def main(dataset: Path) -> int:
    """Print each score beside the known one; 1 where one differs."""
    truth = load_truth(dataset, "val", choose_protocol(dataset, "r2gen"))
    wrong = 0
    with NlgScorer() as scorer:
        for name, report in trivial_reports(truth).items():
            scores = scorer.score(truth.normalise([report]) * len(truth.references), truth.references)
            for figure, known in KNOWN[name].items():
                found = scores.get(figure)  # METEOR is not there without Java
                differs = found is not None and abs(found - known) > TOLERANCE
                wrong += differs
                shown = "not computed" if found is None else f"{found:.4f}"
                print(f"{name} {figure}: {shown}, known {known:.4f}{' DIFFERS' * differs}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
