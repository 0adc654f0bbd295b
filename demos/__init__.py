"""Demos: web pages that show what a model can do; each module has one `build(model)`. Installed as `zoo.demos`."""

from .registry import register_demo
from .serve import launch

__all__ = ["launch", "register_demo"]
