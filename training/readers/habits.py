"""How the field scores a data set: cleaning rules, cut and vocabulary that a fair comparison shares; and its source.

They stand in the data set's own dataset_dict.json, beside the names of its splits, so that every score of it is
computed alike (R2Gen's command lines: IU X-ray 60 words and 3 occurrences, MIMIC-CXR 100 and 10; the start mark is
one of the words).
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Habits:
    """Values of the protocol r2gen (protocols.py) for one data set."""

    style: str = "iu"  # cleaning rules: iu or mimic
    max_words: int = 59  # a report is cut behind so many
    min_frequency: int = 3  # a word that training reports hold less often is <unk>
    source: str = ""  # where the studies are from, as model cards name it; "" for one's own


OWN_HABITS = Habits()
IU_HABITS = Habits(source="iu-xray")
MIMIC_HABITS = Habits("mimic", 99, 10, "mimic-cxr-jpg")
PHANTOM_HABITS = Habits(min_frequency=1, source="radscribe-phantoms")  # the grammar's words are few, and all are known


def write_index(folder: Path, splits: list[str], habits: Habits) -> None:
    """Write dataset_dict.json; `datasets` reads its `splits` and leaves the rest alone."""
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": splits, "habits": asdict(habits)}))


def load_habits(path: Path) -> Habits:
    """The habits stored with a prepared data set; IU X-ray's values, without a source, for one that has none."""
    file = Path(path) / "dataset_dict.json"
    stored = json.loads(file.read_text()).get("habits", {}) if file.is_file() else {}
    return Habits(**{field.name: stored[field.name] for field in fields(Habits) if field.name in stored})


def load_source(path: Path) -> str:
    """Where the studies of a prepared data set are from, "" where it does not say."""
    return load_habits(path).source
