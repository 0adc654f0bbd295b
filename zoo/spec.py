"""ModelSpec: the facts of a model, apart from its code; LogitScale and Calibration, which a checkpoint may state too (standard library)."""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

from zoo.arguments import Check, flag, named_texts, optional, text, texts, whole, wholes, wrong
from zoo.errors import ArgumentError, TokenVectorsError
from zoo.modalities import MODALITIES, Modality
from zoo.sequences import Limits, SequenceFormat, check_pooling, limits_of, limits_to_dict, spec_of_earlier

Similarity = Literal["cosine", "dot", "maxsim"]
Attention = Literal["causal", "bidirectional"]
Pages = Literal["image", "text"]
OUTPUTS = ("sparse", "tokens")  # what a model may give of a text beside its vector (see `zoo.outputs`)
LONGEST_PROMPT = 20_000  # characters of a prompt of a model; the longest that is known has 1,500
_LARGEST_LOG = 80  # beyond it the exponential leaves float32
NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")


def _a_format(name: str, value: Any) -> Any:
    if not isinstance(value, SequenceFormat | Mapping):
        raise wrong(name, value, "a zoo.sequences.SequenceFormat", f"write {name}=SequenceFormat(...), or leave it out")
    return value


def _limits(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise wrong(name, value, "limits by modality", f'write {name}={{"image": ImageLimits(...)}}, or leave it out')
    return value


CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(("name", "license", "hub_id", "demo", "source", "family", "similarity"), text),
    **dict.fromkeys(("pooling", "projection", "adapter", "recipe", "pages", "instruction", "example", "closing"), text),
    **dict.fromkeys(("revision", "base", "base_revision", "paper"), optional(text)),
    **dict.fromkeys(("default_prompt_name", "attention"), optional(text)),
    **dict.fromkeys(("image_size", "max_tokens"), optional(whole())),
    **dict.fromkeys(("modalities", "languages", "targets", "outputs"), texts),
    **dict.fromkeys(("prompts", "roles", "around"), named_texts),
    "dim": whole(),
    **dict.fromkeys(("dims", "head_dims"), wholes),
    "params": whole(0),
    "packaged": flag,
    "pool_prompt": flag,
    "format": optional(_a_format),
    "media": _limits,
}


def names_of_languages(languages: tuple[str, ...]) -> str:
    """Codes of languages as people call them: "English, Chinese", "many languages"; "" for none."""
    names = {"en": "English", "zh": "Chinese", "multilingual": "many languages"}
    return ", ".join(names.get(code, code) for code in languages)


@dataclass(frozen=True)
class ModelSpec:
    """What is known about a model without building it: printable, comparable, JSON-able.

    Attributes:
        name: registered name, lower case with hyphens ("clip-vit-b32-openai").
        modalities: what it reads.
        dim: length of its vectors.
        license: SPDX or Hub identifier in lower case, or "other: <name>".
        hub_id: "org/name" on the Hugging Face Hub, "" for test models.
        demo: page that shows it, a module of `demos/` or of another package (see `zoo.demos.register_demo`).
        revision: full commit to load, None for the newest.
        base: the checkpoint it starts from. paper: "arxiv:<id>".
        base_revision: full commit of `base`, for adapters whose own files name none; None for the newest.
        params: number of weights. image_size: side in pixels of an image, or of a video's frame. max_tokens: longest text.
        dims: Matryoshka cuts it was trained for, longest first.
        prompts: text put before an input, by name; the names "query" and "document" are those of roles.
        default_prompt_name: the one of `prompts` that `encode` puts where none is asked for; None for none.
        roles: which of `prompts` is a role's, where none is called like it: {"query": "s2p_query"}.
        instruction: what a task described in words becomes before a query, with "{task}" in it ("Instruct: {task}\\nQuery: "); ""
            where the model takes none. example: what an example of a task becomes before that, with "{query}" and "{response}",
            and "{task}" where it is repeated; "" where it takes none (see `zoo.prompts.of_task`).
        closing: what is written after a text that has an instruction ("\\n<response>"); "" for most (see `zoo.encoders.in_context`).
        pool_prompt: whether the tokens of a prompt are pooled with the text's; they are read in any case.
        around: of prompts that are tokens around those of a text and not letters before it, the tokens, with "$A" for the text's:
            {"[": "[ $A ]"}.
        languages: ISO 639-1 codes of the languages of its training texts, or "multilingual"; () without texts.
        packaged: its weights are inside the installed package.
        source: what `load_model` opens, e.g. "open_clip:ViT-B-32/openai"; "" means the hub_id.
        family: module of `zoo/models/` that defines it.
        format: how the backbone reads an item as one sequence of text and marked media; None for other models.
        media: limits of each medium in that sequence, by modality ({"image": ImageLimits(...)}).
        pooling: what becomes of that sequence's tokens: the "last" one, the "mean", or "tokens" (each is a vector); another
            pooler by the name of its class. By default the last, with late interaction all tokens. Of a text backbone: the name of
            the pooler's class ("Cls"), where the checkpoint's own files do not say it; "" where they do.
        projection: name in the checkpoint of the linear layer after the backbone ("custom_text_proj"), "" for none.
        adapter: which one of the adapters in the checkpoint (in its folder `adapters`, or among its tensors) is merged ("retrieval"),
            "" for none.
        similarity: how its vectors are compared: "cosine", of one unit vector an item; "dot", of one vector per item that
            keeps its norm; "maxsim", of one unit vector per token (late interaction).
        attention: whether a text backbone's tokens see each other "causal" or "bidirectional", where the checkpoint's own
            files do not say it; None where they do.
        targets: what a text of it may be compared with, the usual one first, where each has another vector of a text ("image",
            "regions"); () for all models whose texts have one vector.
        pages: as what a page of a document is read: its "image", or its "text", and the image of a page without any.
        head_dims: lengths of vectors for each of which the checkpoint has a last layer of its own, `load_model(name, dim=…)`; () where it
            has one, whose vectors are cut.
        outputs: what it gives of a text beside its vector, from the same pass (`model.encode_outputs`): "sparse" lexical weights,
            "tokens", a vector for every token; () for most models.
        recipe: what makes its weights, where they are published nowhere: `zoo train --recipe <this>`; "" for all others.

    Raises:
        ArgumentError: a fact has another type. ValueError: a value that it cannot have, or two facts contradict.
    """

    name: str
    modalities: frozenset[Modality]
    dim: int
    license: str
    hub_id: str = ""
    demo: str = "search"
    revision: str | None = None
    base: str | None = None
    paper: str | None = None
    params: int = 0
    image_size: int | None = None
    max_tokens: int | None = None
    dims: tuple[int, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    packaged: bool = False
    source: str = ""
    family: str = ""
    format: SequenceFormat | None = None
    media: Mapping[str, Limits] = field(default_factory=dict)
    pooling: str = ""
    projection: str = ""
    adapter: str = ""
    similarity: Similarity = "cosine"
    attention: Attention | None = None
    recipe: str = ""
    targets: tuple[str, ...] = ()
    base_revision: str | None = None
    pages: Pages = "image"
    instruction: str = ""
    example: str = ""
    pool_prompt: bool = True
    outputs: tuple[str, ...] = ()
    head_dims: tuple[int, ...] = ()
    closing: str = ""
    around: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for fact, check in CHECKS.items():
            try:
                object.__setattr__(self, fact, check(fact, getattr(self, fact)))
            except ArgumentError as error:
                raise ArgumentError(f"{self.name}: {error}") from None
        unknown = set(self.modalities) - set(MODALITIES)
        if unknown or not self.modalities:
            raise ValueError(f"{self.name}: modalities must be among {MODALITIES}, not {sorted(self.modalities)}")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.demo):
            raise ValueError(f"{self.name}: demo must be the name of a module of demos/, not {self.demo!r}")
        if self.similarity not in get_args(Similarity):
            raise ValueError(f"{self.name}: similarity must be cosine, dot or maxsim, not {self.similarity!r}")
        if self.pages not in get_args(Pages):
            raise ValueError(f"{self.name}: pages must be image or text, not {self.pages!r}")
        if wrong := [name for name in self.outputs if name not in OUTPUTS]:
            raise ValueError(f"{self.name}: outputs are among {', '.join(OUTPUTS)}, not {wrong[0]!r}")
        if self.attention not in (None, *get_args(Attention)):
            raise ValueError(f"{self.name}: attention must be causal, bidirectional or None, not {self.attention!r}")
        if isinstance(self.format, Mapping):
            object.__setattr__(self, "format", SequenceFormat.from_dict(self.format))
        try:
            object.__setattr__(self, "media", limits_of(self.media, self.format))
        except ValueError as error:
            raise ValueError(f"{self.name}: media: {error}") from None
        self._check_sequence()
        object.__setattr__(self, "modalities", frozenset(self.modalities))
        object.__setattr__(self, "dims", tuple(self.dims))
        object.__setattr__(self, "languages", tuple(self.languages))
        object.__setattr__(self, "targets", tuple(self.targets))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        object.__setattr__(self, "head_dims", tuple(self.head_dims))
        object.__setattr__(self, "prompts", MappingProxyType(dict(self.prompts)))
        object.__setattr__(self, "roles", MappingProxyType(dict(self.roles)))
        object.__setattr__(self, "around", MappingProxyType(dict(self.around)))
        self._check_prompts()

    def _check_sequence(self) -> None:
        if self.format is None:
            if self.media or self.projection or (self.adapter and set(self.modalities) != {"text"}):
                raise ValueError(
                    f"{self.name}: media, projection and adapter are of a sequence, and there is no format of one"
                )
            if self.pooling and not (set(self.modalities) == {"text"} and re.fullmatch("[A-Z][A-Za-z]+", self.pooling)):
                raise ValueError(
                    f"{self.name}: pooling {self.pooling!r} is of a sequence, and there is no format of one; of a text backbone it is "
                    "the name of a pooler's class"
                )
            return
        object.__setattr__(self, "pooling", self.pooling or ("tokens" if self.similarity == "maxsim" else "last"))
        check_pooling(self.format, self.pooling)
        if (self.pooling == "tokens") != (self.similarity == "maxsim"):
            raise ValueError(f"{self.name}: pooling {self.pooling!r} and similarity {self.similarity!r} contradict")

    def _check_prompts(self) -> None:
        if wrong := [role for role in self.roles if role not in ("query", "document")]:
            raise ValueError(f"{self.name}: roles are query and document, not {wrong[0]!r}")
        default = [] if self.default_prompt_name is None else [self.default_prompt_name]
        if wrong := [name for name in (*self.roles.values(), *default) if name not in self.prompts]:
            raise ValueError(f"{self.name}: no prompt is called {wrong[0]!r}; its prompts are {list(self.prompts)}")
        if wrong := [name for name, text in self.prompts.items() if len(text) > LONGEST_PROMPT]:
            size = len(self.prompts[wrong[0]])
            raise ValueError(
                f"{self.name}: the prompt {wrong[0][:60]!r} has {size:,} characters, before each input; at most {LONGEST_PROMPT:,}"
            )
        for prompt, tokens in self.around.items():
            if prompt not in self.prompts.values() or tokens.count("$A") != 1:
                raise ValueError(
                    f'{self.name}: around is of a prompt, with "$A" for the text once, and is {tokens[:60]!r} for {prompt[:60]!r}'
                )
        for fact, blanks in (("instruction", ("{task}",)), ("example", ("{query}", "{response}"))):
            if (template := getattr(self, fact)) and (lost := [blank for blank in blanks if blank not in template]):
                raise ValueError(f"{self.name}: {fact} must hold {lost[0]}, and is {template[:60]!r}")
        for fact in ("example", "closing"):
            if getattr(self, fact) and not self.instruction:
                raise ValueError(f"{self.name}: {fact} is of a task, and there is no instruction for one")
        if wrong := [code for code in self.languages if not re.fullmatch(r"[a-z]{2,3}|multilingual", code)]:
            raise ValueError(f"{self.name}: a language is an ISO 639-1 code or multilingual, not {wrong[0]!r}")

    def check_pixels(self, pixels: str) -> None:
        """Raises ArgumentError where the facts tell already that images cannot be decoded so (see `Embedder.pixels`)."""
        if "image" not in self.modalities:
            raise ArgumentError(
                f"pixels={pixels!r} is how images are decoded, and {self.name} reads none; leave it out"
            )
        if self.format is not None and pixels == "scaled":
            raise self.no_scaled_pixels()

    def no_scaled_pixels(self) -> ArgumentError:
        """The error where images are not scaled to one size."""
        return ArgumentError(
            f"pixels='scaled' is for models that scale every image to one size, such as clip-vit-b32; {self.name} reads images at a "
            "size of their own, and decoding is little of its time: leave it out"
        )

    def check_target(self, target: str) -> None:
        """Raises ArgumentError where texts of the model are not made to be compared with this in particular (`targets`)."""
        if not self.targets:
            raise ArgumentError(
                f"against={target!r:.40}: a text of {self.name} has one vector, for any target; leave it out"
            )
        if target not in self.targets:
            raise ArgumentError(
                f"against={target!r:.40} is no target of texts of {self.name}; write one of {', '.join(map(repr, self.targets))}"
            )

    def target_of(self, others: Iterable[Collection[str]]) -> str | None:
        """The one of `targets` for items of these modalities each; None where no single one fits them all."""
        fitting = {self._target(frozenset(other)) for other in others}
        return next(iter(fitting)) if len(fitting) == 1 else None

    def _target(self, other: frozenset[str]) -> str | None:
        if "regions" in other:
            return "regions" if "regions" in self.targets else None
        return next((target for target in self.targets if set(target.split("+")) == other - {"text"}), None)

    @property
    def language_names(self) -> str:
        """ "English, Chinese", "many languages"; "" where it reads no text, or where nobody said it."""
        return names_of_languages(self.languages)

    def derived(self, name: str, **changes: Any) -> Self:
        """The facts of a model that was made of this one, and is published nowhere.

        Args:
            name: its own. changes: further facts that differ.
        """
        facts = {
            "name": name,
            "base": self.hub_id or self.base or self.name,
            "base_revision": None,
            "hub_id": "",
            "source": "",
        }
        facts |= {"revision": None, "packaged": False, "recipe": ""}
        return replace(self, **facts, **changes)

    @property
    def training_command(self) -> str:
        """What makes the weights, as a shell has it; "" where they are published, or where there are none."""
        return f"zoo train --recipe {self.recipe} --out {self.trained_folder}" if self.recipe else ""

    @property
    def trained_folder(self) -> str:
        """Where `training_command` puts the weights, from the folder that it runs in."""
        return f"runs/{self.name}"

    @property
    def non_commercial(self) -> bool:
        """Whether the licence of its weights forbids commercial use, by its identifier."""
        return re.search(r"(^|[-: ])(nc|non-?commercial|research)\b", self.license) is not None

    def __hash__(self) -> int:
        return hash((self.name, self.source, self.revision, self.dim))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled or deep-copied; the JSON form can.
        return ModelSpec.from_json, (self.to_json(),)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, ready for JSON."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        facts["prompts"] = dict(self.prompts)
        facts["modalities"] = sorted(self.modalities)
        facts["dims"] = list(self.dims)
        # Left out where they say nothing, so that older files of other models stay as they are.
        if self.format is None:
            del facts["format"]
        else:
            facts["format"] = self.format.to_dict()
        facts["media"] = limits_to_dict(self.media)
        facts["around"] = dict(self.around)
        for name in (
            "media",
            "pooling",
            "projection",
            "adapter",
            "recipe",
            "instruction",
            "example",
            "around",
            "closing",
        ):
            if not facts[name]:
                del facts[name]
        for name, usual in (("similarity", "cosine"), ("pages", "image"), ("pool_prompt", True)):
            if facts[name] == usual:
                del facts[name]
        facts["roles"] = dict(self.roles)
        for name in ("languages", "targets", "outputs", "head_dims"):
            facts[name] = list(facts[name])
        for name in ("roles", "languages", "targets", "outputs", "head_dims"):
            if not facts[name]:
                del facts[name]
        if self.default_prompt_name is None and "default" not in self.prompts:
            del facts["default_prompt_name"]
        for name in ("attention", "base_revision"):
            if facts[name] is None:
                del facts[name]
        return facts

    def to_json(self) -> str:
        """The facts as one JSON object."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Reads `to_dict`, also of before 0.2 (see `zoo.sequences.spec_of_earlier`); raises ValueError naming unknown or missing
        facts."""
        facts = spec_of_earlier(facts) if "reading" in facts else facts
        check_names(facts)
        if "default" in (facts.get("prompts") or ()) and "default_prompt_name" not in facts:
            # Older files: the default prompt was the one of this name.
            facts = {**facts, "default_prompt_name": "default"}
        return cls(**facts)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads `to_json`."""
        return cls.from_dict(json.loads(text))


@dataclass(frozen=True)
class LogitScale:
    """What a model's training multiplied its similarities by, and added to them: CLIP's `logit_scale`, SigLIP's `logit_bias`.

    No vector depends on it: it is where further training begins, and what makes probabilities of similarities.

    Attributes:
        log: natural logarithm of the factor. bias: None where nothing was added.

    Raises:
        ValueError: not finite, or a factor that no float32 holds.
    """

    log: float
    bias: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("log", self.log), ("bias", 0.0 if self.bias is None else self.bias)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} of a logit scale must be a finite number, not {value!r}")
        if abs(self.log) > _LARGEST_LOG:
            raise ValueError(f"log of a logit scale must be from -{_LARGEST_LOG} to {_LARGEST_LOG}, not {self.log!r}")

    @property
    def temperature(self) -> float:
        """The inverse of the factor."""
        return math.exp(-self.log)

    def to_dict(self) -> dict[str, float]:
        """Ready for JSON."""
        return {"log": self.log} if self.bias is None else {"log": self.log, "bias": self.bias}


@dataclass(frozen=True)
class Calibration:
    """What a model's similarities of one kind of query with one kind of document mean, as measured on pairs.

    No vector depends on it: it is how a page tells a good match from the least bad one (`zoo.evaluation.calibration`).

    Attributes:
        mean, scale: mean and standard deviation over documents that do not answer the query.
        nothing: a best match below it answers nothing: of the right answers 95 % lie above. None where too few right answers
            were known, of kinds that no data pairs.

    Raises:
        ValueError: a number is not finite, or the scale not above 0.
    """

    mean: float
    scale: float
    nothing: float | None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "nothing" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} of a calibration must be a finite number, not {value!r}")
        if self.scale <= 0:
            raise ValueError(f"scale of a calibration must be above 0, not {self.scale!r}")

    @staticmethod
    def key(query: str, document: str) -> str:
        """The name of a pair of modalities: "text>image"."""
        return f"{query}>{document}"

    def to_dict(self) -> dict[str, float | None]:
        """Ready for JSON."""
        return dict(vars(self))


def check_names(facts: Mapping[str, Any]) -> None:
    """Raises ArgumentError naming unknown or missing facts."""
    if unknown := set(facts) - set(CHECKS):
        raise ArgumentError(f"unknown facts {sorted(unknown)}; known are {sorted(CHECKS)}")
    if missing := {"name", "modalities", "dim", "license"} - set(facts):
        raise ArgumentError(f"missing facts {sorted(missing)}")


def need_one_vector(spec: ModelSpec, what: str) -> None:
    """Called where something takes one vector per item, before any work is done.

    Raises:
        TokenVectorsError: the model has one for every token; `what` names the thing ("an index").
    """
    if spec.similarity == "maxsim":
        raise TokenVectorsError(
            f"{spec.name} has one vector per token (late interaction), and {what} takes one an item; take another model "
            "(zoo list), or compare in memory: model.encode, model.similarity, model.rank"
        )
