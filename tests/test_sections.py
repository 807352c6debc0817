"""Sections of made-up reports: every header style, what ends a section, and the properties of the parser."""

import itertools
import time

import pytest

from radscribe.training.readers.sections import KEPT, findings_of, parse_sections

BANNER = "                                 FINAL REPORT\n"

# The claim -> a report, what is read from it. All of them are written for this file.
REPORTS = {
    # The usual layout
    "a full report has all four sections": (
        BANNER
        + " EXAMINATION:  CHEST (PA AND LAT)\n\n INDICATION:  Old man with cough.\n\n TECHNIQUE:  Two views.\n\n"
        " COMPARISON:  None.\n\n FINDINGS: \n\n Lungs are clear.\n Heart is normal.\n\n IMPRESSION: \n\n No edema.\n",
        {
            "indication": "Old man with cough.",
            "comparison": "None.",
            "findings": "Lungs are clear. Heart is normal.",
            "impression": "No edema.",
        },
    ),
    "text may follow its header on the same line": (" FINDINGS:  Clear lungs.\n", {"findings": "Clear lungs."}),
    "text may follow its header on the next line": (" FINDINGS:\n Clear lungs.\n", {"findings": "Clear lungs."}),
    "text may follow its header after a blank line": ("FINDINGS: \n \n Clear.\n", {"findings": "Clear."}),
    "text may touch the colon": ("FINDINGS:Clear.", {"findings": "Clear."}),
    "paragraphs of a section are joined": ("FINDINGS: One.\n \n Two.\n\n Three.\n", {"findings": "One. Two. Three."}),
    "wrapped lines are joined": (
        "IMPRESSION: Small left\n pleural\n effusion.",
        {"impression": "Small left pleural effusion."},
    ),
    "headers may stand at the margin": (
        "FINDINGS: A b.\nIMPRESSION: C d.\n",
        {"findings": "A b.", "impression": "C d."},
    ),
    "headers may be indented differently": (
        "      FINDINGS: A b.\n   IMPRESSION: C d.\n",
        {"findings": "A b.", "impression": "C d."},
    ),
    "headers may be indented by many blanks": (" " * 100 + "FINDINGS: A.", {"findings": "A."}),
    "headers may be indented by tabs": (
        "\tFINDINGS:\tA\tb.\n\t\tIMPRESSION:\tC.",
        {"findings": "A b.", "impression": "C."},
    ),
    "blanks may stand before the colon": (" FINDINGS  :  Clear.", {"findings": "Clear."}),
    "blanks inside a header are folded": (" REASON  FOR\tEXAM: Fall.", {"indication": "Fall."}),
    "a doubled colon is one": ("IMPRESSION:: Clear.", {"impression": "Clear."}),
    "Windows line ends are line ends": (
        "FINDINGS:\r\n A.\r\n\r\nIMPRESSION: B.\r\n",
        {"findings": "A.", "impression": "B."},
    ),
    "a form feed ends a line": ("FINDINGS: A.\fIMPRESSION: B.", {"findings": "A.", "impression": "B."}),
    # Nothing to read
    "an empty report has no sections": ("", {}),
    "a report of blanks has no sections": (" \n\t\n \n", {}),
    "a banner alone has no sections": (BANNER, {}),
    "one paragraph without a header has no sections": ("Lungs are clear.\n Heart is normal.\n", {}),
    "an empty section is left out": ("FINDINGS:\n\nIMPRESSION: Clear.", {"impression": "Clear."}),
    "a last header without text is left out": ("FINDINGS: Clear.\nIMPRESSION:", {"findings": "Clear."}),
    "sections that are not kept leave nothing": ("EXAM: CHEST\n TECHNIQUE: Two views.\n", {}),
    # Names of the findings
    "FINDING is findings": ("FINDING: A.", {"findings": "A."}),
    "FINDIGNS is findings": ("FINDIGNS: A.", {"findings": "A."}),
    "FINDNGS is findings": (" FINDNGS:\n A.", {"findings": "A."}),
    "REPORT is findings": ("HISTORY: Cough.\n REPORT: A.", {"indication": "Cough.", "findings": "A."}),
    "a remark in parentheses is no part of the name": ("FINDINGS (PORTABLE): A.", {"findings": "A."}),
    # Names of the impression
    "IMPRESION is impression": ("IMPRESION: A.", {"impression": "A."}),
    "IMPRESSON is impression": ("IMPRESSON: A.", {"impression": "A."}),
    "CONCLUSION is impression": (" CONCLUSION: A.", {"impression": "A."}),
    "SUMMARY is impression": (" SUMMARY:\n A.", {"impression": "A."}),
    "OPINION is impression": (" OPINION: A.", {"impression": "A."}),
    "PFI is impression": (" PFI: A.", {"impression": "A."}),
    "a provisional impression is impression": (" PROVISIONAL FINDINGS IMPRESSION (PFI): A.", {"impression": "A."}),
    "a plural in parentheses is the plural": ("IMPRESSION(S): A.", {"impression": "A."}),
    # Names of the indication
    "INDICATIONS is indication": ("INDICATIONS: A.", {"indication": "A."}),
    "HISTORY is indication": ("HISTORY: A.", {"indication": "A."}),
    "CLINICAL HISTORY is indication": ("CLINICAL HISTORY: A.", {"indication": "A."}),
    "REASON FOR EXAM is indication": ("REASON FOR EXAM: A.", {"indication": "A."}),
    "REASON FOR EXAMINATION is indication": ("REASON FOR EXAMINATION: A.", {"indication": "A."}),
    "a long clinical header is indication": (
        "CLINICAL INFORMATION & QUESTIONS TO BE ANSWERED:\n Fluid?",
        {"indication": "Fluid?"},
    ),
    # Names of the comparison
    "COMPARISONS is comparison": ("COMPARISONS: A.", {"comparison": "A."}),
    "COMPARISION is comparison": ("COMPARISION: A.", {"comparison": "A."}),
    "COMPARISON STUDY is comparison": ("COMPARISON STUDY: A.", {"comparison": "A."}),
    # Joined names
    "FINDINGS/IMPRESSION fills both": ("FINDINGS/IMPRESSION: A.", {"findings": "A.", "impression": "A."}),
    "FINDINGS / IMPRESSION fills both": ("FINDINGS / IMPRESSION: A.", {"findings": "A.", "impression": "A."}),
    "FINDINGS AND IMPRESSION fills both": ("FINDINGS AND IMPRESSION:\n A.", {"findings": "A.", "impression": "A."}),
    "IMPRESSION & FINDINGS fills both": ("IMPRESSION & FINDINGS: A.", {"findings": "A.", "impression": "A."}),
    "a later impression replaces the joined one": (
        "FINDINGS/IMPRESSION: A.\nIMPRESSION: B.",
        {"findings": "A.", "impression": "B."},
    ),
    "TECHNIQUE AND FINDINGS is findings": (
        "TECHNIQUE AND FINDINGS: Two views. Clear.",
        {"findings": "Two views. Clear."},
    ),
    "HISTORY, COMPARISON fills both": ("HISTORY, COMPARISON: None.", {"indication": "None.", "comparison": "None."}),
    # Mixed case
    "a mixed-case name of the table is a header": (
        "Findings: A.\nImpression: B.",
        {"findings": "A.", "impression": "B."},
    ),
    "every word of a mixed-case name may be capitalised": ("Reason For Exam: A.", {"indication": "A."}),
    "a mixed-case joined name is a header": ("Findings and Impression: A.", {"findings": "A.", "impression": "A."}),
    "other mixed-case words before a colon are text": (
        "Findings: A.\nLeft lung: B.",
        {"findings": "A. Left lung: B."},
    ),
    "a mixed-case sentence that ends in a name is text": (
        "FINDINGS: A.\n Our impression: B.",
        {"findings": "A. Our impression: B."},
    ),
    "a lower-case name is a wrapped sentence": ("FINDINGS: In\n summary: clear.", {"findings": "In summary: clear."}),
    "Technique ends a section": ("Indication: Cough.\nTechnique: Two views.", {"indication": "Cough."}),
    # What ends a section
    "TECHNIQUE ends the comparison": (
        "COMPARISON: None.\n TECHNIQUE: AP.\n FINDINGS: A.",
        {"comparison": "None.", "findings": "A."},
    ),
    "NOTIFICATION ends the impression": ("IMPRESSION: A.\n\n NOTIFICATION:  Told by phone.", {"impression": "A."}),
    "RECOMMENDATION(S) ends the impression": ("IMPRESSION: A.\n RECOMMENDATION(S):  CT.", {"impression": "A."}),
    "ADDENDUM ends the impression": ("IMPRESSION: A.\n ADDENDUM: Wrong side.", {"impression": "A."}),
    "a banner without a colon ends the impression": (
        "IMPRESSION: A.\n      FINAL ADDENDUM\n Wrong side.",
        {"impression": "A."},
    ),
    "a wet read is not kept": (
        " WET READ: Mon 9:12 AM\n  Big effusion.\n ____________________\n" + BANNER + " IMPRESSION: Small effusion.",
        {"impression": "Small effusion."},
    ),
    "an unknown header in capitals ends a section": ("FINDINGS: A.\n ABDOMEN: B.\n", {"findings": "A."}),
    "a header after an unknown one is read": (
        "FINDINGS: A.\n CT HEAD: B.\n IMPRESSION: C.",
        {"findings": "A.", "impression": "C."},
    ),
    "a title of views holds the findings": (
        "INDICATION: Fall.\n CHEST, PA AND LATERAL: Clear.",
        {"indication": "Fall.", "findings": "Clear."},
    ),
    "a title of views gives way to a header of findings": (
        "PORTABLE CHEST: At eight.\n FINDINGS: Clear.",
        {"findings": "Clear."},
    ),
    "a title of views within the findings is text": (
        "FINDINGS:\n\n PA AND LATERAL VIEWS OF THE CHEST: Clear.\n IMPRESSION: Well.",
        {"findings": "PA AND LATERAL VIEWS OF THE CHEST: Clear.", "impression": "Well."},
    ),
    "text before the first header is dropped": ("Portable film.\n FINDINGS: A.", {"findings": "A."}),
    # What does not
    "capitals in the middle of a line are text": ("FINDINGS: On AP: clear.", {"findings": "On AP: clear."}),
    "a known name in the middle of a line is text": ("FINDINGS: A. IMPRESSION: B.", {"findings": "A. IMPRESSION: B."}),
    "a remark in capitals behind the header is text": (
        "FINDINGS: AP: Clear. PA: Same.",
        {"findings": "AP: Clear. PA: Same."},
    ),
    "a time at the start of a line is text": (
        "FINDINGS: Seen\n AT 10:30 A.M. and later.",
        {"findings": "Seen AT 10:30 A.M. and later."},
    ),
    "a numbered line is text": (
        "IMPRESSION:\n 1. EFFUSION: small.\n 2. Rest: clear.",
        {"impression": "1. EFFUSION: small. 2. Rest: clear."},
    ),
    "a blanked name at the start of a line is text": (
        "IMPRESSION: Told\n DR ___: yes.",
        {"impression": "Told DR ___: yes."},
    ),
    "a colon at the start of a line is text": ("FINDINGS: A\n : b.", {"findings": "A : b."}),
    "a long sentence in capitals before a colon is text": (
        "FINDINGS:\n COMPARED TO THE STUDY OF THE DAY BEFORE THERE IS ONE CHANGE ONLY: LESS FLUID.",
        {"findings": "COMPARED TO THE STUDY OF THE DAY BEFORE THERE IS ONE CHANGE ONLY: LESS FLUID."},
    ),
    "a name in capitals without a colon is text": (
        "IMPRESSION: No\n FINDINGS\n today.",
        {"impression": "No FINDINGS today."},
    ),
    "subheadings in capitals stay inside the findings": (
        "FINDINGS:\n LUNGS: Clear.\n HEART AND MEDIASTINUM: Normal.\n IMPRESSION: Fine.",
        {"findings": "LUNGS: Clear. HEART AND MEDIASTINUM: Normal.", "impression": "Fine."},
    ),
    "subheadings in capitals end the indication": (
        "INDICATION: A.\n LUNGS: B.\n IMPRESSION: C.",
        {"indication": "A.", "impression": "C."},
    ),
    "subheadings in capitals stay inside the impression": ("IMPRESSION:\n HEART: A.", {"impression": "HEART: A."}),
    "subheadings in mixed case are text": (
        "INDICATION: A.\n\n Heart: B.",
        {"indication": "A.", "last_paragraph": "Heart: B."},
    ),
    # Names that occur twice
    "the last findings win": ("FINDINGS: A.\n IMPRESSION: B.\n FINDINGS: C.", {"findings": "C.", "impression": "B."}),
    "the last of two names of one section wins": ("CONCLUSION: A.\n IMPRESSION: B.", {"impression": "B."}),
    "an empty repetition does not win": (
        "FINDINGS: A.\n FINDINGS:\n IMPRESSION: B.",
        {"findings": "A.", "impression": "B."},
    ),
    "the final impression replaces the provisional one": (
        "PFI: A.\n" + BANNER + " IMPRESSION: B.",
        {"impression": "B."},
    ),
    # The last paragraph
    "findings without a header are the last paragraph": (
        BANNER + " INDICATION:  Cough.\n \n Lungs are clear.\n Heart is normal.\n",
        {"indication": "Cough.", "last_paragraph": "Lungs are clear. Heart is normal."},
    ),
    "several paragraphs are one last paragraph": (
        "COMPARISON: None.\n \n Lungs are clear.\n \n No fluid.\n",
        {"comparison": "None.", "last_paragraph": "Lungs are clear. No fluid."},
    ),
    "the last paragraph may follow a section that is not kept": (
        "HISTORY: Fall.\n EXAM: Chest.\n\n Clear.",
        {"indication": "Fall.", "last_paragraph": "Clear."},
    ),
    "the last paragraph may follow the banner": (
        BANNER + " \n Lungs are clear.\n",
        {"last_paragraph": "Lungs are clear."},
    ),
    "the last paragraph may follow a title": ("Chest film\n\n Clear lungs.", {"last_paragraph": "Clear lungs."}),
    "a blank line behind the header starts no last paragraph": (
        "COMPARISON:\n\n None.\n\n Clear.",
        {"comparison": "None.", "last_paragraph": "Clear."},
    ),
    "a blank line at the end starts no last paragraph": ("INDICATION: Cough.\n\n", {"indication": "Cough."}),
    "only the last section is cut": (
        "HISTORY: One.\n\n Two.\n COMPARISON: None.\n\n Clear.",
        {"indication": "One. Two.", "comparison": "None.", "last_paragraph": "Clear."},
    ),
    "there is no last paragraph beside findings": ("FINDINGS: A.\n TECHNIQUE: B.\n\n C.", {"findings": "A."}),
    "there is no last paragraph beside an impression": ("IMPRESSION: A.\n\n B.", {"impression": "A. B."}),
    "empty findings leave the last paragraph": (
        "FINDINGS:\n COMPARISON: None.\n\n Clear.",
        {"comparison": "None.", "last_paragraph": "Clear."},
    ),
}
ALL = [report for report, _ in REPORTS.values()]


@pytest.mark.parametrize(("report", "expected"), REPORTS.values(), ids=REPORTS)
def test_made_up_report_is_read_as_expected(report, expected):
    assert parse_sections(report) == expected


def test_there_are_at_least_sixty_made_up_reports():
    assert len(set(ALL)) >= 60


def changed_by(change):
    """The made-up reports that read otherwise after change(report)."""
    return [report for report in ALL if parse_sections(change(report)) != parse_sections(report)]


def with_line_ends(end):
    return lambda report: report.replace("\r\n", "\n").replace("\n", end)


def write_again(sections):
    """A report with these sections, each behind its plain header, the last paragraph behind a blank line."""
    headed = [f" {name.upper()}:  {text}\n\n" for name, text in sections.items() if name != "last_paragraph"]
    return ("".join(headed) or BANNER + "\n") + sections.get("last_paragraph", "")


def test_every_word_of_a_kept_section_is_in_the_report():
    def words(text):
        return set(text.replace(":", ": ").split())

    assert [report for report in ALL if not words(" ".join(parse_sections(report).values())) <= words(report)] == []


def test_sections_have_single_blanks_and_no_edges():
    texts = [text for report in ALL for text in parse_sections(report).values()]
    assert [text for text in texts if text == "" or text != " ".join(text.split())] == []


def test_only_the_documented_keys_occur():
    assert {name for report in ALL for name in parse_sections(report)} == set(KEPT)


def test_sections_written_again_are_read_back():
    read = [parse_sections(report) for report in ALL]
    assert [sections for sections in read if parse_sections(write_again(sections)) != sections] == []


def test_line_ends_of_windows_change_nothing():
    assert changed_by(with_line_ends("\r\n")) == []


def test_line_ends_of_old_macs_change_nothing():
    assert changed_by(with_line_ends("\r")) == []


def test_a_missing_final_line_end_changes_nothing():
    assert changed_by(str.rstrip) == []


def test_deeper_indentation_changes_nothing():
    assert changed_by(lambda report: "".join("    " + line for line in report.splitlines(keepends=True))) == []


@pytest.mark.parametrize("order", list(itertools.permutations(KEPT[:4])))
def test_the_order_of_sections_does_not_matter(order):
    texts = {"findings": "Clear: both lungs.", "impression": "1. None.", "indication": "Cough.", "comparison": "None."}
    assert parse_sections("".join(f" {name.upper()}:\n\n {texts[name]}\n\n" for name in order)) == texts


def test_findings_of_a_report_are_its_findings():
    assert findings_of(parse_sections("FINDINGS: Clear.\nIMPRESSION: Normal.")) == "Clear."


def test_an_impression_does_not_stand_in_for_findings():
    assert findings_of(parse_sections("IMPRESSION: Normal.")) == ""


def test_a_last_paragraph_does_not_stand_in_for_findings():
    assert findings_of(parse_sections("INDICATION: Cough.\n\n Clear.")) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    ["word ", "A", "A ", "A(", "AND ", "(/&,", " ", "\n", ":", "A:\n", " FINDINGS:\n", "FINDINGS/IMPRESSION: x\n"],
)
def test_a_megabyte_is_read_within_a_second(piece):
    report = piece * (1_000_000 // len(piece))

    def seconds():
        start = time.process_time()
        parse_sections(report)
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 1  # the best of three: other work on the machine is not meant
