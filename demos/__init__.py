"""Demos: web pages that show what a model can do; each module has one `build(model)`. Installed as `zoo.demos`."""

from .serve import launch

__all__ = ["launch"]
