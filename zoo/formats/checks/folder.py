"""What holds for the files of every layout before one of them is read: where they lie, what they are, what they may not bring."""

from pathlib import Path

from zoo.errors import UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats import HALF_SAVED, read_json
from zoo.formats.checks.config_schema import check_facts
from zoo.formats.checks.inside import check_inside
from zoo.formats.earlier import current

# Of tokenizers, by their names in transformers.
_TOKENIZER = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".codes", ".tokenizer", ".vocab")
_READ = (*_TOKENIZER, ".safetensors", ".bin", ".pt", ".pth", ".py")
_FOLDERS = ("additional_chat_templates",)  # of which transformers reads all files by itself
LONGEST_TOKENIZER = 200_000_000  # bytes; Gemma's has 33 million


def check_folder(folder: Path, root: Path | None = None, *, adapter: bool = False) -> None:
    """What holds for the files of every layout before they are read: they lie inside, and change the model in no other way.

    Links into a cache of huggingface_hub are its own. Also checks zoo.json, where there is one.

    Args:
        root: the checkpoint's folder, where `folder` is one inside it.
        adapter: whether the layout reads an adapter there itself.

    Raises:
        UnsafeCheckpointError: a link leads out of the checkpoint, a file is a FIFO or device, or an adapter would change the model as it loads.
        UnrecognisedCheckpointError: an absurdly large tokenizer, or a save that was killed over another model.
    """
    if (folder / HALF_SAVED).exists():
        raise UnrecognisedCheckpointError(
            f"{folder} holds files of two models: saving over the first was stopped half-way ({HALF_SAVED}); save the model "
            "into it again, or remove the folder"
        )
    inside = (root or folder).resolve()
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in _READ] if folder.is_dir() else []
    for inner in (folder / name for name in _FOLDERS):
        paths += [inner, *sorted(inner.iterdir())] if inner.is_dir() else []
    for path in [folder, *paths] if root else paths:
        check_inside(path, inside)
        if path.suffix in _TOKENIZER and path.is_file() and path.stat().st_size > LONGEST_TOKENIZER:
            raise UnrecognisedCheckpointError(f"{path} has {path.stat().st_size:,} bytes; no tokenizer is so large")
    if not adapter and (folder / "adapter_config.json").exists():
        raise UnsafeCheckpointError(
            f"{folder} holds adapter_config.json, by which transformers would change the model as it loads; merge the "
            "adapter into the weights (see training/adapters.py), or remove the file"
        )
    if root is None and (folder / "zoo.json").is_file():
        check_facts(current(read_json(folder / "zoo.json"), str(folder / "zoo.json")), str(folder / "zoo.json"))
