"""`inspect_model`: everything that is measured of a model, in turn."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.arguments import checked, flag, mapping, model_or_path, optional, text, whole
from zoo.errors import MissingPackError, NoResultError
from zoo.evaluation.inspecting.changes import CHANGES
from zoo.evaluation.inspecting.embedding import Embedding
from zoo.evaluation.inspecting.inspection import Inspection
from zoo.evaluation.inspecting.material import LENGTHS, PHOTOS, Material, Sample, own, packaged, sample_of
from zoo.evaluation.inspecting.robustness import by_length, languages, paraphrases, robustness, work
from zoo.evaluation.inspecting.sides import embed_sample, readable, several
from zoo.evaluation.inspecting.space import plane, space_figures, spread
from zoo.evaluation.results import Result, rounded, today
from zoo.loading import load_model
from zoo.spec import need_one_vector

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.tables.pairs import Pair

LIMIT, CHANGED = 500, 200


@checked(
    model=model_or_path,
    pairs=optional(mapping),
    limit=whole(20),
    changed=whole(10),
    progress=optional(flag),
    source=text,
)
def inspect_model(
    model: "Embedder | str | Path",
    pairs: "Mapping[str, Iterable[Pair] | Sample] | None" = None,
    *,
    limit: int = LIMIT,
    changed: int = CHANGED,
    progress: bool | None = None,
    source: str = "",
) -> Inspection:
    """What a model is like: its modality gap, isotropy and hubs, and how robust its vectors are (docs/inspecting.md).

    Memory: the vectors, and the similarities of a sample.

    Args:
        model: a loaded one, or what `load_model` opens.
        pairs: data of one's own by its name, in place of the data packs; only right pairs count.
        limit: the most pairs of a sample, evenly over its groups. changed: the most items of a side that are changed.
        progress: a bar; None for one on a terminal when it takes over two seconds.
        source: the command that gives the figures again, for their notes.

    Raises:
        TokenVectorsError: the model has a vector for every token. MissingPackError: there are no pairs, and no data pack.
        NoResultError: it reads nothing of the data. NonFiniteEmbeddingError: it gives NaN, infinite or zero vectors. Besides what `load_model` raises.
    """
    model = model if hasattr(model, "spec") else load_model(model)  # type: ignore[assignment]
    need_one_vector(model.spec, "an inspection")
    if pairs is None:
        material = packaged(model.spec, limit)
    else:
        given = [one if isinstance(one, Sample) else sample_of(name, one, limit) for name, one in pairs.items()]
        material = own(given, model.spec, limit)
    if not material.samples:
        why = "; ".join(dict.fromkeys(material.missing.values())) or "there are no pairs"
        raise MissingPackError(f"{model.spec.name} cannot be inspected: {why}")
    facts = {"source": source, "date": today(), "revision": model.spec.revision}
    found = _measured(model, material, limit, changed, progress)
    figures = tuple(rounded(replace(figure, **facts)) for figure in found.figures)
    return replace(found, figures=figures)


def _measured(model: "Embedder", material: Material, limit: int, changed: int, progress: bool | None) -> Inspection:
    left_out = _unread(model) | material.missing
    figures: list[Result] = []
    embedding = Embedding(model, progress, readable(model, material.samples) + _texts(material, limit))
    with embedding.bar:
        samples = [embed_sample(embedding, sample, left_out) for sample in material.samples]
        embedding.expect(sum(work(sample, changed) for sample in samples))
        for sample in samples:
            figures += space_figures(sample, left_out)
        for sample in samples:
            figures += robustness(embedding, sample, changed)
        photos = next((one for one in samples if one.name == PHOTOS and material.labels and one.split), None)
        if material.paraphrases:
            figures += paraphrases(embedding, material, photos)
        figures += languages(embedding, material)
        figures += by_length(embedding, material, limit)
    for what, (count, of, reason) in embedding.failed.items():
        left_out[what] = f"{count:,} of {of:,} could not be embedded; the first: {reason}"
    if not figures:
        why = "; ".join(f"{what}: {reason}" for what, reason in left_out.items())
        raise NoResultError(f"nothing of {model.spec.name} can be measured on this data: {why}")
    drawn = [(plane(sample), spread(sample)) for sample in samples]
    return Inspection(
        model.spec.name,
        tuple(sorted(model.spec.modalities)),
        model.spec.dim,
        tuple(figures),
        left_out,
        tuple(one for one, _ in drawn if one is not None),
        tuple(one for _, one in drawn if one is not None),
    )


def _unread(model: "Embedder") -> dict[str, str]:
    """What is left out since the model does not read what is changed."""
    found = {}
    for kind in ("text", "image"):
        if kind not in model.spec.modalities:
            names = list(dict.fromkeys(change.name for change in CHANGES if change.kind == kind))
            names += ["paraphrases", "languages", "similarity by length"] if kind == "text" else []
            found[", ".join(names)] = f"{model.spec.name} does not read {several(kind)}"
    return found


def _texts(material: Material, limit: int) -> int:
    """About how many texts are embedded besides the samples."""
    names = 0 if material.names is None else len(material.names.english) * (1 + len(material.names.others))
    return len(material.paraphrases) + names + min(limit, len(material.texts) // 4) * len(LENGTHS)
