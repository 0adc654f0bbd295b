"""Backends other than torch."""
