"""Import time, and cold start to the first vector; processor seconds beside, which others at work change less."""

import statistics
import subprocess
import sys
import time

from benchmarks.common import machine, table

STATEMENTS = {
    "import zoo": "import zoo",
    "import zoo; zoo.list_models()": "import zoo; zoo.list_models()",
    "zoo-mini: first text vector": "import zoo; zoo.load_model('zoo-mini').encode('a red motorbike')",
    "zoo-mini: first vector of a photo": (
        "import zoo; from pathlib import Path; zoo.load_model('zoo-mini').encode(min(Path('demos/photos').glob('*.jpg')))"
    ),
    "all-minilm-l6-v2: first vector": "import zoo; zoo.load_model('all-minilm-l6-v2').encode('a red motorbike')",
    "import torch": "import torch",
    "import open_clip": "import open_clip",
    "import sentence_transformers": "import sentence_transformers",
    "from transformers import CLIPModel": "from transformers import CLIPModel",
}


def main() -> None:
    """Prints the table; every figure is of fresh processes, the median but for the last column."""
    rows = []
    for name, code in STATEMENTS.items():
        # Inside the process, so that the interpreter's own start is not counted.
        timed = (
            f"import time; t = time.perf_counter(); {code}; print('S', time.perf_counter() - t, time.process_time())"
        )
        inner, outer, own = [], [], []
        for _ in range(4):
            start = time.perf_counter()
            out = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
            outer.append(time.perf_counter() - start)
            seconds, processor = map(float, out.stdout.rpartition("S")[2].split())
            inner.append(seconds)
            own.append(processor)
        # The first run warms the disk cache.
        rows.append(
            [name, f"{statistics.median(inner[1:]):.3f}", f"{statistics.median(outer[1:]):.2f}", f"{min(own):.2f}"]
        )
    table(f"Start ({machine()})", ["what", "seconds", "whole process, s", "of the processor, least, s"], rows)


if __name__ == "__main__":
    main()
