"""The vision-language encoder: what one sequence holds, what is computed once, what is cut, what is refused."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.encoders.sequence_support import read_otherwise
from zoo.encoders.sequence import SequenceEncoder
from zoo.encoders.sequence.template import Prompt
from zoo.errors import (
    EmptyItemError,
    EmptyTextError,
    InvalidPixelsError,
    InvalidTextError,
    MissingWeightsError,
    TooManyTokensError,
    UnrecognisedCheckpointError,
    UnsupportedInputError,
    UnsupportedModalityError,
)
from zoo.inputs.item import Item
from zoo.models.backbones import byte_processor, tiny_qwen2_vl
from zoo.sequences import SequenceFormat, from_reading

LONG = "Find an image that shows the same thing in another colour."


def make_image(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    torch.manual_seed(0)
    return zoo.build_model("gme-test")


@pytest.fixture(scope="module")
def encoder(model) -> SequenceEncoder:
    return model.towers[0].encoder


def with_reading(model: zoo.Embedder, **changes) -> SequenceEncoder:
    """The same weights, read otherwise."""
    return read_otherwise(model.towers[0].encoder, 512, byte_processor(), **changes)


def last(encoder: SequenceEncoder, items: list[Item], side: str = "right") -> torch.Tensor:
    """States of the last tokens `(n, width)`."""
    with torch.inference_mode():
        tokens = encoder(encoder.collate([encoder.prepare_item(item) for item in items], side))
    return zoo.pooling.LastToken()(tokens)


# --------------------------------------------------------------------------------------------------------- sequences


def test_an_instruction_takes_its_place_in_the_sequence(model, encoder):
    item = Item(text="a cat", image=make_image(0))
    given = encoder.tokenizer.decode(encoder.prepare_item(encoder.prompted(item, LONG)).ids)
    assert given.startswith(f"<|im_start|>system\n{LONG}<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|>")
    assert given.endswith("<|vision_end|>a cat<|im_end|>\n<|im_start|>assistant\n<|endoftext|>")
    own = Item(text="a cat", image=make_image(0), instruction=LONG)
    assert torch.equal(model.encode(own), model.encode(item, prompt=LONG))
    assert torch.equal(model.encode(own, prompt="Something else."), model.encode(own))
    assert not torch.allclose(model.encode(item), model.encode(own), atol=1e-4)


def test_parts_are_read_in_their_order(model):
    encoder = with_reading(model, prompt="{{ content }}!")
    item = zoo.inputs.item.as_item(Item(parts=["first", make_image(0), "then", make_image(1)]))
    text = encoder.tokenizer.decode(encoder.prepare_item(item).ids)
    assert text.replace("<|image_pad|>", "") == "first<|vision_start|><|vision_end|>then<|vision_start|><|vision_end|>!"
    other = zoo.inputs.item.as_item(Item(parts=["first", make_image(1), "then", make_image(0)]))
    assert not torch.allclose(last(encoder, [item]), last(encoder, [other]), atol=1e-4)


@pytest.mark.parametrize("positions", ["sequential", "mrope"])
def test_neither_padding_nor_neighbours_change_a_vector(model, positions):
    encoder = with_reading(model, positions=positions)
    items = [
        Item(text="a"),
        Item(image=make_image(0)),
        Item(text="a much longer text, " * 6, image=make_image(1, 40, 200)),
        zoo.inputs.item.as_item(Item(parts=[make_image(2, 120, 30), "and", make_image(0)])),
    ]
    alone = torch.cat([last(encoder, [item]) for item in items])
    for side in ("left", "right"):
        assert torch.allclose(last(encoder, items, side), alone, atol=1e-5)
        assert torch.allclose(last(encoder, items[::-1], side), alone.flip(0), atol=1e-5)


def test_sequential_and_mrope_positions_differ_only_with_images(model):
    one, two = with_reading(model, positions="sequential"), with_reading(model, positions="mrope")
    text, both = [Item(text="words alone")], [Item(text="words", image=make_image(0, 120, 60))]
    assert torch.equal(last(one, text), last(two, text))
    assert (last(one, both) - last(two, both)).abs().max() > 1e-3
    positions = one.collate([one.prepare_item(both[0])])["positions"]
    assert torch.equal(positions, torch.arange(positions.shape[-1]).expand(3, 1, -1))


def test_attention_is_as_the_reading_says(model):
    """Changing the last words must not reach the first token of a causal backbone, and must of a bidirectional one."""
    for attention, reaches in (("causal", False), ("bidirectional", True)):
        torch.manual_seed(0)
        reading = SequenceFormat(prompt="{{ text }}", attention=attention)
        encoder = SequenceEncoder(tiny_qwen2_vl(), reading, {}, 512, processor=byte_processor()).eval()
        with torch.inference_mode():
            a, b = (encoder(encoder.prepare([Item(text=text)])).states[0, 0] for text in ("abcd", "abcx"))
        assert bool((a - b).abs().max() > 1e-4) == reaches
        both = encoder.prepare([Item(text="abcd"), Item(text="a longer text than that")])
        with torch.inference_mode():
            alone = encoder(encoder.prepare([Item(text="abcd")])).states[0]
            assert torch.allclose(encoder(both).states[0, : len(alone)], alone, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ computed once


def test_an_image_is_looked_at_once_in_a_batch(model, encoder, monkeypatch):
    seen = []
    vision = type(encoder.backbone.visual)
    plain = vision.forward
    monkeypatch.setattr(
        vision, "forward", lambda self, pixels, **rest: seen.append(len(pixels)) or plain(self, pixels, **rest)
    )
    items = [Item(text=text, image=make_image(0)) for text in ("red", "blue", "green", "gold")] + [
        Item(image=make_image(1))
    ]
    together = model.encode(items)
    assert seen == [2 * len(encoder.prepare_item(items[0]).media[0].inputs["pixel_values"])]
    assert torch.allclose(together, torch.stack([model.encode(item) for item in items]), atol=1e-5)


def test_large_images_are_read_ahead_by_their_bytes(model, encoder, monkeypatch):
    read = encoder.prepare_item(Item(image=make_image(0)))
    assert encoder.size(read) == sum(t.nbytes for t in read.media[0].inputs.values()) > 0
    assert encoder.size(encoder.prepare_item(Item(text="a"))) == 0
    pulled = []

    def source():
        for i in range(120):
            pulled.append(i)
            yield make_image(i % 3)

    def furthest() -> int:
        pulled.clear()
        done = enumerate(model.encode_stream(source()))
        return max(len(pulled) - n for n, _ in done)

    assert furthest() > 60  # small ones count as any image
    monkeypatch.setattr("zoo.encoders.prefetch._WINDOW_BYTES", 8 * encoder.size(read))
    assert furthest() <= 3 * 8 + 4  # two windows, and the rest of a chunk; of one more the results


def test_a_shared_instruction_is_computed_once(model, encoder, monkeypatch):
    texts = [Item(text=text, instruction=LONG) for text in ("a cat", "a dog", "two birds on a wire")]
    batch = encoder.collate([encoder.prepare_item(item) for item in texts])
    shared = encoder._shared_prefix
    with torch.inference_mode():
        assert shared(batch["ids"], batch["mask"]) > len(LONG)
    once = last(encoder, texts)
    monkeypatch.setattr(SequenceEncoder, "_shared_prefix", lambda *_: 0)
    assert torch.allclose(once, last(encoder, texts), atol=1e-5)


def test_the_reading_decides_what_attention_sees(model, encoder):
    """Also where a configuration says otherwise, or another encoder has used the same backbone."""
    items = [Item(text=text, instruction=LONG) for text in ("a cat", "a dog")]
    causal = last(encoder, items)
    both = with_reading(model, attention="bidirectional", pooling="mean")
    assert (last(both, items) - causal).abs().max() > 1e-3
    assert torch.equal(last(encoder, items), causal)


def test_no_prefix_is_shared_where_it_would_be_wrong(model, encoder):
    texts = [encoder.prepare_item(Item(text=text, instruction=LONG)) for text in ("a cat", "a dog of some size")]
    batch = encoder.collate(texts)
    assert encoder._shared_prefix(batch["ids"], batch["mask"]) == 0  # gradients are asked for
    with torch.inference_mode():
        left = encoder.collate(texts, "left")
        assert encoder._shared_prefix(left["ids"], left["mask"]) == 0
        images = encoder.collate([encoder.prepare_item(Item(image=make_image(i), instruction=LONG)) for i in (0, 0)])
        first = int((images["ids"][0] == encoder.readers["image"].token_id).nonzero()[0])
        assert encoder._shared_prefix(images["ids"], images["mask"]) <= first


# --------------------------------------------------------------------------------------------------------- truncation


def test_words_are_cut_and_images_never_are(model):
    source = model.towers[0].encoder
    encoder = read_otherwise(source, 120, byte_processor())
    item = Item(text="words " * 400, image=make_image(0), instruction="Do it.")
    read = encoder.prepare_item(item)
    pads = read.ids.count(encoder.readers["image"].token_id)
    assert len(read.ids) == 120
    assert pads == read.media[0].tokens > 0
    text = encoder.tokenizer.decode(read.ids)
    assert "Do it." in text
    assert (
        text.endswith("w<|im_end|>\n<|im_start|>assistant\n<|endoftext|>") or "words" in text.split("<|vision_end|>")[1]
    )
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n<|endoftext|>")


def test_of_a_megabyte_only_what_can_be_read_is_tokenised(model, monkeypatch):
    source = model.towers[0].encoder
    encoder = read_otherwise(source, 120, byte_processor())
    real, seen = encoder.tokenizer, []
    monkeypatch.setattr(encoder, "tokenizer", lambda text, **options: seen.append(len(text)) or real(text, **options))
    ids = encoder.prepare_item(Item(text="words " * 200_000)).ids
    assert ids == encoder.prepare_item(Item(text="words " * 100)).ids
    assert max(seen) < 120 * 64 + 200


@pytest.mark.parametrize("room", range(1, 9))
def test_letters_of_several_tokens_are_cut_whole(model, room):
    source = model.towers[0].encoder
    least = len(source.prepare_item(Item(text="a")).ids) - 1
    encoder = read_otherwise(source, least + room, byte_processor())
    read = encoder.prepare_item(Item(text="🙂🙂🙂"))  # four bytes each
    assert len(read.ids) == least + room // 4 * 4
    assert "\ufffd" not in encoder.tokenizer.decode(read.ids)


def test_more_images_than_the_model_reads(model):
    source = model.towers[0].encoder
    encoder = read_otherwise(source, 60, byte_processor())
    with pytest.raises(TooManyTokensError, match="of its images and videos; the model reads 60"):
        encoder.prepare_item(Item(text="a", image=make_image(0, 200, 200)))


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("item", "error", "said"),
    [
        (Item(instruction="Find it."), EmptyItemError, "only an instruction"),
        (Item(parts=[]), EmptyItemError, "this one has none"),
        (Item(text="a", parts=["b"]), UnsupportedInputError, "either parts or a text"),
        (Item(parts=[Item(parts=["a"])]), UnsupportedInputError, "no parts"),
        (Item(text="  "), EmptyTextError, "no visible character"),
        (Item(text="the <|image_pad|> token"), InvalidTextError, "take it out"),
        (Item(text="a", instruction="<|image_pad|>"), InvalidTextError, "take it out"),
        (Item(image=np.zeros((2, 900, 3), np.uint8)), InvalidPixelsError, "aspect ratio"),
        (Item(image=make_image(0), audio=np.zeros(8, np.float32)), UnsupportedModalityError, "audio"),
    ],
)
def test_bad_items_are_named(model, item, error, said):
    with pytest.raises(error, match=said):
        model.encode([item])
    vectors = list(model.encode_stream([Item(text="good"), item, Item(image=make_image(0))]))
    assert [v.vector is not None for v in vectors] == [True, False, True]
    assert isinstance(vectors[1].error, error)


def test_parts_need_no_items_around_them(encoder):
    item = Item(parts=["before", make_image(0), "after"])
    assert (
        encoder.prepare_item(item).ids == encoder.prepare_item(zoo.inputs.item.as_item(item)).ids
    )  # training reads items as they are


def test_other_models_do_not_read_parts():
    with pytest.raises(UnsupportedModalityError, match="parts"):
        zoo.build_model("clip-test").encode([Item(parts=["a"])])


def test_a_shape_without_its_processor_reads_nothing():
    with torch.device("meta"):
        shape = zoo.build_model("gme-qwen2vl-2b")
    with pytest.raises(MissingWeightsError, match="load_model"):
        shape.towers[0].encoder.prepare_item(Item(text="a"))


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10) %}x{% endfor %}",
        "{{ text.__class__ }}",
        "{{ range(3) }}",
        "{{ text | attr('x') }}",
        "{{ other }}",
        "{% include 'x' %}",
        "{{ text",
        "x" * 5000,
        "{% set a = text ~ text %}{% set a = a ~ a %}{{ a }}",
        "{% set a = text %}{% set b = a %}{{ b }}",
        "{{ text | join(text) }}",
        "{{ text }}" * 41,
        "{{ text | replace('a', 'aa') }}",
        "{{ text | replace('', 'a') }}",
        "{{ text | replace(text, 'a') }}",
        "{% set text = text ~ text %}" * 18 + "{{ text }}",
        "{% set a = " + " ~ ".join(["content"] * 19) + " %}" + "{{ a }}" * 19,
        "{% if text %}{% elif media %}{% elif content %}{% set a = " + "text ~ " * 8 + "text %}{% endif %}{{ a }}",
        "{{ [[[content] ~ ''] ~ ''] }}",
    ],
)
def test_a_template_can_do_little(template):
    with pytest.raises(UnrecognisedCheckpointError):
        Prompt(template)


@pytest.mark.slow  # half a minute of matrix products
def test_the_fastest_type_is_found_by_trial(monkeypatch):
    from zoo import precision

    assert precision.fastest_dtype("cpu") in (torch.float32, torch.bfloat16)
    for half, chosen in ((1.0, torch.bfloat16), (1.9, torch.float32), (5.0, torch.float32)):
        seconds = {torch.float32: 2.0, torch.bfloat16: half}
        monkeypatch.setattr(precision, "_time", lambda a, device, seconds=seconds: seconds[a.dtype])
        precision.fastest_dtype.cache_clear()
        assert precision.fastest_dtype("cpu") == chosen
    precision.fastest_dtype.cache_clear()
    monkeypatch.undo()
    model = zoo.load_model("zoo-mini", device="cpu", dtype="auto")
    assert next(model.parameters()).dtype == precision.fastest_dtype("cpu")


def test_readings_that_make_no_sense_are_refused():
    for facts, said in (
        ({"pixels": (5,)}, "fewest and the most"),
        ({"attention": "bidirectional"}, "pool the mean"),
        ({"span": "outside_instruction"}, "instruction_marks"),
        ({"frames": 0}, "at least 1 frame"),
    ):
        with pytest.raises(ValueError, match=said):
            from_reading({"prompt": "{{ text }}", **facts})
    with pytest.raises(ValueError, match="unknown switches"):
        from_reading({"prompt": "", "colour": "red"})


def test_non_commercial_weights_warn_once(monkeypatch):
    from zoo import loading

    monkeypatch.setattr(loading, "_WARNED", set())
    with pytest.warns(UserWarning, match="jina-embeddings-v4 are for non-commercial use"):
        loading.warn_of_license(zoo.get_spec("jina-embeddings-v4"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loading.warn_of_license(zoo.get_spec("jina-embeddings-v4"))
        loading.warn_of_license(zoo.get_spec("gme-qwen2vl-2b"))


def test_half_precision_is_loaded_as_such(tmp_path, monkeypatch):
    """Of a checkpoint in bfloat16 no float32 copy is made on the way."""
    from transformers import Qwen2VLModel

    from tests.reference.qwen2_vl import write_qwen2_vl

    write_qwen2_vl(tmp_path / "old")
    loaded = []
    plain = Qwen2VLModel.from_pretrained.__func__
    monkeypatch.setattr(
        Qwen2VLModel,
        "from_pretrained",
        classmethod(lambda cls, *args, **rest: loaded.append(rest["dtype"]) or plain(cls, *args, **rest)),
    )
    half = zoo.load_model(tmp_path / "old", like="gme-qwen2vl-2b", device="cpu", dtype=torch.bfloat16)
    full = zoo.load_model(tmp_path / "old", like="gme-qwen2vl-2b", device="cpu")
    assert loaded == [torch.bfloat16, torch.float32]
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in full.parameters()} == {torch.float32}
    long = "a cat on a mat, " * 60
    assert float(half.encode(long) @ full.encode(long)) > 0.995
    for model in (half, full.half(), full.float().to(torch.bfloat16)):
        frequencies = [b for name, b in model.named_buffers() if name.endswith("inv_freq")]
        assert frequencies
        assert all(b.dtype == torch.float32 for b in frequencies)
