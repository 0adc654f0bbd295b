"""`python -m zoo.cards`."""

import sys

from zoo.cards.pages import main

sys.exit(main())
