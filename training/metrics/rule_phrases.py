"""The words of the rule labeller: phrases for 13 observations, cues of denial and doubt, ends of their reach.

Which phrase stands for which observation follows the definitions of CheXpert (Irvin et al. 2019) and of the Fleischner
glossary; the words are our own, completed on the training split of IU X-ray. Everything is matched in lower-case
text, raw or cleaned as R2Gen does (no commas, no colons), from the start of a word; `\\w*` stands where endings vary.
"""

import re
from dataclasses import dataclass


def any_of(*phrases: str) -> re.Pattern[str]:
    """One pattern that finds any of these, each from the start of a word; blanks match any white space."""
    return re.compile(r"\b(?:" + "|".join(phrases).replace(" ", r"\s+") + ")")


# A phrase is a mention by itself: the observation is there unless a cue denies or doubts it.
PHRASES = {
    "Enlarged Cardiomediastinum": any_of(
        r"wid(?:e|ened|ening of the)(?: superior)? mediastin\w*",
        r"mediastinal (?:widening|enlargement|prominence|fullness|mass\w*)",
    ),
    "Cardiomegaly": any_of(r"cardiomegaly\b", r"cardiac enlargement\b", r"cardiac hypertrophy\b"),
    "Lung Opacity": any_of(
        r"opaci\w+",
        r"(?<!bone\s)(?<!bony\s)(?<!osseous\s)(?:radio)?densit(?:y|ies)\b",
        r"infiltrat\w+",
        r"air(?:-| )?space (?:disease|process|opaci\w+)",
        r"haz(?:y|iness)\b",
        r"interstitial (?:lung )?(?:disease|thickening|process|changes?|pattern|prominence|fibrosis)",
        r"(?:irregular|chronic|coarse\w*|increased|prominent)(?: \w+){0,3} interstitial (?:lung )?markings?",
        r"reticula(?:r|tion)\w*",
        r"(?<!pleural\s)(?<!parenchymal\s)(?<!pleuroparenchymal\s)scar(?:s|ring)?\b",
        r"peribronchial (?:cuffing|thickening)",
        r"bronchial wall thickening",
        r"fibro(?:sis|tic)\b",
    ),
    "Lung Lesion": any_of(
        r"nodul\w+",
        r"(?<!thyroid\s)(?<!breast\s)mass(?:es)?\b(?! effect)",
        r"granulomas?\b",
        r"granulomata\b",
        r"cavit(?:y|ary|ation)\w*",
        r"round(?:ed)?(?: \w+)? (?:opacit|densit)\w+",
        r"neoplasm\w*",
        r"tumou?rs?\b",
        r"carcinoma\w*",
        r"malignan\w+",
        r"metasta\w+",
        r"(?<!sclerotic\s)(?<!lytic\s)(?<!bony\s)(?<!bone\s)(?<!osseous\s)lesions?\b",
    ),
    "Edema": any_of(
        r"(?<!tissue\s)(?<!subcutaneous\s)o?edema\w*",
        r"(?:heart|cardiac) failure",
        r"chf\b",
        r"(?:early|mild|frank|compensated) failure",
        r"(?:vascular|venous|pulmonary) (?:congestion|engorgement|prominence)",
        r"venous hypertension",
        r"congestive",
        r"cephalization",
        r"fluid overload",
        r"volume overload",
    ),
    "Consolidation": any_of(r"consolidat\w+"),
    "Pneumonia": any_of(
        r"(?:broncho)?pneumonia\w*",
        r"pneumonitis",
        r"(?<!granulomatous\s)(?<!histoplasmosis\s)(?<!prior\s)(?<!previous\s)infectio\w+",
    ),
    "Atelectasis": any_of(r"atelecta\w+", r"volume loss\b", r"loss of (?:\w+ )?volume", r"collapsed?\b"),
    "Pneumothorax": any_of(r"(?:hydro|hemo)?-?pneumothora\w+"),
    "Pleural Effusion": any_of(
        r"(?<!pericardial\s)effusions?", r"pleural fluid", r"hydro-?(?:pneumo)?thorax", r"hemo-?(?:pneumo)?thorax"
    ),
    "Pleural Other": any_of(
        r"pleural(?: and parenchymal| parenchymal|-\w+)? ?(?:/ ?)?(?:thickening|scar\w*|plaques?|calcification\w*)",
        r"pleural based\b",
        r"pleural-based",
        r"fissural thickening",
        r"thickening of the pleura",
        r"(?:pleuro|pleural)-? ?parenchymal (?:scar\w*|thickening)",
        r"fibrothorax",
        r"(?:apical|biapical) (?:thickening|capping|cap)\b",
    ),
    "Fracture": any_of(r"fractur\w*"),
    "Support Devices": any_of(
        r"(?:pacemaker|pacer)\w*",
        r"catheters?\b",
        r"picc\b",
        r"(?:port-?a-?cath|mediport|chest port|port)\b",
        r"tub(?:es?|ing)\b",
        r"tracheostomy\b(?! tubes?)",
        r"(?:xxxx|port)-a-(?:xxxx|cath)",  # de-identified reports
        r"(?:\w+ )?(?:vertebral|cervical|spinal|spine|lumbar|thoracic) fusion",
        r"(?:bone )?anchors?\b",
        r"tips? (?:\w+ ){0,6}(?:svc|cava\w*|cavo\w*|atri\w+)",  # of a line whose name is often taken out
        r"fixation\b",
        r"implantable\b",
        r"occluder\b",
        r"(?:central|venous|subclavian|jugular|ij) lines?\b",
        r"(?:aicd|icd)\b",
        r"defibrillator\w*",
        r"stents?\b",
        r"(?:prosthe\w+|mechanical|artificial) (?:\w+ )?valves?",
        r"valve (?:replacement|prosthesis)",
        r"(?<!breast\s)prosthe\w+",
        r"arthroplast\w+",
        r"hardware\b",
        r"screws?\b",
        r"stimulators?\b",
        r"devices?\b",
        r"electrodes?\b",
        r"leads?\b",
    ),
}


@dataclass(frozen=True)
class Structure:
    """A part that every report speaks of: only a word of size or state beside it makes a mention."""

    observation: str
    part: re.Pattern[str]
    abnormal: re.Pattern[str]
    normal: re.Pattern[str]


# The upper limit of normal is normal, to the word and to the coders; borderline is not.
_NORMAL = any_of(
    r"(?:upper |top )?(?:limits? of |limits )?normal\w*",
    r"limits\b",
    r"unremarkable",
    r"clear\b",
    r"intact\b",
    r"sharp\b",
)
_LARGE = any_of(r"enlarge\w*", r"prominen\w*", r"borderline", r"increased", r"dilat\w+", r"big\b", r"large\b")
STRUCTURES = (
    Structure(
        "Cardiomegaly",
        any_of(
            r"hearts?\b(?! failure)", r"cardiac(?: \w+)? (?:size|silhouette|shadow|contours?)", r"cardiomediastin\w+"
        ),
        _LARGE,
        _NORMAL,
    ),
    Structure(
        "Enlarged Cardiomediastinum",
        any_of(r"mediastin\w+", r"cardiomediastin\w+"),
        any_of(r"wid(?:e|ened|ening)\b", r"enlarge\w*", r"prominen\w*", r"full(?:ness)?\b"),
        any_of(_NORMAL.pattern, r"stable", r"unchanged"),
    ),
    Structure(
        "Lung Opacity",
        any_of(r"interstiti(?:um|al markings?)", r"lungs?\b(?= (?:\w+ ){0,3}clear)"),
        any_of(r"prominen\w+", r"increase\w*", r"coarse\w*"),
        any_of(r"clear\b", r"normal\b"),
    ),
    Structure(
        "Edema",
        any_of(r"vascul(?:arity|ature)\b", r"(?:pulmonary|central) (?:vessels|vasculature)"),
        any_of(r"congest\w+", r"engorge\w+", r"indistinct\w*", r"prominen\w+", r"increased?\b", r"distend\w+"),
        _NORMAL,
    ),
    Structure("Pleural Effusion", any_of(r"pleural spaces?", r"costophrenic \w+"), any_of(r"(?!)"), _NORMAL),
)

# Words that look like a cue and are none: blanked before the cues are sought.
FALSE_CUES = any_of(
    r"(?:no|without)(?: \w+){0,2} (?:interval )?(?:change|increase|decrease)",
    r"not (?:significantly |substantially )?(?:changed|increased|decreased)",
    r"not only",
    r"no (?:doubt|prior|comparison)",
)

# A cue reaches from where it stands to the mention, unless one of these stands between.
ENDS = any_of(
    r"but\b",
    r"however\b",
    r"(?:al)?though\b",
    r"except\b",
    r"(?:aside|apart) from\b",
    r"other than\b",
    r"there (?:is|are|has|have)\b",
    r"(?<!consistent\s)(?<!compatible\s)(?<!associated\s)with\b",
    r"which\b",
    r"(?:is|are|was|were) (?:again |also )?(?:seen|present|identified|noted|demonstrated|evident|visuali[sz]ed)\b",
)

DENIED_BEFORE = any_of(
    r"no\b",
    r"not\b",
    r"without\b",
    r"(?:free|clear) of\b",
    r"negative for\b",
    r"absence of\b",
    r"(?:resolved|resolution of|cleared)\b",
    r"rather than\b",
    r"(?:ruled|rules) out\b",
    r"neither\b",
    r"nor\b",
    r"never\b",
    r"excludes?\b",
    r"unlikely\b",
)
DENIED_AFTER = any_of(
    r"not (?!well )(?:\w+ )?(?:seen|identified|visuali[sz]ed|evident|present|appreciated|demonstrated|noted|detected)",
    r"no longer\b",
    r"(?:has|have|is|are)(?: \w+)? (?:resolved|cleared|absent|ruled out|excluded)",
    r"resolved\b",
    r"absent\b",
    r"unlikely\b",
    r"(?:is|are|appears?|(?:is|are) within) (?:the )?(?:limits of )?normal",
    r"within (?:the )?limits of normal",
)
DOUBTED_BEFORE = any_of(
    r"may\b",
    r"might\b",
    r"could\b",
    r"possib\w+",
    r"probabl\w+",
    r"likely\b",
    r"suspect\w*",
    r"suspicious\b",
    r"suggest\w*",
    r"question\w*",
    r"concern\w*",
    r"worrisome\b",
    r"(?:versus|vs)\b",
    r"perhaps\b",
    r"presum\w+",
    r"apparent\w*",
    r"appears?\b",
    r"(?:consider|differential)\b",
    r"equivocal\b",
)
DOUBTED_AFTER = any_of(
    r"(?:is|are) (?:possible|suspected|questioned|likely|suggested|considered)",
    r"(?:versus|vs)\b",
    r"possible\b",
    r"not entirely excluded",
)
# Denial of a denial is doubt.
DOUBTED_ALWAYS = any_of(
    r"(?:cannot|can not|can't|not|difficult to|unable to)(?: be)?(?: \w+)? (?:exclude|rule out)\w*",
    r"(?:cannot|can not|can't|not)(?: be)?(?: \w+)? (?:excluded|ruled out)",
)
# Spoken of, and nothing said: what was before, what one looks for, what would follow.
UNSAID_BEFORE = any_of(
    r"history of\b",
    r"evaluat\w+ (?:for|of)\b",
    r"removal of\b",
    r"if\b",
    r"to (?:exclude|rule out)\b",
    r"sensitiv\w+ (?:for|to)\b",
)
