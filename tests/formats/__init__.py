"""Layouts of checkpoints: the same vectors as their libraries, every setting followed or refused."""
