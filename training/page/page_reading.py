"""A first reading of an evaluation in words: only what the figures and their intervals bear out.

Two answers to the same studies differ in a figure where paired randomisation over the studies (resampling.py, as
`radscribe compare`) gives p < .05; p-values are printed and not corrected for their number. Without them values are
put side by side and nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .page_numbers import FIGURES, interval_of, look_up, show_figure, show_percent, value_of

COMPARED = ("bleu_4", "rouge_l", "cider", "clinical_14.micro.f1", "clinical_14.macro.f1", "clinical_5.micro.f1")
LEVEL = 0.05
RIVALS = {
    "best_single_report": "one fixed report for every study, the best single one",
    "most_frequent_report": "the commonest training report for every study",
    "nearest_neighbour": "the report of the nearest training study",
}
NAMES = FIGURES | {
    "clinical_14.micro.f1": "clinical micro F1",
    "clinical_14.macro.f1": "clinical macro F1",
    "clinical_5.micro.f1": "micro F1 of the five",
    "finding_f1.micro": "exam micro F1",
}
NO_FINDING = "No Finding"


def read_result(result: dict[str, Any]) -> list[str]:
    """Sentences on what the figures say, the most telling first."""
    readers: list[Callable[[dict[str, Any]], Iterable[str]]] = [
        read_control,
        read_control_labels,
        read_rivals,
        read_constant_units,
        read_repeats,
        read_unsaid,
        read_normal,
        read_parts,
        read_lengths,
    ]
    sentences = [sentence for read in readers for sentence in read(result)]
    if not result.get("intervals"):
        sentences.append("Nothing was resampled, so none of these differences is known to be more than chance.")
    return sentences


def read_control(result: dict[str, Any]) -> Iterator[str]:
    """Whether shuffled images cost anything: the one test of looking."""
    shuffled = look_up(result, "beside", "shuffled_images")
    if not shuffled:
        yield "There is no control with shuffled images, so nothing here tells whether the model uses the image."
        return
    for figure in ("finding_f1.micro", "cider", "clinical_14.macro.f1"):
        own, other = value_of(result, figure), value_of(shuffled, figure)
        if own is not None and other is not None:
            yield _judge_control(figure, own, other, look_up(shuffled, "against_model", figure))


def _judge_control(figure: str, own: float, other: float, p: float | None) -> str:
    """One figure of the model on its own and on shuffled images."""
    values = f"{NAMES[figure]} is {show_figure(figure, other)} against {show_figure(figure, own)} with its own"
    if p is None:
        return f"With shuffled images {values}."
    values = f"With shuffled images {values} ({show_p(p)})"
    if p >= LEVEL or other >= own:
        return f"{values}: by this figure there is no sign that it uses the image."
    return f"{values}: a sign that it uses the image."


def show_p(p: float) -> str:
    """ "p = .03"; as many digits as tell it from 0."""
    return "p = " + (f"{p:.2f}" if p >= 0.1 else f"{p:.3f}").removeprefix("0")


def read_control_labels(result: dict[str, Any]) -> Iterator[str]:
    """Which observations (units on phantoms) are found better with the right image."""
    shuffled = look_up(result, "beside", "shuffled_images")
    per_unit = look_up(result, "finding_f1", "per_unit")
    kind, prefix = ("unit", "unit") if per_unit else ("observation", "label")
    rows = per_unit or look_up(result, "clinical", "per_label")
    if not shuffled or not rows:
        return
    pairs = {
        name: (interval_of(result, f"{prefix}.{name}.f1"), interval_of(shuffled, f"{prefix}.{name}.f1"))
        for name, scores in rows.items()
        if scores["support"]
    }
    if not any(own and other for own, other in pairs.values()):
        return
    better = [name for name, (own, other) in pairs.items() if own and other and own.low > other.high]
    if better:
        share = f"{len(better)} of the {len(pairs)} {kind}s that occur"
        yield f"F1 is higher than with shuffled images, intervals apart, for {share}: {', '.join(better)}."
    else:
        yield f"Of the {len(pairs)} {kind}s that occur none has F1 above that with shuffled images, intervals apart."


def read_rivals(result: dict[str, Any]) -> Iterator[str]:
    """Where the model stands against answers that did not look, or did not write."""
    for key, name in RIVALS.items():
        rival = look_up(result, "beside", key)
        if rival and (parts := list(_compare(result, rival))):
            yield f"Against {name}: {'; '.join(parts)}."


def _compare(result: dict[str, Any], rival: dict[str, Any]) -> Iterator[str]:
    """ "below in BLEU-4 (.152 against .177, p = .02)" and the like, a group of figures each."""
    groups: dict[str, list[str]] = {"below": [], "above": [], "no clear difference": [], "not judged": []}
    for figure in COMPARED:
        own, other = value_of(result, figure), value_of(rival, figure)
        if own is None or other is None:
            continue
        p = look_up(rival, "against_model", figure)
        judged = "" if p is None else f", {show_p(p)}"
        text = f"{NAMES[figure]} ({show_figure(figure, own)} against {show_figure(figure, other)}{judged})"
        groups[_place(own, other, p)].append(text)
    return (f"{verdict} in {_enumerate(texts)}" for verdict, texts in groups.items() if texts)


def _place(own: float, other: float, p: float | None) -> str:
    """The verdict on one figure."""
    if p is None:
        return "not judged"
    if p >= LEVEL:
        return "no clear difference"
    return "below" if other > own else "above"


def _enumerate(texts: list[str]) -> str:
    """ "a, b and c"."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def read_constant_units(result: dict[str, Any]) -> Iterator[str]:
    """The phantom exam against the best constant answer."""
    figure = "finding_f1.micro"
    own, ceiling = value_of(result, figure), value_of(look_up(result, "beside", "best_constant") or {}, figure)
    if own is None or ceiling is None:
        return
    values = f"{show_figure(figure, own)} against {show_figure(figure, ceiling)}"
    yield f"The best units for everyone, a ceiling without looking: {NAMES[figure]} {values}."


def read_repeats(result: dict[str, Any]) -> Iterator[str]:
    """How often it says the same, and how much of it is recited."""
    distinct, copied, studies = (result.get(key) for key in ("distinct_reports", "copied_reports", "studies"))
    if distinct is not None and studies:
        texts = round(distinct * studies)
        yield f"Its {studies} reports are {texts} different text{'s' * (texts != 1)}."
    if copied is not None:
        yield f"{show_percent(copied)} of its reports stand word for word in the training split."


def read_unsaid(result: dict[str, Any]) -> Iterator[str]:
    """Observations that occur and are never stated."""
    shares = {name: share for name, share in (result.get("prevalence") or {}).items() if name != NO_FINDING}
    occurring = [name for name, share in shares.items() if share["true"] > 0]
    unsaid = [name for name in occurring if shares[name]["predicted"] == 0]
    if unsaid and unsaid == occurring:
        yield f"It states none of the {len(occurring)} observations that occur."
    elif unsaid:
        yield f"It never states {len(unsaid)} of the {len(occurring)} observations that occur: {', '.join(unsaid)}."


def read_normal(result: dict[str, Any]) -> Iterator[str]:
    """The share of studies said to be free of findings."""
    if share := look_up(result, "prevalence", NO_FINDING):
        own, true = show_percent(share["predicted"]), show_percent(share["true"])
        yield f"{own} of its reports state no finding (devices aside); of the references it is {true}."


def read_parts(result: dict[str, Any]) -> Iterator[str]:
    """Normal studies are easy: the figures of both kinds."""
    figures = [figure for figure in ("cider", "clinical_14.micro.f1") if look_up(result, "normal", figure) is not None]
    texts = [
        f"{NAMES[figure]} is {show_figure(figure, look_up(result, 'abnormal', figure))} on abnormal and "
        f"{show_figure(figure, look_up(result, 'normal', figure))} on normal studies"
        for figure in figures
        if look_up(result, "abnormal", figure) is not None
    ]
    if texts:
        yield f"{'; '.join(texts)}."


def read_lengths(result: dict[str, Any]) -> Iterator[str]:
    """Words a report beside those of the references."""
    own, true = result.get("mean_words"), result.get("true_words")
    if own is not None and true is not None:
        yield f"It writes {own:.1f} words a report; the references have {true:.1f}."
