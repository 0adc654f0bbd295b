"""Bulk embedding."""
