"""`python -m zoo.training …` is `zoo train …`, for launchers: `accelerate launch -m zoo.training pairs.csv --out runs/mine`."""

import sys

from zoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
