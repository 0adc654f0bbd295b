"""RerankerSpec: the facts of a reranker, apart from its code; RerankerFormat: how it is asked about a pair (standard library)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from zoo.arguments import Check, one_of, optional, text, texts, whole, wrong
from zoo.errors import ArgumentError
from zoo.modalities import MODALITIES, Modality
from zoo.sequences import Limits, SequenceFormat, limits_of, limits_to_dict
from zoo.spec import names_of_languages

LONGEST_WORDS = 2_000  # characters of what stands before a query or a document
ASKED = ("prompt", "query")
ACTIVATIONS = ("sigmoid", "identity")


@dataclass(frozen=True)
class RerankerFormat:
    """How a model is asked about one query and one document.

    Attributes:
        format: of the whole sequence; its `content` is the query, then the document, with the text before each.
        media: limits of each medium, by modality.
        query, document: those words. yes, no: the answers whose first tokens are compared.
        kinds: order of what a query or document holds. asked: where an instruction stands, in the "prompt" by itself or
            before the text of the "query".

    Raises:
        ArgumentError: a value of another type. ValueError: one that it cannot have.
    """

    format: SequenceFormat
    query: str
    document: str
    yes: str
    no: str
    kinds: tuple[Modality, ...] = ("image", "video", "text")
    asked: Literal["prompt", "query"] = "prompt"
    media: Mapping[str, Limits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.format, Mapping):
            object.__setattr__(self, "format", SequenceFormat.from_dict(self.format))
        if not isinstance(self.format, SequenceFormat):
            raise wrong("format", self.format, "a zoo.sequences.SequenceFormat", "write format=SequenceFormat(...)")
        if not isinstance(self.media, Mapping):
            raise wrong("media", self.media, "limits by modality", 'write media={"image": ImageLimits(...)}')
        object.__setattr__(self, "media", limits_of(self.media, self.format))
        for name in ("query", "document", "yes", "no", "asked"):
            if len(text(name, getattr(self, name))) > LONGEST_WORDS:
                raise ValueError(f"{name} of a judge has at most {LONGEST_WORDS:,} characters")
        object.__setattr__(self, "kinds", tuple(texts("kinds", self.kinds)))
        read = {"text", *self.format.marks}
        if len(set(self.kinds)) < len(self.kinds) or not read <= set(self.kinds) <= {*MODALITIES, *read}:
            raise ValueError(
                f"kinds of a judge are all that it reads ({', '.join(sorted(read))}) in an order, not {self.kinds}"
            )
        if self.asked not in ASKED:
            raise ValueError(f"asked of a judge must be one of {', '.join(ASKED)}, not {self.asked!r}")
        if self.asked == "prompt" and "instruction" not in self.format.prompt:
            raise ValueError(
                'the prompt of a judge has no place for an instruction; with one before the query say asked="query"'
            )
        if not self.yes or not self.no or self.yes == self.no:
            raise ValueError(f"a judge compares two answers, not {self.yes!r} and {self.no!r}")
        if self.format.attention != "causal":
            raise ValueError("a judge reads the state before its answer: its attention is causal")

    def __hash__(self) -> int:
        return hash((self.format, self.query, self.document, self.yes, self.no))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)  # a mapping proxy cannot be copied

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, ready for JSON."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        written = {"format": self.format.to_dict(), "media": limits_to_dict(self.media), "kinds": list(self.kinds)}
        return {**facts, **written}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Reads `to_dict`; raises ArgumentError naming unknown or missing switches."""
        known = {f.name for f in fields(cls)}
        if unknown := set(facts) - known:
            raise ArgumentError(f"unknown switches {sorted(unknown)} of a judge; known are {sorted(known)}")
        if missing := {"format", "query", "document", "yes", "no"} - set(facts):
            raise ArgumentError(f"missing switches {sorted(missing)} of a judge")
        return cls(**facts)


def _a_judge(name: str, value: Any) -> RerankerFormat:
    if isinstance(value, Mapping):
        return RerankerFormat.from_dict(value)
    if not isinstance(value, RerankerFormat):
        raise wrong(name, value, "a zoo.reranking.RerankerFormat", f"write {name}=RerankerFormat(...)")
    return value


CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(("name", "license", "hub_id", "family"), text),
    **dict.fromkeys(("revision", "base", "paper"), optional(text)),
    **dict.fromkeys(("modalities", "languages"), texts),
    "judge": optional(_a_judge),
    "activation": one_of(*ACTIVATIONS),
    "max_tokens": whole(),
    "params": whole(0),
}
_NEEDED = ("name", "modalities", "license", "max_tokens")


@dataclass(frozen=True)
class RerankerSpec:
    """What is known about a reranker without building it: printable, comparable, JSON-able.

    Attributes:
        name: registered name, lower case with hyphens ("qwen3vl-reranker-2b").
        modalities: what a query or a document may hold.
        license: SPDX or Hub identifier in lower case, or "other: <name>".
        max_tokens: of a query and a document together, with all words around them.
        judge: how it is asked about a pair; None of a cross-encoder, which reads the two texts as its tokenizer puts them in a row.
        hub_id: "org/name" on the Hugging Face Hub, "" where no weights are published.
        revision: full commit to load, None for the newest.
        base: the checkpoint it starts from. paper: "arxiv:<id>".
        activation: what makes the score of the logit: "sigmoid", 0 to 1, or "identity", the logit itself.
        params: number of weights, without the projection to the vocabulary, of which two rows are kept.
        languages: ISO 639-1 codes of the languages of its training texts, or "multilingual".
        family: module of `zoo/rerankers/` that defines it.

    Raises:
        ArgumentError: a fact has another type. ValueError: a value that it cannot have.
    """

    name: str
    modalities: frozenset[Modality]
    license: str
    max_tokens: int
    judge: RerankerFormat | None = None
    hub_id: str = ""
    revision: str | None = None
    base: str | None = None
    paper: str | None = None
    params: int = 0
    languages: tuple[str, ...] = ()
    activation: Literal["sigmoid", "identity"] = "sigmoid"
    family: str = ""

    def __post_init__(self) -> None:
        for fact, check in CHECKS.items():
            try:
                object.__setattr__(self, fact, check(fact, getattr(self, fact)))
            except ArgumentError as error:
                raise ArgumentError(f"{self.name}: {error}") from None
        if set(self.modalities) - set(MODALITIES) or not self.modalities:
            raise ValueError(f"{self.name}: modalities must be among {MODALITIES}, not {sorted(self.modalities)}")
        if wrong := [code for code in self.languages if not re.fullmatch(r"[a-z]{2,3}|multilingual", code)]:
            raise ValueError(f"{self.name}: a language is an ISO 639-1 code or multilingual, not {wrong[0]!r}")
        object.__setattr__(self, "modalities", frozenset(self.modalities))
        object.__setattr__(self, "languages", tuple(self.languages))

    @property
    def language_names(self) -> str:
        """ "English, Chinese", "many languages"; "" where nobody said it."""
        return names_of_languages(self.languages)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, ready for JSON."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        lists = {"modalities": sorted(self.modalities), "languages": list(self.languages)}
        return {**facts, **lists, "judge": self.judge.to_dict() if self.judge is not None else None}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Reads `to_dict`; raises ArgumentError naming unknown or missing facts."""
        check_names(facts)
        return cls(**facts)


def check_names(facts: Mapping[str, Any]) -> None:
    """Raises ArgumentError naming unknown or missing facts."""
    if unknown := set(facts) - set(CHECKS):
        raise ArgumentError(f"unknown facts {sorted(unknown)} of a reranker; known are {sorted(CHECKS)}")
    if missing := set(_NEEDED) - set(facts):
        raise ArgumentError(f"missing facts {sorted(missing)} of a reranker")
