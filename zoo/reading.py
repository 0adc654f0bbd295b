"""Reading: how a vision-language checkpoint turns an item into one sequence and a vector (standard library only)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

MOST_PIXELS, MOST_SIDE, MOST_FRAMES = 64_000_000, 4_096, 4_096  # far above any model's; a reading may be a stranger's
LISTED = 16_384 * 64 * 64  # the most that qwen-vl-utils has for a frame of a list
LONGEST_MARK, MOST_MARKS = 200, 10_000  # characters, of what an image becomes a thousand of; tokens that are added
RATIOS, TRUNCATIONS = ("refuse", "clamp", "both"), ("text", "reference")
# Switches that came later, and are left out of `to_dict` where they change nothing: fingerprints of vectors stay what they were.
LATER = ("join", "pre_resize", "pre_ratio", "pre_frames", "frames_twice", "truncation")


@dataclass(frozen=True)
class Reading:
    """The switches that tell one vision-language checkpoint from another; with its weights they decide its vectors.

    Attributes:
        prompt: Jinja template of the whole sequence, as the Hub's chat templates are, over `media` (a placeholder for
            each picture and film, in the item's order), `text`, `content` (both, interleaved in the item's order),
            `instruction`, `images` and `videos` (their placeholders apart). Absent ones are "".
        backbone: the `model_type` of transformers that it was trained with, "qwen2_vl"; "" leaves it open.
        image, video: what stands for one picture or film in the prompt; the processor makes it as long as its tokens.
            Where both are the same, a film is read as the pictures that its frames are.
        special_tokens: whether the tokenizer adds its own beginning and end to the rendered prompt.
        positions: "sequential" counts real tokens on all axes; "mrope" gives pictures their rows and columns. Where a
            backbone has one axis only, "sequential".
        attention: "causal", or "bidirectional" for backbones whose text layers were trained without the causal mask.
        pooling: "last" token, "mean", or "tokens" for late interaction (every token is a vector).
        span: tokens that are pooled: "all"; "outside_instruction" leaves out what lies between `instruction_marks`;
            "vision" takes pictures only, from their start mark to their end mark, where there is one.
        instruction_marks: tokens before and after the instruction.
        added_tokens: tokens that the authors add to the tokenizer, in this order, where it has not got them yet.
        deepstack: whether features of inner vision layers are added to the text layers (Qwen3-VL).
        pixels: fewest and most pixels of a picture after resizing; None keeps the processor's own.
        frame_pixels: the same for one frame of a film, where it differs.
        total_pixels: most of a whole film, two frames that make one patch counted once; 0 for as many as there are.
        frames: a film is cut to this many, evenly spread; with `fps` at most so many.
        fps: frames a second that are taken; 0 spreads `frames` evenly.
        square: side of the square that pictures are pressed into before anything else; 0 for never.
        smallest_side: pictures with a shorter side are first enlarged to a square of twice that; 0 for never.
        punctuate: take the space around an instruction off, and add a full stop where it ends in no punctuation.
        projection: name of the linear layer behind the backbone in the checkpoint ("custom_text_proj"), "" for none.
        adapter: which one of the adapters in the checkpoint's folder `adapters` is merged ("retrieval"), "" for none.
        mixed: whether one item may hold both words and pictures.
        join: what stands between a text and another one that follows it in the item.
        pre_resize: of an image before the processor resizes it by itself, as qwen-vl-utils' `fetch_image` does: what both
            sides become multiples of, fewest and most pixels; () for none.
        pre_ratio: what becomes of an image one of whose sides is over 200 times the other: "refuse" it; "clamp" what
            `pre_resize` has rounded to 200 times, as GME's code does; "both", the first for the image and the second for
            what it was rounded to, as LamRA's does.
        pre_frames: the same as `pre_resize` for each frame of a video that is given as frames; the last one of an odd number
            is then shown again, at a time of its own. With multiples of twice a token's side, as newer versions of
            qwen-vl-utils have them, `frame_pixels` and `total_pixels` follow; with those of one, they do not.
        frames_twice: whether the processor resizes frames once more, to `pixels` or as it does by itself, after
            `frame_pixels` and `total_pixels`.
        truncation: of sequences over `max_tokens`: "text" takes the end of the last text, and keeps what the prompt ends in;
            "reference" takes the end of the whole sequence, as the tokenizers of the authors' code do.
    """

    prompt: str
    backbone: str = ""
    image: str = ""
    video: str = ""
    special_tokens: bool = False
    positions: Literal["sequential", "mrope"] = "sequential"
    attention: Literal["causal", "bidirectional"] = "causal"
    pooling: Literal["last", "mean", "tokens"] = "last"
    span: Literal["all", "outside_instruction", "vision"] = "all"
    instruction_marks: tuple[str, ...] = ()
    added_tokens: tuple[str, ...] = ()
    deepstack: bool = True
    pixels: tuple[int, ...] = ()
    frame_pixels: tuple[int, ...] = ()
    total_pixels: int = 0
    frames: int = 8
    fps: float = 0.0
    square: int = 0
    smallest_side: int = 0
    punctuate: bool = False
    projection: str = ""
    adapter: str = ""
    mixed: bool = True
    join: str = " "
    pre_resize: tuple[int, ...] = ()
    pre_ratio: Literal["refuse", "clamp", "both"] = "refuse"
    pre_frames: tuple[int, ...] = ()
    frames_twice: bool = False
    truncation: Literal["text", "reference"] = "text"

    def __post_init__(self) -> None:
        for name in ("instruction_marks", "added_tokens", "pixels", "frame_pixels", "pre_resize", "pre_frames"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        marks = (self.image, self.video, self.join, *self.instruction_marks, *self.added_tokens)
        if len(marks) > MOST_MARKS or any(len(mark) > LONGEST_MARK for mark in marks):
            raise ValueError(
                f"marks and added tokens have at most {LONGEST_MARK} characters, and there are at most {MOST_MARKS:,}"
            )
        for name in ("pixels", "frame_pixels"):
            if (pair := getattr(self, name)) and (len(pair) != 2 or not 0 < pair[0] <= pair[1] <= MOST_PIXELS):
                raise ValueError(f"{name} must be the fewest and the most pixels, at most {MOST_PIXELS:,}, not {pair}")
        for name in ("pre_resize", "pre_frames"):
            three = getattr(self, name)
            if three and not (len(three) == 3 and 1 <= three[0] <= MOST_SIDE and 0 < three[1] <= three[2] <= LISTED):
                raise ValueError(
                    f"{name} must be the factor of both sides, the fewest and the most pixels, at most {LISTED:,}, not {three}"
                )
        for name, known in (("pre_ratio", RATIOS), ("truncation", TRUNCATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.total_pixels and not self.frame_pixels:
            raise ValueError("total_pixels of a film needs the frame_pixels that each of its frames has within them")
        if not (1 <= self.frames <= MOST_FRAMES and 0 <= self.fps <= MOST_FRAMES):
            raise ValueError(
                f"a film is read by at least 1 frame (at most {MOST_FRAMES:,}) and a positive rate, not {self.frames} at {self.fps}"
            )
        for name in ("square", "smallest_side"):
            if not 0 <= getattr(self, name) <= MOST_SIDE:
                raise ValueError(f"{name} must be from 0 to {MOST_SIDE:,} pixels, not {getattr(self, name)}")
        if self.attention == "bidirectional" and self.pooling == "last":
            raise ValueError("the last token of bidirectional attention has read no more than any other; pool the mean")
        if self.span == "outside_instruction" and len(self.instruction_marks) != 2:
            raise ValueError("span 'outside_instruction' needs the two instruction_marks")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, ready for JSON; without the switches of `LATER` that are at their defaults."""
        usual = {f.name: f.default for f in fields(self) if f.name in LATER}
        facts = {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Reads `to_dict`; raises ValueError naming unknown switches."""
        if unknown := set(facts) - {f.name for f in fields(cls)}:
            raise ValueError(f"unknown switches {sorted(unknown)}; known are {sorted(f.name for f in fields(cls))}")
        return cls(**facts)
