"""Texts of mixed length through an encoder of ModernBERT-base's size and a decoder of 0.5B: the zoo and sentence-transformers.

Random weights in float32, the same files for both; tokens/s in turn in one process, peak memory of a fresh process each.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from benchmarks.common import machine, peak_rss_mb, rounds, speed_rows, table
from benchmarks.models import sentence_folder
from zoo.models.gte_qwen2 import qwen2
from zoo.models.text import MODERNBERT_BASE

DECODER = qwen2(layers=24, width=896, hidden=4864, heads=14, pairs=2, is_causal=True, vocab_size=151_936)
# Name, configuration, pooling, and how many texts take some ten seconds on two cores.
MODELS: tuple[tuple[str, dict[str, Any], str, int], ...] = (
    ("ModernBERT-base's size", MODERNBERT_BASE.config, "cls", 128),
    ("a decoder of 0.5B", DECODER, "lasttoken", 32),
)
TEXTS = "from benchmarks.text_models import texts_of_bytes\ntexts = texts_of_bytes({count})\n"
OURS = "import zoo\nmodel = zoo.load_model({folder!r}, device='cpu')\n" + TEXTS + "model.encode(texts)"
THEIRS = (
    "from sentence_transformers import SentenceTransformer\n"
    "model = SentenceTransformer({folder!r}, device='cpu', model_kwargs={{'dtype': 'float32'}})\n"
    + TEXTS
    + "model.encode(texts)"
)


def texts_of_bytes(count: int) -> list[str]:
    """Texts whose bytes, a token each, are as many as the tokens of passages and queries: log-normal, median 50, at most 300."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.9, 0.8, count), 4, 300).astype(int)
    return ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz "), n)) for n in lengths]


def measure(folder: Path, name: str, count: int, repeat: int) -> None:
    """Prints the table of one model."""
    from sentence_transformers import SentenceTransformer

    texts = texts_of_bytes(count)
    theirs = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    ours = zoo.load_model(folder, device="cpu")
    encoder = ours.towers[0].encoder
    tokens = [encoder.length(encoder.prepare_item(zoo.Item(text=text))) for text in texts]
    memory = [peak_rss_mb(code.format(folder=str(folder), count=count)) for code in (THEIRS, OURS)]
    times = rounds(
        {
            "sentence-transformers": lambda: theirs.encode(texts),
            "sentence-transformers, batch of 8": lambda: theirs.encode(texts, batch_size=8),
            "zoo": lambda: ours.encode(texts),
        },
        repeat,
    )
    difference = np.abs(theirs.encode(texts, normalize_embeddings=True) - ours.encode(texts).numpy()).max()
    rows = speed_rows(times, sum(tokens), "sentence-transformers")
    for row, peak in zip(rows, (memory[0], None, memory[1]), strict=True):
        row += ["" if peak is None else f"{peak:,.0f} MB", "" if peak is None else f"{peak / memory[0]:.2f}x"]
    title = (
        f"{name}: {count} texts, {np.mean(tokens):.0f} tokens on average, at most {max(tokens)}, float32 ({machine()})"
    )
    table(title, ["", "tokens/s", "speed", "peak memory", "of theirs"], rows)
    print(f"\nlargest difference of the vectors: {difference:.1e}")


def main(repeat: int = 3) -> None:
    """Prints a table for each model."""
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, config, pooling, count) in enumerate(MODELS):
            measure(sentence_folder(Path(temporary) / str(number), config, pooling), name, count, repeat)


if __name__ == "__main__":
    main()
