"""What single cells hold: the words that stand for a missing value, passages of a title and a text, kinds of labels."""

from collections.abc import Collection, Iterable
from typing import Any

# What pandas, SQL and Python write where a value is missing.
MISSING = frozenset({"nan", "NaN", "NAN", "null", "Null", "NULL", "None", "<NA>", "NaT"})
PASSAGE = ("title", "text")  # fields of a passage that are read
_VERDICTS = frozenset(
    {
        *("entailment", "neutral", "contradiction", "not_entailment"),
        *("duplicate", "not_duplicate", "paraphrase", "not_paraphrase"),
        *("similar", "dissimilar", "relevant", "irrelevant", "match", "no_match"),
        *("true", "false", "yes", "no"),
    }
)


def passage_text(passage: dict[str, Any]) -> str | None:
    """Title and text of a passage, one after the other as Tevatron joins them; None for what is no passage."""
    title, text = passage.get("title") or "", passage.get("text")
    if not isinstance(title, str) or not isinstance(text, str):
        return None
    return f"{title} {text}".strip()


def label_kind(kind: str, values: Iterable[Any]) -> str:
    """`Column.kind` of labels: "bit" where all are 0 or 1, "verdict" where they say whether a pair is right."""
    if kind not in ("int", "text", ""):
        return kind
    found = {str(value).strip().lower() for value in values if value is not None and str(value).strip()}
    if kind == "int":
        return "bit" if found <= {"0", "1"} else kind
    return "verdict" if found and found <= _VERDICTS else kind


def fields_of(values: Iterable[Any]) -> list[str]:
    """Names of the fields of passages and lists of passages, in order, without those that are read."""
    entries = (entry for value in values for entry in (value if isinstance(value, list) else (value,)))
    found = [entry for entry in entries if isinstance(entry, dict) and "text" in entry]
    return [name for name in dict.fromkeys(name for passage in found for name in passage) if name not in PASSAGE]


def is_missing(value: Any, texts: Collection[str] = ()) -> bool:
    """Whether a text is one of those that stand for a missing value, and not among those said to be texts."""
    return isinstance(value, str) and value in MISSING and value not in texts
