"""zoo-mini end to end: a folder of JPEG files, and texts."""

import tempfile
from pathlib import Path

import zoo
from benchmarks.common import machine, photo_folder, realistic_texts, rounds, table


def main(count: int = 600) -> None:
    """Prints the table."""
    model = zoo.load_model("zoo-mini")
    texts = realistic_texts(2000)
    with tempfile.TemporaryDirectory() as folder:
        paths = photo_folder(Path(folder), count)
        times = rounds({"images": lambda: model.encode(paths), "texts": lambda: model.encode(texts)}, 3)
    rows = [[name, f"{n / min(times[name]):.0f}"] for name, n in (("images", count), ("texts", len(texts)))]
    table(f"zoo-mini, 640x480 JPEG files and passages of 50 words ({machine()})", ["", "per second"], rows)


if __name__ == "__main__":
    main()
