"""Samples like those of SCaR, from images whose objects have boxes and names: captions with a swapped entity, relation or scene.

A caption is "{entity} {relation}. {caption of the scene}": the paper's were written by GPT-4V, these by rule, so that which
one is right follows from the boxes. A wrong one has exactly one of the three from elsewhere; the nearest come first: entities of
the same image, scenes that hold such an entity too.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, TypeVar

from zoo.errors import TableError
from zoo.evaluation.scar import CAPTIONS, QUESTION, Sample
from zoo.inputs.regions import Box
from zoo.strangers.schema import Range, check
from zoo.tables.pack_files import REGIONS, read_pack

_T = TypeVar("_T")
Relation = Literal["objects", "place"]
ENTITY, RELATION, SCENE = "entity", "relation", "scene"
_SIDE = 0.39  # of width and height: where left and top end, and from the far end right and bottom; as the pack of regions has it
_ROWS, _COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


@dataclass(frozen=True)
class Entity:
    """An object of an image.

    Attributes:
        name: "apple". coarse: what it is a kind of, "" where nobody says. box: in pixels.
        pointed: whether it may be asked about; a crowd may not.
    """

    name: str
    coarse: str
    box: Box
    pointed: bool = True


@dataclass(frozen=True, eq=False)
class Scene:
    """An image of several objects.

    Attributes:
        where: its place in words. image: a file or its bytes. width, height: in pixels. captions: of the whole image.
    """

    where: str
    image: Path | bytes
    width: int
    height: int
    entities: tuple[Entity, ...]
    captions: tuple[str, ...]


class _Image(TypedDict):
    id: int
    file_name: Annotated[str, Range(1, 4096)]
    width: Annotated[int, Range(1, 2**20)]
    height: Annotated[int, Range(1, 2**20)]


class _Annotation(TypedDict):
    image_id: int
    category_id: int
    bbox: Annotated[list[float], Range(4, 4)]
    iscrowd: NotRequired[int]


class _Category(TypedDict):
    id: int
    name: Annotated[str, Range(1, 200)]
    supercategory: NotRequired[str]


class _Instances(TypedDict):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _Caption(TypedDict):
    image_id: int
    caption: Annotated[str, Range(1, 4096)]


class _Captions(TypedDict):
    annotations: list[_Caption]


def coco_scenes(instances: Mapping[str, Any], captions: Mapping[str, Any], images: Path) -> list[Scene]:
    """The images that have both objects and captions, from the JSON of COCO's instances and captions (or of their form).

    Args:
        instances: "images", "annotations" (bbox [x, y, width, height]) and "categories". captions: "annotations".
        images: folder of the files.

    Raises:
        TableError: something else is in them, a box has no area, or an id is nobody's.
    """
    told: Any = check(instances, _Instances, "the instances", TableError)
    said: Any = check(captions, _Captions, "the captions", TableError)
    categories = {one["id"]: one for one in told["categories"]}
    entities: dict[int, list[Entity]] = {one["id"]: [] for one in told["images"]}
    texts: dict[int, list[str]] = {image: [] for image in entities}
    for number, one in enumerate(told["annotations"]):
        x, y, width, height = one["bbox"]
        category = categories.get(one["category_id"])
        if category is None or one["image_id"] not in entities:
            what = "category" if category is None else "image"
            raise TableError(f"annotation {number} is of {what} {one[what + '_id']}, which is not among them")
        if width <= 0 or height <= 0:
            raise TableError(f"annotation {number}: bbox {one['bbox']} has no area; take it out")
        box, coarse = Box(x, y, x + width, y + height), category.get("supercategory", "")
        entities[one["image_id"]].append(Entity(category["name"], coarse, box, not one.get("iscrowd")))
    for one in said["annotations"]:  # captions of images that have no objects are of no use here
        texts.get(one["image_id"], []).append(one["caption"].strip())
    return [
        Scene(one["file_name"], images / one["file_name"], one["width"], one["height"], tuple(own), tuple(words))
        for one in told["images"]
        if (own := entities[one["id"]]) and (words := texts[one["id"]])
    ]


def pack_scenes(split: str = "test") -> list[Scene]:
    """The composed scenes of the pack of regions; its photos of blood cells, all of one caption, are left out.

    Raises:
        MissingPackError: the pack or the split is not there.
    """
    rows = [row for row in read_pack(REGIONS, split) if row["source"] == "composed"]
    return [
        Scene(
            f"pack:{REGIONS}/{split}, {row['id']}",
            row["image"],
            row["width"],
            row["height"],
            tuple(Entity(region["label"], region["coarse"], Box(*region["box"])) for region in row["regions"]),
            (row["caption"],),
        )
        for row in rows
    ]


def scar_like(scenes: Sequence[Scene], *, relation: Relation = "objects", seed: int = 0) -> list[Sample]:
    """A sample for every object of which nine wrong captions can be made; the same for the same scenes and seed.

    Args:
        relation: "objects" puts the object to a side of another one ("to the left of the bicycle"), whose name no second
            object of the image has; "place" to a place in the image ("at the top left").

    Raises:
        TableError: there is no such object, or a scene has no caption.
    """
    if bare := next((scene for scene in scenes if not scene.captions), None):
        raise TableError(f"{bare.where} has no caption; every scene needs one")
    world = _World(scenes)
    samples = []
    for scene in scenes:
        draw = random.Random(f"{seed} {scene.where}")
        for number, entity in enumerate(scene.entities):
            if entity.pointed and (captions := _captions(world, scene, entity, relation, draw)):
                texts, wrong = zip(*captions, strict=True)
                where = f"{scene.where}, object {number}"
                samples.append(Sample(where, scene.image, entity.box, texts, QUESTION, wrong[1:]))
    if not samples:
        raise TableError(
            f"of {len(scenes):,} scenes no object has {CAPTIONS - 1} wrong captions; give more scenes, or relation='place'"
        )
    return samples


class _World:
    """All scenes: which names there are, which are of a kind, and which scenes hold a name."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes
        names = {entity.name: entity.coarse for scene in scenes for entity in scene.entities}
        self.names = sorted(names)
        self.alike: dict[str, list[str]] = {}
        for name in self.names:
            self.alike.setdefault(names[name], []).append(name)
        self.holding: dict[str, list[Scene]] = {}
        for scene in scenes:
            for name in dict.fromkeys(entity.name for entity in scene.entities):
                self.holding.setdefault(name, []).append(scene)


def _captions(
    world: _World, scene: Scene, entity: Entity, relation: Relation, draw: random.Random
) -> list[tuple[str, str]]:
    """The right caption and nine wrong ones, each with what is wrong with it; [] where there are not so many.

    Each kind gives three, where it has them.
    """
    told = _place(scene, entity) if relation == "place" else _beside(scene, entity, draw)
    if told is None:
        return []
    right, wrong, partner = told
    caption = draw.choice(scene.captions)
    kinds: dict[str, Iterator[str]] = {
        ENTITY: (_said(name, right, caption) for name in _others(world, scene, entity, draw) if name != partner),
        RELATION: (_said(entity.name, one, caption) for one in draw.sample(wrong, len(wrong))),
        SCENE: (_said(entity.name, right, other) for other in _elsewhere(world, scene, entity, draw)),
    }
    found = {_said(entity.name, right, caption): ""}
    while kinds and len(found) < CAPTIONS:
        for kind, texts in list(kinds.items()):
            text = next((text for text in texts if text not in found), None)
            if text is None:
                del kinds[kind]
            elif len(found) < CAPTIONS:
                found[text] = kind
    return list(found.items()) if len(found) == CAPTIONS else []


def _said(entity: str, relation: str, caption: str) -> str:
    return f"{entity} {relation}. {caption}"


def _others(world: _World, scene: Scene, entity: Entity, draw: random.Random) -> Iterator[str]:
    """Other names: first of the same image, then of the same kind, then any."""
    near = sorted({one.name for one in scene.entities})
    for names in (near, world.alike.get(entity.coarse, ()), world.names):
        yield from (name for name in _some(names, draw) if name != entity.name)


def _elsewhere(world: _World, scene: Scene, entity: Entity, draw: random.Random) -> Iterator[str]:
    """Captions of other images: first of those that hold such an entity too."""
    for scenes in (world.holding[entity.name], world.scenes):
        others = (draw.choice(other.captions) for other in _some(scenes, draw) if other is not scene)
        yield from (caption for caption in others if caption not in scene.captions)


def _some(things: Sequence[_T], draw: random.Random) -> list[_T]:
    """More than are ever needed, in a random order; of COCO's 118,000 images not all."""
    return draw.sample(things, min(len(things), 4 * CAPTIONS))


def _place(scene: Scene, entity: Entity) -> tuple[str, list[str], str]:
    """Where in the image an entity is, all places where it is not, and no partner."""
    x, y = _centre(entity.box)
    right = f"at the {_ROWS[_third(y / scene.height)]} {_COLUMNS[_third(x / scene.width)]}"
    places = [f"at the {row} {column}" for row in _ROWS for column in _COLUMNS]
    return right, [place for place in places if place != right], ""


def _third(share: float) -> int:
    return 0 if share < _SIDE else 2 if share > 1 - _SIDE else 1


def _beside(scene: Scene, entity: Entity, draw: random.Random) -> tuple[str, list[str], str] | None:
    """On which side of another entity it is, on which sides it is not, and the other's name; None without another.

    The centres of the boxes say it, along the axis on which they are farther apart.
    """
    names = [one.name for one in scene.entities]
    partners = [one for one in scene.entities if one.pointed and one.name != entity.name and names.count(one.name) == 1]
    partners = [one for one in partners if _centre(one.box) != _centre(entity.box)]
    if not partners:
        return None
    partner = draw.choice(partners)
    (x, y), (other_x, other_y) = _centre(entity.box), _centre(partner.box)
    far = {"to the left of": other_x - x, "to the right of": x - other_x, "above": other_y - y, "below": y - other_y}
    right = max(far, key=lambda side: far[side])
    wrong = [f"{side} the {partner.name}" for side, distance in far.items() if distance <= 0]
    return f"{right} the {partner.name}", wrong, partner.name


def _centre(box: Box) -> tuple[float, float]:
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
