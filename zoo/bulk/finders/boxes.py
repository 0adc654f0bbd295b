"""Boxes of a JSON file: those of COCO, or a list for each image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.bulk.finders.base import Finder, Found
from zoo.errors import InputError, InvalidRegionError, MissingFileError, TableError
from zoo.inputs.region_json import region_from_dict

_FORMS = '{"photo.jpg": [[x0, y0, x1, y1], …], …}, or the images and annotations of COCO'


class Boxes(Finder):
    """The regions that a file names, in its order; images that it does not name have none.

    Of COCO's annotations `bbox` (left, top, width, height) and the name of the category are read, no outlines. In a list of an
    image's own regions a box is `[x0, y0, x1, y1]`, and every other region as `zoo.inputs.region_json` writes it, also with a
    "label" beside it. Names of images are their paths below the source, with "/".

    Raises:
        TableError: the file is not there, or none of the two forms.
    """

    name = "boxes"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TableError(f"{path} cannot be read as JSON of regions: {reason}") from error
        if not isinstance(found, dict):
            raise TableError(f"{path} must hold {_FORMS}, not {type(found).__name__}")
        if isinstance(found.get("images"), list) and isinstance(found.get("annotations"), list):
            self._of = _coco(path, found)
        else:
            self._of = {name: _listed(path, name, entries) for name, entries in found.items()}
        self.images = self._of.keys()
        self.labels = any(one.label is not None for several in self._of.values() for one in several)

    @property
    def spelled(self) -> str:
        """See `Finder`."""
        return str(self.path.resolve())

    def find(self, image: Path | bytes | None, name: str) -> Sequence[Found]:
        """See `Finder`."""
        found = self._of.get(name, ())
        if image is not None:
            return found
        error = MissingFileError(f"{self.path} has regions of {name}, which is not in the source", what=name)
        return [one if one.error is not None else one._replace(error=error) for one in found]


def _listed(path: Path, name: str, entries: Any) -> list[Found]:
    if not isinstance(entries, list):
        raise TableError(f"{path}: the regions of {name} must be a list; a file holds {_FORMS}")
    return [_found_by(f"{path.name}, {name}, region {number}", entry) for number, entry in enumerate(entries)]


def _found_by(where: str, entry: Any) -> Found:
    label = entry.get("label") if isinstance(entry, Mapping) else None
    plain = {key: value for key, value in entry.items() if key != "label"} if isinstance(entry, Mapping) else entry
    try:
        if label is not None and not isinstance(label, str):
            raise InvalidRegionError(f"its label is text, not {label!r:.40}")
        return Found(region_from_dict(plain), label)
    except InputError as error:
        return Found(None, None, InvalidRegionError(f"{where}: {error}", what=where))


def _coco(path: Path, found: Mapping[str, Any]) -> dict[str, list[Found]]:
    try:
        names = {one["id"]: str(one["file_name"]) for one in found["images"]}
        labels = {one["id"]: str(one["name"]) for one in found.get("categories") or ()}
    except (TypeError, KeyError) as error:
        raise TableError(
            f"{path} is no file of COCO's: an image has no id and file_name, or a category no id and name"
        ) from error
    if len(set(names.values())) < len(found["images"]):
        raise TableError(f"{path}: two images have one id or one file_name, so that it is not told whose a box is")
    regions: dict[str, list[Found]] = {}
    for number, one in enumerate(found["annotations"]):
        where = f"{path.name}, annotation {one.get('id', number) if isinstance(one, dict) else number}"
        image = one.get("image_id") if isinstance(one, dict) else None
        name = names.get(image) if isinstance(image, int | str) else None
        if name is None:
            error = InvalidRegionError(f"{where}: no image has the id {image!r}", what=where)
            regions.setdefault(f"image {image!r}", []).append(Found(None, None, error))
            continue
        box = one.get("bbox")
        plain = (
            isinstance(box, list) and len(box) == 4 and all(isinstance(n, int | float) and abs(n) < 2**53 for n in box)
        )
        corners = [box[0], box[1], box[0] + box[2], box[1] + box[3]] if plain else box
        label = labels.get(one.get("category_id"))
        found = _found_by(where, {"box": corners})
        regions.setdefault(name, []).append(found if label is None else found._replace(label=label))
    return regions
