"""FolderTable: a folder of images, whose texts are files beside them or the names of their sub-folders."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from zoo.errors import BadRowError, InputError, NoSplitError, OutsideError, TableError
from zoo.tables.bounds import MAX_LINE
from zoo.tables.fences import Fence
from zoo.tables.images import walk_images
from zoo.tables.lines import encoding_of
from zoo.tables.options import Options
from zoo.tables.pairs import Pair
from zoo.tables.schema import Part, Schema
from zoo.tables.splits import TRAIN, split_name, split_of_path, split_word
from zoo.tables.table import Table, one_dataset
from zoo.tables.values import is_file
from zoo.tables.walking import listed


class FolderTable(Table):
    """Images and their texts. A text file is read when its pair is.

    Args:
        files: the images. texts: "beside" (`cat.txt` beside `cat.jpg`) or "folder" (`black_cat/1.jpg` → "black cat").
    """

    def __init__(
        self, folder: Path, files: Sequence[Path], texts: Literal["beside", "folder"], options: Options
    ) -> None:
        self._folder, self._files, self._texts = folder, [str(path.relative_to(folder)) for path in files], texts
        column = "the text file beside it" if texts == "beside" else "the sub-folder's name"
        schema = Schema(folder.name, (Part("image", "image"),), (Part(column, "text"),), rows=len(files))
        self.schemas, self.reads = [schema], frozenset({"encoding"} if texts == "beside" else ())
        told = replace(schema, positive=(Part("text", "text"),))
        self._builder, self._encoding = options.builder(told, folder), options.encoding
        self.datasets, self.names = one_dataset(options.name, len(files))

    def _pair(self, row: int) -> Pair:
        return self._builder.pair({"image": self._files[row], "text": self._text(row)}, self.where(row))

    def _text(self, row: int) -> str:
        path = self._folder / self._files[row]
        if self._texts == "folder":
            if path.parent == self._folder:
                raise BadRowError(f"{self.where(row)}: it lies in no sub-folder, whose name would be its text")
            return path.parent.name.replace("_", " ")
        text = path.with_suffix(".txt")
        fence = self._builder.fence
        if fence is not None and fence.leaves(text):
            raise BadRowError(f"{self.where(row)}: {fence.refusal(text.name)}")
        try:
            encoding, _ = encoding_of(text, self._encoding) if is_file(text) else ("utf-8", "")
            with text.open("rb") as file:
                content = file.read(MAX_LINE + 1)
            if len(content) > MAX_LINE:
                raise BadRowError(
                    f"{self.where(row)}: {text.name} has more than {MAX_LINE:,} bytes, which are not read"
                )
            return io.TextIOWrapper(io.BytesIO(content), encoding).read().removeprefix("\ufeff")
        except OSError as error:
            raise BadRowError(f"{self.where(row)}: no text {text.name} beside it ({error.strerror})") from None
        except UnicodeError:
            said = f"not {self._encoding}" if self._encoding else "not UTF-8; say its --encoding"
            raise BadRowError(f"{self.where(row)}: {text.name} is {said}") from None

    def where(self, row: int) -> str:
        """See `Table`."""
        return self._files[row]


def split_folder(folder: Path, split: str, must: bool = False, fence: Fence | None = None) -> tuple[Path, bool]:
    """The folder of a split, where the sub-folders are splits, and True; else the folder itself.

    Args:
        must: the sub-folders are to be splits. fence: the folder out of which no link is followed.

    Raises:
        NoSplitError: they are splits, and none is this one, or two are. TableError: one is a link that leads out.
    """
    odd: list[InputError] = []
    found = listed(folder, odd, fence=fence)
    if led_out := next((one for one in odd if isinstance(one, OutsideError) and (folder / one.what).is_dir()), None):
        raise TableError(str(led_out))
    below = [entry.name for entry in found if entry.is_folder and not entry.name.startswith(".")]
    if not below or not all(map(split_word, below)):
        if must:
            raise NoSplitError(
                f"{folder} has no split {split!r}: its folders are no splits ({', '.join(below) or 'none'})"
            )
        return folder, False
    wanted = [name for name in below if split_word(name) == split_name(split)]
    if len(wanted) != 1:
        what = f"several folders of the split {split!r}" if wanted else f"no split {split!r}"
        raise NoSplitError(f"{folder} has {what}; its folders: {', '.join(below)}")
    return folder / wanted[0], True


def split_files(files: Sequence[Path], split: str) -> tuple[list[Path], bool]:
    """Those of a folder's tables that are of a split, by their names, and True; all of them where none names one.

    Raises:
        NoSplitError: they name splits, and none is this one.
    """
    splits = {path: split_of_path(path.stem) for path in files}
    if not any(splits.values()):
        return list(files), False
    # As on the Hub: what names no split is for training, where nothing else is.
    found = [path for path in files if splits[path] == split_name(split)]
    found = found or [path for path in files if not splits[path] and split_name(split) == TRAIN]
    if not found:
        listed = ", ".join(f"{path.name} ({told})" for path, told in splits.items() if told)
        raise NoSplitError(f"{files[0].parent} has no file of the split {split!r}; it has {listed}")
    return found, True


def open_images(folder: Path, options: Options) -> FolderTable:
    """Images below a folder, in the order of their paths; those without a text are rows that are no pairs.

    Raises:
        TableError: no images, or half of them or more are without a text: it is then not clear where the texts are.
    """
    walked = list(walk_images(folder, fence=options.fence))
    files = [folder / name for name, error in walked if error is None]
    texts = {path.with_suffix(".txt") for path in files if is_file(path.with_suffix(".txt"))}
    if not files:
        raise TableError(
            f"{folder} holds no images and no tables; expected images in sub-folders named after what they show, "
            "images with a .txt beside each, metadata.csv, or .csv, .jsonl, .parquet or .tar files"
        )
    with_text = [path for path in files if path.with_suffix(".txt") in texts]
    if with_text and 2 * len(with_text) <= len(files):
        bare = next(path for path in files if path.with_suffix(".txt") not in texts)
        raise TableError(
            f"{folder}: {len(files) - len(with_text):,} of {len(files):,} images have no .txt beside them, e.g. "
            f"{bare.relative_to(folder)}; write one, or take the image away"
        )
    loose = [] if with_text else [path for path in files if path.parent == folder]
    if loose and 2 * len(loose) >= len(files):
        raise TableError(
            f"{folder}: {len(loose):,} images lie in no sub-folder and have no .txt beside them, e.g. {loose[0].name}; "
            "put them in folders named after what they show, or write metadata.csv with file_name,text"
        )
    table = FolderTable(folder, files, "beside" if with_text else "folder", options)
    notes = tuple(f"not read: {error}" for _, error in walked if error is not None)
    table.schemas = [replace(table.schemas[0], notes=notes)]
    return table
