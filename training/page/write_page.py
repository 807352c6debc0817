"""`radscribe evaluate --html OUT`: the whole evaluation as one page that opens anywhere.

One file without network or script: films are data URLs, figures inline SVG, the style sheet is in the template.
All text that comes from a data set or a model is escaped by the template.
matplotlib and jinja2 are imported when a page is written, not when scores are computed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..sheet import check_target
from .page_numbers import answers_of, interval_of, look_up, show_score, value_of
from .page_reading import read_result
from .page_studies import FILMS, StudyRow, choose_studies, load_films, mark_study, sort_observations
from .page_tables import (
    answer_tables,
    conventions_table,
    exam_tables,
    labels_table,
    parts_table,
    removed_table,
)

__all__ = ["StudyRow", "check_page", "write_page"]

_TEMPLATE = Path(__file__).with_name("page_template.html")
_WORD = re.compile(r"\S*\w\S*")  # what has a letter or a digit
_GROUPS = {
    "best": "Best by CIDEr",
    "typical": "Most typical: nearest to the median",
    "worst": "Worst by CIDEr",
}


def check_page(out: Path) -> None:
    """Raise ValueError for a page that could not be written; asked before the long work, not after."""
    check_target(out, "page", ".html")


def write_page(result: dict[str, Any], studies: Sequence[StudyRow], out: Path) -> Path:
    """Write what `evaluate` found, and some of its studies, as a page; returns its path.

    Whatever `result` lacks is left out. Raises ValueError for another file ending.
    """
    from jinja2 import Environment, StrictUndefined

    check_page(out)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        facts=_facts(result),
        answers=answer_tables(result),
        reading=read_result(result),
        tables=[parts_table(result), removed_table(result)],
        figures=_figures(result, studies),
        long_tables=[labels_table(result), conventions_table(result)],
        exam=exam_tables(result),
        fixed=_fixed_reports(result),
        groups=_groups(studies),
    )
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8", errors="replace")  # a report may hold half of a surrogate pair
    return out


def _facts(result: dict[str, Any]) -> dict[str, str]:
    """What was scored, and how."""
    protocol = dict(result.get("protocol") or {})
    values = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in protocol.items() if key != "name")
    named = f"{protocol.get('name', '')} ({values})" if values else protocol.get("name")
    unscored = f" ({result['without_findings']} more have no findings)" if result.get("without_findings") else ""
    facts = {
        "Predictions": result.get("predictions"),
        "Split": result.get("split"),
        "Studies": f"{result['studies']}{unscored}" if result.get("studies") else None,
        "Protocol": named,
        "Labeller": result.get("labeller"),
    }
    return {name: str(value) for name, value in facts.items() if value}


def _fixed_reports(result: dict[str, Any]) -> dict[str, str]:
    """The texts of the answers that are one report for everyone."""
    texts = {name: answer.get("report") for name, answer in answers_of(result).items()}
    return {name: text for name, text in texts.items() if text}


def _figures(result: dict[str, Any], studies: Sequence[StudyRow]) -> list[dict[str, Any]]:
    """Heading, SVG (safe markup of our own) and caption of each figure that there is data for."""
    from markupsafe import Markup

    from .page_figures import draw_findings, draw_lengths, draw_prevalence

    drawn = []
    shuffled = look_up(result, "beside", "shuffled_images") or {}
    bars = "Filled: the model. " + ("Outlined: the model on shuffled images. " if shuffled else "")
    whiskers = "Whiskers: 95\u00a0% intervals." if result.get("intervals") else ""
    for prefix, title, named in (
        ("unit", "Each unit of the phantom exam", look_up(result, "finding_f1", "per_unit")),
        ("label", "Each observation", look_up(result, "clinical", "per_label")),
    ):
        if found := _bars(result, shuffled, prefix, named or {}):
            svg = draw_findings(found, f"{title}: bars of F1; the numbers stand in a table below.", f"{prefix}s")
            drawn.append((f"{title}: F1", svg, bars + whiskers))
    if shares := {n: s for n, s in (result.get("prevalence") or {}).items() if s["true"] or s["predicted"]}:
        svg = draw_prevalence(shares, "Share of reports against share of references that state each observation.")
        caption = "Above the line: stated too often. Below: too seldom. Both axes are square roots."
        drawn.append(("How often each observation is stated", svg, caption))
    if studies:
        true, written = ([len(_WORD.findall(getattr(s, side))) for s in studies] for side in ("reference", "report"))
        svg = draw_lengths(true, written, "Histograms of words a report, written and in the references.")
        drawn.append(("Length of the reports", svg, "Words of the whole texts, before any protocol cuts them."))
    return [{"title": title, "svg": Markup(svg), "caption": caption} for title, svg, caption in drawn]


def _bars(result: dict[str, Any], shuffled: dict[str, Any], prefix: str, named: dict[str, dict]) -> list:
    """Bars of the findings that occur in truth or reports."""
    from .page_figures import Bar

    bars = []
    for name, scores in named.items():
        figure = f"{prefix}.{name}.f1"
        share = look_up(result, "prevalence", name, "predicted") if prefix == "label" else None
        if scores["support"] or share:
            control = value_of(shuffled, figure), interval_of(shuffled, figure)
            bars.append(Bar(name, round(scores["support"]), scores["f1"], interval_of(result, figure), *control))
    return bars


def _groups(studies: Sequence[StudyRow]) -> list[dict[str, Any]]:
    """The groups of studies to look at, none empty."""
    chosen = choose_studies(studies)
    return [{"title": _GROUPS[key], "studies": list(map(_study, rows))} for key, rows in chosen.items() if rows]


def _study(study: StudyRow) -> dict[str, Any]:
    """One study as the template wants it."""
    reference, report = mark_study(study)
    return {
        "id": study.study_id,
        "films": list(load_films(study.images)),
        "more_films": max(0, len(study.images) - FILMS),
        "cider": show_score(study.cider),
        "clinical_f1": show_score(study.clinical_f1),
        "found": {kind: names for kind, names in sort_observations(study).items() if names},
        "reference": reference,
        "report": report,
    }
