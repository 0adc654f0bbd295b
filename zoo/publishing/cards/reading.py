"""How a vision-language model turns an item into a vector, in words: its `Reading`, for cards and for `zoo show`."""

from typing import Any

from zoo.prompts import name_for
from zoo.publishing.cards.held import held_rows
from zoo.reading import Reading
from zoo.spec import ModelSpec

_POSITIONS = {
    "sequential": "tokens are counted one after another, those of pictures too",
    "mrope": "tokens of pictures have a row and a column (M-RoPE)",
}
_ATTENTION = {"causal": "causal: a token attends to those before it", "bidirectional": "in both directions"}
_SPANS = {
    "all": "mean of the states of all tokens",
    "outside_instruction": "mean of the states of all tokens outside the instruction",
    "vision": "mean of the states of all tokens; where there are pictures, of theirs, start and end marks included",
}


def reading_rows(spec: ModelSpec) -> dict[str, str]:
    """The switches of a vision-language model, what → in words, in order; {} for other models."""
    reading = spec.reading
    if reading is None:
        return {}
    rows = {
        "backbone": f"{reading.backbone} of transformers" if reading.backbone else "",
        "positions": _POSITIONS[reading.positions],
        "attention": _ATTENTION[reading.attention],
        "vector": _vector(reading),
        "pictures": _pictures(reading),
        "films": _films(reading) if "video" in spec.modalities else "",
        "instruction": _instruction(spec),
        "one item": _order(reading),
        "too long": _truncation(reading),
        "adapter": f"{reading.adapter}, one of several in the repository, merged on loading" if reading.adapter else "",
        "deepstack": ""
        if reading.deepstack
        else "features of inner vision layers are left out, as the authors' code does",
    }
    return {row: words for row, words in rows.items() if words}


def sequences(spec: ModelSpec) -> dict[str, str]:
    """What the model is given for each kind of item → the text of the sequence in quotation marks, line breaks as \\n.

    `{text}` and `{instruction}` stand for the item's; a picture's placeholder, for all of its tokens. {} without a reading.
    """
    from zoo.encoders.rendering import Prompt

    reading = spec.reading
    if reading is None:
        return {}
    text, picture, film = ("text", "{text}"), ("image", None), ("video", None)
    kinds: dict[str, tuple[list[tuple[str, Any]], str]] = {"text": ([text], ""), "picture": ([picture], "")}
    if "video" in spec.modalities and reading.video != reading.image:
        kinds["film"] = ([film], "")
    if reading.mixed:
        kinds["picture and text"] = ([picture, text], "")
        kinds["picture and text, with an instruction"] = ([picture, text], "{instruction}")
        kinds["text, image, text, as parts"] = ([text, picture, text], "")
    else:
        kinds["text, with an instruction"] = ([text], "{instruction}")
    prompt = Prompt(reading.prompt)
    rendered = {kind: prompt.render(content, reading, told) for kind, (content, told) in kinds.items()}
    return {kind: repr(words) for kind, words in rendered.items()}


def reading_text(spec: ModelSpec) -> str:
    """Both as Markdown under a heading; "" for models without a reading."""
    if spec.reading is None:
        return ""
    rows = "\n".join(f"- {row}: {words}" for row, words in reading_rows(spec).items())
    shapes = "\n".join(f"- {kind}: `{words}`" for kind, words in sequences(spec).items())
    added = (
        " The tokenizer adds its own beginning and end to these, where it has any."
        if spec.reading.special_tokens
        else ""
    )
    held = "".join(f"- {what}: {words}\n" for what, words in held_rows(spec).items())
    held = f"\n\nHeld equal, on small random checkpoints in the published layout:\n\n{held.rstrip()}" if held else ""
    return (
        f"## How it reads\n\n{rows}\n\nWhat it is given, where one placeholder stands for all tokens of a picture, and "
        f"`\\n` for a line break; every blank and line break counts.{added}\n\n{shapes}{held}"
    )


def _vector(reading: Reading) -> str:
    if reading.pooling == "tokens":
        layer = f", through the layer {reading.projection}" if reading.projection else ""
        return f"one for every token{layer}; a query's best matches in a document are added up (MaxSim)"
    return "state of the last token" if reading.pooling == "last" else _SPANS[reading.span]


def _pictures(reading: Reading) -> str:
    words = [
        f"first pressed into a square of {reading.square:,} pixels a side" if reading.square else "",
        f"first enlarged to a square of {2 * reading.smallest_side} pixels a side where one side is under "
        f"{reading.smallest_side}"
        if reading.smallest_side
        else "",
        _first(reading),
        _budget(reading.pixels) or "resized as the processor of the checkpoint has it",
    ]
    return ", then ".join(word for word in words if word)


def _films(reading: Reading) -> str:
    taken = (
        f"{reading.fps:g} frame{'' if reading.fps == 1 else 's'} a second, at most {reading.frames}"
        if reading.fps
        else f"{reading.frames} frames, evenly spread"
    )
    if reading.video == reading.image:
        taken += ", read as that many pictures"
    listed = ""
    if reading.pre_frames:
        factor, least, most = reading.pre_frames
        listed = (
            f"frames without a file are first resized to multiples of {factor} pixels, {least:,} to {most:,} in all, and the "
            "last of an odd number is shown twice"
        )
    frame = f"each frame {budget}" if (budget := _budget(reading.frame_pixels)) else ""
    if reading.frames_twice:
        frame += f", then {_budget(reading.pixels) or 'resized as the processor of the checkpoint has it'}"
    total = (
        f"{reading.total_pixels:,} pixels in all at most, two frames that share patches counted once"
        if reading.total_pixels
        else ""
    )
    return "; ".join(word for word in (taken, frame, total, listed) if word)


def _first(reading: Reading) -> str:
    """The resize before the processor's, where it does anything that the second would not."""
    if not reading.pre_resize:
        return ""
    factor, least, most = reading.pre_resize
    wide = {"refuse": "", "clamp": ", at most 200 : 1", "both": ", at most 200 : 1"}[reading.pre_ratio]
    return f"first resized to multiples of {factor} pixels, {least:,} to {most:,} in all{wide}"


def _order(reading: Reading) -> str:
    if not reading.mixed:
        return "words or pictures, not both"
    join = {"": "nothing", " ": "a space", "\n": "a line break"}.get(reading.join, repr(reading.join))
    kept = (
        "parts keep their order"
        if "content" in reading.prompt
        else "media first, then texts, whatever the order of parts"
    )
    return f"{kept}; between two texts that follow one another stands {join}"


def _truncation(reading: Reading) -> str:
    if reading.truncation == "reference":
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
    if spec.reading and spec.reading.punctuate:
        words.append("a full stop is put behind it where it ends in no punctuation")
    return "; ".join(words)
