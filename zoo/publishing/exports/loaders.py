"""Opens an exported folder: which libraries it serves, its vectors by each one's own public calls, and programs that do so.

A loader's module or entry has `serves(folder)`, `encode(folder, items, ...)` and `snippet(repo, spec)`; ours, transformers' and
sentence-transformers' are in `libraries.py`, the others have a file each.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders.places import check_processor_files
from zoo.errors import UnrecognisedCheckpointError
from zoo.formats.checks.inside import check_links
from zoo.inputs.item import Item
from zoo.prompts import Role
from zoo.spec import Attention, ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LOADERS = ("zoo", "transformers", "sentence-transformers", "open_clip", "timm")


def loaders_of(folder: str | Path) -> list[str]:
    """The loaders, in the order of `LOADERS`, that the files of a folder serve."""
    folder = Path(folder)
    return [loader for loader in LOADERS if _reader(loader).serves(folder)]


def encode_with(
    loader: str,
    folder: str | Path,
    items: Sequence[Item],
    *,
    prompt_name: str | None = None,
    role: Role | None = None,
    batch_size: int = 32,
    dtype: "torch.dtype | None" = None,
    trust_remote_code: bool = False,
    raw: bool = False,
    spec: ModelSpec | None = None,
) -> "Tensor":
    """Vectors `(n, dim)`, float32 on the CPU, computed by a library's own public calls as its users make them.

    They come as the library gives them. transformers' own classes and timm end before the vectors are made unit length,
    so that is done here, as the programs on cards do it; but not where the model compares by dot product.

    Args:
        loader: one of `LOADERS`.
        items: texts and images, mixed as you like.
        prompt_name: one of the model's prompts by its name; a library that has none gets its text in the input.
        role: the library's call for queries or documents, in place of a name.
        dtype: of the weights; float32 if None.
        trust_remote_code: run Python files of the folder; those that this zoo wrote run the installed zoo and need no trust.
        raw: leave the vectors of transformers' own classes and of timm as they come, too.
        spec: the model's facts, for its prompts; by default those that the folder states.

    Raises:
        ValueError: no such loader. UnrecognisedCheckpointError: the folder does not serve it.
        UnsafeCheckpointError: the folder's code would have to run, and it is not trusted.
    """
    folder = Path(folder)
    check_links(folder)
    for place in sorted({folder, *(path.parent for path in folder.glob("*/*_config.json"))}):
        check_processor_files(place)  # of which these libraries open what the zoo does not
    reader = _reader(loader)
    if not reader.serves(folder):
        raise UnrecognisedCheckpointError(f"{folder} holds no files for {loader}; it serves {loaders_of(folder)}")
    from zoo.publishing.exports.libraries import Call, spec_of, with_prompt

    call = Call(prompt_name, role, batch_size, dtype, trust_remote_code, raw, spec)
    if loader not in ("open_clip", "timm"):
        return reader.encode(folder, items, call)
    norms = {"norms": raw} if loader == "timm" else {}
    items = with_prompt(items, spec or spec_of(folder), call)
    return reader.encode(folder, items, batch_size=batch_size, dtype=dtype, **norms)


def check_readable(
    loader: str,
    folder: Path,
    *,
    trust_remote_code: bool,
    ignore: Sequence[str] = (),
    attention: Attention | None = None,
) -> None:
    """Holds what another library reads of a folder to what the zoo holds it to, where the zoo itself reads other files there.

    Args:
        attention: of the model that these files are.

    Raises:
        ZooError: what the zoo's own layout of that library says of them: they name code, other places, or no such model.
    """
    from zoo.formats import read_json
    from zoo.formats.checks import config_schema
    from zoo.formats.layout import Opening, layout_named, open_with, recognise
    from zoo.formats.settings import Ignore

    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    here = recognise(names, lambda file: read_json(folder / file), str(folder))
    layout = layout_named(loader)
    if layout is None or here is layout:
        return  # read already, or refused
    if loader == "sentence-transformers":
        rows = config_schema.check_modules(read_json(folder / "modules.json"), str(folder / "modules.json"))
        theirs = [str(row.get("type")).startswith("sentence_transformers.") for row in rows]
        if not any(theirs):
            return  # Python files beside the weights: the zoo's own, or trusted
    elif loader == "transformers" and here.name == "zoo":
        return  # whose configuration names no code but the zoo's
    name = folder.resolve().name
    opening = Opening(name, attention=attention, ignore=Ignore(ignore), trust_remote_code=trust_remote_code)
    open_with(layout, folder, opening)


def snippet(loader: str, repo: str, spec: ModelSpec, folder: str | Path | None = None) -> str:
    """The shortest Python program that embeds with one library, for the card.

    Args:
        repo: "org/name". folder: what `export` wrote for it; without it the program also trusts code that may not be there.
    """
    reader = _reader(loader)
    if loader in ("open_clip", "timm"):
        return reader.snippet(repo, spec)
    return reader.snippet(repo, spec, None if folder is None else Path(folder))


def register() -> None:
    """Makes `AutoModel` and `AutoConfig` of transformers know the zoo's folders, so that no code of theirs has to run."""
    from zoo.publishing.exports import automodel

    automodel.register()


def _reader(loader: str) -> Any:
    if loader not in LOADERS:
        raise ValueError(f"{loader!r} is no loader; known are {', '.join(LOADERS)}")
    from zoo.publishing.exports import libraries, open_clip, timm

    return {"open_clip": open_clip, "timm": timm, **libraries.READERS}[loader]
