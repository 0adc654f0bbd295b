"""Stores of vectors, filters."""
