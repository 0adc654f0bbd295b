"""Families of models against their authors' code."""
