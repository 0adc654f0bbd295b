"""How a model turns an item into one sequence and a vector, in words: its format and limits, for cards and for `zoo show`."""

from typing import Any

from zoo.prompts import name_for
from zoo.publishing.cards.held import held_rows
from zoo.sequences import AudioLimits, ImageLimits, SequenceFormat, VideoLimits
from zoo.spec import ModelSpec

_POSITIONS = {
    "sequential": "tokens are counted one after another, those of images too",
    "mrope": "tokens of images have a row and a column (M-RoPE)",
}
_ATTENTION = {"causal": "causal: a token attends to those before it", "bidirectional": "in both directions"}
_SPANS = {
    "all": "mean of the states of all tokens",
    "outside_instruction": "mean of the states of all tokens outside the instruction",
    "vision": "mean of the states of all tokens; where there are images, of theirs, start and end marks included",
}
_REGIONS = {
    "scaled": "all of an item together are one prompt of SAM 2.1, whose tokens stand before the sequence, at position 0; without any "
    "a grid of points is. The prompt says a box or point in whole pixels of the upright image; a mask or polygon is its box, and for "
    "SAM up to nine points inside too",
    "reference": "as virtue-2b-scar reads them, but for boxes and points that SAM takes in pixels of the image, unscaled, and boxes that "
    "the prompt says as a list: the authors' evaluation on SCaR",
}


def reading_rows(spec: ModelSpec) -> dict[str, str]:
    """The switches of a vision-language model, what → in words, in order; {} for other models."""
    layout = spec.format
    if layout is None:
        return {}
    image, video = spec.media.get("image", ImageLimits()), spec.media.get("video", VideoLimits())
    rows = {
        "backbone": f"{layout.backbone} of transformers" if layout.backbone else "",
        "positions": _POSITIONS[layout.positions],
        "attention": _ATTENTION[layout.attention],
        "vector": _vector(spec),
        "images": _images(image) if "image" in spec.modalities else "",
        "videos": _videos(layout, image, video) if "video" in spec.modalities else "",
        "audio": _audio(spec.media.get("audio")) if "audio" in spec.modalities else "",
        "regions": _REGIONS[layout.box_frame] if "regions" in spec.modalities else "",
        "instruction": _instruction(spec),
        "one item": _order(layout),
        "too long": _truncation(layout),
        "adapter": f"{spec.adapter}, one of several in the repository, merged on loading" if spec.adapter else "",
        "deepstack": ""
        if layout.deepstack
        else "features of inner vision layers are left out, as the authors' code does",
    }
    return {row: words for row, words in rows.items() if words}


def sequences(spec: ModelSpec) -> dict[str, str]:
    """What the model is given for each kind of item → the text of the sequence in quotation marks, line breaks as \\n.

    `{text}`, `{instruction}` and `{regions}` stand for the item's; an image's placeholder, for all of its tokens. {} without a reading.
    """
    from zoo.encoders.sequence.template import Prompt

    layout = spec.format
    if layout is None:
        return {}
    text, image, video, audio = ("text", "{text}"), ("image", None), ("video", None), ("audio", None)
    kinds: dict[str, tuple[list[tuple[str, Any]], str]] = {"text": ([text], "")}
    if "image" in layout.marks:
        kinds["image"] = ([image], "")
    if "video" in spec.modalities and layout.marks.get("video") != layout.marks.get("image"):
        kinds["video"] = ([video], "")
    if "audio" in layout.marks:
        kinds["audio"] = ([audio], "")
    if layout.mixed and "image" in layout.marks:
        both = [image, text] if layout.media_first else [text, image]
        kinds["image and text"] = (both, "")
        kinds["image and text, with an instruction"] = (both, "{instruction}")
        kinds["text, image, text, as parts"] = ([text, image, text], "")
        if "regions" in spec.modalities:
            kinds["image, text and a box"] = ([image, text, ("regions", "{regions}")], "")
    else:
        kinds["text, with an instruction"] = ([text], "{instruction}")
    prompt = Prompt(layout.prompt)
    rendered = {kind: prompt.render(content, layout, told) for kind, (content, told) in kinds.items()}
    return {kind: repr(words) for kind, words in rendered.items()}


def reading_text(spec: ModelSpec) -> str:
    """Both as Markdown under a heading; "" for models that read no sequence."""
    if spec.format is None:
        return ""
    rows = "\n".join(f"- {row}: {words}" for row, words in reading_rows(spec).items())
    shapes = "\n".join(f"- {kind}: `{words}`" for kind, words in sequences(spec).items())
    added = (
        " The tokenizer adds its own beginning and end to these, where it has any."
        if spec.format.special_tokens
        else ""
    )
    held = "".join(f"- {what}: {words}\n" for what, words in held_rows(spec).items())
    held = f"\n\nHeld equal, on small random checkpoints in the published layout:\n\n{held.rstrip()}" if held else ""
    return (
        f"## How it reads\n\n{rows}\n\nWhat it is given, where one placeholder stands for all tokens of an image, and "
        f"`\\n` for a line break; every blank and line break counts.{added}\n\n{shapes}{held}"
    )


def _vector(spec: ModelSpec) -> str:
    if spec.pooling == "tokens":
        layer = f", through the layer {spec.projection}" if spec.projection else ""
        return f"one for every token{layer}; a query's best matches in a document are added up (MaxSim)"
    if spec.pooling not in ("last", "mean"):
        return f"by the pooler {spec.pooling}"
    return "state of the last token" if spec.pooling == "last" else _SPANS[spec.format.span]


def _images(limits: ImageLimits) -> str:
    words = [
        f"first resized to a square of {limits.square:,} pixels a side" if limits.square else "",
        f"first enlarged to a square of {2 * limits.smallest_side} pixels a side where one side is under "
        f"{limits.smallest_side}"
        if limits.smallest_side
        else "",
        _first(limits),
        _budget(limits.pixels) or "resized as the processor of the checkpoint has it",
    ]
    return ", then ".join(word for word in words if word)


def _videos(layout: SequenceFormat, image: ImageLimits, video: VideoLimits) -> str:
    taken = (
        f"{video.fps:g} frame{'' if video.fps == 1 else 's'} a second, at most {video.frames}"
        if video.fps
        else f"{video.frames} {'key ' * (video.sampling == 'keyframes')}frames, evenly spread"
    )
    if layout.marks.get("video") == layout.marks.get("image"):
        taken += ", read as that many images"
    listed = ""
    if video.pre_resize:
        factor, least, most = video.pre_resize
        listed = (
            f"frames without a file are first resized to multiples of {factor} pixels, {least:,} to {most:,} in all, and the "
            "last of an odd number is shown twice"
        )
    frame = f"each frame {budget}" if (budget := _budget(video.pixels)) else ""
    if video.twice:
        frame += f", then {_budget(image.pixels) or 'resized as the processor of the checkpoint has it'}"
    total = (
        f"{video.total_pixels:,} pixels in all at most, two frames that share patches counted once"
        if video.total_pixels
        else ""
    )
    return "; ".join(word for word in (taken, frame, total, listed) if word)


def _audio(limits: Any) -> str:
    seconds = limits.seconds if isinstance(limits, AudioLimits) else 0
    cut = f", the first {seconds:g} s of it" if seconds else ""
    return f"mono (the mean of its channels), at the rate of the processor of the checkpoint{cut}"


def _first(limits: ImageLimits) -> str:
    """The resize before the processor's, where it does anything that the second would not."""
    if not limits.pre_resize:
        return ""
    factor, least, most = limits.pre_resize
    wide = {"refuse": "", "clamp": ", at most 200 : 1", "both": ", at most 200 : 1"}[limits.pre_ratio]
    return f"first resized to multiples of {factor} pixels, {least:,} to {most:,} in all{wide}"


def _order(layout: SequenceFormat) -> str:
    if not layout.mixed:
        return "text or images, not both"
    join = {"": "nothing", " ": "a space", "\n": "a line break"}.get(layout.join, repr(layout.join))
    kept = (
        "parts keep their order"
        if "content" in layout.prompt
        else "media first, then texts, whatever the order of parts"
    )
    kept += "" if layout.media_first else ", and else a text stands before the media of its item"
    return f"{kept}; between two texts that follow one another stands {join}"


def _truncation(layout: SequenceFormat) -> str:
    if layout.truncation == "inside":
        return "the end of the last text is truncated, and the prompt's own end is kept"
    if layout.truncation == "reference":
        return "cut at its end, as the authors' code cuts, the prompt's own end with it"
    return "the end of the last text is cut off, and the prompt's own end is kept; media and instruction stay whole"


def _budget(pixels: tuple[int, ...]) -> str:
    return f"resized to between {pixels[0]:,} and {pixels[1]:,} pixels" if pixels else ""


def _instruction(spec: ModelSpec) -> str:
    words = ["what `prompt=` or the item itself says"]
    for role in ("query", "document"):
        name = name_for(spec, role)
        words.append(f"`encode_{role}` gives {'none' if name is None else f'the prompt {name}'}")
    if others := [name for name in spec.prompts if name not in ("query", "document")]:
        words.append(f"by name: {', '.join(f'`{name}`' for name in others)}")
    if spec.format and spec.format.punctuate:
        words.append("a full stop is put after it where it ends in no punctuation")
    return "; ".join(words)
