"""The rule labeller: sentences of our own making and what they say, then the aggregation and the places."""

import time

import numpy as np
import pytest

from radscribe.training.metrics.rule_labeller import (
    BLANK,
    FIVE,
    NEGATIVE,
    OBSERVATIONS,
    POSITIVE,
    UNCERTAIN,
    find_mentions,
    label_reports,
)

YES, NO, MAYBE = POSITIVE, NEGATIVE, UNCERTAIN
SHORT = dict(
    zip(
        "none ecm cardio opacity lesion edema consol pna atel ptx eff pleura frac device".split(),
        OBSERVATIONS,
        strict=True,
    )
)

# Sentence -> what it says. Observations that are not named must be blank; No Finding is left to its own tests.
SENTENCES = {
    # plain mention
    "There is a small left pleural effusion.": {"eff": YES},
    "Mild cardiomegaly.": {"cardio": YES},
    "Patchy airspace disease in the right base.": {"opacity": YES},
    "A nodule projects over the left upper lobe.": {"lesion": YES},
    "Calcified granuloma in the lingula.": {"lesion": YES},
    "Interstitial pulmonary edema.": {"edema": YES},
    "Old healed fracture of the left sixth rib.": {"frac": YES},
    "Biapical pleural thickening.": {"pleura": YES},
    # denial before the mention
    "No pneumothorax.": {"ptx": NO},
    "The film shows no evidence of consolidation.": {"consol": NO},
    "Without effusion.": {"eff": NO},
    "Cardiomegaly without edema.": {"cardio": YES, "edema": NO},
    "The lungs are free of infiltrate.": {"opacity": NO},
    "The lungs are clear of consolidation.": {"consol": NO, "opacity": NO},
    "Negative for pneumothorax or effusion.": {"ptx": NO, "eff": NO},
    "Absence of pleural fluid.": {"eff": NO},
    "Neither effusion nor pneumothorax.": {"eff": NO, "ptx": NO},
    "This does not represent pneumonia.": {"pna": NO},
    "Resolution of the edema.": {"edema": NO},
    "The patient no longer has an effusion.": {"eff": NO},
    # denial after it
    "Effusion is not seen.": {"eff": NO},
    "The effusion is no longer visible.": {"eff": NO},
    "The left pneumothorax has resolved.": {"ptx": NO},
    "Previously seen atelectasis has completely cleared.": {"atel": NO},
    "Pneumothorax is absent.": {"ptx": NO},
    "Consolidation has been ruled out.": {"consol": NO},
    "A fracture is not clearly identified.": {"frac": NO},
    "Pneumonia is unlikely.": {"pna": NO},
    # lists, raw and cleaned
    "No pneumothorax, effusion, or consolidation.": {"ptx": NO, "eff": NO, "consol": NO},
    "no pneumothorax pleural effusion or focal consolidation .": {"ptx": NO, "eff": NO, "consol": NO},
    "no effusion . there is atelectasis . no edema .": {"eff": NO, "atel": YES, "edema": NO},
    "Effusion and pneumothorax are not seen.": {"eff": NO, "ptx": NO},
    # where a denial ends
    "No effusion but atelectasis.": {"eff": NO, "atel": YES},
    "No pneumothorax, however there is an effusion.": {"ptx": NO, "eff": YES},
    "No consolidation except for atelectasis.": {"consol": NO, "atel": YES},
    "No fracture; right effusion.": {"frac": NO, "eff": YES},
    "Aside from a granuloma, no nodule.": {"lesion": YES},
    "no pneumothorax there is a small effusion .": {"ptx": NO, "eff": YES},
    "There is no edema although an effusion persists.": {"edema": NO, "eff": YES},
    "No opacity consistent with pneumonia.": {"opacity": NO, "pna": NO},
    "No pneumothorax\n\nLeft effusion": {"ptx": NO, "eff": YES},
    "No large right-sided\npleural effusion.": {"eff": NO},
    "No pneumothorax is seen and a small effusion is present.": {"ptx": NO, "eff": YES},
    "Effusion is present and pneumothorax is not seen.": {"eff": YES, "ptx": NO},
    "Stable effusion with no pneumothorax.": {"eff": YES, "ptx": NO},
    # what looks like a denial
    "No change in the left effusion.": {"eff": YES},
    "No significant interval change in the atelectasis.": {"atel": YES},
    "The opacity has not changed.": {"opacity": YES},
    "The effusion is not significantly increased.": {"eff": YES},
    # doubt
    "Possible left effusion.": {"eff": MAYBE},
    "This may represent atelectasis.": {"atel": MAYBE},
    "Opacity which could be pneumonia.": {"opacity": YES, "pna": MAYBE},
    "Atelectasis versus pneumonia.": {"atel": MAYBE, "pna": MAYBE},
    "Opacity suspicious for pneumonia.": {"opacity": YES, "pna": MAYBE},
    "Questionable nodule at the right apex.": {"lesion": MAYBE},
    "A small pneumothorax is suspected.": {"ptx": MAYBE},
    "Probable mild edema.": {"edema": MAYBE},
    "Atelectasis rather than pneumonia.": {"atel": YES, "pna": NO},
    # denial of a denial
    "Cannot exclude pneumonia.": {"pna": MAYBE},
    "A small effusion cannot be excluded.": {"eff": MAYBE},
    "Consolidation is not entirely excluded.": {"consol": MAYBE},
    "We are unable to rule out a fracture.": {"frac": MAYBE},
    "It is difficult to exclude a small pneumothorax.": {"ptx": MAYBE},
    "Pneumonia cannot be ruled out.": {"pna": MAYBE},
    # spoken of, and nothing said
    "History of pneumonia.": {},
    "If there is concern for fracture, rib views would help.": {},
    "Lateral view to exclude effusion.": {},
    # parts that every report names
    "heart size normal": {"cardio": NO},
    "Heart size is within normal limits.": {"cardio": NO},
    "Heart size is at the upper limits of normal.": {"cardio": NO},
    "The heart is not enlarged.": {"cardio": NO},
    "The heart is not significantly enlarged.": {"cardio": NO},
    "The heart is mildly enlarged.": {"cardio": YES},
    "Borderline heart size.": {"cardio": YES},
    "no effusion heart is enlarged .": {"eff": NO, "cardio": YES},
    "Heart size is normal, hila are enlarged.": {"cardio": NO},
    "The mediastinum is widened.": {"ecm": YES},
    "No mediastinal widening.": {"ecm": NO},
    "Heart and mediastinum are normal.": {"cardio": NO, "ecm": NO},
    "Heart size enlarged, stable mediastinal contours.": {"cardio": YES, "ecm": NO},
    "Pulmonary vascularity is normal.": {"edema": NO},
    "The pulmonary vasculature is engorged.": {"edema": YES},
    "Increased interstitial markings.": {"opacity": YES},
    "The lungs are clear.": {"opacity": NO},
    "The costophrenic angles are sharp.": {"eff": NO},
    # words that mean something else
    "Low lung volumes.": {},
    "Pericardial effusion.": {},
    "Soft tissue edema.": {},
    "Degenerative changes of the thoracic spine.": {},
    "Thyroid mass.": {},
    # devices
    "A pacemaker is in place.": {"device": YES},
    "Right PICC with its tip in the SVC.": {"device": YES},
    "Endotracheal tube above the carina.": {"device": YES},
    "No chest tube.": {"device": NO},
    "Interval removal of the catheter.": {},
    "Anterior cervical fusion.": {"device": YES},
    # heart failure
    "Mild congestive heart failure.": {"edema": YES, "cardio": MAYBE},
    "No heart failure.": {"edema": NO},
}


def said(report: str) -> dict[str, int]:
    """The observations that are not blank, No Finding apart."""
    codes = label_reports([report])[0]
    return {name: int(code) for name, code in zip(SHORT, codes, strict=True) if code != BLANK and name != "none"}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_says_what_it_says(sentence):
    assert said(sentence) == SENTENCES[sentence]


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ("No effusion. Possible effusion.", MAYBE),
        ("Possible effusion. Right effusion.", YES),
        ("Right effusion. No left effusion.", YES),
        ("No effusion. No effusion.", NO),
    ],
)
def test_positive_beats_uncertain_beats_negative(report, code):
    assert said(report)["eff"] == code


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ("The lungs are clear. Heart size normal.", POSITIVE),
        ("A pacemaker is in place.", POSITIVE),
        ("Scoliosis.", POSITIVE),
        ("", POSITIVE),
        ("Possible effusion.", BLANK),
        ("Cardiomegaly.", BLANK),
    ],
)
def test_no_finding_is_positive_without_a_finding_and_else_blank(report, code):
    assert label_reports([report])[0, 0] == code


def test_codes_are_eight_bit_rows_in_the_order_of_the_observations():
    codes = label_reports(["Effusion.", "No edema."])
    assert codes.shape == (2, 14) and codes.dtype == np.int8
    assert OBSERVATIONS[0] == "No Finding" and OBSERVATIONS[-1] == "Support Devices" and set(FIVE) < set(OBSERVATIONS)


def test_no_report_gives_no_row():
    assert label_reports([]).shape == (0, 14)


def test_a_mention_names_its_place_in_the_report():
    report = "Heart size normal.\nThere is a LEFT EFFUSION. No edema."
    found = {report[one.start : one.end]: (one.observation, one.status) for one in find_mentions(report)}
    assert found["EFFUSION"] == ("Pleural Effusion", POSITIVE) and found["edema"] == ("Edema", NEGATIVE)


def test_places_hold_beside_letters_that_grow_in_lower_case():
    report = "İİİ effusion"
    assert [report[one.start : one.end] for one in find_mentions(report)] == ["effusion"]


def test_mentions_stand_in_the_order_of_the_text():
    starts = [one.start for one in find_mentions("Edema, effusion and atelectasis. Pneumonia. No nodule.")]
    assert starts == sorted(starts) and len(starts) == 5


def test_cleaned_and_raw_reports_say_the_same():
    raw = (
        "Heart size is normal. No pneumothorax, pleural effusion, or edema. Left basilar opacity, likely atelectasis."
    )
    cleaned = (
        "heart size is normal . no pneumothorax pleural effusion or edema . left basilar opacity likely atelectasis ."
    )
    assert said(raw) == said(cleaned)


def test_a_decimal_does_not_end_a_sentence():
    assert said("No nodule above 1.5 cm or effusion.") == {"lesion": NO, "eff": NO}


@pytest.mark.slow
def test_three_thousand_reports_take_seconds():
    words = "There is a {} left effusion and {} opacity. No pneumothorax. Heart size {} normal."
    reports = [words.format(number, number + 1, number + 2) for number in range(3000)]
    begin = time.process_time()
    label_reports(reports)
    assert time.process_time() - begin < 10
