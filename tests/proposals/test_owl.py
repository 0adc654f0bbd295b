"""OWLv2 as a proposer: against transformers' own detection, and against torchvision's suppression of boxes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tests.reference.base import stir
from tests.reference.vocab import clip_bpe
from zoo.errors import (
    ArgumentError,
    HubError,
    HubUnreachableError,
    MissingWeightsError,
    UnreadSettingError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
)
from zoo.proposals import Owl, kept

TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXTS = ["a photo of a cat", "a red lighthouse"]


def image(height: int = 40, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_owl(tmp_path_factory.mktemp("owl"))


def tiny_owl(folder: Path) -> Path:
    """A tiny OWLv2 as transformers saves one, its tokenizer filling up to 16 tokens with "!", as OWLv2's does."""
    vocab, merges = clip_bpe()
    text = {**TINY, "vocab_size": len(vocab), "bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1}
    config = transformers.Owlv2Config(
        text_config=text, vision_config={**TINY, "image_size": 96, "patch_size": 16}, projection_dim=32
    )
    stir(transformers.Owlv2ForObjectDetection(config)).save_pretrained(folder)
    transformers.Owlv2ImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    transformers.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=16, pad_token="!").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("size", [(40, 64), (90, 30)])
def test_boxes_and_logits_are_those_of_transformers_own_detection(folder: Path, size: tuple[int, int]) -> None:
    pixels = image(*size)
    owl = Owl(folder, most=1000, overlap=1.0, device="cpu")
    boxes, scores, vectors = owl.objects(pixels)
    assert 5 < len(boxes) <= 36

    model = transformers.Owlv2ForObjectDetection.from_pretrained(folder).eval()
    images = transformers.Owlv2ImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    with torch.inference_mode():
        out = model(**images(images=[pixels], return_tensors="pt"), **texts)
    (found,) = images.post_process_object_detection(out, threshold=-1, target_sizes=[size])
    limits = np.array([size[1], size[0]] * 2)
    theirs = np.clip(found["boxes"].numpy(), 0, limits)
    order = np.argsort(-out.objectness_logits[0].numpy(), kind="stable")
    order = [place for place in order if (theirs[place][2:] - theirs[place][:2] >= 1).all()]
    np.testing.assert_allclose(boxes, theirs[order], atol=1e-4)
    np.testing.assert_allclose(scores, out.objectness_logits[0].sigmoid().numpy()[order], atol=1e-6)
    np.testing.assert_allclose(vectors @ owl.queries(TEXTS).T, out.logits[0].numpy()[order], atol=1e-5)


def test_proposals_are_boxes_inside_the_image_best_first_and_no_thing_twice(folder: Path) -> None:
    owl = Owl(folder, most=4, overlap=0.3, device="cpu")
    found = list(owl.propose(image()))
    assert 1 < len(found) <= 4
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert one.region == one.box
        assert 0 <= one.box.x0 < one.box.x1 <= 64
        assert 0 <= one.box.y0 < one.box.y1 <= 40
    sure = Owl(folder, most=4, overlap=0.3, score=found[1].score, device="cpu")
    assert list(sure.propose(image())) == found[:2]
    assert list(Owl(folder, score=1.0, device="cpu").propose(image())) == []


def test_its_configuration_tells_weights_and_settings_apart(folder: Path, tmp_path: Path) -> None:
    one, other = Owl(folder, device="cpu").config(), Owl(folder, most=7, device="cpu").config()
    assert {key for key in one if one[key] != other[key]} == {"most"}
    assert json.loads(json.dumps(one)) == one
    model = transformers.Owlv2ForObjectDetection.from_pretrained(folder)
    model.box_head.dense2.bias.data += 1
    model.save_pretrained(tmp_path)
    transformers.Owlv2ImageProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    moved = Owl(tmp_path, device="cpu").config()
    assert {key for key in one if one[key] != moved[key]} == {"weights"}


def test_suppression_is_that_of_torchvision() -> None:
    from torchvision.ops import nms

    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (80, 2))], 1)
    scores = rng.uniform(size=80)
    for overlap in (0.2, 0.5, 0.8):
        theirs = nms(torch.tensor(boxes), torch.tensor(scores), overlap).tolist()
        assert kept(boxes, scores, overlap, 1000) == theirs
        assert kept(boxes, scores, overlap, 5) == theirs[:5]
    assert kept(np.empty((0, 4)), np.empty(0), 0.5, 5) == []


def test_what_is_no_owl_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    for wrong, said in [({"most": 0}, "most"), ({"overlap": 1.5}, "overlap"), ({"score": "high"}, "score")]:
        with pytest.raises(ArgumentError, match=said):
            Owl(folder, **wrong)
    with pytest.raises(UnrecognisedCheckpointError, match=r"no config\.json"):
        Owl(tmp_path)
    with pytest.raises(HubError, match="org/name"):
        Owl("owl")
    with pytest.raises(HubUnreachableError, match="owlv2-base-patch16-ensemble"):
        Owl()  # out of reach in tests, and not cached
    with pytest.raises(HubError, match="revision"):
        Owl(folder, revision="main")

    def copied(name: str, change: dict, file: str = "config.json", leave: tuple[str, ...] = ()) -> Path:
        other = tmp_path / name
        other.mkdir()
        for path in folder.iterdir():
            if path.name not in leave:
                (other / path.name).write_bytes(path.read_bytes())
        (other / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **change}))
        return other

    with pytest.raises(UnrecognisedCheckpointError, match="'clip', and here owlv2"):
        Owl(copied("clip", {"model_type": "clip"}))
    with pytest.raises(MissingWeightsError, match="no weights"):
        Owl(copied("bare", {}, leave=("model.safetensors",)))
    pickled = copied("pickled", {}, leave=("model.safetensors",))
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises((MissingWeightsError, UnsafeCheckpointError)):
        Owl(pickled)
    deeper = json.loads((folder / "config.json").read_text())["vision_config"] | {"num_hidden_layers": 3}
    with pytest.raises(MissingWeightsError, match="lacks"):
        Owl(copied("deeper", {"vision_config": deeper}))
    shallow = deeper | {"num_hidden_layers": 1}
    with pytest.raises(MissingWeightsError, match="more layers"):
        Owl(copied("shallow", {"vision_config": shallow}))
    with pytest.raises(UnreadSettingError, match="sharpen"):
        Owl(copied("sharp", {"sharpen": 2}, "preprocessor_config.json"))
    with pytest.raises(UnrecognisedCheckpointError, match="do_pad"):
        Owl(copied("bare-sides", {"do_pad": False}, "preprocessor_config.json"))
    with pytest.raises(UnrecognisedCheckpointError, match="Owlv2ImageProcessor is wanted"):
        Owl(copied("sam", {"image_processor_type": "Sam2ImageProcessor"}, "preprocessor_config.json"))
    without = copied("wordless", {}, leave=("tokenizer.json", "tokenizer_config.json"))
    with pytest.raises(MissingWeightsError, match="tokenizer"):
        Owl(without, device="cpu").queries(TEXTS)
