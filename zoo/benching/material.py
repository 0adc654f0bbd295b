"""What is embedded to measure a model: the user's own files and texts, or some that are made here, the same each time."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.benching.job import Job
from zoo.errors import UnsupportedModalityError
from zoo.inputs.item import Item
from zoo.inputs.waveform import Waveform
from zoo.modalities import Modality

if TYPE_CHECKING:
    from zoo.embedder import Embedder

# What the rows of a table are of → what a model has to read for it.
KINDS: dict[str, Modality] = {"images": "image", "texts": "text", "recordings": "audio", "videos": "video"}
MADE = {
    "images": "JPEG files of 640x480 pixels",
    "texts": "made of everyday words",
    "recordings": "of 5 s at 16 kHz",
    "videos": "of 8 frames of 320x240 pixels",
}
_DISTINCT = 32  # files and recordings that are made; more of them come round again
_WORDS = Path(__file__).resolve().parents[1] / "vectors" / "words.txt"
_MEDIAN, _LONGEST = 37, 220  # words of a text: log-normal, as passages and queries are
_SHORT = 8  # the median where a model reads few tokens: captions
_FEW_TOKENS = 200


def kinds_of(model: "Embedder", job: Job) -> list[str]:
    """What is measured of a model: what the job brings, else all that it reads.

    Raises:
        UnsupportedModalityError: the job brings what the model does not read.
    """
    brought = [kind for kind, given in (("images", job.images), ("texts", job.texts)) if given]
    for kind in brought:
        if KINDS[kind] not in model.spec.modalities:
            reads = "+".join(sorted(model.spec.modalities))
            raise UnsupportedModalityError(
                f"{model.spec.name} reads {reads}: leave --{kind} out, or take a model that reads {KINDS[kind]}",
                what=kind,
            )
    return brought or [kind for kind, reads in KINDS.items() if reads in model.spec.modalities]


def inputs_of(kind: str, count: int, job: Job, max_tokens: int | None, folder: Path) -> list[Any]:
    """So many inputs of a kind, of the job's own where it brings some, round and round where these are fewer.

    Args:
        max_tokens: that the model reads of a text, if known. folder: where files are written.
    """
    own = {"images": [Path(one) for one in job.images], "texts": list(job.texts)}.get(kind) or []
    return _round(own, count) if own else _made(kind, count, max_tokens, folder)


def _made(kind: str, count: int, max_tokens: int | None, folder: Path) -> list[Any]:
    import numpy as np

    few, generator = min(count, _DISTINCT), np.random.default_rng(0)
    if kind == "texts":
        words = [word for word in _WORDS.read_text("utf-8").split() if word.isalpha()]
        median = _SHORT if max_tokens is not None and max_tokens < _FEW_TOKENS else _MEDIAN
        lengths = np.clip(generator.lognormal(np.log(median), 0.8, count), 3, _LONGEST * median // _MEDIAN).astype(int)
        return [" ".join(generator.choice(words, length)) for length in lengths]
    if kind == "images":
        from zoo.evaluation.speed import photos

        there = sorted(folder.glob("*.jpg"))
        return _round(there if len(there) >= few else photos(folder, few), count)
    if kind == "recordings":
        noise = [generator.normal(0, 0.1, 5 * 16_000).astype(np.float32) for _ in range(few)]
        return _round([Waveform(one, 16_000) for one in noise], count)
    frames = [generator.integers(0, 255, (8, 240, 320, 3), dtype=np.uint8) for _ in range(min(few, 8))]
    return _round([Item(video=one) for one in frames], count)


def _round(values: Sequence[Any], count: int) -> list[Any]:
    return [values[number % len(values)] for number in range(count)]
