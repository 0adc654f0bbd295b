"""`python -m zoo.publishing.cards`."""

import sys

from zoo.publishing.cards.pages import main

sys.exit(main())
