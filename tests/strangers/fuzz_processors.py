"""Target: the settings of a processor and of its tokenizer, of a vision-language checkpoint and of a dual encoder."""

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.reference.qwen2_vl import write_qwen2_vl
from tests.strangers.fuzz import mutated_json
from zoo.encoders.sequence.processor import open_processor
from zoo.formats.processors import check_files, image_settings, open_images, transform_of
from zoo.formats.settings import NOTHING
from zoo.formats.tokenizer import check_tokenizer

FILES = ("preprocessor_config.json", "tokenizer_config.json", "special_tokens_map.json", "processor_config.json")
CLIP = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
    "size": {"shortest_edge": 224},
}
_DUAL = "dual"


def prepare(folder: Path) -> None:
    """The checkpoint of a vision-language model, and the processor of a dual encoder beside it."""
    write_qwen2_vl(folder / "model")
    (folder / "model" / "processor_config.json").write_text(json.dumps({"processor_class": "Qwen2VLProcessor"}))
    (folder / _DUAL).mkdir()
    for name, settings in _good(folder).items():
        (folder / name).write_text(json.dumps(settings))


def opens(folder: Path) -> None:
    """As `load_model` opens both."""
    processor = open_processor(folder / "model", "qwen2_vl")
    check_files(folder / "model", processor, NOTHING)
    check_tokenizer(folder / "model", processor.tokenizer, NOTHING)
    settings, file = image_settings(folder / _DUAL, "clip", NOTHING)
    transform_of(open_images(settings, "clip", file, NOTHING), 224, file, NOTHING)


def change(folder: Path, random: Random) -> None:
    """One of the files, the others as they were."""
    good = _good(folder)
    name = random.choice(list(good))
    for other, settings in good.items():
        content = mutated_json(settings, random) if other == name else json.dumps(settings).encode()
        (folder / other).write_bytes(content)


@cache
def _good(folder: Path) -> dict[str, Any]:
    found = {f"{_DUAL}/preprocessor_config.json": CLIP}
    for name in FILES:
        path = folder / "model" / name
        found[f"model/{name}"] = json.loads(path.read_text()) if path.is_file() else {}
    return found
