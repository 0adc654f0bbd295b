"""Regions as JSON, and back: the one form of them in tables, in indexes, on the wire and on the command line.

One region is `{"box": [x0, y0, x1, y1]}`, `{"point": [x, y]}`, `{"polygon": [[x, y], …]}` or `{"mask": …}`, the first three also with
`"unit": "relative"`. A mask is the name of an image file, or `{"size": [height, width], "counts": …}` as COCO has it. A list of
them is one item's regions, which together are one. A bare `[x0, y0, x1, y1]` is a box, a bare name of a file a mask.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import InvalidRegionError
from zoo.inputs.masks import MaskFile, RunLengths
from zoo.inputs.regions import MAX_REGIONS, Box, Mask, Point, Polygon, Region, check_coordinates

OpenMask = Callable[[str], Path | bytes]
_NAMES = {"box": Box, "point": Point, "polygon": Polygon, "mask": Mask}
_MASKS = ({"bytes", "path"}, {"size", "counts"})  # as the `datasets` library keeps images, and as COCO keeps masks
_FORM = '{"box": [x0, y0, x1, y1]}, {"point": [x, y]}, {"polygon": [[x, y], …]} or {"mask": …}'


def region_to_dict(region: Region) -> dict[str, Any]:
    """A region as JSON; a mask as COCO's compressed run lengths."""
    if isinstance(region, Mask):
        runs = region.pixels if isinstance(region.pixels, RunLengths) else RunLengths.of(region.pixels)
        return {"mask": {"size": [runs.height, runs.width], "counts": runs.text}}
    numbers = [number if isinstance(number, int) else float(number) for number in region.numbers]
    unit = {"unit": region.unit} if region.unit != "pixels" else {}
    if isinstance(region, Polygon):
        return {"polygon": [list(corner) for corner in zip(numbers[::2], numbers[1::2], strict=True)], **unit}
    return {"box" if isinstance(region, Box) else "point": numbers, **unit}


def regions_to_json(regions: Sequence[Region]) -> str:
    """The regions of one item as text."""
    return json.dumps([region_to_dict(region) for region in regions])


def regions_from_json(value: Any, open_mask: OpenMask | None = None) -> tuple[Region, ...]:
    """The regions of one item from JSON, parsed or not; () where there is nothing. Coordinates are checked; masks once they are read.

    Args:
        open_mask: the file or bytes that a mask's name stands for; None where no file is opened.

    Raises:
        InvalidRegionError: it is none of the forms above; the message says where.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidRegionError(
                f"regions are JSON, such as {_FORM}, and {value!r:.60} is none: {error}"
            ) from error
    if value is None or (isinstance(value, str | bytes | list | tuple) and not value):
        return ()
    alone = isinstance(value, str | bytes | Mapping) or _is_box(value)
    several = [value] if alone else value
    if not isinstance(several, list | tuple):
        raise InvalidRegionError(f"regions are {_FORM}, or a list of them, not {value!r:.60}")
    if len(several) > MAX_REGIONS:
        raise InvalidRegionError(f"{len(several):,} regions in one item; at most {MAX_REGIONS:,}")
    return tuple(region_from_dict(one, open_mask, "" if alone else f"region {i}") for i, one in enumerate(several))


def region_from_dict(value: Any, open_mask: OpenMask | None = None, name: str = "") -> Region:
    """One region from JSON; see `regions_from_json`.

    Args:
        name: what it is called in messages.
    """
    said = f"{name or 'the region'}, {value!r:.60}"
    if isinstance(value, Box | Point | Polygon | Mask):  # of a caller in Python
        return value
    if isinstance(value, str | bytes) or (isinstance(value, Mapping) and set(value) in _MASKS):
        value = {"mask": value}
    if _is_box(value):
        value = {"box": value}
    if not isinstance(value, Mapping):
        raise InvalidRegionError(f"{said}, is none; write {_FORM}")
    value = {key: one for key, one in value.items() if one is not None}  # what Parquet has of keys that a row has not
    kinds = [kind for kind in _NAMES if kind in value]
    if unknown := set(value) - {*_NAMES, "unit"}:
        raise InvalidRegionError(
            f"{said}, has the unknown key {min(map(str, unknown))!r}; known are {', '.join(_NAMES)}, unit"
        )
    if len(kinds) != 1:
        raise InvalidRegionError(f"{said}, is of {' and '.join(kinds) or 'nothing'}; write one of {_FORM}")
    (kind,), unit = kinds, value.get("unit", "pixels")
    if kind == "mask":
        if "unit" in value:
            raise InvalidRegionError(f"{said}: a mask has no unit, but the size of its image; leave unit out")
        return Mask(_mask(value["mask"], open_mask, said))
    region = Polygon(value[kind], unit) if kind == "polygon" else _of_numbers(kind, value[kind], unit, said)
    return check_coordinates(region, name or "the region")


def _of_numbers(kind: str, numbers: Any, unit: Any, said: str) -> Region:
    wanted = 4 if kind == "box" else 2
    if not isinstance(numbers, list | tuple) or len(numbers) != wanted:
        raise InvalidRegionError(f"{said}: a {kind} is a list of {wanted} numbers")
    return _NAMES[kind](*numbers, unit)


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 4
        and not any(isinstance(n, list | tuple | dict | str) for n in value)
    )


def _mask(value: Any, open_mask: OpenMask | None, said: str) -> Any:
    if isinstance(value, Mapping) and set(value) == _MASKS[0]:
        value = value["bytes"] or value["path"]
    if isinstance(value, bytes):
        return MaskFile(value)
    if isinstance(value, str):
        if open_mask is None:
            raise InvalidRegionError(f'{said}: no file is opened here; write {{"size": [height, width], "counts": …}}')
        return MaskFile(open_mask(value))
    if not isinstance(value, Mapping) or set(value) != _MASKS[1]:
        raise InvalidRegionError(
            f'{said}: a mask is the name of a file, or {{"size": [height, width], "counts": …}} as of COCO'
        )
    return RunLengths.parse(value["size"], value["counts"])
