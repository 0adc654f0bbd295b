"""`zoo serve`, and who gets in."""
