"""Free-text radiology reports cut into their sections, as MIMIC-CXR's `s<study>.txt` files have them.

The layout (Johnson et al., Sci Data 2019): a banner, then headers in capitals that end with a colon, their text on
the same line or below. A header stands at the start of a line, behind any blanks; `_NAMES` says which section it
means. Capitals that the table does not know end the section before them and their own text is dropped: an unread
paragraph is better than one that is learned as findings and is none. But the views as a header ("CHEST, PA AND
LATERAL:") hold the findings of reports that have no better name for them, as MIT-LCP reads them too.

MIT-LCP's `mimic_cxr_sectioned.csv` sets the conventions where there is a choice:
    - the last section of a name wins (a second impression is the corrected one); an empty section counts as absent;
    - a report with neither findings nor impression ends in `last_paragraph`: all that follows the first blank line of
      its last section, one paragraph or several ("COMPARISON:  None.", a blank line, then the reading).
We differ on purpose: a name of the table also counts in mixed case, "FINDINGS/IMPRESSION:" fills both sections,
"LUNGS:" and its like stay part of the findings they stand in, and text under "FINAL ADDENDUM" is no impression.
"""

from __future__ import annotations

import re
from functools import lru_cache

KEPT = ("findings", "impression", "indication", "comparison", "last_paragraph")
_LONGEST = 60  # characters: longer capitals before a colon are a sentence of a report written in capitals
_DROPPED = "dropped"  # ends the section before it, its text is not kept
_PART = "part"  # a subheading in capitals: text inside findings or impression, elsewhere as `_DROPPED`

# Section -> the names that mean it, separated by commas, in capitals, with the misspellings of typed reports.
# Joined names ("HISTORY AND COMPARISON", "FINDINGS/IMPRESSION") and remarks in parentheses need no entry.
_NAMES = {
    "findings": """
        FINDINGS, FINDING, FINDIGNS, FINDNGS, FINDINDS, FINIDNGS, FIDINGS, FNDINGS, FINDINGD, FINDINS,
        RADIOGRAPHIC FINDINGS, CHEST FINDINGS, OBSERVATION, OBSERVATIONS, RESULT, RESULTS, REPORT""",
    # A provisional impression (PFI) stands before the final one, so the final one wins where there are both.
    "impression": """
        IMPRESSION, IMPRESSIONS, IMPRESION, IMPRESSON, IMPRESSIN, IMPRSSION, IMPESSION, IMRESSION, IMPRESSSION,
        IMPRESSIION, FINAL IMPRESSION, CONCLUSION, CONCLUSIONS, CONCULSION, SUMMARY, OPINION, ASSESSMENT,
        INTERPRETATION, PFI, PROVISIONAL FINDINGS IMPRESSION""",
    "indication": """
        INDICATION, INDICATIONS, INDICATON, INDICAITON, INDCATION, NDICATION, CLINICAL INDICATION, REASON,
        REASON FOR EXAM, REASON FOR EXAMINATION, REASON FOR THE EXAM, REASON FOR THIS EXAMINATION,
        REASON FOR STUDY, HISTORY, HISOTRY, CLINICAL HISTORY, PATIENT HISTORY, MEDICAL HISTORY, CLINICAL DATA,
        CLINICAL INFORMATION, CLINICAL DETAILS, CLINICAL QUESTION, QUESTIONS TO BE ANSWERED, SYMPTOMS""",
    "comparison": """
        COMPARISON, COMPARISONS, COMPARISION, COMPARISIONS, COMPARSION, COMPARISOM, COMPARISON STUDY,
        COMPARISON STUDIES, COMPARISON EXAM, COMPARISON EXAMS, COMPARISON EXAMINATION, COMPARISON FILM,
        COMPARISON FILMS, PRIOR STUDY, PRIOR STUDIES, PRIOR EXAM, PRIOR EXAMS, PREVIOUS STUDY""",
    _DROPPED: """
        EXAMINATION, EXAMINATIONS, EXAM, EXAM TYPE, STUDY, TYPE OF STUDY, PROCEDURE, TECHNIQUE, TECHNIQUES, TECHNQUE,
        TECHIQUE, VIEWS, WET READ, PRELIMINARY READ, PRELIMINARY REPORT, FINAL REPORT, ADDENDUM, FINAL ADDENDUM,
        NOTIFICATION, NOTIFICATIONS, RECOMMENDATION, RECOMMENDATIONS""",
    _PART: """
        LUNG, LUNGS, LUNG VOLUMES, LUNG FIELDS, LUNG PARENCHYMA, AIRWAYS, PLEURA, PLEURAL SPACE, PLEURAL SPACES,
        HEART, MEDIASTINUM, CARDIOMEDIASTINAL SILHOUETTE, HILA, DIAPHRAGM, BONES, SOFT TISSUES, OSSEOUS STRUCTURES,
        CHEST WALL, UPPER ABDOMEN, LINES, TUBES, DEVICES, SUPPORT DEVICES, AP, PA, FRONTAL, LATERAL""",
}
_SECTION_OF = {" ".join(name.split()): section for section, names in _NAMES.items() for name in names.split(",")}
_BANNERS = {"FINAL REPORT", "FINAL ADDENDUM", "ADDENDUM", "WET READ", "PRELIMINARY REPORT"}  # no colon, own line

_HEADER = re.compile(r"[A-Z][A-Za-z ,/&()-]+")  # no digits: "AT 10:30" at the start of a line is a time
_REMARK = re.compile(r"\([^()]*\)")  # "RECOMMENDATION(S)", "IMPRESSION (FINAL)"
_TITLE = "title"  # views as a header ("CHEST, PA AND LATERAL"): the findings, where no header says so
_VIEWS = re.compile(r"\b(CHEST|PORTABLE|RADIOGRAPHS?|FRONTAL|VIEWS?)\b")
_JOINT = re.compile(r"[,/&]|\bAND\b")

Section = tuple[tuple[str, ...], list[str]]  # (what it counts as, its lines)


def parse_sections(report: str) -> dict[str, str]:
    """The sections of a free-text `report`: names of `KEPT` -> text with single spaces, absent ones left out.

    `last_paragraph` appears only where neither findings nor impression do. Time grows linearly with the text.
    """
    sections = _split_at_headers(report)
    kept = _keep(sections)
    if "findings" in kept or "impression" in kept:
        return kept
    names, lines = sections.pop()
    first, rest = _split_at_blank_line(lines)
    return _keep([*sections, (names, first), (("last_paragraph",), rest)])


def findings_of(sections: dict[str, str]) -> str:
    """The findings of `parse_sections`' answer, "" where the report has none.

    Neither impression nor last paragraph ever stands in: they are other texts (a conclusion; anything at all), and a
    caller who wants one asks for it by name.
    """
    return sections.get("findings", "")


def _split_at_headers(report: str) -> list[Section]:
    """All sections in the report's order; the first one is what stands before any header, perhaps nothing."""
    sections: list[Section] = [((_DROPPED,), [])]
    for line in report.splitlines():
        header = _read_header(line)
        names, lines = sections[-1]
        if header is None or (header[0] in ((_PART,), (_TITLE,)) and ("findings" in names or "impression" in names)):
            lines.append(line)
        else:
            sections.append((("findings",) if header[0] == (_TITLE,) else header[0], [header[1]]))
    return sections


def _read_header(line: str) -> tuple[tuple[str, ...], str] | None:
    """(what the header counts as, the text behind its colon), or None where `line` starts with no header."""
    head, colon, text = line.partition(":")
    if not colon:  # the banner stays as text: what follows its blank line is then a last paragraph
        return ((_DROPPED,), line) if line.strip() in _BANNERS else None
    head = head.strip()
    name = " ".join(head.split()) if len(head) <= _LONGEST else ""
    if not _HEADER.fullmatch(name):
        return None
    sections = _look_up(name.upper())
    if sections and (name.isupper() or _PART not in sections):
        return sections, text.lstrip(":")
    if not name.isupper():
        return None
    return ((_TITLE if _VIEWS.search(name) else _DROPPED,), text)


@lru_cache(maxsize=1024)  # a corpus repeats a few names hundreds of thousands of times
def _look_up(name: str) -> tuple[str, ...]:
    """What a name in capitals counts as by the table, every part of a joined name; () where a part is unknown."""
    parts = [" ".join(part.split()) for part in _JOINT.split(_REMARK.sub(" ", name))]
    if not all(part in _SECTION_OF for part in parts):
        return ()
    return tuple(dict.fromkeys(_SECTION_OF[part] for part in parts))


def _split_at_blank_line(lines: list[str]) -> tuple[list[str], list[str]]:
    """`lines` before and after the first blank line that follows any text; the second is [] where there is none."""
    seen_text = False
    for index, line in enumerate(lines):
        if seen_text and not line.strip():
            return lines[:index], lines[index + 1 :]
        seen_text = seen_text or bool(line.strip())
    return lines, []


def _keep(sections: list[Section]) -> dict[str, str]:
    """The texts of `KEPT`; the last one that is not empty wins."""
    kept: dict[str, str] = {}
    for names, lines in sections:
        if text := " ".join(" ".join(lines).split()):
            kept |= {name: text for name in names if name in KEPT}
    return kept
