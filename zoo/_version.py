"""The version of the zoo, read by setuptools without importing the package."""

__version__ = "0.1.0"
