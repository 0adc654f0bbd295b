"""What the code of commit f558a39 made, kept as it was; `tests/stored/test_stored.py` holds every later version to open it."""
