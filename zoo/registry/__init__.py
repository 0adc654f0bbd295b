"""The registry: models by name, as facts, and as shapes with random weights; knows no files (see `zoo.loading`)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.arguments import checked, flag, one_of, optional, text, whole
from zoo.errors import UnknownModelError, UnrecognisedCheckpointError
from zoo.modalities import MODALITIES, Modality
from zoo.registry.absent import why_absent
from zoo.registry.names import TEST as TEST
from zoo.registry.names import Names, is_of_kind
from zoo.sequences import check_marked, pooling_of
from zoo.spec import ModelSpec, check_names

if TYPE_CHECKING:
    from zoo.embedder import Embedder

Builder = Callable[[ModelSpec], "Embedder"]
Facts = dict[str, Any]  # some of a model's, those that a backbone or a family has in common
LIKE = " like "  # between a checkpoint and the registered model that it is read like
PREFIXES = ("open_clip:", "timm:", "hf:")
MODELS: Names[ModelSpec] = Names(ModelSpec, "models", "model")


def register_model(**facts: Any) -> Callable[[Builder], Builder]:
    """Registers the decorated builder as a model; the facts are those of `ModelSpec`.

    As in timm, a function's name is the model's: `clip_test` registers "clip-test". A name that Python cannot spell,
    "bge-small-en-v1.5", is given as `name`.

    Raises:
        ArgumentError: a fact is unknown, missing or of another type.
        ValueError: the name is taken or badly spelled, or a fact is wrong.
    """
    check_names({"name": "", **facts})
    check_marked(facts.get("media"), facts.get("format"), facts.get("prompts"))
    return MODELS.register(**facts)


@checked(
    pattern=text,
    modality=optional(one_of(*MODALITIES)),
    max_params=optional(whole(0)),
    license=optional(text),
    language=optional(text),
    tests=flag,
)
def list_models(
    pattern: str = "*",
    *,
    modality: Modality | None = None,
    max_params: int | None = None,
    license: str | None = None,
    language: str | None = None,
    tests: bool = False,
) -> list[str]:
    """Registered names, sorted, that match all conditions.

    Args:
        pattern: shell pattern ("siglip2-*"). modality: it must read this.
        tests: also the `*-test` models, which have random weights; a pattern that ends in "-test" asks for them too.
        max_params: largest number of weights. license: shell pattern of the licence ("apache*").
        language: it was trained on texts in this one (ISO 639-1, "zh"), or in many.
    """
    conditions = {"modality": modality, "max_params": max_params, "license": license, "language": language}
    return MODELS.listed(pattern, tests=tests, **conditions)


def is_registered(name: str) -> bool:
    """Whether a model is called so, one for tests too."""
    return name in MODELS


@checked(name=text)
def get_spec(name: str) -> ModelSpec:
    """The facts of a registered model.

    Raises:
        UnknownModelError: no such name; the message gives the nearest ones.
    """
    if name in MODELS:
        return MODELS[name]
    if "/" in name or "\\" in name:
        clean = name.removeprefix("./")
        raise UnknownModelError(
            f"{name!r} looks like a path or a Hub repository, not a registered name. Write "
            f'"hf:{clean}" for the Hub, or "./{clean}" (or pathlib.Path) for a folder'
        )
    if why := why_absent(name):
        raise UnknownModelError(f"no model is called {name!r}: {why}")
    if is_of_kind(name, "rerankers"):
        raise UnknownModelError(f"{name} is a reranker, which gives scores and no vectors: zoo.load_reranker opens it")
    near = MODELS.nearest(name)
    hint = f"nearest: {', '.join(near)}" if near else "list_models() gives all names"
    if "rerank" in name.lower() or name.startswith("ms-marco"):
        hint = f"rerankers, which give scores and no vectors, are opened by zoo.load_reranker; {hint}"
    raise UnknownModelError(f"no model is called {name!r}; {hint}. Any other: {', '.join(p + '…' for p in PREFIXES)}")


def spec_of_repository(repo: str) -> ModelSpec | None:
    """The facts of the first registered model that is published as this Hub repository, None without one."""
    return MODELS.published_as(repo)


@checked(name=text)
def build_model(name: str) -> "Embedder":
    """The shape of a registered model with random weights; needs no network. For pretrained weights: `load_model`.

    Its spec is the registered one, whatever spec the builder gave it.

    Raises:
        UnknownModelError: no such name. UnrecognisedCheckpointError: the towers do not give what the facts promise.
    """
    spec = get_spec(name)
    model = shape_of(spec)
    check_promise(spec, model.spec, f"the builder of {name}")
    model.spec = spec
    return model.eval()


def shape_of(spec: ModelSpec) -> "Embedder":
    """What the builder that is registered under the name of these facts makes of them.

    Raises:
        UnknownModelError: none is. UnrecognisedCheckpointError: its tower pools otherwise than the facts say.
    """
    get_spec(spec.name)
    builder = MODELS.builder(spec.name)
    model = builder(spec)
    if not hasattr(model, "towers"):
        raise UnrecognisedCheckpointError(
            f"the builder of {spec.name} ({builder.__module__}) gives a {type(model).__name__}; it must return an Embedder"
        )
    read = [tower.pooler for tower in model.towers if spec.format is None or getattr(tower.encoder, "format", None)]
    found = {type(pooler).__name__ if spec.format is None else pooling_of(pooler) for pooler in read}
    if spec.pooling and found != {spec.pooling}:
        raise UnrecognisedCheckpointError(
            f"{spec.name} is registered with pooling {spec.pooling!r}; its builder pools by {sorted(found)}"
        )
    if wrong := [t for t in model.towers if getattr(t.encoder, "pool_prompt", spec.pool_prompt) != spec.pool_prompt]:
        raise UnrecognisedCheckpointError(
            f"{spec.name} is registered with pool_prompt={spec.pool_prompt}; the encoder of its builder has {not spec.pool_prompt}, in "
            f"{len(wrong)} of its towers"
        )
    if (found := {name for tower in model.towers for name in tower.outputs}) != set(spec.outputs):
        raise UnrecognisedCheckpointError(
            f"{spec.name} is registered with outputs {sorted(spec.outputs)}; its builder gives {sorted(found)}"
        )
    return model


def check_promise(spec: ModelSpec, found: ModelSpec, what: str) -> None:
    """Raises UnrecognisedCheckpointError where a model is not what is registered under its name.

    Args:
        spec: the registered facts. found: those of what was built or loaded. what: says so in the message.
    """
    if found.dim != spec.dim or not spec.modalities <= found.modalities:
        raise UnrecognisedCheckpointError(
            f"{spec.name} should give {spec.dim} columns for {sorted(spec.modalities)}; {what} gives {found.dim} for "
            f"{sorted(found.modalities)}"
        )
