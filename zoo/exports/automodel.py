"""What configuration_zoo.py and modeling_zoo.py of a published repository import."""

from zoo.publishing.exports.automodel import ZooConfig, ZooModel, ZooProcessor

__all__ = ["ZooConfig", "ZooModel", "ZooProcessor"]
