"""Import time, and cold start to the first vector."""

import statistics
import subprocess
import sys
import time

from benchmarks.common import machine, table

STATEMENTS = {
    "import zoo": "import zoo",
    "import zoo; zoo.list_models()": "import zoo; zoo.list_models()",
    "zoo-mini: first text vector": "import zoo; zoo.load_model('zoo-mini').encode('a red motorbike')",
    "import open_clip": "import open_clip",
    "import sentence_transformers": "import sentence_transformers",
    "from transformers import CLIPModel": "from transformers import CLIPModel",
}


def main() -> None:
    """Prints the table; every figure is the median of fresh processes."""
    rows = []
    for name, code in STATEMENTS.items():
        # Inside the process, so that the interpreter's own start is not counted.
        timed = f"import time; t = time.perf_counter(); {code}; print('S', time.perf_counter() - t)"
        inner, outer = [], []
        for _ in range(4):
            start = time.perf_counter()
            out = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
            outer.append(time.perf_counter() - start)
            inner.append(float(out.stdout.rpartition("S")[2]))
        # The first run warms the disk cache.
        rows.append([name, f"{statistics.median(inner[1:]):.3f}", f"{statistics.median(outer[1:]):.2f}"])
    table(f"Start ({machine()})", ["what", "seconds", "whole process, s"], rows)


if __name__ == "__main__":
    main()
