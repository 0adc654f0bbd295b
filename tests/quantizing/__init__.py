"""Models in int8."""
