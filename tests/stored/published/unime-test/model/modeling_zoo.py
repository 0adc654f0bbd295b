"""Model and processor for transformers: the code is in the installed Embedding Zoo, this file only names it."""

try:
    from zoo.exports.automodel import ZooModel, ZooProcessor  # noqa: F401
except ImportError as error:
    raise ImportError(f"this model needs the Embedding Zoo ({error}); run: pip install embedding-zoo") from error
