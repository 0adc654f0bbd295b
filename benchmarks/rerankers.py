"""Passages for a query through cross-encoders of MiniLM's size, a hundred, and BERT base's, forty: the zoo and sentence-transformers.

Random weights in float32, the same files for both; pairs/s in turn in one process, peak memory of a fresh process each.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from benchmarks.common import machine, peak_rss_mb, rounds, speed_rows, table
from zoo.models.text import bert, pair_tokenizer
from zoo.reranking.parts import cross_encoder

# Name, configuration, whose tokens are bytes, and how many passages: both tables are there within ten minutes.
MODELS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("MiniLM L6's size", bert(layers=6, width=384), 100),
    ("BERT base's size", bert(layers=12, width=768), 40),
)
LOADED = "from benchmarks.rerankers import passages\nquery, documents = passages({count})\n"
OURS = LOADED + "import zoo\nmodel = zoo.load_reranker({folder!r}, device='cpu')\nmodel.rerank(query, documents)"
THEIRS = (
    LOADED + "from sentence_transformers import CrossEncoder\nmodel = CrossEncoder({folder!r}, device='cpu')\n"
    "model.rank(query, documents)"
)


def passages(count: int) -> tuple[str, list[str]]:
    """A query of 34 bytes, a token each, and passages as long as those of MS MARCO: log-normal, median 70, at most 300."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(4.25, 0.5, count), 16, 300).astype(int)
    letters = list("abcdefghijklmnopqrstuvwxyz ")
    return "how many people live in the city ?", ["".join(rng.choice(letters, n)) for n in lengths]


def write(folder: Path, config: dict[str, Any]) -> Path:
    """A cross-encoder with random weights in the layout that both libraries open."""
    facts = {"modalities": frozenset({"text"}), "license": "apache-2.0", "activation": "identity"}
    spec = zoo.RerankerSpec(name=folder.name, max_tokens=512, **facts)
    return cross_encoder(spec, config, pair_tokenizer()).eval().save_pretrained(folder)


def measure(folder: Path, name: str, count: int, repeat: int) -> None:
    """Prints the table of one model."""
    from sentence_transformers import CrossEncoder

    query, documents = passages(count)
    pairs = [(query, document) for document in documents]
    theirs, ours = CrossEncoder(str(folder), device="cpu"), zoo.load_reranker(folder, device="cpu")
    tokens = [len(ours.prepare(*pair).ids) for pair in pairs]
    memory = [peak_rss_mb(code.format(folder=str(folder), count=count)) for code in (THEIRS, OURS)]
    times = rounds(
        {
            "sentence-transformers": lambda: theirs.predict(pairs),
            "sentence-transformers, batch of 8": lambda: theirs.predict(pairs, batch_size=8),
            "zoo": lambda: ours.score(pairs),
        },
        repeat,
    )
    rows = speed_rows(times, len(pairs), "sentence-transformers")
    for row, peak in zip(rows, (memory[0], None, memory[1]), strict=True):
        row += ["" if peak is None else f"{peak:,.0f} MB", "" if peak is None else f"{peak / memory[0]:.2f}x"]
    title = f"{name}: {len(pairs)} pairs, {np.mean(tokens):.0f} tokens on average, at most {max(tokens)}, float32 ({machine()})"
    table(title, ["", "pairs/s", "speed", "peak memory", "of theirs"], rows)
    difference = np.abs(theirs.predict(pairs) - ours.score(pairs).numpy()).max()
    print(f"\nlargest difference of the scores: {difference:.1e}")


def main(repeat: int = 3) -> None:
    """Prints a table for each model."""
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, config, count) in enumerate(MODELS):
            measure(write(Path(temporary) / str(number), config), name, count, repeat)


if __name__ == "__main__":
    main()
