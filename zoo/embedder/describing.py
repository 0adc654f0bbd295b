"""What a model says of itself in a shell or notebook: its repr, its dir, and where the names of other libraries are found."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder

_TEXTS = 'model.encode(["a text", …]), or model.encode_query(…) and model.encode_document(…)'
_IMAGES = 'model.encode([pathlib.Path("photo.jpg"), …])'
_ANY = "model.encode(…) for anything, model.encode_query(…) for what is searched with"
_QUERIES, _DOCUMENTS = "model.encode_query([…])", "model.encode_document([…])"
# As CLIP of OpenAI, open_clip, transformers, LangChain, LlamaIndex, fastembed and others call them.
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("encode_text", "encode_texts", "embed_text", "embed_texts", "get_text_features"), _TEXTS),
    **dict.fromkeys(("get_text_embedding", "get_text_embeddings", "get_text_embedding_batch"), _TEXTS),
    **dict.fromkeys(("encode_image", "encode_images", "embed_image", "embed_images", "get_image_features"), _IMAGES),
    **dict.fromkeys(("get_image_embedding", "get_image_embeddings"), _IMAGES),
    **dict.fromkeys(
        ("encode_video", "get_video_features"), 'model.encode([zoo.Item(video=pathlib.Path("clip.mp4")), …])'
    ),
    **dict.fromkeys(("embed", "embeddings", "get_embedding", "get_embeddings", "encode_multi_process"), _ANY),
    **dict.fromkeys(("predict", "transform", "get_fused_embeddings"), _ANY),
    **dict.fromkeys(("embed_query", "embed_queries", "query_embed", "encode_queries", "get_query_embedding"), _QUERIES),
    **dict.fromkeys(("embed_document", "embed_documents", "passage_embed", "encode_documents"), _DOCUMENTS),
    **dict.fromkeys(("encode_corpus", "encode_passage", "encode_passages"), _DOCUMENTS),
    "compute_lexical_matching_score": "zoo.similarity.lexical(a, b), of what model.encode_sparse gives",
    "colbert_score": "zoo.similarity.mean_maxsim(a, b), of what model.encode_tokens gives",
    "convert_id_to_token": "model.token_weights(model.encode_sparse(text))",
    "search": "model.rank(query, documents), or zoo.open_index(folder).search(model.encode_query(…))",
    "tokenizer": "model.towers: each has an encoder, and model.encode needs no tokenizer of yours",
    "preprocess": "nothing before model.encode: it takes files, images and arrays as they are",
}


def described(model: "Embedder") -> str:
    """Five lines: name, modalities, dim, device, towers."""
    spec = model.spec
    weights = [*model.parameters(), *(tensor for name, tensor in model.named_buffers() if name.endswith("weight_int8"))]
    cuts = [str(cut) for cut in spec.dims if cut != spec.dim]
    kinds = ", ".join(sorted({str(one.dtype).removeprefix("torch.") for one in weights}))
    per_token = " for every token" if spec.similarity == "maxsim" else ""
    towers = (
        f"{'+'.join(sorted(tower.encoder.modalities))}: "
        + " → ".join(type(part).__name__ for part in (tower.encoder, tower.pooler, tower.head))
        + (f", and {', '.join(tower.outputs)} of the same pass" if tower.outputs else "")
        for tower in model.towers
    )
    lines = {
        "reads": ", ".join(sorted(spec.modalities)),
        "dim": f"{spec.dim}{per_token}" + (f" (also {', '.join(cuts)})" if cuts else ""),
        "device": f"{model.device}, {sum(one.numel() for one in weights):,} weights in {kinds}",
        "towers": "; ".join(towers),
        **({"backend": by} if (by := backends(model)) else {}),
    }
    return "\n".join([f"{type(model).__name__} {spec.name}", *(f"  {what}: {told}" for what, told in lines.items())])


def backends(model: "Embedder") -> str:
    """Which towers a backend computes, and how far from torch; "" of none."""
    return "; ".join(
        f"{'+'.join(sorted(tower.encoder.modalities))}: {tower.compiled.told}"
        for tower in model.towers
        if tower.compiled is not None
    )


def names_of(model: "Embedder") -> list[str]:
    """What is ours of a model, sorted: neither private names nor the hundreds of torch's modules, which work all the same."""
    from torch import nn

    theirs = set(dir(nn.Module()))
    found = {name for kind in type(model).__mro__ if not issubclass(nn.Module, kind) for name in vars(kind)}
    found |= {*vars(model), *model._modules}
    # `to` and `eval` are torch's, and what every user of a model needs.
    return sorted({name for name in found - theirs if not name.startswith("_")} | {"to", "eval", "train"})


def elsewhere(model: "Embedder", name: str) -> str | None:
    """What to write for a name that other libraries have; None where it is no such name."""
    if name not in ELSEWHERE:
        return None
    return f"{model.spec.name} has no {name!r}; write {ELSEWHERE[name]}"
