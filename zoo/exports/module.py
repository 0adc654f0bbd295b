"""What zoo_module.py of a published repository imports."""

from zoo.publishing.exports.module import ZooModule

__all__ = ["ZooModule"]
