"""What the human MeSH coding of IU X-ray says about the 14 observations of CheXpert (Irvin et al. 2019, table 1).

The coders of Open-i gave each report terms such as "Opacity/lung/base/left": a head, then qualifiers of site and
degree. The table below was written from the meaning of the terms, before any rule of the labeller was tuned and
without a look at how either choice scores. Where a term could stand for two things, CheXpert's own list of phrases
decides (a scar of the lung is an opacity, congestion is oedema); where that is silent, the plain meaning does.

No Finding is CheXpert's: no other observation but devices. Thus a study coded "Scoliosis" alone is No Finding as one
coded "normal" is, for scoliosis is none of the 14. The coders' "not indexed" says nothing, and is no observation.
"""

from collections.abc import Iterable, Sequence

import numpy as np

OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
NOT_INDEXED = "no indexing"  # the coders passed this report over

# Heads that mean an observation whatever their qualifiers.
HEADS = {
    "cardiomegaly": ("Cardiomegaly",),  # borderline as well: an uncertain mention counts as a positive one
    "infiltrate": ("Lung Opacity",),
    "airspace disease": ("Lung Opacity",),
    "lung diseases, interstitial": ("Lung Opacity",),
    "pulmonary fibrosis": ("Lung Opacity",),  # of the lung: CheXpert's "fibrosis" is meant for the pleura
    "cavitation": ("Lung Lesion",),
    "pulmonary edema": ("Edema",),
    "pulmonary congestion": ("Edema",),
    "heart failure": ("Edema", "Cardiomegaly"),  # CheXpert: a phrase of oedema, and cardiomegaly uncertain
    "consolidation": ("Consolidation",),
    "pneumonia": ("Pneumonia",),
    "pulmonary atelectasis": ("Atelectasis",),
    "volume loss": ("Atelectasis",),
    "pneumothorax": ("Pneumothorax",),
    "hydropneumothorax": ("Pneumothorax", "Pleural Effusion"),
    "hemopneumothorax": ("Pneumothorax", "Pleural Effusion"),
    "hemothorax": ("Pleural Effusion",),
    "pleural effusion": ("Pleural Effusion",),
    "fractures, bone": ("Fracture",),  # healed ones too: CheXpert asks for the mention of a fracture
    "catheters, indwelling": ("Support Devices",),
    "tube, inserted": ("Support Devices",),
    "medical device": ("Support Devices",),
    "implanted medical device": ("Support Devices",),
    "stents": ("Support Devices",),
    "spinal fusion": ("Support Devices",),  # a chest film shows it by its hardware
}

# Heads that mean it unless a qualifier puts them elsewhere: a density of a rib is no opacity of the lung.
HEADS_OF_THE_LUNG = {
    "opacity": ("Lung Opacity",),
    "density": ("Lung Opacity",),
    "cicatrix": ("Lung Opacity",),
    "nodule": ("Lung Lesion",),
    "mass": ("Lung Lesion",),
    "granuloma": ("Lung Lesion",),  # a small nodule, by its nature
    "calcified granuloma": ("Lung Lesion",),
}
ELSEWHERE = frozenset(
    "abdomen|adipose tissue|aorta|aorta, thoracic|blood vessels|breast|cervical vertebrae|clavicle|heart|humerus"
    "|lumbar vertebrae|lymph nodes|mediastinum|neck|paratracheal|pleura|ribs|shoulder|spine|sternum|supracardiac"
    "|thoracic vertebrae".split("|")
)

# Heads that mean something under one of these qualifiers only, and nothing under others.
QUALIFIED = (
    ("cardiac shadow", {"enlarged", "prominent", "borderline"}, ("Cardiomegaly",)),
    ("heart", {"enlarged", "prominent"}, ("Cardiomegaly",)),
    ("heart atria", {"enlarged", "prominent"}, ("Cardiomegaly",)),
    ("heart ventricles", {"enlarged", "prominent"}, ("Cardiomegaly",)),
    ("mediastinum", {"enlarged", "prominent"}, ("Enlarged Cardiomediastinum",)),
    ("markings", {"interstitial"}, ("Lung Opacity",)),  # bronchovascular markings are vessels and no opacity
    ("lung", {"interstitial"}, ("Lung Opacity",)),
    ("thickening", {"lung", "bronchovascular"}, ("Lung Opacity",)),  # CheXpert: peribronchial thickening
    ("thickening", {"pleura"}, ("Pleural Other",)),
    ("cicatrix", {"pleura"}, ("Pleural Other",)),
    ("calcinosis", {"pleura"}, ("Pleural Other",)),
    ("sclerosis", {"pleura"}, ("Pleural Other",)),
    ("deformity", {"pleura"}, ("Pleural Other",)),
    ("nodule", {"pleura"}, ("Pleural Other",)),
    ("opacity", {"pleura"}, ("Pleural Other",)),
    ("opacity", {"round"}, ("Lung Lesion",)),  # a rounded opacity is the glossary's word for a nodule
    ("density", {"round"}, ("Lung Lesion",)),
    ("deformity", {"healed"}, ("Fracture",)),  # what heals has been broken
)

# Heads of the training split that are none of the 14, by the reason.
NONE_OF_THE_14 = (
    # states of the coding or of the film, and the coders' word for an empty list
    *("normal", "technical quality of image unsatisfactory"),
    # lungs too full or too empty of air, and how they got so: CheXpert asks for none of it
    *("emphysema", "pulmonary emphysema", "pulmonary disease, chronic obstructive", "lung, hyperlucent", "lucency"),
    *("blister", "cysts", "bronchiectasis", "cystic fibrosis", "pneumonectomy"),
    # diseases that name no sign on the film, or a sign at no site
    *("granulomatous disease", "sarcoidosis", "tuberculosis", "fibrosis", "hypertension, pulmonary"),
    # blunting is fluid or scar: the term leaves open which, and CheXpert has no phrase for it
    "costophrenic angle",
    # diaphragm and abdomen
    *("diaphragm", "diaphragmatic eventration", "hernia, hiatal", "hernia, diaphragmatic", "colonic interposition"),
    *("abdomen", "cholelithiasis", "pneumoperitoneum"),
    # vessels, and what surrounds the heart; an aortic aneurysm need not widen the mediastinum
    *("aorta", "aorta, thoracic", "aortic aneurysm", "atherosclerosis", "pulmonary artery", "epicardial fat"),
    "pericardial effusion",
    # nodes, airway, displaced structures
    *("lymph nodes", "trachea", "shift"),
    # bones, joints and the chest wall without a fracture
    *("thoracic vertebrae", "lumbar vertebrae", "cervical vertebrae", "spine", "scoliosis", "kyphosis"),
    *("spondylosis", "osteophyte", "hyperostosis, diffuse idiopathic skeletal", "arthritis", "bone and bones"),
    *("bone diseases, metabolic", "ribs", "shoulder", "dislocations", "funnel chest", "pectus carinatum"),
    # soft tissue
    *("subcutaneous emphysema", "adipose tissue", "nipple shadow", "mastectomy"),
    # things that surgery or chance left behind: they support nothing, and CheXpert has no phrase for clips and wires
    *("surgical instruments", "sutures", "foreign bodies", "breast implants", "contrast media"),
)

_SIGNS = {name: number for number, name in enumerate(OBSERVATIONS)}
_KNOWN = {*HEADS, *HEADS_OF_THE_LUNG, *(head for head, _, _ in QUALIFIED), *NONE_OF_THE_14, NOT_INDEXED, "calcinosis"}


def split_term(name: str) -> tuple[str, frozenset[str]]:
    """Head and qualifiers in lower case, single-spaced: the coders wrote "Lymph nodes" and "Lymph Nodes"."""
    head, *qualifiers = (" ".join(part.split()).lower() for part in name.split("/"))
    return head, frozenset(qualifiers)


def observe_term(name: str) -> set[str]:
    """The observations, No Finding apart, that one MeSH string means."""
    head, qualifiers = split_term(name)
    found = set(HEADS.get(head, ()))
    if "lung" in qualifiers or not qualifiers & ELSEWHERE:
        found.update(HEADS_OF_THE_LUNG.get(head, ()))
    for qualified, needed, observations in QUALIFIED:
        if head == qualified and qualifiers & needed:
            found.update(observations)
    return found


def observe(labels: Sequence[str]) -> np.ndarray:
    """MeSH strings of one study -> (14,) of 0 and 1, in the order of `OBSERVATIONS`.

    No Finding is 1 where the study was coded and no observation but Support Devices is.
    """
    found = set().union(*map(observe_term, labels))
    if is_coded(labels) and not found - {"Support Devices"}:
        found.add("No Finding")
    row = np.zeros(len(OBSERVATIONS), dtype=np.int8)
    row[[_SIGNS[name] for name in found]] = 1
    return row


def is_coded(labels: Iterable[str]) -> bool:
    """Whether the coders gave the study any term; "No Indexing" is none."""
    return any(split_term(name)[0] != NOT_INDEXED for name in labels)


def unmapped(names: Iterable[str]) -> list[str]:
    """Heads, as written, that the tables name neither as an observation nor as none of the 14; in order, once each."""
    heads = (name.split("/")[0].strip() for name in names)
    return [head for head in dict.fromkeys(heads) if split_term(head)[0] not in _KNOWN]
