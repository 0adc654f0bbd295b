"""The registry: models by name, as facts, and as shapes with random weights; knows no files (see `zoo.loading`)."""

import difflib
import fnmatch
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.arguments import checked, flag, one_of, optional, text, whole
from zoo.errors import UnknownModelError, UnrecognisedCheckpointError
from zoo.modalities import MODALITIES, Modality
from zoo.plugins import discover
from zoo.sequences import pooling_of
from zoo.spec import NAME, ModelSpec, check_names

if TYPE_CHECKING:
    from zoo.embedder import Embedder

Builder = Callable[[ModelSpec], "Embedder"]
Facts = dict[str, Any]  # some of a model's, those that a backbone or a family has in common
_SPECS: dict[str, ModelSpec] = {}
_BUILDERS: dict[str, Builder] = {}
LIKE = " like "  # between a checkpoint and the registered model that it is read like
TEST = "-test"  # names of models with random weights, which tests are made with, end so
PREFIXES = ("open_clip:", "timm:", "hf:")


def register_model(**facts: Any) -> Callable[[Builder], Builder]:
    """Registers the decorated builder as a model; the facts are those of `ModelSpec`.

    As in timm, a function's name is the model's: `clip_test` registers "clip-test". A name that Python cannot spell,
    "bge-small-en-v1.5", is given as `name`.

    Raises:
        ArgumentError: a fact is unknown, missing or of another type.
        ValueError: the name is taken or badly spelled, or a fact is wrong.
    """
    check_names({"name": "", **facts})

    def register(builder: Builder) -> Builder:
        said = {"name": builder.__name__.replace("_", "-"), "family": builder.__module__.rpartition(".")[2]}
        spec = ModelSpec(**{**said, **facts})
        if not NAME.fullmatch(spec.name):
            raise ValueError(f"{spec.name!r} is no model name: lower case letters, digits, hyphens and dots")
        if spec.name in _SPECS:
            raise ValueError(f"{spec.name} is registered twice")
        _SPECS[spec.name], _BUILDERS[spec.name] = spec, builder
        return builder

    return register


def _import_models() -> None:
    # Dropping a file into models/ is enough; so is the entry point of a package that is installed.
    discover("models", "zoo.models")


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
    _import_models()
    return sorted(
        name
        for name, spec in _SPECS.items()
        if fnmatch.fnmatchcase(name, pattern)
        and (tests or pattern.endswith(TEST) or not name.endswith(TEST))
        and (modality is None or modality in spec.modalities)
        and (max_params is None or spec.params <= max_params)
        and (language is None or {language.lower(), "multilingual"} & set(spec.languages))
        and (license is None or fnmatch.fnmatchcase(spec.license.lower(), license.lower()))
    )


def is_registered(name: str) -> bool:
    """Whether a model is called so, one for tests too."""
    _import_models()
    return name in _SPECS


@checked(name=text)
def get_spec(name: str) -> ModelSpec:
    """The facts of a registered model.

    Raises:
        UnknownModelError: no such name; the message gives the nearest ones.
    """
    _import_models()
    if name in _SPECS:
        return _SPECS[name]
    if "/" in name or "\\" in name:
        clean = name.removeprefix("./")
        raise UnknownModelError(
            f"{name!r} looks like a path or a Hub repository, not a registered name. Write "
            f'"hf:{clean}" for the Hub, or "./{clean}" (or pathlib.Path) for a folder'
        )
    wanted = name.lower()
    offered = list_models(tests=wanted.endswith(TEST))
    begins = [known for known in offered if wanted and known.startswith(wanted)]
    near = list(dict.fromkeys([*begins[:4], *difflib.get_close_matches(wanted, offered, n=4, cutoff=0.4)]))[:4]
    near = near or [known for known in offered if wanted.split("-")[0] in known][:4]
    hint = f"nearest: {', '.join(near)}" if near else "list_models() gives all names"
    raise UnknownModelError(f"no model is called {name!r}; {hint}. Any other: {', '.join(p + '…' for p in PREFIXES)}")


def spec_of_repository(repo: str) -> ModelSpec | None:
    """The facts of the first registered model that is published as this Hub repository, None without one."""
    _import_models()
    return next((spec for _, spec in sorted(_SPECS.items()) if spec.hub_id == repo), None)


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
    model = _BUILDERS[spec.name](spec)
    if spec.pooling and (found := {pooling_of(tower.pooler) for tower in model.towers}) != {spec.pooling}:
        raise UnrecognisedCheckpointError(
            f"{spec.name} is registered with pooling {spec.pooling!r}; its builder pools by {sorted(found)}"
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
