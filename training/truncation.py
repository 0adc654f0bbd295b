"""How many texts of the pairs are truncated at the model's limit, counted on a sample before a run."""

from collections import Counter
from collections.abc import Sequence

from zoo.embedder import Embedder
from zoo.encoders.base import Cut
from zoo.errors import InputError
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair, PairTable

from .cached_embeddings import role_prefixes
from .dataloader import sample_of
from .recipe import Recipe

_SAMPLED = 256  # pairs: tokenising them takes a fraction of a second


def truncated(model: Embedder, pairs: Sequence[Pair] | PairTable, recipe: Recipe) -> list[str]:
    """What is lost of the texts, a sentence for each role; [] where all of them are read whole.

    "38 % of the captions lose their end: the model reads 128 tokens."
    """
    sample = sample_of(pairs, _SAMPLED)
    captions = not any("text" in pair.query.modalities for pair in sample)
    roles = {
        "queries": (0, [pair.query for pair in sample]),
        "captions" if captions else "positives": (
            1,
            [item for p in sample for item in (p.positive, *p.extra_positives)],
        ),
        "negatives": (1, [item for pair in sample for item in pair.negatives]),
    }
    prefixes = role_prefixes(model, recipe)
    return [line for role, (side, items) in roles.items() if (line := _line(model, role, items, prefixes[side]))]


def _line(model: Embedder, role: str, items: Sequence[Item], prefix: str) -> str:
    texts = [item for item in items if item.text]
    cuts: Counter[Cut] = Counter(cut for item in texts if (cut := _cut(model, item, prefix)) is not None)
    if not cuts:
        return ""
    (cut, _), count = cuts.most_common(1)[0], cuts.total()
    share = f"{100 * count / len(texts):.0f} %" if count * 200 >= len(texts) else "under 1 %"
    lost = "end" if cut.side == "right" else "beginning"
    return (
        f"{share} of the {role} lose their {lost}: the model reads {cut.tokens:,} tokens ({count:,} of {len(texts):,} that "
        "were looked at are truncated)"
    )


def _cut(model: Embedder, item: Item, prefix: str) -> Cut | None:
    try:
        encoder = model.routes[model.route_index(item)].encoder
        return encoder.cut(encoder.prompted(item, prefix))
    except InputError:
        return None  # the run sets it aside and lists it
