"""An Embedder → a folder of our own layout, opened again and compared before it takes the place of what was there."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.callers import warn
from zoo.errors import InputError, MissingWeightsError, NotSavedError, ZooError
from zoo.files import save_tensors, share
from zoo.formats import HALF_SAVED, PROCESSOR_FILES, TOKENIZER_FILES
from zoo.formats.checks.config_schema import FORMAT
from zoo.formats.quantized import KEY as QUANTIZED
from zoo.formats.zoo_native import CONFIG, MODEL_TYPE, WEIGHTS, reopened
from zoo.inputs.item import Item
from zoo.inputs.regions import Box
from zoo.registry.parts import name_of
from zoo.strangers.folders import Place

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zoo.embedder import Embedder
    from zoo.regions import RegionRule

# The same sums on the same machine; what is left is for devices that add in any order.
EXACT = {"torch.float32": 1e-5, "torch.float64": 1e-5}
HALF = 1e-2
# What other libraries would go on reading beside the new config.json.
FOREIGN = ("modules.json", "open_clip_config.json", "adapter_config.json", "certificate.json")
# Of an earlier save: read beside the new files, these would change the model.
_STALE = re.compile(r"model-\d+-of-\d+\.safetensors|model\.safetensors\.index\.json|zoo\.json")
_TEXTS = (
    "A cat sleeps on the warm windowsill.",
    "Two DOGS in the snow: 3 red boats, a café and 山の上の白い雲. " * 12,
)


def save_pretrained(model: "Embedder", folder: Path, dtype: "torch.dtype | None" = None) -> Path:
    """Writes config.json, model.safetensors and the tokenizer's files; `load_model(folder)` reads them.

    They are written aside, opened again and compared: every weight with the model's own, and the vectors of a few inputs
    (of a model without its tokenizer there are none of texts). Only then do they take the place of what is there. The
    comparison takes the memory of no second model: what was opened shares the weights.

    Args:
        dtype: floating-point type of the stored weights, e.g. torch.float16; by default as they are.

    Raises:
        NotSavedError: what was written cannot be opened, or gives other vectors; the folder is as it was.
        NotOfferedError: another `dtype` than float32 of an int8 model.
    """
    if dtype is not None and str(dtype) != "torch.float32":
        from zoo.encoders.int8 import need_float  # which loads torch

        need_float(model, f"storing it as {str(dtype).removeprefix('torch.')}")
    return replace_folder(
        folder,
        len(model.towers),
        lambda written: _write(model, written, dtype),
        lambda written: _prove(model, written, folder, dtype),
    )


def replace_folder(folder: Path, towers: int, write: Callable[[Path], None], prove: Callable[[Path], None]) -> Path:
    """All files of our layout or none: written aside, proved, and only then put in the place of what is there.

    Args:
        towers: how many folders of towers are written. write: fills an empty folder. prove: looks at what was written.

    Raises:
        NotSavedError: a file lies where the folder would. What `write` and `prove` raise; the folder is as it was.
    """
    if folder.exists() and not folder.is_dir():
        raise NotSavedError(f"{folder} is a file; save into a folder")
    _check_places(towers, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        write(temporary)
        prove(temporary)
        _move_into(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if foreign := [name for name in FOREIGN if (folder / name).exists()]:
        warn(
            f"{folder} also holds {', '.join(foreign)} of what was there before, which goes on describing that; remove "
            "it, or save into a new folder"
        )
    return folder


def _check_places(towers: int, folder: Path) -> None:
    """Raises UnsafeFolderError where a folder that files would be written into or removed from is a link: before long work."""
    place = Place.of(folder)
    (place / HALF_SAVED).is_file()
    for name in [*(f"tower{position}" for position in range(towers)), *_towers_in(place)]:
        (place / name).is_folder()


def _write(model: "Embedder", folder: Path, dtype: "torch.dtype | None") -> None:
    """All files of the layout into an empty folder."""
    places: list[str | None] = []
    for position, tower in enumerate(model.towers):
        assets = folder / f"tower{position}"
        assets.mkdir()
        tower.encoder.save_assets(assets)
        files = sorted(assets.iterdir())
        places.append(assets.name if files else None)
        if tower.encoder.assets_in_root and not any((folder / file.name).exists() for file in files):
            # The first tokenizer lies in the root, where other libraries look for it.
            for file in files:
                file.rename(folder / file.name)
            places[-1] = "." if files else None
        if not any(assets.iterdir()):
            assets.rmdir()
    write_weights(model, folder / WEIGHTS, dtype)
    config = described(model, places)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_weights(model: "nn.Module", path: Path, dtype: "torch.dtype | None") -> None:
    """All tensors of a module's state as safetensors, in another floating-point type where one is given."""
    weights, seen = {}, {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen and tensor.numel() and tensor.shape == seen[tensor.data_ptr()]:
            tensor = tensor.clone()  # tied weights are stored twice: simple, and every loader reads it
        seen[tensor.data_ptr()] = tensor.shape
        weights[name] = _stored(tensor, dtype)
    save_tensors(weights, path)


def described(model: "Embedder", places: Sequence[str | None] | None = None) -> dict[str, Any]:
    """What config.json says of a model: its facts and the parts of its towers.

    Args:
        places: where each tower's files lie in the folder; by default in a folder for each tower.
    """
    from zoo.fusion import is_default
    from zoo.regions import is_default as is_usual

    places = [f"tower{position}" for position in range(len(model.towers))] if places is None else places
    towers: list[dict[str, Any]] = []
    for tower, place in zip(model.towers, places, strict=True):
        towers.append({part: _describe(part, getattr(tower, part)) for part in ("encoder", "pooler", "head")})
        towers[-1] |= {"assets": place} if place else {}
        outputs = {name: _describe("output", head) for name, head in tower.outputs.items()}
        towers[-1] |= {"outputs": outputs} if outputs else {}
    config = {"model_type": MODEL_TYPE, "format": FORMAT, "spec": model.spec.to_dict(), "towers": towers}
    config |= {} if is_default(model.fusion) else {"fusion": _describe("fusion", model.fusion)}
    config |= {} if is_usual(model.region_rule) else {"region": _describe("region", model.region_rule)}
    config |= {} if model.logit_scale is None else {"logit_scale": model.logit_scale.to_dict()}
    measured = {pair: one.to_dict() for pair, one in sorted(model.calibration.items())}
    config |= {"calibration": measured} if measured else {}
    return config | ({} if model.quantized is None else {QUANTIZED: model.quantized.to_dict()})


def _stored(tensor: "Tensor", dtype: "torch.dtype | None") -> "Tensor":
    """A weight as the file holds it."""
    return (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).contiguous().cpu()


def _describe(role: str, part: "nn.Module | RegionRule") -> dict[str, Any]:
    cls = type(part)
    ours = re.fullmatch(
        r"zoo\.(((encoders|regions|pooling)\.[a-z0-9_]+|pooling|heads|outputs|fusion):[A-Z][A-Za-z0-9]*)",
        f"{cls.__module__}:{cls.__name__}",
    )
    kind = name_of(cls) or (ours[1] if ours else None)
    if kind is None:
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__} cannot be saved: no name calls for it when the model is opened again; register "
            f'it with @zoo.registry.parts.register_part("{role}", "your-package:YourClass") in a module that is an entry point zoo.encoders'
        )
    return {"kind": kind, **(part.config() if hasattr(part, "config") else {})}


# ----------------------------------------------------------------------------------------------------------- the proof


def _prove(model: "Embedder", written: Path, folder: Path, dtype: "torch.dtype | None") -> None:
    """Opens what was written and compares it with the model; raises NotSavedError where they differ."""
    import torch

    from zoo.embedder.cutting import unsaid  # which loads torch

    said = f"{folder} was not written"
    state = model.state_dict()
    with torch.random.fork_rng():  # a training run that saves in between goes on in the same bits
        try:
            again = reopened(written, model)
        except ZooError as error:
            raise NotSavedError(f"{said}: what was to be saved cannot be opened again: {error}") from error
        if again.spec != model.spec:
            mine, other = model.spec.to_dict(), again.spec.to_dict()
            facts = sorted(key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key))
            raise NotSavedError(f"{said}: opened again, the model has other facts: {', '.join(facts)}")
        if again.logit_scale != model.logit_scale:
            raise NotSavedError(f"{said}: opened again, the model has another logit_scale: {again.logit_scale}")
        if again.calibration != model.calibration:
            raise NotSavedError(f"{said}: opened again, the model has another calibration: {again.calibration}")
        if changed := changed_weight(written / WEIGHTS, state, dtype):
            raise NotSavedError(f"{said}: the file holds other weights than the model: {changed}")
        allowed = EXACT.get(str(next(iter(model.parameters())).dtype), HALF)
        for name, item in samples(model):
            try:
                with unsaid(model):
                    expected = model.encode(item, progress=False)
            except (InputError, MissingWeightsError):
                continue  # not read by this model, or built without its tokenizer
            with unsaid(again):
                found = again.encode(item, progress=False)
            longest = max(1.0, float(expected.norm(dim=-1).max()))  # vectors of the inner product keep their norms
            if found.shape != expected.shape or not float((found - expected).abs().max()) <= allowed * longest:
                raise NotSavedError(f"{said}: opened again, the model gives another vector of {name}")


def changed_weight(path: Path, state: "Mapping[str, Tensor]", dtype: "torch.dtype | None") -> str:
    """The first weight that a file holds otherwise than the model, "" where all are equal; one at a time."""
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        for name, tensor in state.items():
            if not torch.equal(file.get_tensor(name), _stored(tensor.detach(), dtype)):
                return name
    return ""


def samples(model: "Embedder") -> Iterator[tuple[str, Item]]:
    """A few inputs, named, of whatever the towers read; a model may still refuse one."""
    image = np.arange(64 * 48 * 3, dtype=np.uint64) * 2654435761 % 4294967296 >> 24
    image = image.astype(np.uint8).reshape(64, 48, 3)
    seconds = np.arange(16_000) / 16_000
    media = {"image": image, "video": np.stack([image, image[::-1]]), "audio": np.sin(440 * 6.2832 * seconds)}
    media["audio"] = media["audio"].astype(np.float32)
    reads = [reader.encoder.modalities for reader in model.routes]
    for modality in ("text", *media):
        if any(modality in some for some in reads):
            values = _TEXTS if modality == "text" else (media[modality],)
            yield from ((f"a {modality}", Item(**{modality: value})) for value in values)
    if any({"text", "image"} <= some for some in reads):
        yield "an image with a text", Item(text=_TEXTS[0], image=image)
    if any("regions" in tower.encoder.modalities for tower in model.towers):
        yield "a region", Item(image=image, regions=[Box(8, 16, 40, 60)])
    for fused in reads[len(model.towers) :]:
        if fused != {"text", "image"} and fused <= {"text", *media}:
            values = {modality: _TEXTS[0] if modality == "text" else media[modality] for modality in fused}
            yield f"an item of {' and '.join(sorted(fused))}", Item(**values)


# ------------------------------------------------------------------------------------------------------ into its place


def _move_into(temporary: Path, folder: Path) -> None:
    """All files or none: a new folder by one rename; in an old one file by file, taken back where one fails.

    A kill between two of these renames leaves the mark `HALF_SAVED`, by which every layout refuses the folder until it is
    saved into again.
    What an earlier save left there and the new one does not have is removed, since it would be read with the new files.
    A link in the place of a file gives way to the file; one in the place of a folder is not followed.
    """
    place = Place.of(folder)
    files = [path for path in sorted(temporary.rglob("*"), key=lambda p: p.name == CONFIG) if path.is_file()]
    share(*files, *(path for path in temporary.rglob("*") if path.is_dir()), temporary)
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if not folder.exists():
        temporary.rename(folder)
        return
    moves = {path: folder / path.relative_to(temporary) for path in files}
    stale = sorted(set(_ours(folder)) - set(moves.values()))
    kept: dict[Path, Path] = {}
    aside = temporary / ".before"
    aside.mkdir()
    mark = place / HALF_SAVED
    whole = mark.status() is None
    try:
        for number, target in enumerate([*moves.values(), *stale]):
            if target.parent != folder:
                (place / target.parent.relative_to(folder).as_posix()).make()
            if target.is_file() or target.is_symlink():
                kept[target] = aside / str(number)
                _keep(target, kept[target])
        mark.change().close()
        for path, target in moves.items():  # config.json last: without it the folder is no checkpoint
            os.replace(path, target)
        for target in stale:
            target.unlink()
        mark.remove()
    except BaseException:
        for target in moves.values():
            if target not in kept and not target.is_dir():
                target.unlink(missing_ok=True)
        for target, before in kept.items():
            if before.exists() or before.is_symlink():
                os.replace(before, target)
        if whole:
            mark.remove()
        raise


def _keep(target: Path, before: Path) -> None:
    """A second name for a file, or a copy where the disk has no second names."""
    try:
        os.link(target, before, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(target, before, follow_symlinks=False)


def _ours(folder: Path) -> Iterator[Path]:
    """Files in a folder that our own layout reads, or that would change what it reads."""
    for path in folder.iterdir():
        if path.name in (*TOKENIZER_FILES, *PROCESSOR_FILES) or _STALE.fullmatch(path.name):
            yield path
    for name in _towers_in(Place.of(folder)):
        yield from (path for path in (folder / name).iterdir() if path.is_symlink() or not path.is_dir())


def _towers_in(place: Place) -> list[str]:
    """The folders of towers' files in a folder; raises UnsafeFolderError where one is a link."""
    names = place.names() if place.is_folder() else []
    return [name for name in names if re.fullmatch(r"tower\d", name) and (place / name).is_folder()]
