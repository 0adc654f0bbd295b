"""Encoders: pixels, and sequences of text and media."""
