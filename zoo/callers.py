"""Warnings that point at the line of whoever called the zoo, however many of our own functions lie between."""

import sys
import warnings

# Packages whose frames are no caller's: our own, and those that call ours for us (decorators of torch, context managers).
_OURS = frozenset({"zoo", "torch", "contextlib"})


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """`warnings.warn` at the innermost line outside of the zoo; in a thread of the zoo's own, at the line that warns."""
    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=2 if frame is None else level)
