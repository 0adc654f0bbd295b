"""sentence-transformers: modules.json that names built-in modules only."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoo.encoders.sequence.backbones import Backbone, backbone_of, check_dtype
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats import TOKENIZER_FILES, read_json, read_object, weight_files
from zoo.formats.backbones import check_text
from zoo.formats.checks import config_schema
from zoo.formats.checks.folder import check_folder
from zoo.formats.dense_heads import with_dim
from zoo.formats.known import sentence_transformers as known
from zoo.formats.layout import Layout, Opening, no_towers, register_layout
from zoo.formats.model2vec import table_of
from zoo.formats.output_heads import check_pickles, output_files, read_outputs
from zoo.formats.settings import Ignore, Table, read
from zoo.formats.tensors import read_tensors
from zoo.formats.transformers import DUAL, PICKLES, load_dual, load_text, positions_of, refuse_code, text_spec
from zoo.sequences import pooling_of
from zoo.spec import LONGEST_PROMPT, Similarity
from zoo.strangers.schema import check_keys

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.embedder import Embedder
    from zoo.encoders.base import Encoder
    from zoo.encoders.text import TransformersText

MODULES, SETTINGS, FIRST = known.MODULES_FILE, known.SETTINGS_FILE, known.FIRST
TABLES = {
    "Pooling": known.POOLING,
    "Dense": known.DENSE,
    "LayerNorm": known.LAYER_NORM,
    "Normalize": known.NORMALIZE,
    "Dropout": known.DROPOUT,
}
AFTER = tuple(TABLES)
LOOKED_FOR = f"sentence-transformers: modules.json with {', '.join((*FIRST, *AFTER))}"
# Flags of an old 1_Pooling/config.json, and names of a new one → our poolers.
POOLERS = {
    "cls": "Cls",
    "max": "Max",
    "mean": "Mean",
    "mean_sqrt_len_tokens": "MeanSqrtLength",
    "weightedmean": "WeightedMean",
    "lasttoken": "LastToken",
}
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@register_layout
class SentenceTransformers(Layout):
    """Modules in a row, as sentence-transformers writes them."""

    name = "sentence-transformers"
    order = 20
    looked_for = LOOKED_FOR
    told = frozenset({"attention", "similarity", "sequence"})
    drops_towers = True
    read_text: Callable[..., "TransformersText"] = staticmethod(load_text)  # what reads the backbone of a first module

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether sentence-transformers wrote these files."""
        return MODULES in names

    def files(self, names: set[str]) -> list[str]:
        """Small files everywhere, and one set of weights a folder (ONNX, OpenVINO and TensorFlow copies stay after)."""
        small = {n for n in names if PurePosixPath(n).name in TOKENIZER_FILES or n.endswith((".json", ".py"))}
        folders = {str(PurePosixPath(n).parent) for n in names if n.endswith(("model.safetensors", *PICKLES))}
        weights: set[str] = set()
        for folder in folders:
            weights.update(weight_files(names, "model", PICKLES, "" if folder == "." else folder))
        return sorted(
            n for n in small | weights | set(output_files(names).values()) if not n.startswith(("onnx", "openvino"))
        )

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses the backbone by its config.json, where that lies in the root, and pickles beside it."""
        check_pickles(names, where, opening.allow_pickle)
        refuse_code(config, where, opening.trust_remote_code)
        if isinstance(config, dict):
            check_dtype(str(config.get("model_type")), opening.dtype)
        check_text(config, where, opening.ignore, opening.attention)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """The modules in order: an encoder, its pooling, and dense layers as the head."""
        from zoo.embedder import Embedder, Tower
        from zoo.heads import DenseStack

        _check_kind(folder)
        rows = config_schema.check_modules(read_json(folder / MODULES), str(folder / MODULES))
        for row in rows:
            read(row, known.MODULES, folder / MODULES, opening.ignore)
        modules = with_dim([_module(row, folder) for row in rows], opening.dim, folder)
        settings = _read(folder / SETTINGS, known.SETTINGS, opening.ignore)
        check_keys(settings, config_schema.SETTINGS, str(folder / SETTINGS))
        similarity = settings.get("similarity_fn_name") or opening.similarity
        prompts = prompts_of(settings, folder / SETTINGS)
        if not modules or modules[0][0] not in FIRST:
            raise UnrecognisedCheckpointError(f"{folder / MODULES} must begin with one of {', '.join(FIRST)}")
        kind, path = modules[0]
        backbone = read_object(path / "config.json").get("model_type") if kind == "Transformer" else None
        if isinstance(backbone, str) and (family := backbone_of(backbone)).sentence is not None:
            return _sequenced(path, folder, family, opening, modules[1:], similarity, prompts, settings)
        if opening.towers is not None:
            raise no_towers(str(folder))
        if opening.like is not None and opening.like.format is not None:
            raise UnrecognisedCheckpointError(
                f"{folder} says itself how it is read (sentence-transformers); open it without like={opening.like.name!r}"
            )
        if kind == "CLIPModel" or backbone in DUAL:
            if any(after != "Normalize" for after, _ in modules[1:]):
                raise UnrecognisedCheckpointError(f"{folder / MODULES}: a dual encoder followed by more than Normalize")
            first = _first(path, known.DUAL_TRANSFORMER, opening.ignore)
            model = load_dual(path, name=opening.name, allow_pickle=opening.allow_pickle, ignore=opening.ignore)
            _check_processing(first.get("processing_kwargs"), model, path, opening.ignore)
            model.spec = replace(model.spec, similarity=similarity, **prompts)
            if similarity == "dot" and modules[1:]:
                for tower in model.towers:
                    tower.head = DenseStack([{"kind": "normalize"}])
            return _cut(model, settings.get("truncate_dim"), folder / SETTINGS)
        encoder = (
            _static(path, opening.allow_pickle, opening.ignore)
            if kind == "StaticEmbedding"
            else _transformer(path, folder, opening, self.read_text)
        )
        if opening.like is not None and opening.like.format is None and hasattr(encoder, "pool_prompt"):
            encoder.pool_prompt = opening.like.pool_prompt  # where the pooling's own settings do not say it
        pooler, head, dim = _after(modules[1:], encoder, folder, opening.allow_pickle, similarity, opening.ignore)
        pooler = _refined(pooler, opening)
        outputs = read_outputs(folder, encoder, path, opening.allow_pickle) if kind == "Transformer" else {}
        facts = {"similarity": similarity, "attention": opening.attention, "outputs": tuple(outputs), **prompts}
        model = Embedder(text_spec(opening.name, encoder, dim, **facts), [Tower(encoder, pooler, head, outputs)])
        return _cut(model, settings.get("truncate_dim"), folder / SETTINGS)


def _sequenced(
    path: Path,
    folder: Path,
    family: Backbone,
    opening: Opening,
    after: list[tuple[str, Path]],
    similarity: Similarity,
    prompts: dict[str, Any],
    settings: dict[str, Any],
) -> "Embedder":
    """A model whose first module reads text and media as one sequence."""
    from zoo.embedder import Embedder, Tower
    from zoo.formats.sentence_sequences import open_encoder

    first = _first(path, known.SEQUENCE_TRANSFORMER, opening.ignore)
    file = next((path / name for name in known.TRANSFORMER_FILES if (path / name).is_file()), path)
    limit = first.get("max_seq_length")
    if limit is not None and not (isinstance(limit, int) and 0 < limit < 1 << 62):
        raise UnrecognisedCheckpointError(f"{file}: max_seq_length is {limit!r}, not a number of tokens")
    encoder, spec = open_encoder(path, first, family, opening, file)
    pooler, head, dim = _after(after, encoder, folder, opening.allow_pickle, similarity, opening.ignore)
    dims = tuple(cut for cut in spec.dims if cut <= dim) if opening.like is not None and dim == opening.like.dim else ()
    facts = {"dim": dim, "dims": dims, "pooling": pooling_of(pooler), "similarity": similarity, **prompts}
    try:
        spec = replace(spec, **facts)
    except ValueError as error:
        raise UnrecognisedCheckpointError(f"{folder / MODULES}: {error}") from error
    if opening.like is not None and spec.pooling != opening.like.pooling:
        raise UnrecognisedCheckpointError(
            f"{folder / MODULES} pools by {spec.pooling!r}, {opening.like.name} by {opening.like.pooling!r}; open it without `like`"
        )
    model = Embedder(spec, [Tower(encoder, pooler, head)])
    model.spec = replace(spec, params=sum(p.numel() for p in model.parameters()))
    return _cut(model, settings.get("truncate_dim"), folder / SETTINGS)


def _check_kind(folder: Path) -> None:
    """Raises UnrecognisedCheckpointError where sentence-transformers' files are of another kind of model."""
    file = folder / SETTINGS
    kind = read_object(file).get("model_type", "SentenceTransformer") if file.is_file() else "SentenceTransformer"
    if kind != "SentenceTransformer":
        hint = "; zoo.load_reranker opens rerankers" if kind == "CrossEncoder" else ""
        raise UnrecognisedCheckpointError(f"{folder} is a {kind!r}, not an embedding model{hint}")


def _check_processing(calls: Any, model: "Embedder", where: Path, ignore: Ignore) -> None:
    """Raises UnreadSettingError where texts or images of a dual encoder would be prepared otherwise than the zoo does."""
    ours: dict[str, dict[str, Any]] = {"text": {"truncation": True}, "image": {}}
    for tower in model.towers:
        if "text" in tower.encoder.modalities:
            ours["text"] |= {"padding": "max_length", "max_length": tower.encoder.max_tokens}
        elif hasattr(tower.encoder, "patches"):
            ours["image"] = {"max_num_patches": tower.encoder.patches}
    if not isinstance(calls or {}, dict) or any(
        not isinstance(call, dict) or not call.items() <= ours.get(part, {}).items()
        for part, call in (calls or {}).items()
    ):
        ignore.refuse(where, "processing_kwargs", calls, f"the zoo prepares texts and images by {ours}")


def _cut(model: "Embedder", dim: int | None, where: Path) -> "Embedder":
    """The model whose vectors are the first `dim` dimensions, as sentence-transformers' truncate_dim says."""
    from zoo.heads import DenseStack

    if dim is None or dim >= model.spec.dim:
        return model
    if dim < 1:
        raise UnrecognisedCheckpointError(
            f"{where}: truncate_dim is {dim}; vectors have 1 to {model.spec.dim} dimensions"
        )
    for tower in model.towers:
        before = getattr(tower.head, "layers", ())
        head = DenseStack([*getattr(tower.head, "specs", ()), {"kind": "cut", "dim": dim}])
        for position, layer in enumerate(before):
            head.layers[position] = layer
        tower.head = head
    model.spec = replace(model.spec, dim=dim, dims=(dim,))
    return model


def prompts_of(settings: dict[str, Any], file: Path) -> dict[str, Any]:
    """The facts of a spec about prompts. An empty one is a prompt too: its role has it, and no other name counts."""
    prompts = {name: text or "" for name, text in (settings.get("prompts") or {}).items()}
    default = settings.get("default_prompt_name")
    if default in ("query", "document"):  # the library fills these two in
        prompts.setdefault(default, "")
    if default is not None and default not in prompts:
        raise UnrecognisedCheckpointError(
            f"{file}: default_prompt_name is {default!r}, but its prompts are {list(prompts)}"
        )
    if long := [name for name, text in prompts.items() if len(text) > LONGEST_PROMPT]:
        raise UnrecognisedCheckpointError(
            f"{file}: the prompt {long[0][:60]!r} has {len(prompts[long[0]]):,} characters; at most {LONGEST_PROMPT:,}"
        )
    return {"prompts": prompts, "default_prompt_name": default}


def _module(entry: dict[str, Any], folder: Path) -> tuple[str, Path]:
    dotted, place = str(entry.get("type", "")), str(entry.get("path", ""))
    name = dotted.rpartition(".")[2]
    if not dotted.startswith("sentence_transformers."):
        raise UnsafeCheckpointError(
            f"{folder / MODULES} asks for the class {dotted}, code that the zoo does not run; it reads built-in modules only"
        )
    if name not in (*FIRST, *AFTER):
        raise UnrecognisedCheckpointError(f"{folder / MODULES}: the module {name} is not supported; {LOOKED_FOR}")
    path = folder / place
    if path != folder and path.is_dir():
        check_folder(path, root=folder)
    return name, path


def _read(file: Path, table: Table, ignore: Ignore) -> dict[str, Any]:
    """The settings of a file, {} where there is none."""
    return read(read_object(file), table, file, ignore) if file.is_file() else {}


def _first(path: Path, table: Table, ignore: Ignore) -> dict[str, Any]:
    """The settings of the first module, under whichever of its names the file is there."""
    file = next((path / name for name in known.TRANSFORMER_FILES if (path / name).is_file()), None)
    return _read(file, table, ignore) if file else {}


def _transformer(path: Path, root: Path, opening: Opening, read_text: Callable[..., "TransformersText"]) -> "Encoder":
    settings = _first(path, known.TRANSFORMER, opening.ignore)
    limit = settings.get("max_seq_length")
    if limit is not None and not (isinstance(limit, int) and 0 < limit < 1 << 62):
        raise UnrecognisedCheckpointError(f"{path}: max_seq_length is {limit!r}, not a number of tokens")
    tokenizer = root if settings.get("tokenizer_name_or_path") else path
    encoder = read_text(
        path,
        allow_pickle=opening.allow_pickle,
        trust_remote_code=opening.trust_remote_code,
        lower=bool(settings.get("do_lower_case")),
        assets=tokenizer,
        max_tokens=limit,
        ignore=opening.ignore,
        attention=opening.attention,
        around=opening.around,
        closing=opening.closing,
    )
    positions = positions_of(encoder.backbone.config)
    if limit and positions and limit > positions:
        encoder.limit(positions)
    return encoder


def _static(path: Path, allow_pickle: bool, ignore: Ignore) -> "Encoder":
    from zoo.encoders.static import StaticText
    from zoo.encoders.tokenizing import open_tokenizer

    _read(path / "config.json", known.MODEL2VEC, ignore)
    table = table_of(read_tensors(path, allow_pickle), path)
    tokenizer = open_tokenizer(path, alone=True)
    longest = (tokenizer.truncation or {}).get("max_length")  # which nothing but the tokenizer's own file says
    encoder = StaticText(len(table), table.shape[1], max_tokens=longest, tokenizer=tokenizer)
    encoder.table.weight.data.copy_(table)
    return encoder


def _after(
    modules: list[tuple[str, Path]],
    encoder: "Encoder",
    folder: Path,
    allow_pickle: bool,
    similarity: Similarity,
    ignore: Ignore,
) -> tuple["nn.Module", "nn.Module", int]:
    """Pooler, head and dim of what follows the encoder."""
    from zoo import pooling
    from zoo.heads import DenseStack, Identity

    pooler: nn.Module = pooling.Mean()
    dim, layers, weights = encoder.width, [], []
    for kind, path in modules:
        settings = _read(path / "config.json", TABLES[kind], ignore)
        if kind == "Pooling":
            pooler, dim = _pooler(check_keys(settings, config_schema.POOLING, str(path)), encoder.width, path)
            if "include_prompt" in settings and hasattr(encoder, "pool_prompt"):
                encoder.pool_prompt = settings["include_prompt"] is not False
            elif settings.get("include_prompt") is False and hasattr(encoder, "format"):
                ignore.refuse(path / "config.json", "include_prompt", False, "a sequence is pooled with its prompt")
        elif kind == "Dense":
            activation = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
            check_keys(settings, config_schema.DENSE, str(path), required=True)
            dim = settings["out_features"]
            weights.append(_layer(path, (dim, settings["in_features"]), allow_pickle))
            layers.append(
                {
                    "kind": "dense",
                    "width": settings["in_features"],
                    "dim": dim,
                    "bias": settings.get("bias", True),
                    "activation": activation,
                }
            )
        elif kind == "LayerNorm":
            check_keys(settings, {"dimension": int}, str(path), required=True)
            weights.append(_layer(path, (settings["dimension"],), allow_pickle))
            layers.append({"kind": "layer_norm", "width": settings["dimension"]})
        elif kind == "Normalize":
            layers.append({"kind": "normalize"})
            weights.append(None)
    while similarity == "cosine" and layers and layers[-1]["kind"] == "normalize":
        layers.pop()  # Tower.forward normalises at the end
    if not layers:
        return pooler, Identity(), dim
    try:
        head = DenseStack(layers)
    except ValueError as error:
        raise UnrecognisedCheckpointError(f"{folder}: {error}") from error
    for layer, tensors in zip(head.layers, weights, strict=False):
        if tensors is not None:
            _fill(layer, tensors, folder)
    return pooler, head, dim


def _layer(path: Path, shape: tuple[int, ...], allow_pickle: bool) -> dict[str, "Tensor"]:
    """The tensors of one layer, which is built only where they have the shape that its settings promise."""
    tensors = read_tensors(path, allow_pickle)
    if shape not in {tuple(tensor.shape) for tensor in tensors.values()}:
        found = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:3])
        raise MissingWeightsError(f"the weights in {path} do not fit: they are {found}, its settings ask for {shape}")
    return {name.rpartition(".")[2]: tensor for name, tensor in tensors.items()}


def _fill(layer: "nn.Module", tensors: dict[str, "Tensor"], folder: Path) -> None:
    linear = layer[0] if hasattr(layer, "__getitem__") else layer
    try:
        linear.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise MissingWeightsError(f"the weights of a layer in {folder} do not fit: {reason}") from error


def _refined(pooler: "nn.Module", opening: Opening) -> "nn.Module":
    """The pooler of the registered model where it goes on from the one that the files name, which is all that they can say."""
    from zoo import pooling

    like = opening.like
    named = getattr(pooling, like.pooling, None) if like is not None and like.format is None and like.pooling else None
    return named() if named is not None and issubclass(named, type(pooler)) else pooler


def _pooler(settings: dict[str, Any], width: int, path: Path) -> tuple["nn.Module", int]:
    from zoo import pooling

    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in FLAGS.items() if settings.get(flag)]
    modes = [modes] if isinstance(modes, str) else list(modes)
    unknown = [mode for mode in modes if mode not in POOLERS]
    if unknown or not modes:
        raise UnrecognisedCheckpointError(f"{path}: pooling {unknown or modes} is not among {', '.join(POOLERS)}")
    if len(modes) == 1:
        return getattr(pooling, POOLERS[modes[0]])(), width
    return pooling.Concat([POOLERS[mode] for mode in modes]), width * len(modes)
