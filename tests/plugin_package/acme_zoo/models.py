"""Models: one decorated function each."""

from zoo.embedder import Embedder, Tower
from zoo.heads import Linear
from zoo.pooling import Mean
from zoo.registry import register_model
from zoo.spec import ModelSpec

from .encoder import Trigrams


@register_model(
    dim=16,
    params=8_448,
    license="mit",
    modalities={"text"},
    hub_id="me/acme-trigrams",
    demo="acme_letters",
)
def acme_trigrams(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(Trigrams(512, 16), Mean(), Linear(16, 16, bias=True))])
