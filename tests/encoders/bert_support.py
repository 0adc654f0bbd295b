"""A small model as the packaged one is made: an image tower whose head knows names, and a text tower of BERT's blocks."""

import zoo
from zoo.embedder import Embedder, Tower
from zoo.encoders.bert import BertText
from zoo.heads import Identity, Named
from zoo.models.text import byte_tokenizer
from zoo.pooling import Mean

SHAPE = {"vocab_size": 260, "width": 32, "layers": 3, "heads": 4, "hidden": 48, "positions": 40}


def named_dual() -> Embedder:
    """mini-test's image tower with a head of five names, and three blocks of BERT over bytes; random weights."""
    model = zoo.build_model("mini-test")
    image, dim = model.towers[0], SHAPE["width"]
    text = BertText(**SHAPE, max_tokens=40, tokenizer=byte_tokenizer())
    head = Named(image.encoder.width, dim, classes=5, gain=2.0, temperature=1.5)
    spec = zoo.ModelSpec("named-dual", frozenset({"image", "text"}), dim, "apache-2.0", max_tokens=40)
    return Embedder(spec, [Tower(image.encoder, image.pooler, head), Tower(text, Mean(), Identity())])
