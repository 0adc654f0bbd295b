"""Every setting of the small files beside a text backbone, set to other values: ours follows sentence-transformers, or refuses.

The keys are those of a saved folder and those of the zoo's own tables; a key that only a new version writes is therefore in here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

import zoo
from tests.reference.backbones import write_plain
from tests.reference.base import stir
from zoo.encoders._logging import quiet
from zoo.encoders.rust import panicked
from zoo.errors import MissingWeightsError, UnreadableTextError, ZooError
from zoo.formats.known import sentence_transformers as known
from zoo.formats.known import tokenizer as of_tokenizer
from zoo.formats.settings import Table

TEXTS = [
    "a red Motorbike, café",
    "two DOGS  playing in the snow [MASK] <mask> it's a cat's",
    "the old harbour at dawn, gulls " * 9,
]
MOVED, BOUND = 1e-4, 1e-5
DEEPEST = 4  # of a setting inside a tokenizer.json
SKIPPED = {"vocab", "merges", "added_tokens_decoder"}  # tables of tokens: thousands of keys of one kind
TABLES: dict[str, Table] = {
    "modules.json": known.MODULES,
    "sentence_bert_config.json": known.TRANSFORMER,
    "1_Pooling/config.json": known.POOLING,
    "2_Dense/config.json": known.DENSE,
    "3_LayerNorm/config.json": known.LAYER_NORM,
    "4_Normalize/config.json": known.NORMALIZE,
    "config_sentence_transformers.json": known.SETTINGS,
    "tokenizer_config.json": Table(of_tokenizer.FOLLOWED, of_tokenizer.INERT, of_tokenizer.HELD),
}
Place = tuple[str | int, ...]
NONE: Mapping[Place, Sequence[Any]] = MappingProxyType({})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sentence-transformers with one of every module."""
    root = tmp_path_factory.mktemp("every")
    first = Transformer(str(write_plain(root / "plain", "bert")))
    after = [stir(Dense(32, 24)), stir(LayerNorm(24)), Normalize()]
    prompts = {"query": "find what answers this: ", "document": ""}
    model = SentenceTransformer(modules=[first, Pooling(32, "mean"), *after], device="cpu", prompts=prompts)
    model.save_pretrained(str(root / "sentence"), create_model_card=False)
    return root / "sentence"


def others(value: Any) -> Iterator[Any]:
    """Other values of a setting, of its own kind."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (8, value + 1)
    elif isinstance(value, str):
        yield from ("cls", "left", "[MASK]", "query", "dot", "torch.nn.modules.activation.ReLU", "")
    elif value is None:
        yield from (True, 8, "query", "cls", "left", "[MASK]", {"type": "Lowercase"}, {"a": 1})
    else:
        yield from (None, type(value)())
        if isinstance(value, list):
            yield value[::-1]


def places(document: Any, at: Place = ()) -> Iterator[Place]:
    """Where the settings of a file are, nested ones too; of a list the first and the last."""
    if len(at) > DEEPEST:
        return
    inside = document.items() if isinstance(document, dict) else ()
    if isinstance(document, list):
        inside = {0: document[0], len(document) - 1: document[-1]}.items() if document else ()
    for key, value in inside:
        if key not in SKIPPED:
            yield (*at, key)
            yield from places(value, (*at, key))


def at(document: Any, place: Place) -> Any:
    for key in place:
        document = document[key] if not isinstance(document, dict) else document.get(key)
    return document


def changed(document: Any, place: Place, value: Any) -> Any:
    """A copy of a document with another value at one place."""
    copy = json.loads(json.dumps(document))
    at(copy, place[:-1])[place[-1]] = value
    return copy


def theirs(folder: Path) -> torch.Tensor | None:
    """sentence-transformers' own vectors, as queries and without a role; None where it cannot load the folder.

    One text at a time: ours are filled so that a vector never depends on its batch, where a reference may fill on the left.
    """
    try:
        with quiet():
            model = SentenceTransformer(str(folder), device="cpu")
            found = torch.cat(
                [torch.as_tensor(call(TEXTS, batch_size=1)) for call in (model.encode, model.encode_query)]
            )
    except BaseException as error:  # whatever a library answers invalid files with
        if not isinstance(error, Exception) and not panicked(error):
            raise
        return None
    found = torch.nn.functional.normalize(found.float(), dim=-1)
    return found if found.isfinite().all() else None


def ours(folder: Path) -> torch.Tensor | None:
    """Our vectors; None where the load is refused by name, or a text is: no token of it is known, or one has no row."""
    try:
        model = zoo.load_model(folder)
    except ZooError:
        return None
    try:
        return torch.nn.functional.normalize(torch.cat([model.encode(TEXTS), model.encode_query(TEXTS)]), dim=-1)
    except (MissingWeightsError, UnreadableTextError):
        return None


def differ(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item() if a.shape == b.shape else 1.0


def wrong(file: Path, root: Path, table: Table, guesses: Mapping[Place, Sequence[Any]] = NONE) -> list[str]:
    """What is wrong with the settings of one file: those whose effect is silently dropped, or comes as a raw error.

    Args:
        guesses: place → values to try too, of settings that the file need not have.
    """
    document, found = json.loads(file.read_text()), []
    base = theirs(root)
    assert base is not None
    assert differ(ours(root), base) < BOUND
    known_keys = [*table.followed, *table.held, *table.inert]
    beside = [(key,) for key in known_keys if key not in document] if isinstance(document, dict) else []
    for place in dict.fromkeys([*places(document), *beside, *guesses]):
        for value in (*others(at(document, place)), *guesses.get(place, ())):
            file.write_text(json.dumps(changed(document, place, value)))
            expected = theirs(root)
            name = f"{file.name}: {'.'.join(map(str, place))} = {json.dumps(value)}"
            try:
                given = ours(root)
            except BaseException as error:  # found, and told
                if not isinstance(error, Exception) and not panicked(error):
                    raise
                found.append(f"{name}: {type(error).__name__}: {error}")
                continue
            if expected is None:
                continue  # sentence-transformers does not open it: nobody's vector
            if given is not None and differ(given, expected) > BOUND:
                moved = "moves" if differ(expected, base) > MOVED else "does not move"
                found.append(f"{name}: {differ(given, expected):.1e} apart; it {moved} the reference")
    file.write_text(json.dumps(document))
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*splits texts otherwise:UserWarning")
@pytest.mark.parametrize("file", sorted(TABLES))
def test_every_setting_is_followed_or_refused(file: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    found = wrong(copy / file, copy, TABLES[file])
    assert not found, "\n".join(found)
