"""Regions that networks propose."""
