"""The documents: every block of README.md, CONTRIBUTING.md and docs/ is run, the site is built, and the notebooks are executed."""
