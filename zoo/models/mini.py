"""zoo-mini: a small dual tower in the package, without any network; zoo-mini-region: taught regions; zoo-mini-v1: the first; zoo-omni:
zoo-mini with towers for audio and video.
"""

from pathlib import Path
from typing import Any

from zoo.models.parts import (
    BertText,
    Blend,
    Cls,
    Embedder,
    FramesVideo,
    Identity,
    Mean,
    Mlp,
    Named,
    SpectrogramAudio,
    StaticText,
    TimmImage,
    Tower,
)
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

FACTS: Facts = {"modalities": {"image", "text"}, "license": "apache-2.0", "demo": "search"}
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def mini_towers(spec: ModelSpec, vision: str, rows: int, tokenizer: object = None, **backbone: object) -> Embedder:
    """A timm tower that reads whole images squeezed into a square, and a table of tokens that is averaged.

    Squeezing keeps what stands at the edge; a crop would lose it.
    """
    from zoo.encoders.image_transform import IMAGENET_MEAN, IMAGENET_STD, PixelTransform

    transform = PixelTransform(spec.image_size, resize="squash", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    image = TimmImage(vision, transform, args=dict(backbone))
    assets = WEIGHTS / spec.name
    if tokenizer is None and (assets / "tokenizer.json").is_file():
        text = StaticText(rows, spec.dim, spec.max_tokens, assets=assets)
    else:
        text = StaticText(rows, spec.dim, spec.max_tokens, tokenizer=tokenizer)
    return Embedder(
        spec, [Tower(image, Cls(), Blend(image.width, spec.dim, share=0.6)), Tower(text, Mean(), Identity())]
    )


MINI: Facts = {
    "dim": 384,
    "params": 19_250_984,
    "image_size": 192,
    "max_tokens": 128,
    "packaged": True,
    "languages": ("en",),
    **FACTS,
}


def named_towers(spec: ModelSpec, assets: Path) -> Embedder:
    """An EfficientNet-Lite (Tan and Le, 2019) trained on ImageNet, whose classes' names are part of its head, and three blocks of
    MiniLM (Wang et al., 2020) taught to stand for all six.

    Args:
        assets: folder of the tokenizer; where there is none the shape is built without.
    """
    from zoo.encoders.image_transform import PixelTransform

    transform = PixelTransform(spec.image_size, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    image = TimmImage("tf_efficientnet_lite2", transform)
    text = BertText(
        vocab_size=17_992,
        width=spec.dim,
        layers=3,
        heads=12,
        hidden=1536,
        positions=spec.max_tokens,
        max_tokens=spec.max_tokens,
        assets=assets if (assets / "tokenizer.json").is_file() else None,
    )
    head = Named(image.width, spec.dim, classes=1000, gain=3.5, temperature=2.0)
    return Embedder(spec, [Tower(image, Cls(), head), Tower(text, Mean(), Identity())])


@register_model(**MINI)
def zoo_mini(spec: ModelSpec) -> Embedder:
    """The packaged default."""
    return named_towers(spec, WEIGHTS / spec.name)


@register_model(base="zoo-mini", **MINI)
def zoo_mini_region(spec: ModelSpec) -> Embedder:
    """zoo-mini whose head learned regions and their captions: the package holds its head's projection, all else is zoo-mini's."""
    return named_towers(spec, WEIGHTS / "zoo-mini")


def with_ears(spec: ModelSpec, seen: Embedder, arch: str, grids: dict[str, list[int]], **head: Any) -> Embedder:
    """Towers of images and texts, and beside them the first stages of the same backbone over spectrograms (Palanisamy et al., 2020), and
    all of it over frames, beside what the camera does.

    Args:
        grids: see `SpectrogramAudio`. head: facts of the image tower's `Named`, which is also that of the video tower.
    """
    images, texts = seen.towers
    audio = SpectrogramAudio(arch, grids=grids, spectrogram={"height": 96, "width": 128})
    video = FramesVideo(arch, images.encoder.transform)
    named = Named(images.encoder.width, spec.dim, beside=video.width - images.encoder.width, **head)
    heard = Tower(audio, Mean(), Mlp(audio.width, spec.dim, hidden=256, norm=True, dropout=0.35))
    return Embedder(spec, [images, texts, heard, Tower(video, Cls(), named)])


OMNI: Facts = {"modalities": {"image", "text", "audio", "video"}, "demo": "omni", "pages": "text"}


@register_model(base="zoo-mini", **{**MINI, **OMNI, "params": 28_247_920})
def zoo_omni(spec: ModelSpec) -> Embedder:
    """zoo-mini, which also hears and watches; the package holds what is not zoo-mini's: the audio tower, and a name for each motion."""
    grids = {"3": [4, 4], "4": [3, 4]}
    seen = named_towers(spec, WEIGHTS / "zoo-mini")
    return with_ears(spec, seen, "tf_efficientnet_lite2", grids, classes=1000, gain=3.5, temperature=2.0)


@register_model(
    name="zoo-mini-v1",
    dim=256,
    params=12_256_632,
    image_size=112,
    max_tokens=128,
    recipe="zoo-mini-v1",
    languages=("en",),
    **FACTS,
)
def zoo_mini_v1(spec: ModelSpec) -> Embedder:
    """Trained from scratch; its weights were in the package until those of a pretrained trunk took their place."""
    return mini_towers(spec, "resnet10t", rows=27_624)


@register_model(dim=32, params=118_652, image_size=32, max_tokens=32, **FACTS)
def mini_test(spec: ModelSpec) -> Embedder:
    from tokenizers import Tokenizer, normalizers
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import BertPreTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[UNK]", *letters, *(f"##{letter}" for letter in letters), *"!\"#$%&'()*+,-./:;<=>?@"]
    tokenizer = Tokenizer(WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), BertPreTokenizer()
    return mini_towers(spec, "test_efficientnet", rows=len(pieces), tokenizer=tokenizer)


@register_model(dim=32, params=326_378, image_size=32, max_tokens=32, **{**FACTS, **OMNI})
def mini_omni_test(spec: ModelSpec) -> Embedder:
    return with_ears(spec, mini_test(spec), "test_efficientnet", {"1": [2, 2], "2": [1, 2]}, classes=10)
