"""Report text: the cleaning rules of the R2Gen line, the way back to sentences, and the word-level tokenizer.

Scores of this field are taken on strings cleaned by `modules/tokenizers.py` of cuhksz-nlp/R2Gen, so `clean_report`
reproduces those rules bug for bug, as tables of our own. One step is added: white space is made single, because the
strings R2Gen scores are decoded from word ids and never hold a double space.

A cleaned report is words and the token `.` joined by single spaces: "no effusion . heart size normal ."
Cleaning it again changes nothing, and `clean_report(restore_report(cleaned)) == cleaned` for both styles.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# Enumerations. "1. " goes wherever it stands, so "11. rib" fuses to "1rib"; 2 to 5 go only as a word of their own, so
# "grade 3. edema" loses its grade; 6 and up stay, and so does "2. " at the very start.
_ENUMERATION = (
    ("1. ", "", 1),
    *((f". {digit}. ", ". ", 1) for digit in "2345"),
    *((f" {digit}. ", ". ", 1) for digit in "2345"),
)

# Replacements over the whole report, in order: (text, replacement, passes). One pass halves a run ("...." -> ".."),
# so the number of passes says how long a run may be. IU leaves newlines to the final single spacing.
_REPLACEMENTS = {
    "iu": (("..", ".", 3), *_ENUMERATION),
    "mimic": (("\n", " ", 1), ("__", "_", 7), ("  ", " ", 6), ("..", ".", 8), *_ENUMERATION),
}

# Characters deleted inside a sentence. The third part is an accident of R2Gen's character class, `:-[`, meant as three
# characters but read as a range: it takes `: ; < = > ? @ [` and the capitals (gone by then), and leaves the hyphen.
# Kept by it: - # $ ~ | and the backtick. Deleting fuses what stood around: "1.5 cm" -> "15 cm", "pa/lateral" ->
# "palateral".
_DELETED = "\"/\\'" + ".,?;*!%^&_+()" + "".join(map(chr, range(ord(":"), ord("[") + 1))) + "]{}"
_DELETE = str.maketrans("", "", _DELETED)

# Words a reader expects in capitals: devices, projections, diseases, vertebrae, IU X-ray's mark for a removed name.
_CAPITALS = re.compile(
    r"\b(?:xxxx|ct|mri|pa|ap|picc|copd|chf|cabg|icd|aicd|svc|ivc|ij|ng|tb|hiv|ards|iv|pe|[ctls]\d{1,2})\b"
)

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")


def clean_report(report: str, style: str = "iu") -> str:
    """Clean one report as R2Gen does for IU X-ray (`"iu"`) or MIMIC-CXR (`"mimic"`), then make white space single.

    Empty sentences stay (R2Gen compares a string with a list): "A. . C." -> "a . . c ."; no text at all -> ".".

    Raises:
        ValueError: `style` is unknown or `report` is no string.
    """
    if style not in _REPLACEMENTS:
        raise ValueError(f'`style` must be "iu" or "mimic". Got {style!r}.')
    if not isinstance(report, str):
        raise ValueError(f"`report` must be a string. Got {type(report).__name__}; give the text of one report.")
    for old, new, passes in _REPLACEMENTS[style]:
        for _ in range(passes):
            report = report.replace(old, new)
    sentences = [sentence.translate(_DELETE) for sentence in report.strip().lower().split(". ")]
    return " ".join((" . ".join(sentences) + " .").split())


def restore_report(cleaned: str) -> str:
    """Write a cleaned report as a person would: capitals, full stops, spaces; "no ct . ok ." -> "No CT. Ok."

    What cleaning has deleted (commas, decimal points) is gone for good. A last sentence without its `.` was cut off at
    the length limit, and stays visibly unfinished. "." (a report without words) gives "".
    """
    if cleaned.split() in ([], ["."]):
        return ""
    sentences: list[str] = []
    words: list[str] = []
    for word in cleaned.split():
        if word == ".":
            sentences.append(_write_sentence(words) + _write_stop(words))
            words = []
        else:
            words.append(word)
    return " ".join([*sentences, _write_sentence(words)]).strip()


def _write_sentence(words: list[str]) -> str:
    """Words of one sentence -> text without its stop; only ASCII letters are raised, so lower-casing undoes it."""
    text = _CAPITALS.sub(lambda match: match.group().upper(), " ".join(words))
    return text[:1].upper() + text[1:] if text[:1].isascii() else text


def _write_stop(words: list[str]) -> str:
    """The full stop, set off by a space where cleaning would read a last "3" or "t11" as an enumeration."""
    return " ." if words and (words[-1].endswith("1") or words[-1] in ("2", "3", "4", "5")) else "."


def build_tokenizer(reports: Iterable[str], min_frequency: int = 3, style: str = "iu") -> PreTrainedTokenizerFast:
    """Build the word-level tokenizer of these (raw or cleaned) reports; it expects cleaned text, split at white space.

    Ids: <pad> 0, <s> 1, </s> 2, <unk> 3, then each word with a count of at least `min_frequency` (R2Gen's rule: 3 for
    IU X-ray, 10 for MIMIC-CXR), by falling count, then alphabet. Encoding appends </s> alone: labels are words + </s>,
    and the model shifts them right from <s>. Decoding joins words by one space.

    Raises:
        ValueError: there are no reports, or no word is frequent enough.
    """
    if isinstance(reports, str):
        raise ValueError("`reports` must be a list of reports. Got one string; put it in a list.")
    if min_frequency < 1:
        raise ValueError(f"`min_frequency` must be at least 1. Got {min_frequency}.")
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(clean_report(report, style).split())
    if not counts:
        raise ValueError("`reports` is empty: the vocabulary is built from the training reports, give at least one.")
    words = sorted((word for word in counts if counts[word] >= min_frequency), key=lambda word: (-counts[word], word))
    if not set(words) - {"."}:
        raise ValueError(
            f"`min_frequency`={min_frequency} leaves no word of {counts.total()}: lower it or give more reports."
        )
    return _wrap_words(words)


def _wrap_words(words: list[str]) -> PreTrainedTokenizerFast:
    """Words in id order, without the special tokens -> the fast tokenizer that Transformers saves and loads."""
    pad, start, end, unknown = SPECIAL_TOKENS
    vocabulary = {word: index for index, word in enumerate((*SPECIAL_TOKENS, *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, vocabulary[end])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=start,
        eos_token=end,
        unk_token=unknown,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,  # else " ." would lose its space, and the `.` token with it
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: str | Path) -> None:
    """Save so that Transformers 4.57 loads it too.

    5.x writes the name `TokenizersBackend`, which 4.57 does not know; both know `PreTrainedTokenizerFast`.
    """
    tokenizer.save_pretrained(directory)
    file = Path(directory) / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    if settings["tokenizer_class"] == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
