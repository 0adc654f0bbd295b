"""`python -m zoo.training.report RUN_FOLDER`: makes the report of a run again, from its folder."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
