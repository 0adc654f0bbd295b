"""Samples like SCaR's: what is said of a region follows from the boxes, and each wrong caption is wrong in one thing."""

import random
from pathlib import Path

import pytest

from tests.evaluation.scar_support import together, two_halves
from zoo.errors import TableError
from zoo.evaluation import scar_like as module
from zoo.evaluation.scar import CAPTIONS, evaluate_scar, scar_results
from zoo.evaluation.scar_files import read_samples, write_samples
from zoo.evaluation.scar_like import coco_scenes, pack_scenes, scar_like
from zoo.inputs.regions import Box
from zoo.tables.pack_files import read_pack

NAMES = ("dog", "cat", "cow", "car", "bus", "sofa")


def annotations(images: int = 6) -> tuple[dict, dict]:
    """Images with a dog at the top left and another object at the bottom right, farther down than across."""
    told = [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 100} for i in range(images)]
    boxes = []
    for i in range(images):
        boxes.append({"image_id": i, "category_id": 0, "bbox": [0, 0, 20, 20]})
        boxes.append({"image_id": i, "category_id": 1 + i % 5, "bbox": [30, 70, 20, 20], "iscrowd": 0})
    categories = [
        {"id": i, "name": name, "supercategory": "animal" if i < 3 else "other"} for i, name in enumerate(NAMES)
    ]
    texts = [{"image_id": i, "caption": f"a {word} day "} for i in range(images) for word in (f"{i}th", f"nice {i}th")]
    return {"images": told, "annotations": boxes, "categories": categories}, {"annotations": texts}


def scenes(images: int = 6):
    return coco_scenes(*annotations(images), Path("photos"))


def test_a_caption_says_what_the_boxes_say_and_each_wrong_one_changes_one_thing():
    samples = {sample.where: sample for sample in scar_like(scenes())}
    assert len(samples) == 12
    dog = samples["0.png, object 0"]
    assert dog.image == Path("photos/0.png")
    assert dog.box == Box(0, 0, 20, 20)
    right, *wrong = dog.captions
    name, scene = right.split(" above the cat. ")
    assert name == "dog"
    assert scene in ("a 0th day", "a nice 0th day")
    assert len(set(dog.captions)) == CAPTIONS
    assert [dog.wrong.count(kind) for kind in ("entity", "relation", "scene")] == [4, 2, 3]
    for text, kind in zip(wrong, dog.wrong, strict=True):
        if kind == "entity":
            # A cat is what the relation is to; it is no cat above a cat.
            assert text in {f"{other} above the cat. {scene}" for other in ("cow", "car", "bus", "sofa")}
        elif kind == "relation":  # above and, nearer, to the left: neither is wrong
            assert text in {f"dog {side} the cat. {scene}" for side in ("below", "to the right of")}
        else:
            start, _, other = text.partition(". ")
            assert start == "dog above the cat"
            assert not other.endswith("0th day")
    assert samples["0.png, object 1"].captions[0].startswith("cat below the dog. ")


def test_places_are_ninths_of_the_image_and_all_others_are_wrong():
    samples = {sample.where: sample for sample in scar_like(scenes(), relation="place")}
    assert samples["0.png, object 0"].captions[0].startswith("dog at the top left. ")
    cat = samples["0.png, object 1"]
    assert cat.captions[0].startswith("cat at the bottom centre. ")
    assert [cat.wrong.count(kind) for kind in ("entity", "relation", "scene")] == [3, 3, 3]
    assert any(text.startswith("dog at the bottom centre. ") for text in cat.captions), "of the same image first"


def test_the_same_seed_gives_the_same_samples_whatever_was_drawn_before():
    first = [sample.captions for sample in scar_like(scenes(), seed=1)]
    random.random()
    assert [sample.captions for sample in scar_like(scenes(), seed=1)] == first
    assert [sample.captions for sample in scar_like(scenes(), seed=2)] != first


def test_a_crowd_and_a_name_of_two_objects_are_no_partners():
    told, said = annotations()
    told["annotations"] += [
        {"image_id": 0, "category_id": 1, "bbox": [70, 0, 9, 9]},  # a second cat: "above the cat" could be either
        {"image_id": 1, "category_id": 5, "bbox": [60, 0, 40, 40], "iscrowd": 1},
    ]
    samples = {sample.where: sample for sample in scar_like(coco_scenes(told, said, Path("photos")))}
    assert "0.png, object 0" not in samples, "there is nothing that it could be beside"
    assert samples["0.png, object 1"].captions[0].startswith("cat below the dog")
    assert "1.png, object 2" not in samples, "a crowd is not asked about"
    assert samples["1.png, object 0"].captions[0].startswith("dog above the cow")


def test_annotations_that_are_none():
    def refused(match, change):
        told, said = annotations()
        change(told, said)
        with pytest.raises(TableError, match=match):
            coco_scenes(told, said, Path("photos"))

    refused("the instances", lambda told, said: told.pop("images"))
    refused("the captions", lambda told, said: said["annotations"].append({"caption": "whose?"}))
    refused("bbox", lambda told, said: told["annotations"][0].update(bbox=[0, 0, 1]))
    refused("annotation 1: bbox .* has no area", lambda told, said: told["annotations"][1].update(bbox=[5, 5, 0, 3]))
    refused("of category 9", lambda told, said: told["annotations"][1].update(category_id=9))
    refused("of image 77", lambda told, said: told["annotations"][1].update(image_id=77))
    with pytest.raises(TableError, match="of 1 scenes no object has 9 wrong captions"):
        scar_like(scenes(1))
    with pytest.raises(TableError, match=r"0\.png has no caption"):
        scar_like([module.Scene("0.png", Path("0.png"), 9, 9, scenes()[0].entities, ())])


def test_samples_are_written_as_the_published_files_are_and_measured(tmp_path):
    told, said = annotations()
    made = scar_like(coco_scenes(told, said, tmp_path))
    for number in range(6):
        two_halves(tmp_path / f"{number}.png")
    write_samples(made, tmp_path / "mine.parquet", tmp_path)
    read, bad = read_samples(tmp_path / "mine.parquet", tmp_path)
    assert not bad
    facts = [(one.image, one.box, one.captions, one.question) for one in made]
    assert [(one.image, one.box, one.captions, one.question) for one in read] == facts
    with pytest.raises(TableError, match="its image is"):
        write_samples(made, tmp_path / "other.parquet", tmp_path / "elsewhere")


def test_figures_tell_what_wrong_captions_are_taken(tmp_path):
    two_halves(tmp_path / "halves.png")
    entities = ("red", "blue", "green", "red and blue", "green and blue", "red and green")
    worlds = [
        module.Scene(
            f"scene {number}",
            tmp_path / "halves.png",
            20,
            10,
            (module.Entity("red", "", Box(0, 0, 10, 10)), module.Entity(other, "", Box(10, 0, 20, 10))),
            (f"the {number}th",),
        )
        for number, other in enumerate(entities[1:])
    ]
    samples = [sample for sample in scar_like(worlds, relation="place") if sample.box.x0 == 0]
    results = scar_results(evaluate_scar(together(), samples), dataset="d", task="t", split="all")
    # Colours tell entities apart; a place and a scene have none, so that all are ties.
    assert {result.part: result.value for result in results} == {
        "": 0.0,
        "wrong entity": 1.0,
        "wrong relation": 0.0,
        "wrong scene": 0.0,
    }


def test_the_places_are_those_that_the_pack_of_regions_names(pack):
    pack("regions")
    rows = [one for one in read_pack("regions", "val") if one["source"] == "composed"]
    found = pack_scenes("val")
    said = [f"{entity.name} {module._place(scene, entity)[0]}" for scene in found for entity in scene.entities]
    assert said == [region["caption_with_position"] for one in rows for region in one["regions"]]
    samples = scar_like(found, relation="place")
    assert len(samples) == len(said), "of every object a sample"
    assert {len(set(sample.captions)) for sample in samples} == {CAPTIONS}
