"""What a card says of a model without measuring it: the Hub's front matter, the table of facts, the use."""

import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.errors import InvalidCardError
from zoo.evaluation.blocks import find
from zoo.evaluation.results import Result
from zoo.publishing.cards.metadata import metric_names, model_index
from zoo.registry.trained_on import source, trained_on
from zoo.spec import ModelSpec

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# The Hub's own task names (see huggingface.co/tasks) by what a model reads.
PIPELINE_TAGS = {
    frozenset({"text"}): "sentence-similarity",
    frozenset({"image"}): "image-feature-extraction",
    frozenset({"image", "text"}): "zero-shot-image-classification",
    frozenset({"audio"}): "feature-extraction",
    frozenset({"audio", "text"}): "feature-extraction",
    frozenset({"video"}): "feature-extraction",
    frozenset({"text", "video"}): "feature-extraction",
}
# Texts of licences that the Hub has no identifier for.
LICENSE_LINKS = {
    "dinov3-license": "https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
    "nvidia-evaluation-non-commercial": "https://huggingface.co/nvidia/omni-embed-nemotron-3b/blob/main/LICENSE",
}
LIBRARIES = ("transformers", "sentence-transformers", "open_clip", "timm")
# Front matter that this program writes; any other key is a person's and is kept.
WRITTEN = ("license", "license_name", "license_link", "library_name", "pipeline_tag", "base_model", "tags", "metrics")
WRITTEN += ("language", "model-index")
TAGS = ("multimodal-embedding", "late-interaction")  # of vision-language models
VECTORS = {
    "cosine": "",
    "dot": "keep their norms, compared by dot product",
    "maxsim": "one for every token (late interaction)",
}
OUTPUTS = {
    "sparse": "lexical weights over the vocabulary (`encode_sparse`)",
    "tokens": "a vector for every token (`encode_tokens`)",
}
_ORDER = ["license", "license_name", "license_link", "language", "library_name", "pipeline_tag", "base_model"]
_ORDER += ["base_model_relation", "datasets", "metrics", "tags"]


def front_matter(
    spec: ModelSpec,
    *,
    repo: str | None = None,
    results: Iterable[Result] = (),
    loaders: Mapping[str, str] | None = None,
    kept: Mapping[str, Any] | None = None,
) -> str:
    """The Hub's YAML block of a card, `---` lines included.

    Args:
        repo: the repository that the card is for, so that it is not called its own base.
        results: of these, our figures of whole data sets make the model-index block.
        loaders: what opens the repository → "", or the reason why not; each that does is a tag.
        kept: front matter of the card as it was; what this program does not write is taken over.
    """
    from huggingface_hub import ModelCardData

    kept, results = dict(kept or {}), list(results)
    license, link = {"license": spec.license}, None
    if spec.license.startswith("other: "):
        name = spec.license.removeprefix("other: ")
        link = LICENSE_LINKS.get(name, kept.get("license_link") if kept.get("license_name") == name else None)
        license = {"license": "other", "license_name": name}
    base = spec.base if repo is not None else spec.base or spec.hub_id
    libraries = [name for name in LIBRARIES if loaders is not None and loaders.get(name) == ""]
    tags = ["embedding-zoo", *libraries, "feature-extraction"]
    tags += [TAGS[0]] if spec.format else []
    tags += [TAGS[1]] if spec.similarity == "maxsim" else []
    tags += [spec.paper] if spec.paper else []
    index = model_index(results)
    data = ModelCardData(
        **license,
        license_link=link,
        language=list(spec.languages) or kept.get("language"),
        library_name="embedding-zoo",
        pipeline_tag=_pipeline_tag(spec),
        base_model=base if base and HUB_ID.fullmatch(base) and base != repo else None,
        metrics=metric_names(results) or None,
        tags=[*tags, *(tag for tag in _listed(kept.get("tags")) if not _written(tag))],
        model_name=spec.name if index else None,
        eval_results=index or None,
        **{key: value for key, value in kept.items() if key not in WRITTEN},
    )
    if data.base_model is None:  # a relation to nothing is refused by the Hub
        data.pop("base_model_relation")
    return f"---\n{data.to_yaml(original_order=_ORDER)}\n---"


def _pipeline_tag(spec: ModelSpec) -> str:
    if spec.format:
        return "visual-document-retrieval" if spec.similarity == "maxsim" else "feature-extraction"
    return PIPELINE_TAGS.get(spec.modalities, "any-to-any")


def _written(tag: Any) -> bool:
    return tag in ("embedding-zoo", "feature-extraction", *TAGS, *LIBRARIES) or str(tag).startswith("arxiv:")


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def fact_rows(spec: ModelSpec) -> dict[str, str]:
    """The rows of a card's fact table, in order; a fact that the model does not have has no row."""
    cuts = ", ".join(str(cut) for cut in spec.dims)
    facts = {
        "reads": ", ".join(sorted(spec.modalities)),
        "dim": str(spec.dim),
        "Matryoshka cuts": cuts,
        "other lengths": f"{', '.join(str(d) for d in spec.head_dims if d != spec.dim)}, with a last layer each: `load_model(…, dim=…)`"
        if spec.head_dims
        else "",
        "vectors": VECTORS[spec.similarity],
        "also of a text": " and ".join(OUTPUTS[name] for name in spec.outputs),
        "weights": f"{spec.params:,}" if spec.params else "",
        "image size" if "image" in spec.modalities else "frame size": f"{spec.image_size} px"
        if spec.image_size
        else "",
        "max tokens": f"{spec.max_tokens:,}" if spec.max_tokens else "",
        "languages": spec.language_names,
        "texts compared with": ", ".join(f"`{target}`" for target in spec.targets),
        "licence": spec.license,
        "use": "non-commercial only" if spec.non_commercial else "",
        "paper": f"[{spec.paper}]({paper_url(spec.paper)})" if spec.paper else "",
        "Hub repository": f"[{spec.hub_id}](https://huggingface.co/{spec.hub_id})" if spec.hub_id else "",
        "revision": f"`{spec.revision}`" if spec.revision else "",
        "starts from": spec.base or "",
        "opened as": f"`{spec.source}`" if spec.source else "",
        "made by": f"`{spec.training_command}`; its weights are not published" if spec.recipe else "",
        "family": _home("zoo.models", "zoo/models", spec.family),
        "demo": _home("zoo.demos", "demos", spec.demo) or f"`{spec.demo}`",
    }
    for name, prompt in spec.prompts.items():
        facts[f"prompt `{name}`"] = f"`{prompt!r}`" + (" (default)" if name == spec.default_prompt_name else "")
    for prompt, tokens in spec.around.items():
        facts[f"`{prompt!r}` is"] = f"tokens around those of a text: `{tokens}`"
    facts["a task"] = (
        f"`encode_query(…, task=…)` puts `{spec.instruction!r}` before a query" if spec.instruction else ""
    )
    facts["after it"] = f"`{spec.closing!r}` ends a text that has an instruction" if spec.closing else ""
    facts["examples of it"] = f"`{spec.example!r}` each, before that" if spec.example else ""
    facts["adapter"] = f"`{spec.adapter}`, merged into the weights" if spec.adapter and spec.format is None else ""
    facts["in the pool"] = "" if spec.pool_prompt else "the text alone; a prompt is read, and left out"
    for role, name in spec.roles.items():
        facts[f"role `{role}`"] = f"prompt `{name}`"
    return {row: value.replace("|", "\\|").replace("\n", " ") for row, value in facts.items() if value}


def _home(package: str, folder: str, name: str) -> str:
    """The file of a family or a demo; "" of those that another package brings. Nothing is imported."""
    found = find_spec(package) if name else None
    places = found.submodule_search_locations if found is not None else None
    return f"`{folder}/{name}.py`" if any((Path(place) / f"{name}.py").is_file() for place in places or ()) else ""


def fact_table(spec: ModelSpec) -> str:
    """`fact_rows` as Markdown."""
    return "\n".join(["| fact | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in fact_rows(spec).items())])


def training_data(hub_id: str) -> str:
    """A paragraph: mteb's tasks whose data the model was trained on; "" where mteb does not say."""
    seen = trained_on(hub_id)
    if seen is None:
        return ""
    tasks = ", ".join(seen) or "none of mteb's tasks"
    also = " Figures on these are not zero-shot." if seen else ""
    return f"Training data, as the registry of {source()} records it: {tasks}.{also}"


def read_facts(card: str) -> dict[str, str]:
    """The fact table of a card's text: `fact_rows` of its spec, if the card is not stale.

    Raises:
        InvalidCardError: no block between the markers.
    """
    block = find(card, "facts")
    if block is None:
        raise InvalidCardError(
            "the card has no `<!-- facts:start … facts:end -->` block; run python -m zoo.publishing.cards"
        )
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", block, re.MULTILINE)
    return {row: value for row, value in rows if row not in ("fact", "---")}


def paper_url(paper: str) -> str:
    """Where to read it: "arxiv:2103.00020" → its arXiv page; anything else is taken for a URL."""
    return f"https://arxiv.org/abs/{paper.removeprefix('arxiv:')}" if paper.startswith("arxiv:") else paper


def summary(spec: ModelSpec, *, weights: bool | None = None) -> str:
    """One sentence on what goes in and what comes out.

    Args:
        weights: whether it has trained ones; by default, whether the spec says where they are.
    """
    what = {
        frozenset({"text"}): "Text embedder",
        frozenset({"image"}): "Image encoder",
        frozenset({"image", "text"}): "Dual tower for images and texts in one space",
        frozenset({"audio"}): "Audio encoder",
        frozenset({"audio", "text"}): "Dual tower for audio and texts in one space",
    }.get(spec.modalities, "Embedder of " + ", ".join(sorted(spec.modalities)))
    if spec.format:
        more = {"video": "videos", "audio": "audio", "regions": "regions of images"}
        *others, last = ["texts", "images", *(words for kind, words in more.items() if kind in spec.modalities)]
        what = f"Vision-language embedder: one backbone reads {', '.join(others)} and {last}"
        what += ", alone or together" if spec.format.mixed else ""
    if not (bool(spec.hub_id or spec.packaged or spec.recipe) if weights is None else weights):
        return f"{what}, tiny and with random weights: it exists for tests and for writing code without a network."
    if spec.similarity == "maxsim":
        return f"{what}; a vector of {spec.dim} numbers for every token, unit length, compared by late interaction."
    length = "with their norms, compared by dot product" if spec.similarity == "dot" else "unit length"
    return f"{what}{'; ' if spec.format else ': '}vectors of {spec.dim} numbers, {length}."


def usage(spec: ModelSpec, opened: str | None = None) -> str:
    """The shortest program that embeds with this model.

    Args:
        opened: what `load_model` is given; by default the registered name.
    """
    if opened is None and spec.recipe:
        opened = f"./{spec.trained_folder}"
    opener = "build_model" if opened is None and not spec.hub_id and not spec.packaged else "load_model"
    composed = spec.format is not None and spec.format.mixed
    pointed = ["Box"] if "regions" in spec.modalities else []
    together = "audio+video" in spec.targets
    imported = ", ".join(sorted([opener, *(["Item"] if composed or together else []), *pointed]))
    lines = [f"from zoo import {imported}", "", f'model = {opener}("{opened or spec.name}")']
    if spec.modalities == {"image"}:
        return "\n".join(["from pathlib import Path", "", *lines, 'model.encode([Path("cat.jpg"), Path("dog.jpg")])'])
    if spec.modalities == {"video"}:
        return "\n".join(
            ["from pathlib import Path", "", *lines, 'model.encode([Path("clip.mp4"), Path("video.webm")])']
        )
    if spec.modalities == {"audio"}:
        return "\n".join(["from pathlib import Path", "", *lines, 'model.encode([Path("bark.wav"), Path("rain.mp3")])'])
    if spec.modalities == {"audio", "text"}:
        lines += [
            'audio = model.encode([Path("bark.wav"), Path("rain.mp3")])',
            'texts = model.encode(["a dog barks", "rain on a roof"])',
            "model.similarity(texts, audio)",
        ]
        return "\n".join(["from pathlib import Path", "", *lines])
    if spec.modalities == {"text", "video"}:
        lines += [
            'videos = model.encode([Path("clip.mp4"), Path("video.webm")])',
            'texts = model.encode(["a dog runs over a meadow", "somebody cuts bread"])',
            "model.similarity(texts, videos)",
        ]
        return "\n".join(["from pathlib import Path", "", *lines])
    if together:
        lines += [
            'videos = model.encode([Path("clip.mp4"), Path("video.webm")])  # without their audio',
            'model.similarity(model.encode(["a dog runs over a meadow"], against="video"), videos)',
            'both = model.encode(Item(video=Path("clip.mp4"), audio=Path("clip.mp4")))',
            'model.similarity(model.encode(["a dog barks at a fence"]), both)',
            'model.similarity(model.encode(["a dog barks"], against="audio"), model.encode(Path("bark.wav")))',
        ]
        return "\n".join(["from pathlib import Path", "", *lines])
    if spec.modalities == {"text"}:
        documents = '["Paris is the capital of France.", "Bread is baked."]'
        lines += [
            'query = model.encode_query("what is the capital of France?")',
            f"documents = model.encode_document({documents})",
            "model.similarity(query, documents)",
        ]
        return "\n".join(lines)
    if composed:
        video = ', Path("clip.mp4")' if "video" in spec.modalities else ""
        lines += [
            'query = model.encode_query(Item(text="the same in blue", image=Path("dress.jpg")))',
            f'documents = model.encode_document(["a blue dress", Path("blue.jpg"){video}])',
            "model.similarity(query, documents)",
            "",
            "# Another task is another instruction.",
            'model.encode("a dress for a wedding", prompt="Find a photo of what is described.")',
        ]
        if pointed:
            lines += [
                "",
                "# What lies in a box, in pixels of the upright image, among captions.",
                'place = Item(image=Path("dress.jpg"), regions=[Box(8, 4, 48, 36)])',
                'model.rank(place, ["a bag on her arm", "a pair of red shoes"])',
            ]
        return "\n".join(["from pathlib import Path", "", *lines])
    if spec.format:
        lines += [
            'queries = model.encode_query(["what was sold in 2023?"])',
            'pages = model.encode_document([Path("page1.png"), Path("page2.png")])',
            "model.similarity(queries, pages)",
        ]
        return "\n".join(["from pathlib import Path", "", *lines])
    lines += [
        'images = model.encode([Path("cat.jpg"), Path("dog.jpg")])',
        'texts = model.encode(["a photo of a cat", "a photo of a dog"])',
        "model.similarity(texts, images)",
    ]
    if "regions" in spec.targets:
        lines += [
            "",
            "# What lies in a box, in pixels of the upright image; texts have another vector against regions.",
            'places = model.encode_regions(Path("cat.jpg"), [Box(8, 4, 48, 36)])',
            'model.similarity(model.encode(["a white paw"], against="regions"), places)',
        ]
    return "\n".join(["from pathlib import Path", "", *lines])
