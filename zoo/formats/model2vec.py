"""model2vec: a static table, its tokenizer, and config.json; with modules.json for sentence-transformers beside or without.

Read as the library itself reads it (`StaticModel.encode` of model2vec 0.10): tokens that are unknown are left out of the mean, and a
text is cut after 512 tokens. sentence-transformers, which reads the same files, does neither.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingWeightsError, OversizedError, UnrecognisedCheckpointError
from zoo.formats import read_object
from zoo.formats.checks.safetensors_checks import SLACK
from zoo.formats.known import sentence_transformers as known
from zoo.formats.layout import Opening, register_layout
from zoo.formats.settings import read
from zoo.formats.tensors import read_tensors
from zoo.formats.transformers import OfTypes, text_spec
from zoo.strangers.schema import shown

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.embedder import Embedder

LONGEST = 512  # tokens, where config.json does not say it
MOST_SHARED = 256  # tokens for each row of a static table, on average; model2vec's own have at most some 20


@register_layout
class Model2Vec(OfTypes):
    """A token table that model2vec distilled."""

    name = "model2vec"
    order = 15  # before sentence-transformers, whose modules.json lies beside
    looked_for = 'model2vec: config.json with "model_type": "model2vec", and model.safetensors'
    types = ("model2vec",)
    beside = ()

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether model2vec wrote these files, and nothing follows the table but a Normalize."""
        if not super().recognise(names, read_json):
            return False
        rows = read_json(known.MODULES_FILE) if known.MODULES_FILE in names else []
        kinds = (
            [str(row.get("type")) if isinstance(row, dict) else "" for row in rows] if isinstance(rows, list) else [""]
        )
        return all(kind.endswith((".StaticEmbedding", ".Normalize")) for kind in kinds)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """One tower: the table, the mean, no head."""
        from zoo.embedder import Embedder, Tower
        from zoo.encoders.static import StaticText
        from zoo.encoders.tokenizing import open_tokenizer
        from zoo.heads import Identity
        from zoo.pooling import Mean

        where = folder / "config.json"
        settings = read(read_object(where), known.MODEL2VEC, where, opening.ignore)
        longest = settings.get("max_length", LONGEST)
        if longest is not None and not (type(longest) is int and 0 < longest < 1 << 31):
            raise UnrecognisedCheckpointError(f"{where}: max_length is {shown(longest)}, no number of tokens")
        table = table_of(read_tensors(folder, opening.allow_pickle), folder)
        tokenizer = open_tokenizer(folder, alone=True)
        encoder = StaticText(len(table), table.shape[1], longest, drops_unknown=True, tokenizer=tokenizer)
        encoder.table.weight.data.copy_(table)
        spec = text_spec(opening.name, encoder, encoder.width)
        return Embedder(spec, [Tower(encoder, Mean(), Identity())])


def table_of(tensors: "dict[str, Tensor]", where: Path) -> "Tensor":
    """The row of each token: a table as it is, or model2vec's, of which several tokens may share a row and each have a weight.

    Raises:
        MissingWeightsError: there is none, or its parts do not fit. OversizedError: far too many tokens share a row.
    """
    table = tensors.get("embedding.weight", tensors.get("embeddings"))
    if table is None or table.ndim != 2:
        raise MissingWeightsError(f'{where} has no table "embedding.weight" or "embeddings" in its weights')
    try:
        if "mapping" in tensors:
            rows = tensors["mapping"].long()
            if rows.numel() * table.shape[1] > MOST_SHARED * table.numel() + SLACK:
                raise OversizedError(
                    f"{where}: {rows.numel():,} tokens share a table of {len(table):,} rows; no model does"
                )
            table = table[rows]
        if "weights" in tensors:
            table = table.float() * tensors["weights"].float()[:, None]
    except (IndexError, RuntimeError) as error:
        raise MissingWeightsError(f"{where}: mapping, weights and table do not fit each other: {error}") from error
    return table
