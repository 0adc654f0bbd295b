"""Fingerprints: what must agree for two vectors to be comparable."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

from zoo.embedder.tower import heads_hash
from zoo.regions import described, is_default

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder


def fingerprint(model: "Embedder", prompt: str, dim: int, regions: bool) -> dict[str, Any]:
    """What `Embedder.fingerprint` says, of a prompt's text."""
    preprocessing = [tower.encoder.hashed(tower.pooler, model.spec) for tower in model.towers]
    # Said only where norms count, so that what was written before of all others stays valid.
    norms = {"similarity": "dot", "heads": heads_hash(model.towers)} if model.spec.similarity == "dot" else {}
    followed = regions and not any("regions" in tower.encoder.modalities for tower in model.towers)
    said = followed or not is_default(model.region_rule)
    rule = {"region": described(model.region_rule)} if said else {}
    pages = {} if model.spec.pages == "image" else {"pages": model.spec.pages}
    photos = (
        {"pixels": "scaled"} if model.pixels == "scaled" else {}
    )  # in `preprocessing` too, whose hash nobody can follow
    target = {} if model.against is None else {"against": model.against}
    return {
        "model": model.spec.name,
        "revision": model.spec.revision,
        "dim": dim,
        "prompt": prompt,
        "preprocessing": hashlib.sha256(json.dumps(preprocessing, sort_keys=True).encode()).hexdigest()[:16],
        "weights": weights_hash(model),
        **norms,
        **rule,
        **pages,
        **photos,
        **target,
    }


def weights_hash(model: "Embedder") -> str:
    """Tells weights apart, those of an int8 model from those that it was made of too."""
    # A sample of every tensor: reading gigabytes would take longer than embedding a query.
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith("fusion."):
            continue  # vectors stay comparable whatever rule fuses two of them: an index outlives its combiner
        values = tensor.detach().flatten()
        sample = values[:: max(1, len(values) // 64)].float().cpu().to(torch.float16)
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]
