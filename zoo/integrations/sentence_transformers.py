"""sentence-transformers: a model of the zoo as a real SentenceTransformer, for whatever accepts only that.

from zoo.integrations.sentence_transformers import as_sentence_transformer

as_sentence_transformer("zoo-mini").encode(["a red bicycle"])
"""

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.integrations import missing
from zoo.loading import load_model
from zoo.prompts import ALIASES
from zoo.spec import need_one_vector

try:
    from sentence_transformers import SentenceTransformer
except ImportError as error:
    raise missing(error, "sentence-transformers") from error

if TYPE_CHECKING:
    from zoo.embedder import Embedder


def as_sentence_transformer(model: "Embedder | str | Path") -> SentenceTransformer:
    """The model, not a copy, after sentence-transformers' `encode`, with its prompts, on the device where it is.

    Texts and images go in as there: a str is always a text, `{"image": path}` a file. Vectors are of unit length,
    or keep their norms where the model compares by dot product; `similarity` is the model's.

    Args:
        model: a model, or whatever `load_model` opens.
    """
    from zoo.publishing.exports.module import ZooModule

    model = load_model(model) if isinstance(model, str | Path) else model
    need_one_vector(model.spec, "sentence-transformers' encode")
    # A role has no other names there.
    roles = {role: model.spec.prompts[name] for role in ALIASES if (name := model.role(role)) is not None}
    return SentenceTransformer(
        modules=[ZooModule(model)],
        device=str(model.device),
        prompts={**model.spec.prompts, **roles},
        default_prompt_name=model.spec.default_prompt_name,
        similarity_fn_name=model.spec.similarity,
    )
