"""One sequence encoder: without marked media it reads text alone, on any decoder of transformers; a medium is one registered reader."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo import Embedder, Item, ModelSpec
from zoo.embedder import Tower
from zoo.encoders.config_checks import COUNTS_AFTER_FILLER
from zoo.encoders.sequence import SequenceEncoder, content_of, sequence
from zoo.encoders.sequence.backbones import PLAIN, all_backbones, backbone_of, known_types
from zoo.encoders.sequence.image import Frame
from zoo.encoders.sequence.media import READERS, MediaReader, Setup, VisionReader, register_media_reader
from zoo.encoders.text import PACKABLE, TransformersText
from zoo.encoders.transformers_dual import DUALS
from zoo.errors import ArgumentError, MissingWeightsError, UnrecognisedCheckpointError, UnsupportedModalityError
from zoo.heads import Identity
from zoo.inputs.regions import Box
from zoo.models.backbones import byte_processor, byte_specials, byte_tokenizer, tiny_qwen2_vl
from zoo.pooling import LastToken, Mean
from zoo.registry import register_model
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits, limits_of

# Qwen3-Embedding's layout: an instruction, the text, and the end token that is pooled.
DECODER = SequenceFormat(
    prompt="{% if instruction %}Instruct: {{ instruction }}\nQuery:{% endif %}{{ text }}<|endoftext|>", backbone="qwen3"
)
TEXTS = ["a red boat", "two dogs in the snow, and a sentence that is longer than the others", "é 山"]


def qwen3() -> dict[str, Any]:
    """A decoder of text of 40 thousand weights that reads bytes."""
    special = byte_specials()
    return {
        "model_type": "qwen3",
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "eos_token_id": special["<|im_end|>"],
        "pad_token_id": special["<|endoftext|>"],
    }


@pytest.fixture(scope="module")
def decoder() -> Embedder:
    torch.manual_seed(0)
    spec = ModelSpec(
        name="decoder",
        modalities={"text"},
        dim=32,
        license="mit",
        max_tokens=256,
        format=DECODER,
        prompts={"find": "Find it"},
    )
    return Embedder(spec, [Tower(sequence(spec, qwen3(), byte_tokenizer()), LastToken(), Identity())]).eval()


def theirs(model: Embedder, texts: list[str]) -> torch.Tensor:
    """By transformers alone, one text at a time: the state of the last token, of unit length."""
    tokenizer, backbone = byte_tokenizer(), model.towers[0].encoder.backbone
    with torch.inference_mode():
        states = [backbone(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1] for text in texts]
    return torch.nn.functional.normalize(torch.stack(states), dim=-1)


def test_a_decoder_of_text_gives_what_transformers_gives(decoder: Embedder) -> None:
    expected = theirs(decoder, [f"{text}<|endoftext|>" for text in TEXTS])
    torch.testing.assert_close(decoder.encode(TEXTS), expected, atol=1e-5, rtol=0)
    told = theirs(decoder, [f"Instruct: Find it\nQuery:{text}<|endoftext|>" for text in TEXTS])
    torch.testing.assert_close(decoder.encode(TEXTS, prompt_name="find"), told, atol=1e-5, rtol=0)
    own = decoder.encode([Item(text=text, instruction="Find it") for text in TEXTS])
    torch.testing.assert_close(own, told, atol=1e-5, rtol=0)
    assert (told - expected).abs().max() > 1e-3


def test_it_is_the_text_encoder_of_the_other_layouts_where_the_tokens_are_the_same(decoder: Embedder) -> None:
    encoder = decoder.towers[0].encoder
    other = TransformersText(qwen3(), 256, backbone=encoder.backbone, tokenizer=byte_tokenizer())
    tower = Tower(other, LastToken(), Identity()).eval()
    with torch.inference_mode():
        vectors = tower(other.prepare([Item(text=f"{text}<|endoftext|>") for text in TEXTS]))
    torch.testing.assert_close(decoder.encode(TEXTS), vectors, atol=1e-5, rtol=0)


def test_one_alone_equals_one_of_many_and_long_texts_keep_the_end_of_the_prompt(decoder: Embedder) -> None:
    together = decoder.encode(TEXTS)
    torch.testing.assert_close(together, torch.stack([decoder.encode(text) for text in TEXTS]), atol=1e-5, rtol=0)
    encoder = decoder.towers[0].encoder
    ids = encoder.prepare_item(Item(text="word " * 500, instruction="Find it")).ids
    assert len(ids) == 256
    assert ids[-1] == byte_specials()["<|endoftext|>"]
    assert encoder.cut(Item(text="word " * 500)) is not None


def test_saved_and_opened_it_is_the_same_and_says_what_it_reads(decoder: Embedder, tmp_path: Path) -> None:
    again = zoo.load_model(decoder.save_pretrained(tmp_path / "decoder"))
    assert torch.equal(again.encode(TEXTS), decoder.encode(TEXTS))
    assert again.spec.format == DECODER
    assert again.fingerprint() == decoder.fingerprint()
    with pytest.raises(UnsupportedModalityError, match="reads text, not image"):
        again.encode(torch.zeros(3, 8, 8))


def test_a_vision_language_backbone_reads_text_alone_where_nothing_is_marked() -> None:
    """The text path of the same backbone: the same vectors of text, without a processor of images."""
    torch.manual_seed(0)
    both = zoo.build_model("gme-test")
    encoder = both.towers[0].encoder
    alone = SequenceEncoder(
        encoder.settings,
        replace(encoder.format, marks={}),
        {},
        512,
        backbone=encoder.backbone,
        processor=byte_tokenizer(),
    )
    tower = Tower(alone, LastToken(), Identity()).eval()
    with torch.inference_mode():
        vectors = tower(alone.prepare([Item(text=text) for text in TEXTS]))
    torch.testing.assert_close(both.encode(TEXTS), vectors, atol=1e-5, rtol=0)
    assert alone.modalities == {"text"}
    assert alone.preprocessing().keys() == {"format", "media", "max_tokens"}


def test_the_shape_alone_says_that_it_has_no_tokenizer() -> None:
    spec = ModelSpec(name="x", modalities={"text"}, dim=32, license="mit", max_tokens=64, format=DECODER)
    with pytest.raises(MissingWeightsError, match="without its tokenizer"):
        sequence(spec, qwen3()).prepare_item(Item(text="a"))


# ----------------------------------------------------------------------------------------------------------------- media


def test_every_medium_has_one_reader_that_keeps_the_protocol() -> None:
    assert set(READERS) == {"image", "video", "audio"}
    wanted = {name for name in vars(MediaReader) if not name.startswith("_")}
    for kind, reader in READERS.items():
        assert reader.kind == kind
        assert wanted <= set(dir(reader)), f"{kind} lacks {sorted(wanted - set(dir(reader)))}"
    with pytest.raises(ValueError, match="image has a reader, ImageReader"):
        register_media_reader("image")(READERS["video"])


def test_a_mark_of_what_nobody_reads_is_refused() -> None:
    layout = SequenceFormat(prompt="{{ media }}{{ text }}", marks={"document": "<pdf>"})
    with pytest.raises(UnrecognisedCheckpointError, match="no reader of document"):
        SequenceEncoder(tiny_qwen2_vl(), layout, {}, 64, processor=byte_processor())
    deaf = replace(layout, marks={"audio": "<audio>"})
    with pytest.raises(MissingWeightsError, match="reads no audio"):
        SequenceEncoder(tiny_qwen2_vl(), deaf, {}, 64, processor=byte_processor())
    with pytest.raises(ValueError, match="no limits of 'smell'"):
        limits_of({"smell": {}}, layout)


class Heard(VisionReader):
    """Audio, shown to the vision layers: a reader of another package."""

    marker = token_id = None
    type = 0

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def unfold(self, value: Any) -> list[tuple[str, Any]]:
        wave = np.asarray(value, np.float32)[: 64 * 64]
        rows = (np.pad(wave, (0, 64 * 64 - len(wave))).reshape(64, 64) * 127 + 128).astype(np.uint8)
        return [("image", Frame(np.repeat(rows[:, :, None], 3, 2)))]

    def settings(self) -> dict[str, Any]:
        return {"side": 64}


@pytest.fixture
def hearing(monkeypatch: pytest.MonkeyPatch) -> Embedder:
    monkeypatch.setitem(READERS, "audio", Heard)
    monkeypatch.setattr(Heard, "kind", "audio", raising=False)
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    layout = SequenceFormat(
        prompt="{{ images }}{{ text }}{{ audios }}<|im_end|>", marks={"image": mark, "audio": mark}, backbone="qwen2_vl"
    )
    facts = {"modalities": {"text", "image", "audio"}, "dim": 32, "license": "mit", "max_tokens": 256}
    spec = ModelSpec(name="hearing", format=layout, media={"image": ImageLimits(pixels=(784, 12544))}, **facts)
    torch.manual_seed(0)
    encoder = sequence(spec, tiny_qwen2_vl(), byte_processor())
    return Embedder(spec, [Tower(encoder, LastToken(), Identity())]).eval()


def test_a_reader_of_another_package_is_all_that_a_medium_takes(hearing: Embedder, tmp_path: Path) -> None:
    wave = np.sin(np.arange(5000) / 7).astype(np.float32)
    one = hearing.encode(Item(audio=wave))
    assert not torch.allclose(one, hearing.encode(Item(audio=wave[::-1].copy())), atol=1e-4)
    hearing.encode([Item(text="a bell", audio=wave), Item(text="a bell")])
    hearing.save_pretrained(tmp_path / "m")
    again = zoo.load_model(tmp_path / "m", device="cpu")
    torch.testing.assert_close(again.encode(Item(audio=wave)), one)
    assert again.fingerprint() == hearing.fingerprint()


def test_regions_are_read_with_the_image_that_they_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "regions", Heard)
    item = Item(image=np.zeros((4, 4, 3), np.uint8), regions=[Box(0, 0, 2, 2)])
    assert content_of(item) == [("image", item.image), ("regions", item)]
    assert content_of(Item(text="none")) == [("text", "none")]


def test_facts_that_a_model_of_sequences_lacks_are_named() -> None:
    facts = {"modalities": {"text"}, "dim": 32, "license": "mit"}
    with pytest.raises(ArgumentError, match="its facts lack max_tokens"):
        sequence(ModelSpec(name="x", format=DECODER, **facts), qwen3())
    with pytest.raises(ArgumentError, match="its facts lack format"):
        sequence(ModelSpec(name="x", max_tokens=8, **facts), qwen3())
    with pytest.raises(ValueError, match="media has limits of video, for which the format of the sequence has no mark"):
        register_model(name="x-test", format=DECODER, media={"video": VideoLimits(frames=4)}, **facts)


def test_what_a_prompt_has_no_place_for_is_refused() -> None:
    facts = {"modalities": {"text"}, "dim": 32, "license": "mit", "max_tokens": 64}
    for prompt, item, said in (
        ("{{ text }}<|endoftext|>", Item(text="a", instruction="Find it"), "the instruction 'Find it', for which"),
        ("{{ instruction }}<|endoftext|>", Item(text="a boat"), "the text 'a boat', for which"),
    ):
        spec = ModelSpec(name="x", format=SequenceFormat(prompt), **facts)
        model = Embedder(spec, [Tower(sequence(spec, qwen3(), byte_tokenizer()), LastToken(), Identity())]).eval()
        with pytest.raises(UnsupportedModalityError, match=said):
            model.encode(item)
    with pytest.raises(ValueError, match="prompts, and the format of the sequence has no place"):
        register_model(name="x-test", format=SequenceFormat("{{ text }}"), prompts={"find": "Find it"}, **facts)


def test_limits_are_the_usual_ones_of_what_is_marked() -> None:
    layout = SequenceFormat(prompt="{{ content }}", marks={"image": "<i>", "video": "<v>"})
    assert limits_of({}, layout) == {"image": ImageLimits(), "video": VideoLimits()}
    assert limits_of({"image": {"square": 64}}, None) == {"image": ImageLimits(square=64)}
    assert limits_of({"image": {}}, None) == {}


def test_a_pooler_that_makes_no_sense_after_the_encoder_is_refused() -> None:
    layout = SequenceFormat(prompt="{{ text }}", attention="bidirectional")
    encoder = SequenceEncoder(tiny_qwen2_vl(), layout, {}, 64)
    Tower(encoder, Mean(), Identity())
    with pytest.raises(ValueError, match="pool the mean"):
        Tower(encoder, LastToken(), Identity())


# ------------------------------------------------------------------------------------------------------------- backbones


def test_every_type_of_checkpoint_has_one_family() -> None:
    types = known_types()
    assert types["colqwen2"] == "qwen2_vl"
    assert types["instructcir_llava_phi35"] == "llava"
    for name, backbone in types.items():
        families = [b for b in all_backbones() if name in (*b.types, *b.retrieval, *b.converted)]
        assert len(families) == 1, name
        assert backbone_of(backbone) is not PLAIN
    assert backbone_of("qwen3") is PLAIN


def asks_for_a_type(node: ast.AST) -> bool:
    """Whether a comparison is of a `model_type`, or of a name that stands for one, with words that are written there."""
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    if not any(re.search(r"model_type|\bkind\b", ast.unparse(side)) for side in sides):
        return False
    words = [part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)]
    return any(word in TYPES for word in words)


TYPES = {*known_types(), *known_types().values(), *DUALS, *PACKABLE, *COUNTS_AFTER_FILLER, "llava"}


def test_only_the_files_of_backbones_ask_for_their_type() -> None:
    """Nobody else compares a `model_type`, by == or by `in`; a layout asks which files are its own."""
    root = Path(zoo.__file__).parent
    theirs = (root / "models", root / "encoders" / "sequence" / "backbones")
    asked = []
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if asks_for_a_type(node) and not any(path.is_relative_to(folder) for folder in theirs):
                asked.append(f"{path.relative_to(root)}:{node.lineno} {ast.unparse(node)}")
    assert not asked, "\n".join(asked)
    for said in ("config.model_type == 'clip'", "kind in ('roberta', 'mpnet')", "'llava' in model_type"):
        assert asks_for_a_type(ast.parse(said, mode="eval").body), said
