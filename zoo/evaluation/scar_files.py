"""The files of SCaR: found under both names that its authors use, read row by row, and written in the same form."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from zoo.errors import TableError, TaskFileError
from zoo.evaluation.scar import CAPTIONS, Sample
from zoo.files import writing
from zoo.inputs.regions import Box
from zoo.tables.arrow import ParquetReader
from zoo.tables.reading import Format
from zoo.tables.values import described, is_file

COLUMNS = ("qry_text", "qry_image_path", "tgt_text", "bbox")
# Parts as the paper's table has them → as files are called.
PARTS = {
    "RefCOCO+": "RefCOCO_plus",
    "RefCOCOg": "RefCOCOg",
    "VisualGenome": "VisualGenome",
    "COCO-Stuff": "COCO_Stuff",
    "ADE20K": "ADE20K",
}
# Of the authors' evaluation settings, and of their README.
NAMES = ("SCAR_{}_val_filtered.parquet", "SCaR_eval_{}.parquet")
_IMAGE_TOKEN = "<|image_1|>"  # stands where the image goes; models put it there themselves


def find_parts(folder: Path) -> dict[str, Path]:
    """The published files of a folder by their parts; other files may lie beside, but no other Parquet file.

    Raises:
        TaskFileError: there is none, one twice, or a Parquet file that is none of them.
    """
    there = {path.name: path for path in sorted(folder.glob("*.parquet"))} if folder.is_dir() else {}
    found: dict[str, Path] = {}
    for part, name in PARTS.items():
        files = [there.pop(pattern.format(name)) for pattern in NAMES if pattern.format(name) in there]
        if len(files) > 1:
            raise TaskFileError(
                f"{folder} holds {part} twice, as {files[0].name} and as {files[1].name}; keep the one that is meant"
            )
        if files:
            found[part] = files[0]
    known = " or ".join(pattern.format("{" + ", ".join(PARTS.values()) + "}") for pattern in NAMES)
    if there:
        raise TaskFileError(
            f"{folder} holds {', '.join(there)}, which SCaR has not under this name; its files are {known}. Name files of your "
            'own one by one: "data": {"mine": "mine.parquet"}'
        )
    if not found:
        what = "holds no file of SCaR" if folder.is_dir() else "is no folder"
        raise TaskFileError(f"{folder} {what}; its files are {known}")
    return found


def open_file(file: Path) -> ParquetReader:
    """The reader of one file.

    Raises:
        TableError: there is no such file, it is damaged, or it lacks a column.
    """
    if not is_file(file):
        raise TableError(f"there is no file {file}")
    reader = ParquetReader.open(file, Format(), file.name, {})
    if missing := [name for name in COLUMNS if name not in reader.columns]:
        raise TableError(
            f"{file} has no column {', '.join(missing)}; files of SCaR have {', '.join(COLUMNS)}, and this one has "
            f"{', '.join(reader.columns)}"
        )
    return reader


def content_key(file: Path, images: Path) -> str:
    """What changes with the file, and with the images that it names: their sizes and times, and which are missing."""
    digest = hashlib.sha256()
    with file.open("rb") as data:
        digest.update(hashlib.file_digest(data, "sha256").digest())
    names = dict.fromkeys(row.cells.get("qry_image_path") for row in open_file(file).rows(["qry_image_path"]))
    for name in names:
        if isinstance(name, str):
            try:
                status = (images / name).stat()
                digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
            except (OSError, ValueError):
                digest.update(f"{name}\0missing\0".encode())
    return digest.hexdigest()[:12]


def read_samples(file: Path, images: Path) -> tuple[list[Sample], list[str]]:
    """The samples of a file, and why its other rows are none.

    Args:
        images: folder that the rows' image paths begin in.

    Raises:
        TableError: see `open_file`.
    """
    samples, bad = [], []
    for row in open_file(file).rows(COLUMNS):
        try:
            samples.append(_sample(row.where, {} if row.problem else row.cells, images, row.problem))
        except _BadRow as error:
            bad.append(f"{row.where}: {error}")
    return samples, bad


def write_samples(samples: Sequence[Sample], file: Path, images: Path) -> None:
    """Writes samples whose images are files below a folder, in the form that `read_samples` reads.

    Raises:
        TableError: an image is no file below it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows() -> Iterator[dict[str, Any]]:
        for sample in samples:
            if not isinstance(sample.image, Path) or not sample.image.is_relative_to(images):
                what = sample.image if isinstance(sample.image, Path) else "bytes"
                raise TableError(f"{sample.where}: its image is {what}, no file below {images}; save it there first")
            box = sample.box
            yield {
                "qry_text": sample.question,
                "qry_image_path": sample.image.relative_to(images).as_posix(),
                "tgt_text": list(sample.captions),
                "bbox": [float(number) for number in (box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0)],
            }

    types = [pa.string(), pa.string(), pa.list_(pa.string()), pa.list_(pa.float64())]
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    with writing(file) as beside:
        pq.write_table(pa.Table.from_pylist(list(rows()), schema=schema), beside)


class _BadRow(Exception):
    """Why a row is no sample."""


def _sample(where: str, cells: Any, images: Path, problem: str) -> Sample:
    if problem:
        raise _BadRow(problem)
    question = cells["qry_text"]
    if question is not None and not isinstance(question, str):
        raise _BadRow(f"qry_text is {described(question)}, not text")
    question = (question or "").replace(_IMAGE_TOKEN, "").strip()
    image = _image(cells["qry_image_path"], images)
    return Sample(where, image, _box(cells["bbox"]), _captions(cells["tgt_text"]), question)


def _image(name: Any, images: Path) -> Path:
    if not isinstance(name, str) or not name.strip():
        raise _BadRow(f"qry_image_path is {described(name)}, not the path of an image")
    # Written by others: it leads nowhere but below the folder. A link in that folder is the user's own.
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts:
        raise _BadRow(f"qry_image_path {name!r} leads out of the folder of images; it begins in that folder")
    if not is_file(images / name):
        raise _BadRow(f"there is no image {name!r} in the folder of images")
    return images / name


def _captions(texts: Any) -> tuple[str, ...]:
    if not isinstance(texts, list):
        raise _BadRow(f"tgt_text is {described(texts)}, not a list of {CAPTIONS} captions")
    if len(texts) != CAPTIONS:
        raise _BadRow(f"tgt_text has {len(texts)} captions; SCaR has {CAPTIONS}, the right one first")
    for place, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text.strip():
            raise _BadRow(f"caption {place} of tgt_text is {described(text)}")
    if texts[0] in texts[1:]:
        raise _BadRow(
            f"caption {texts.index(texts[0], 1) + 1} of tgt_text is the right one again; none could be chosen"
        )
    return tuple(texts)


def _box(numbers: Any) -> Box:
    if not isinstance(numbers, list) or len(numbers) != 4:
        what = f"a list of {len(numbers)}" if isinstance(numbers, list) else described(numbers)
        raise _BadRow(f"bbox is {what}, not [x, y, width, height]")
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise _BadRow(f"bbox {numbers} is not made of four finite numbers")
    x, y, width, height = map(float, numbers)
    if width <= 0 or height <= 0:
        raise _BadRow(f"bbox {numbers} has no area; it is [x, y, width, height] in pixels")
    return Box(x, y, x + width, y + height)
