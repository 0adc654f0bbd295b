"""The registry: models by name, as facts, as shapes with random weights, and loaded."""

import difflib
import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.arguments import checked, dtype_or_auto, flag, one_of, optional, path, text, texts, whole
from zoo.arguments import device as device_here
from zoo.errors import UnknownModelError, UnrecognisedCheckpointError
from zoo.plugins import discover
from zoo.spec import MODALITIES, NAME, Modality, ModelSpec, check_names

if TYPE_CHECKING:
    import torch

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
    model = _BUILDERS[name](spec)
    check_promise(spec, model.spec, f"the builder of {name}")
    model.spec = spec
    return model.eval()


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


@checked(
    name_or_path=path,
    device=optional(device_here),
    dtype=optional(dtype_or_auto),
    revision=optional(text),
    trust_remote_code=flag,
    allow_pickle=flag,
    like=optional(text),
    ignore=texts,
    truncation=optional(one_of("text", "reference")),
)
def load_model(
    name_or_path: str | Path,
    *,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | str | None" = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    like: str | None = None,
    ignore: Sequence[str] = (),
    truncation: 'Literal["text", "reference"] | None' = None,
) -> "Embedder":
    """A model with its weights, ready to `encode`.

    Args:
        name_or_path: a registered name; "open_clip:<arch>/<tag>"; "timm:<name>"; "hf:<org>/<repo>[@revision]"; a
            folder as pathlib.Path or as a string that begins with "./", "../", "/" or "~".
        device: "cuda", "cpu", ...; by default a GPU where there is one (CUDA, then Apple's "mps"), else the CPU.
        dtype: of the weights, torch's or by its name ("bfloat16"); by default float32. "auto" takes bfloat16 where a short trial finds it faster.
        revision: branch, tag or full commit on the Hub; by default the registered one, else the newest.
        trust_remote_code: allow a repository to run its own Python code; asks for a full commit as revision.
        allow_pickle: allow weights that are not safetensors.
        like: a registered name whose prompt, positions and pooling a vision-language checkpoint was trained with; for
            folders and repositories, whose files do not say it. In one string: "hf:org/repo like gme-qwen2vl-2b".
        ignore: settings of the checkpoint's files to read as if they were not there, of those that an UnreadSettingError
            named; a nested one with dots, "text_config.foo".
        truncation: what a vision-language model cuts off a sequence over its `max_tokens` (see `zoo.reading.Reading`): by
            default the end of the last text, so that the prompt's own end stays; "reference" the end of the sequence, as the
            authors' code does. Vectors differ; fingerprints too.

    Raises:
        ArgumentError: an argument of another type, or a device that is not here; nothing has been opened.
        UnreadSettingError: a file of the checkpoint has a setting that the zoo does not follow.
        UnknownModelError, UnrecognisedCheckpointError, MissingWeightsError, UnsafeCheckpointError, HubError.
        Weights are never silently random. ValueError: no such `truncation`, or the model reads no such sequences.
    """
    import torch

    from zoo import hub

    if like is None and isinstance(name_or_path, str) and LIKE in name_or_path:
        name_or_path, _, like = name_or_path.rpartition(LIKE)
    known = like or (name_or_path if isinstance(name_or_path, str) else "")
    if truncation is not None and is_registered(known):
        _truncated(get_spec(known), truncation)  # refused before anything is fetched
    device = torch.device(device or best_device())
    if dtype == "auto":
        from zoo.precision import fastest_dtype

        dtype = fastest_dtype(str(device))
    model = hub.open_model(
        name_or_path,
        revision=revision,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        like=like,
        dtype=dtype,
        ignore=ignore,
    )
    if truncation is not None:
        model.spec = _truncated(model.spec, truncation)
        for tower in model.towers:
            tower.encoder.reading = model.spec.reading
    return model.to(device=device, dtype=dtype or torch.float32).eval()


def best_device() -> str:
    """The device that models are put on where none is asked for: CUDA's first, then Apple's, then the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _truncated(spec: ModelSpec, how: str) -> ModelSpec:
    """The facts of a model that reads over-long sequences otherwise; the reading is part of the fingerprint."""
    from dataclasses import replace

    if spec.reading is None:
        raise ValueError(
            f"truncation={how!r} is for vision-language models, whose prompt goes on behind the text; {spec.name} has no such "
            "prompt: leave it out"
        )
    return replace(spec, reading=replace(spec.reading, truncation=how))
