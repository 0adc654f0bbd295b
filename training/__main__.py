"""`python -m zoo.training …` is `zoo train …`, for launchers: `accelerate launch -m zoo.training pairs.csv --out runs/mine`."""

import sys

from zoo.allocator import keep_freed
from zoo.cli import main

if __name__ == "__main__":
    keep_freed()
    sys.exit(main(["train", *sys.argv[1:]]))
