"""How an item becomes one sequence: the format of its text, and the limits of each medium in it (standard library only)."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

MOST_PIXELS, MOST_SIDE, MOST_FRAMES = 64_000_000, 4_096, 4_096  # far above any model's; a format may be a stranger's
LONGEST_AUDIO = 86_400  # seconds
LISTED = 16_384 * 64 * 64  # the most that qwen-vl-utils has for a frame of a list
LONGEST_MARK, MOST_MARKS = 200, 10_000  # characters, of what an image becomes a thousand of; tokens that are added
# Poolers of sequences, by their classes → as facts of models and fingerprints call them.
POOLINGS = {"LastToken": "last", "Mean": "mean", "EveryToken": "tokens"}
_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "True or False"}


class _Facts:
    """Frozen facts that are plain JSON; what stands at its default is left out, so that a new fact changes no older file."""

    _named: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, ready for JSON, without what stands at its default."""
        usual = {f.name: f.default for f in fields(self)}  # type: ignore[arg-type]
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self._mappings()}  # type: ignore[arg-type]
        facts = {name: value for name, value in facts.items() if value != usual[name]}
        facts = {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}
        return facts | {name: dict(getattr(self, name)) for name in self._mappings() if getattr(self, name)}

    @classmethod
    def _mappings(cls) -> tuple[str, ...]:
        return ()

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Reads `to_dict`; raises ValueError naming unknown facts."""
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(facts, Mapping) or (unknown := set(facts) - known):
            found = sorted(unknown) if isinstance(facts, Mapping) else repr(facts)[:60]
            raise ValueError(f"{cls._named} has unknown facts {found}; known are {sorted(known)}")
        needed = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
        if missing := sorted(needed - set(facts)):
            raise ValueError(f"{cls._named} lacks {', '.join(missing)}")
        return cls(**facts)

    def _check_types(self) -> None:
        """Raises ValueError where a fact has another type than its field: a text for a list would else be read as its letters."""
        for one in fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            # Most stand at their defaults, and a hundred models are registered whenever names are listed.
            if value is not one.default and (wanted := _other_type(value, one)):
                raise ValueError(f"{one.name} of {self._named} must be {wanted}, not {value!r:.60}")


def _other_type(value: Any, one: "Field[Any]") -> str:
    """What a fact must be whose value has another type than its field, "" where it has that."""
    kind, inner = get_origin(one.type), get_args(one.type)
    if kind is Literal:
        return "" if isinstance(value, str) and value in inner else f"one of {', '.join(inner)}"
    if kind is tuple:
        fits = isinstance(value, list | tuple) and all(type(part) is inner[0] for part in value)
        return "" if fits else f"a list, each entry of it {_NAMES[inner[0]]}"
    if kind is Mapping:
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        return "" if all(isinstance(part, str) for pair in pairs for part in pair) else "texts by their names"
    fits = isinstance(value, int | float) if one.type is float else isinstance(value, one.type)  # type: ignore[arg-type]
    return "" if fits and isinstance(value, bool) == (one.type is bool) else _NAMES[one.type]  # type: ignore[index]


@dataclass(frozen=True)
class SequenceFormat(_Facts):
    """How an item is laid out as one text with marked media; with the weights it decides the vectors.

    Attributes:
        prompt: Jinja template of the whole sequence, as the Hub's chat templates are, over `media` (a placeholder for
            each image and video, in the item's order), `text`, `content` (both, interleaved in the item's order),
            `instruction`, `images`, `videos`, `audios` and `regions` (their placeholders apart). Absent ones are "".
        marks: what stands for one medium in the prompt, by modality: {"image": "<|image_pad|>"}; its reader makes it as long
            as its tokens. A modality without a mark is not read; without any, the model reads text alone. Where video has
            the mark of images, a video is read as the images that its frames are.
        backbone: the `model_type` of transformers that it was trained with, "qwen2_vl"; "" leaves it open.
        special_tokens: whether the tokenizer adds its own beginning and end to the rendered prompt.
        positions: "sequential" counts real tokens on all axes; "mrope" gives images their rows and columns. Where a
            backbone has one axis only, "sequential".
        attention: "causal", or "bidirectional" for backbones whose text layers were trained without the causal mask.
        span: tokens that are pooled: "all"; "outside_instruction" leaves out what lies between `instruction_marks`;
            "vision" takes images only, from their start mark to their end mark, where there is one.
        instruction_marks: tokens before and after the instruction.
        added_tokens: tokens that the authors add to the tokenizer, in this order, where it has not got them yet.
        deepstack: whether features of inner vision layers are added to the text layers (Qwen3-VL).
        punctuate: take the space around an instruction off, and add a full stop where it ends in no punctuation.
        mixed: whether one item may hold both text and media.
        media_first: whether an item's media are read before its text; else after it. Of an item's `parts` their order counts.
        join: what stands between a text and another one that follows it in the item.
        truncation: of sequences over `max_tokens`: "text" takes the end of the last text, and keeps what the prompt ends in;
            "reference" takes the end of the whole sequence, as the tokenizers of the authors' code do; "inside" takes the tokens
            before what the prompt ends in, as code does that puts tokens of prompt and content in a row (Qwen3-Reranker).
        divided_at: what stands in the prompt where its text is divided: the parts become tokens each by itself, as in code that puts
            tokens of prompt, query and document in a row. No token stands for it; "" for never.
        box_frame: of models that read regions through SAM: whether their coordinates are "scaled" to SAM's square, or are the
            image's pixels taken for the square's, as in the authors' SCaR evaluation ("reference").

    Raises:
        ValueError: a value that no format has, or two that contradict.
    """

    prompt: str
    marks: Mapping[str, str] = field(default_factory=dict)
    backbone: str = ""
    special_tokens: bool = False
    positions: Literal["sequential", "mrope"] = "sequential"
    attention: Literal["causal", "bidirectional"] = "causal"
    span: Literal["all", "outside_instruction", "vision"] = "all"
    instruction_marks: tuple[str, ...] = ()
    added_tokens: tuple[str, ...] = ()
    deepstack: bool = True
    punctuate: bool = False
    mixed: bool = True
    join: str = " "
    truncation: Literal["text", "reference", "inside"] = "text"
    box_frame: Literal["scaled", "reference"] = "scaled"
    media_first: bool = True
    divided_at: str = ""

    _named: ClassVar[str] = "a format of sequences"

    def __post_init__(self) -> None:
        self._check_types()
        object.__setattr__(self, "marks", MappingProxyType({k: v for k, v in dict(self.marks).items() if v}))
        for name in ("instruction_marks", "added_tokens"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        marks = (*self.marks.values(), self.join, self.divided_at, *self.instruction_marks, *self.added_tokens)
        if len(marks) > MOST_MARKS or any(len(mark) > LONGEST_MARK for mark in marks):
            raise ValueError(
                f"marks and added tokens have at most {LONGEST_MARK} characters, and there are at most {MOST_MARKS:,}"
            )
        if self.span == "outside_instruction" and len(self.instruction_marks) != 2:
            raise ValueError("span 'outside_instruction' needs the two instruction_marks")

    @classmethod
    def _mappings(cls) -> tuple[str, ...]:
        return ("marks",)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)  # a mapping proxy cannot be copied

    def __hash__(self) -> int:
        return hash((self.prompt, self.backbone, *self.marks.items()))


# As the processor of EmbeddingGemma 2 and its chat template lay out what they are given: the prompt, then what the item holds, with
# nothing between, and the tokenizer's ends around it. A text stands before the media of its item, as mteb's
# google_embeddinggemma.py has it; `parts` give another order. The figures of MIEB on the model's card were made with media first.
EMBEDDING_GEMMA2 = SequenceFormat(
    prompt="{{ instruction }}{{ content }}",
    backbone="embedding_gemma2",
    marks={"image": "<|image|>", "video": "<|video|>", "audio": "<|audio|>"},
    special_tokens=True,
    attention="bidirectional",
    join="",
    media_first=False,
)


@dataclass(frozen=True)
class ImageLimits(_Facts):
    """How an image is made ready before a processor reads it.

    Attributes:
        pixels: fewest and most pixels after resizing; () keeps the processor's own.
        square: side of the square that images are resized to before anything else; 0 for never.
        smallest_side: images with a shorter side are first enlarged to a square of twice that; 0 for never.
        pre_resize: before the processor resizes by itself, as qwen-vl-utils' `fetch_image` does: what both sides become
            multiples of, fewest and most pixels; () for none.
        pre_ratio: what becomes of an image one of whose sides is over 200 times the other: "refuse" it; "clamp" what
            `pre_resize` has rounded to 200 times, as GME's code does; "both", the first for the image and the second for
            what it was rounded to, as LamRA's does.

    Raises:
        ValueError: sizes that no model has.
    """

    pixels: tuple[int, ...] = ()
    square: int = 0
    smallest_side: int = 0
    pre_resize: tuple[int, ...] = ()
    pre_ratio: Literal["refuse", "clamp", "both"] = "refuse"

    _named: ClassVar[str] = "the limits of images"

    def __post_init__(self) -> None:
        self._check_types()
        _budgets(self, "pixels", "pre_resize")
        for name in ("square", "smallest_side"):
            if not 0 <= getattr(self, name) <= MOST_SIDE:
                raise ValueError(f"{name} must be from 0 to {MOST_SIDE:,} pixels, not {getattr(self, name)}")


@dataclass(frozen=True)
class VideoLimits(_Facts):
    """Which frames of a video are read, and how they are made ready.

    Attributes:
        frames: a video is cut to this many, evenly spread; with `fps` at most so many.
        fps: frames a second that are taken; 0 spreads `frames` evenly.
        sampling: "uniform" takes them of all frames, evenly spread; "steps" every 1 / `fps` seconds from the first on; "keyframes" of those that a file's decoder needs no other one for, evenly
            spread where there are more than `frames`, so that much less of a file is decoded.
        pixels: fewest and most pixels of one frame; () for those of an image.
        total_pixels: most of a whole video, two frames that make one patch counted once; 0 for as many as there are.
        pre_resize: the same as an image's, for each frame of a video that is given as frames; the last one of an odd number
            is then shown again, at a time of its own. With multiples of twice a token's side, as newer versions of
            qwen-vl-utils have them, `pixels` and `total_pixels` follow; with those of one, they do not.
        twice: whether the processor resizes frames once more, to an image's pixels or as it does by itself, after `pixels`
            and `total_pixels`.

    Raises:
        ValueError: sizes that no model has.
    """

    frames: int = 8
    fps: float = 0.0
    pixels: tuple[int, ...] = ()
    total_pixels: int = 0
    pre_resize: tuple[int, ...] = ()
    twice: bool = False
    sampling: Literal["uniform", "steps", "keyframes"] = "uniform"

    _named: ClassVar[str] = "the limits of videos"

    def __post_init__(self) -> None:
        self._check_types()
        _budgets(self, "pixels", "pre_resize")
        if self.total_pixels and not self.pixels:
            raise ValueError("total_pixels of a video needs the pixels that each of its frames has within them")
        if not (1 <= self.frames <= MOST_FRAMES and 0 <= self.fps <= MOST_FRAMES):
            raise ValueError(
                f"a video is read by at least 1 frame (at most {MOST_FRAMES:,}) and a positive rate, not {self.frames} at "
                f"{self.fps}"
            )
        if self.fps and self.sampling == "keyframes":
            raise ValueError(f"key frames have no rate, so that fps is 0 with them, not {self.fps}")
        if not self.fps and self.sampling == "steps":
            raise ValueError("frames at steps are so many a second, and fps says 0")


@dataclass(frozen=True)
class AudioLimits(_Facts):
    """How much of an audio is read. Its rate is the one that the model's processor names; all channels become one.

    Attributes:
        seconds: what is read from the beginning, the rest is cut off with a warning; 0 for as much as the sequence has room for.

    Raises:
        ValueError: a length that no model has.
    """

    seconds: float = 0.0

    _named: ClassVar[str] = "the limits of audio"

    def __post_init__(self) -> None:
        self._check_types()
        if not 0 <= self.seconds <= LONGEST_AUDIO:
            raise ValueError(f"seconds of audio must be from 0 to {LONGEST_AUDIO:,}, not {self.seconds}")


Limits = ImageLimits | VideoLimits | AudioLimits
LIMITS: Mapping[str, type[Limits]] = MappingProxyType(
    {"image": ImageLimits, "video": VideoLimits, "audio": AudioLimits}
)


def limits_of(media: Mapping[str, Limits | Mapping[str, Any]], layout: SequenceFormat | None) -> Mapping[str, Limits]:
    """The limits of each medium by its modality: those given, read from JSON where they are no limits yet, and the usual ones
    of every other medium that the format marks.

    Raises:
        ValueError: a modality without limits, or facts that they do not have.
    """
    marks = layout.marks if layout is not None else {}
    found: dict[str, Limits] = {kind: limits() for kind, limits in LIMITS.items() if kind in marks}
    for kind, value in media.items():
        if kind not in LIMITS:
            raise ValueError(f"there are no limits of {kind!r}; known are {', '.join(LIMITS)}")
        found[kind] = value if isinstance(value, LIMITS[kind]) else LIMITS[kind].from_dict(value)  # type: ignore[arg-type]
    usual = [kind for kind, limits in found.items() if kind not in marks and limits == LIMITS[kind]()]
    return MappingProxyType({kind: limits for kind, limits in found.items() if kind not in usual})


def check_marked(media: Any, layout: Any, prompts: Any = None) -> None:
    """Raises ValueError where whoever declares a model limits a medium that its format has no mark for, or gives prompts that
    it has no place for: nothing would read them.

    Saved models may: the flat record of before had limits of every medium.
    """
    marks = layout.get("marks") if isinstance(layout, Mapping) else getattr(layout, "marks", None)
    marks = marks if isinstance(marks, Mapping) else {}
    if isinstance(media, Mapping) and (unread := [kind for kind in media if kind not in marks]):
        raise ValueError(
            f"media has limits of {unread[0]}, for which the format of the sequence has no mark; give it one"
        )
    prompt = layout.get("prompt") if isinstance(layout, Mapping) else getattr(layout, "prompt", None)
    if prompts and isinstance(prompt, str) and "instruction" not in prompt:
        raise ValueError(
            "there are prompts, and the format of the sequence has no place for {{ instruction }}; give it one"
        )


def limits_to_dict(media: Mapping[str, Limits]) -> dict[str, dict[str, Any]]:
    """The limits as JSON; media whose limits all stand at their defaults are {}."""
    return {kind: limits.to_dict() for kind, limits in media.items()}


def _budgets(limits: ImageLimits | VideoLimits, pair_name: str, three_name: str) -> None:
    """Holds a pair (fewest and most pixels) and a triple (factor, fewest, most) to what a model can have."""
    for name in (pair_name, three_name):
        object.__setattr__(limits, name, tuple(getattr(limits, name)))
    if (pair := getattr(limits, pair_name)) and (len(pair) != 2 or not 0 < pair[0] <= pair[1] <= MOST_PIXELS):
        raise ValueError(f"{pair_name} must be the fewest and the most pixels, at most {MOST_PIXELS:,}, not {pair}")
    three = getattr(limits, three_name)
    if three and not (len(three) == 3 and 1 <= three[0] <= MOST_SIDE and 0 < three[1] <= three[2] <= LISTED):
        raise ValueError(
            f"{three_name} must be the factor of both sides, the fewest and the most pixels, at most {LISTED:,}, not {three}"
        )


# ------------------------------------------------------------------------------------- the words of format 0.1, kept for good


# What one flat record ("reading") held before: fact → where it is now.
_IMAGE = {name: name for name in ("pixels", "square", "smallest_side", "pre_resize", "pre_ratio")}
_VIDEO = {
    "frame_pixels": "pixels",
    "total_pixels": "total_pixels",
    "frames": "frames",
    "fps": "fps",
    "pre_frames": "pre_resize",
    "frames_twice": "twice",
    "sampling": "sampling",
}
_FORMAT = tuple(f.name for f in fields(SequenceFormat) if f.name not in ("marks",))
_POOLING = ("pooling", "projection", "adapter")
# The order of the flat record, and the facts that it left out where they stood at their defaults.
_ORDER = (
    *("prompt", "backbone", "image", "video", "special_tokens", "positions", "attention", "pooling", "span"),
    *("instruction_marks", "added_tokens", "deepstack", "pixels", "frame_pixels", "total_pixels", "frames", "fps"),
    *("square", "smallest_side", "punctuate", "projection", "adapter", "mixed"),
    *("join", "pre_resize", "pre_ratio", "pre_frames", "frames_twice", "truncation"),
    *("box_frame", "media_first", "sampling"),
)
_LATER = {"join": " ", "pre_resize": [], "pre_ratio": "refuse", "pre_frames": [], "frames_twice": False, "truncation": "text", "box_frame": "scaled", "media_first": True, "sampling": "uniform"}  # fmt: skip


def from_reading(facts: Mapping[str, Any]) -> tuple[SequenceFormat, dict[str, Limits], dict[str, str]]:
    """The format, the limits and {"pooling", "projection", "adapter"} of the flat record that files before 0.2 have.

    Raises:
        ValueError: a fact that it never had, or a value that it could not have.
    """
    if not isinstance(facts, Mapping) or (unknown := set(facts) - set(_ORDER)):
        found = sorted(unknown) if isinstance(facts, Mapping) else repr(facts)[:60]
        raise ValueError(f"unknown switches {found}; known are {sorted(_ORDER)}")
    marks = {kind: facts[kind] for kind in ("image", "video") if kind in facts}
    layout = SequenceFormat.from_dict({name: facts[name] for name in _FORMAT if name in facts} | {"marks": marks})
    image = ImageLimits(**{now: facts[then] for then, now in _IMAGE.items() if then in facts})
    video = VideoLimits(**{now: facts[then] for then, now in _VIDEO.items() if then in facts})
    media = dict(limits_of({"image": image, "video": video}, layout))
    pooled = {name: facts.get(name, {"pooling": "last"}.get(name, "")) for name in _POOLING}
    if wrong := [name for name, value in pooled.items() if not isinstance(value, str)]:
        raise ValueError(f"{wrong[0]} must be a text, not {pooled[wrong[0]]!r:.60}")
    check_pooling(layout, pooled["pooling"])
    return layout, media, pooled


def spec_of_earlier(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a model of before 0.2, whose flat record is a format, limits and more facts since; the two as they are in Python.

    Raises:
        ValueError: as `from_reading`, or a fact is there in both words, of which only one can be meant.
    """
    others = {name: value for name, value in facts.items() if name != "reading"}
    if facts["reading"] is None:
        return others
    layout, media, pooled = from_reading(facts["reading"])
    if twice := sorted({"format", "media", *pooled} & set(facts)):
        raise ValueError(
            f"the facts have {', '.join(twice)} beside the reading that held it before; remove one of the two"
        )
    return {**others, "format": layout, "media": media, **{name: value for name, value in pooled.items() if value}}


def check_pooling(layout: SequenceFormat, pooling: str) -> None:
    """Raises ValueError where the pooled token has read no more than any other."""
    if layout.attention == "bidirectional" and pooling == "last":
        raise ValueError("the last token of bidirectional attention has read no more than any other; pool the mean")


def to_reading(
    layout: SequenceFormat, media: Mapping[str, Limits], *, pooling: str, projection: str = "", adapter: str = ""
) -> dict[str, Any]:
    """The flat record of before, letter for letter: fingerprints hash it, so that vectors made then stay comparable."""
    image, video = media.get("image", ImageLimits()), media.get("video", VideoLimits())
    facts = {name: value for name, value in asdict_of(layout).items() if name in _FORMAT}
    facts |= {then: getattr(image, now) for then, now in _IMAGE.items()}
    facts |= {then: getattr(video, now) for then, now in _VIDEO.items()}
    facts |= {kind: layout.marks.get(kind, "") for kind in ("image", "video")}
    facts |= {"pooling": pooling, "projection": projection, "adapter": adapter}
    facts = {name: list(facts[name]) if isinstance(facts[name], tuple) else facts[name] for name in _ORDER}
    flat = {name: value for name, value in facts.items() if name not in _LATER or value != _LATER[name]}
    # Media that came after the flat record.
    others = {kind: limits.to_dict() for kind, limits in media.items() if kind not in ("image", "video")}
    marks = {kind: mark for kind, mark in layout.marks.items() if kind not in ("image", "video")}
    return flat | ({"media": others} if others else {}) | ({"marks": marks} if marks else {})


def pooling_of(pooler: object) -> str:
    """What facts and fingerprints call a pooler; others than the usual ones by the name of their class."""
    name = type(pooler).__name__
    return POOLINGS.get(name, name)


def asdict_of(layout: SequenceFormat) -> dict[str, Any]:
    """Every fact of a format, those at their defaults too."""
    return {f.name: getattr(layout, f.name) for f in fields(layout)}
