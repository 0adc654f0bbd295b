"""Arguments of another type: every public call says which one, what to write instead, and has done nothing yet."""

from __future__ import annotations

import inspect
import io
import tempfile
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import zoo
from zoo import bulk, serving
from zoo.arguments import device
from zoo.cli import build_parser, main
from zoo.embedder import Embedder
from zoo.errors import ArgumentError, EmptyTextError, InputError, InvalidTextError, VectorError, ZooError
from zoo.index import ExactIndex, LanceIndex
from zoo.publishing import publish
from zoo.registry import register_model
from zoo.spec import ModelSpec


class Untouched:
    """Inputs that may not be looked at."""

    def __iter__(self) -> Any:
        raise AssertionError("work has begun")


BY_TYPE = ["4", 8.0, 5, True, b"x", ["a", 2], {"a": 1}, object()]
# Values of which every one is another type than the argument's; None stands for "not given" nearly everywhere.
WRONG: dict[str, list[Any]] = {
    "batch_size": ["4", 8.0, True, 0, -1, [1], object()],
    "dim": ["4", 8.0, True, 0, -1, 10**6, [1], object()],
    "prompt": [5, b"x", ["a"], object()],
    "prompt_name": [5, b"x", ["a"], object()],
    "precision": [8, "float64", None, ["int8"], object()],
    "on_error": [0, "ignore", None, object()],
    "progress": ["yes", 5, object()],
    "a": ["a", 3, None, {"a": 1}, ["a"], object()],
    "b": ["a", 3, None, {"a": 1}, ["a"], object()],
    "documents": ["a", 3, None, {"a": 1}, Path("a"), iter("a"), object()],
    "k": ["4", 8.0, True, -1, object()],
    "role": [5, "passage", None, object()],
    "engine": [5, "cv2", None, object()],
    "folder": [5, b"x", None, ["a"], object()],
    "dtype": ["int8", "half precision", torch.int64, 16, object()],
    "device": ["gpu", "cuda" if not torch.cuda.is_available() else "cuda:99", "cuda:x", 5, object()],
    "devices": ["gpu", "cpu,", 5, [], [5], object()],
    "name": [5, b"x", None, ["a"], object()],
    "name_or_path": [5, b"x", None, ["a"], object()],
    "pattern": [5, b"x", None, object()],
    "modality": [5, "photo", ["text"], object()],
    "max_params": ["30M", 1.5, -1, object()],
    "license": [5, b"x", object()],
    "revision": [5, b"x", object()],
    "trust_remote_code": ["yes", 1, None, object()],
    "allow_pickle": ["yes", 1, None, object()],
    "like": [5, b"x", object()],
    "ignore": ["key", 5, [5], None, object()],
    "towers": ["text", 5, [5], ["smell"], [], object()],
    "truncation": [5, "left", object()],
    "region": [5, "red-circle", ["dense"], object()],
    "pixels": [5, "fast", object()],
    "rule": [5, "red-circle", None, object()],
    "against": [5, "video", ["image"], object()],
    "target": [5, "video", ["image"], None, object()],
    "task": [5, b"x", " ", ["a"], object()],
    "examples": [5, "a", [("a query", "its answer")], object()],
    "image": [5, "a text", None, object()],
    "regions": [5, "box", None, object()],
    "inputs": ["one text", 5, None, Path("a"), {"a": 1}, object()],
    "model": [5, None, ["a"], object()],
    "source": [5, None, ["a"], object()],
    "out": [5, None, ["a"], object()],
    "column": [5, [5], object()],
    "split": [5, ["val"], object()],
    "root": [5, ["a"], object()],
    "allow_outside": ["yes", 1, object()],
    "as_text": ["nan", 5, [5], None, object()],
    "encoding": [5, b"x", object()],
    "separator": [5, b",", object()],
    "say": ["yes", 5, object()],
    "kind": [5, object()],
    "shard_size": ["4", 8.0, True, object()],
    "shard_seconds": ["4", True, None, object()],
    "max_bad": ["many", [1], object()],
    "update": ["yes", 1, None, object()],
    "force": ["yes", 1, None, object()],
    "undelete": ["yes", 1, None, object()],
    "adopt": ["yes", 1, None, object()],
    "heif": ["yes", 1, None, object()],
    "tests": ["yes", 1, None, object()],
    "backend": [5, "faiss", object()],
    "threshold": ["4", 8.0, -1, None, object()],
    "api_key": [5, object()],
    "allow_urls": ["yes", 1, None, object()],
    "cors": ["*", 5, None, object()],
    "host": [5, None, object()],
    "port": ["80", 8.0, -1, None, object()],
    "ready": [5, None, object()],
    "repo": [5, None, "no-slash", object()],
    "private": ["yes", 1, None, object()],
    "message": [5, None, object()],
    "language": [5, b"x", object()],
    "ids": ["abc", 5, {"a": 1}, Path("a"), object()],
    "vectors": ["a", 3, None, {"a": 1}, ["a"], [[1.0], [1.0, 2.0]], object()],
    "query": ["a", 3, None, {"a": 1}, ["a"], object()],
    "attributes": ["a", 3, ["a"], {5: ["a"]}, {"year": "abc"}, {"year": 5}, {"year": ["x"]}, object()],
    "references": ["abc", 5, {"a": 1}, object()],
    "where": [5, b"x", ["a"], object()],
    "exact": ["yes", 1, None, object()],
    "fingerprint": [5, "x", ["a"], object()],
    "instruction": [5, b"x", object()],
    "per": [5, "word", None, object()],
    "seconds": ["1", True, 0, -1, object()],
    "hop": ["1", True, 0, -1, 99, object()],
    "fps": ["1", True, 0, 1.0, object()],
    "item": [5, "a text", None, object()],
    "pairs": ["a", 5, ["a"], object()],
    "limit": ["4", 8.0, True, 0, None, object()],
    "changed": ["4", 8.0, True, 0, None, object()],
    "layers": ["6", 6.5, True, 0, [6], object()],
    "models": [5, None, [], [5], ["zoo-mini@dims=4"], object()],
    "budget": [5, "ms", "ms=fast", "seconds=3", ["ms=3"], object()],
    "class_prompt": [5, None, "a photo", object()],
    "columns": [5, "a", ["a"], {"a": 5}, object()],
    "speed": ["yes", 1, None, object()],
    "cache": [5, ["a"], object()],
    "reranker": [5, ["a"], object()],
    "rerank_top": ["4", 8.0, True, 0, None, object()],
}
# The facts of a model, as `ModelSpec` and `register_model` take them.
FACTS: dict[str, list[Any]] = {
    "name": [5, None, b"x"],
    "modalities": ["text", 5, None, [5], ["photo"], []],
    "dim": ["8", 8.0, True, 0, None],
    "license": [5, None],
    "hub_id": [5, None],
    "demo": [5, None, "no module"],
    "revision": [5, b"x"],
    "base_revision": [5, b"x"],
    "base": [5, ["a"]],
    "paper": [5, ["a"]],
    "params": ["30M", 1.5, -1, None],
    "image_size": ["224", 224.0, 0, (224, 224)],
    "max_tokens": ["512", 512.0, 0],
    "dims": ["256", 256, ["256"], [256.0], [0], None, {256: 1}],
    "instruction": [5, None, "no blank for it"],
    "example": [5, None, "{query} and no answer"],
    "pool_prompt": ["yes", 1, None],
    "prompts": ["query: ", ["query: "], {"query": None}, {5: "query: "}, None],
    "default_prompt_name": [5, "absent"],
    "roles": ["query", ["query"], {"query": None}, {"passage": "x"}, None],
    "around": ["[ $A ]", ["[ $A ]"], {"[": None}, {5: "[ $A ]"}, None],
    "languages": ["en", 5, None, [5], ["English"]],
    "packaged": ["yes", 1, None],
    "source": [5, None],
    "family": [5, None],
    "format": ["last", 5, {"prompt": 5}, {"promt": ""}],
    "media": [5, None, "image", {"smell": {}}, {"image": 5}, {"image": {"square": "8"}}],
    "pooling": [5, None, "last"],  # of no sequence
    "projection": [5, None, "custom_text_proj"],
    "adapter": [5, None],
    "similarity": [5, None, "euclidean"],
    "attention": [5, "none"],
    "recipe": [5, None],
    "targets": ["image", 5, None, [5]],
    "pages": [5, None, "scan"],
    "closing": [5, None, "of no instruction"],
    "head_dims": ["256", 256, ["256"], [256.0], [0], None],
    "outputs": ["sparse", 5, None, [5], ["splade"]],
}
# Not walked: what is an object of the zoo's own, or of any type.
FREE = {"self", "texts", "options", "limits", "facts", "app", "columns"}


def store(kind: type) -> Any:
    """Makes a store of two rows in a folder."""

    def create(folder: Path) -> Any:
        index = kind.create(folder, fingerprint={}, dim=2, columns=pa.schema([("year", pa.int64())]))
        index.upsert(["a", "b"], [[1.0, 0.0], [0.0, 1.0]], {"year": [1999, 2020]})
        return index

    return create


STORES = {"exact": store(ExactIndex)} | ({"lance": store(LanceIndex)} if find_spec("lancedb") else {})


@cache
def calls() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name → a public callable, and arguments that it would work with. Not at collection: mteb and lancedb are slow to import."""
    import zoo.evaluation.mteb

    model, reranker = zoo.build_model("text-test"), zoo.build_reranker("u-marvel-reranker-test")
    vectors = torch.randn(3, model.spec.dim)
    untouched, lines = {"inputs": Untouched()}, Path(tempfile.mkdtemp()) / "lines.txt"
    lines.write_text("a\nb\n")
    stores = {name: store(lines.parent / name) for name, store in STORES.items()}
    row = {"ids": ["z"], "vectors": [[1.0, 0.0]]}
    return {
        **{f"{name}.upsert": (one.upsert, row) for name, one in stores.items()},
        **{f"{name}.delete": (one.delete, {}) for name, one in stores.items()},
        **{f"{name}.search": (one.search, {"query": [1.0, 0.0]}) for name, one in stores.items()},
        **{f"{name}.explain": (one.explain, {}) for name, one in stores.items()},
        **{f"{name}.count": (one.count, {}) for name, one in stores.items()},
        **{f"{name}.rows": (one.rows, {"columns": ["id"]}) for name, one in stores.items()},
        **{f"{name}.tune": (one.tune, {"threshold": 5}) for name, one in stores.items()},
        **{
            f"{name}.create": (type(one).create, {"folder": lines.parent / "new" / name, "fingerprint": {}, "dim": 2})
            for name, one in stores.items()
        },
        **{f"{name}.open": (type(one).open, {"folder": "/nowhere"}) for name, one in stores.items()},
        "mteb.wrap": (zoo.evaluation.mteb.wrap, {"model": model}),
        "encode": (model.encode, untouched),
        "encode_query": (model.encode_query, untouched),
        "encode_document": (model.encode_document, untouched),
        "encode_stream": (model.encode_stream, untouched),
        "encode_regions": (
            zoo.build_model("image-test").encode_regions,
            {"image": np.zeros((9, 9, 3), np.uint8), "regions": []},
        ),
        "encode_track": (zoo.build_model("image-test").encode_track, {"item": b"GIF89a", "per": "second"}),
        "with_region_rule": (zoo.build_model("image-test").with_region_rule, {"rule": "dense"}),
        "with_against": (zoo.build_model("fgclip2-test").with_against, {"target": "regions"}),
        "similarity": (model.similarity, {"a": vectors, "b": vectors}),
        "rank": (model.rank, {"query": vectors[0], "documents": vectors}),
        "role": (model.role, {"role": "query"}),
        "for_role": (model.for_role, {"role": "query"}),
        "prompt_text": (model.prompt_text, {}),
        "fingerprint": (model.fingerprint, {}),
        "set_pixel_engine": (model.set_pixel_engine, {"engine": "auto"}),
        "save_pretrained": (model.save_pretrained, {"folder": "/nowhere/at/all"}),
        "load_model": (zoo.load_model, {"name_or_path": "hf:org/never-asked-for"}),
        "build_model": (zoo.build_model, {"name": "text-test"}),
        "get_spec": (zoo.get_spec, {"name": "text-test"}),
        "list_models": (zoo.list_models, {}),
        "embed_dataset": (bulk.embed_dataset, {"model": model, "source": lines, "out": lines.parent / "out"}),
        "compare": (zoo.compare, {"models": ["text-test"], "pairs": [("a", "b")]}),
        "open_index": (zoo.open_index, {"folder": "/nowhere"}),
        "create_app": (serving.create_app, {"model": model}),
        "run_server": (serving.run_server, {"app": None}),
        "load_reranker": (zoo.load_reranker, {"name_or_path": "hf:org/never-asked-for"}),
        "build_reranker": (zoo.build_reranker, {"name": "u-marvel-reranker-test"}),
        "get_reranker_spec": (zoo.get_reranker_spec, {"name": "u-marvel-reranker-test"}),
        "list_rerankers": (zoo.list_rerankers, {}),
        "reranker.rerank": (reranker.rerank, {"query": "a", "documents": ["b"]}),
        "reranker.save_pretrained": (reranker.save_pretrained, {"folder": "/nowhere/at/all"}),
        "publish": (publish, {"source": "/nowhere", "repo": "me/nothing"}),
        "inspect_model": (zoo.inspect_model, {"model": "hf:org/never-asked-for"}),
        "quantize": (zoo.quantize, {"model": model, "inputs": ["a"] * 8}),
    }


def cases(name: str) -> list[tuple[str, Any]]:
    function, _ = calls()[name]
    found = [parameter for parameter in inspect.signature(function).parameters if parameter not in FREE]
    return [
        (parameter, value) for parameter in found for value in WRONG[parameter] if (name, parameter, value) not in FINE
    ]


METHODS = ("upsert", "delete", "search", "explain", "count", "rows", "tune", "create", "open")
NAMES = [
    *(f"{name}.{method}" for method in METHODS for name in STORES),
    *[
        "mteb.wrap",
        "encode",
        "encode_query",
        "encode_document",
        "encode_stream",
        "encode_regions",
        "encode_track",
        "with_region_rule",
        "with_against",
        "similarity",
        "rank",
        "role",
        "for_role",
        "prompt_text",
    ],
    *[
        "fingerprint",
        "set_pixel_engine",
        "save_pretrained",
        "load_model",
        "build_model",
        "get_spec",
        "list_models",
        "embed_dataset",
    ],
    *[
        "compare",
        "open_index",
        "create_app",
        "run_server",
        "load_reranker",
        "build_reranker",
        "get_reranker_spec",
        "list_rerankers",
        "reranker.rerank",
        "reranker.save_pretrained",
        "publish",
        "inspect_model",
        "quantize",
    ],
]
FINE = [("encode", "inputs", value) for value in WRONG["inputs"]]
FINE += [(name, "inputs", v) for name in ("encode_query", "encode_document") for v in WRONG["inputs"]]
FINE += [
    (name, "query", value) for name in ("rank", "reranker.rerank") for value in WRONG["query"]
]  # which may be an input
FINE += [("encode_regions", "image", value) for value in WRONG["image"]]  # any input, whose own error says what it is
FINE += [("encode_track", "item", value) for value in WRONG["item"]]
FINE += [("load_model", "against", "video"), ("load_model", "dim", 10**6)]  # of a model that is not there to be asked
FINE += [("encode_regions", "region", None), ("embed_dataset", "regions", None), ("embed_dataset", "per", None)]
FINE += [(f"{name}.create", "dim", 10**6) for name in STORES]
FINE += [("compare", "pairs", value) for value in ("a", ["a"])]  # files, which are not there
FINE += [("load_model", "dtype", "int8"), ("quantize", "name", None)]
FINE += [("open_index", "model", None), ("fingerprint", "dim", 10**6)]


@pytest.mark.parametrize("name", NAMES)
def test_an_argument_of_another_type_is_named(name: str) -> None:
    function, usual = calls()[name]
    options = {"batch_size", "dim", "precision", "on_error", "progress"}
    walked = cases(name)
    if name in ("encode_query", "encode_document"):  # which hand them on
        walked += [(option, value) for option in sorted(options) for value in WRONG[option]]
    unnamed = []
    for parameter, value in walked:
        try:
            result = function(**{**usual, parameter: value})
        except VectorError:
            assert parameter in ("vectors", "query")  # which says it of the vectors
        except ZooError as error:
            if parameter not in str(error):
                unnamed.append((parameter, value, f"{type(error).__name__}: {error}"))
        except Exception as error:
            unnamed.append((parameter, value, repr(error)))
        else:
            unnamed.append((parameter, value, f"gave {type(result).__name__}"))
    assert unnamed == []


@pytest.mark.parametrize("make", [ModelSpec, register_model, lambda **facts: ModelSpec.from_dict(facts)])
def test_a_fact_of_another_type_is_named(make: Any) -> None:
    assert set(FACTS) == {field.name for field in fields(ModelSpec)}
    usual = {"name": "a-model", "modalities": {"text"}, "dim": 8, "license": "mit"}
    unnamed = []
    for fact, values in FACTS.items():
        for value in values:
            try:
                made = make(**{**usual, fact: value})
                if make is register_model:
                    made(lambda spec: None)
                unnamed.append((fact, value, "passed"))
            except ValueError as error:
                said = fact if fact != "default_prompt_name" else "prompt"
                if said.removesuffix("s") not in str(error).replace("modality", "modalities"):
                    unnamed.append((fact, value, str(error)))
            except Exception as error:
                unnamed.append((fact, value, repr(error)))
    assert unnamed == []


def test_unknown_and_missing_facts_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"unknown facts \['dimension'\]"):
        register_model(name="a-model", modalities=["text"], dimension=8, license="mit")
    with pytest.raises(ArgumentError, match=r"missing facts \['dim'\]"):
        register_model(name="a-model", modalities=["text"], license="mit")
    for facts, remedy in (({"dim": "8"}, "write dim=8"), ({"modalities": "text"}, "write modalities=\\['text'\\]")):
        with pytest.raises(ArgumentError, match=remedy):
            ModelSpec(**{"name": "a-model", "modalities": {"text"}, "dim": 8, "license": "mit"} | facts)


def test_the_calls_are_those_that_are_named() -> None:
    assert list(calls()) == NAMES


def test_every_public_method_of_a_store_is_walked() -> None:
    quiet = {"commit", "origins", "close", "own_rows", "writing"}  # without arguments
    quiet |= {"add_shards", "begin", "open_at"}  # of the zoo's own shards and facts
    for name in STORES:
        kind = {"exact": ExactIndex, "lance": LanceIndex}[name]
        own = {n for n in dir(kind) if callable(getattr(kind, n)) and not n.startswith("_")} - quiet
        assert {f"{name}.{n}" for n in own} <= set(NAMES)


def test_every_public_callable_is_walked() -> None:
    """What takes no arguments to mistake, is a record, or is the protocol of a layer, is listed here."""
    quiet = {"unknown_share", "route", "route_index", "push_to_hub", "train", "eval"}
    own = {n for n, f in vars(Embedder).items() if callable(f) and not n.startswith("_")} - quiet
    records = {
        "Box",
        "Point",
        "Mask",
        "Polygon",
        "Item",
        "ModelSpec",
        "Embedder",
        "Encoded",
        "RankHit",
        "register_model",
    }
    records |= {"DocumentPage", "Excerpt", "Waveform", "Reranker", "RerankerSpec", "register_reranker"}
    errors = {n for n in zoo.__all__ if n.endswith("Error")}
    public = {n for n in zoo.__all__ if callable(getattr(zoo, n))} - records - errors
    assert own | public <= set(NAMES)


def test_what_is_right_goes_through() -> None:
    """numpy's numbers, names of types, and the cases that look like wrong ones."""
    model = zoo.build_model("text-test")
    assert (
        model.encode(["a b", "c"], batch_size=np.int64(1), dim=np.int32(model.spec.dim), progress=False).shape[0] == 2
    )
    assert model.rank("a", ["b", "c"], k=np.int64(1))[0].index in (0, 1)
    halved = zoo.load_model("zoo-mini", device=torch.device("cpu"), dtype="bfloat16")
    assert {parameter.dtype for parameter in halved.parameters()} == {torch.bfloat16}
    assert zoo.load_model("zoo-mini", device="cpu", dtype="torch.float64").device.type == "cpu"
    assert device("device", "cpu") == torch.device("cpu")


def test_the_remedy_is_the_value_that_was_meant() -> None:
    model = zoo.build_model("text-test")
    for options, remedy in (({"batch_size": "4"}, "batch_size=4"), ({"dim": 8.0}, "dim=8")):
        with pytest.raises(ArgumentError, match=f"write {remedy}$") as caught:
            model.encode(["a"], **options)
        assert isinstance(caught.value, TypeError | ValueError)


def options_of_numbers() -> list[tuple[str, str, bool]]:
    """(command, option, whether it takes two) of every option that is a number."""
    (commands,) = (action for action in build_parser()._actions if hasattr(action, "choices") and action.choices)
    return [
        (command, action.option_strings[-1], action.nargs == 2)
        for command, parser in commands.choices.items()
        for action in parser._actions
        if action.option_strings and getattr(action.type, "__name__", "existing") not in ("existing", "str", "_mask")
    ]


def test_every_option_that_is_a_number_says_what_came(capsys: Any) -> None:
    """Before anything else of the line is looked at, with the option, the value and what was meant."""
    walked = options_of_numbers()
    named = {(command, option) for command, option, _ in walked}
    assert {("search", "--k"), ("encode", "--batch-size"), ("embed", "--dim"), ("train", "--lr")} <= named
    for command, option, two in walked:
        for value in ("x", "4.x", "nan"):
            with pytest.raises(SystemExit) as caught:
                main([command, option, value, *([value] if two else [])])
            said = capsys.readouterr().err
            assert caught.value.code == 2
            assert option in said, (command, option, said)
            assert repr(value) in said, (command, option, said)
            assert "invalid" not in said, "argparse's own words give no remedy"


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "VECTORS", "a cat"],
        ["eval", "zoo-mini", "--tasks", "emoji", "--split", "val"],
        ["mine", "PAIRS", "--out", "OUT.jsonl"],
        ["encode", "a cat"],
        ["embed", "FOLDER", "--out", "OUT"],
        ["serve", "zoo-mini"],
        ["merge", "zoo-mini", "OTHER", "--out", "OUT", "--probe", "PAIRS"],
    ],
)
def test_the_command_line_says_it_too(arguments: list[str], tmp_path: Path, capsys: Any) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text("query,positive\na,b\nc,d\n")
    places = {
        "FOLDER": str(tmp_path),
        "OUT": str(tmp_path / "out"),
        "OUT.jsonl": str(tmp_path / "out.jsonl"),
        "PAIRS": str(tmp_path / "pairs.csv"),
    }
    if "OTHER" in arguments:
        places["OTHER"] = str(zoo.load_model("zoo-mini").save_pretrained(tmp_path / "other"))
    if "VECTORS" in arguments:
        places["VECTORS"] = str(tmp_path / "vectors")
        assert main(["embed", str(tmp_path), "--out", places["VECTORS"], "--quiet"]) == 0
        capsys.readouterr()
    assert main([*(places.get(word, word) for word in arguments), "--device", "gpu"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "device must be the name of a device, not 'gpu'" in said
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------------- open files


def test_open_files_are_media(tmp_path: Path) -> None:
    model = zoo.build_model("image-test")
    path = tmp_path / "a.png"
    Image.effect_noise((24, 16), 80).convert("RGB").save(path)
    expected, content = model.encode(path), path.read_bytes()
    read_to_its_end = io.BytesIO(content)
    read_to_its_end.read()
    for file in (io.BytesIO(content), read_to_its_end, path.open("rb"), path.open("rb", buffering=0)):
        assert torch.equal(model.encode(file), expected)
    twice = io.BytesIO(content)
    several = [io.BytesIO(content), twice, twice, zoo.Item(image=io.BytesIO(content))]
    assert (model.encode(several) - expected).abs().max() < 1e-6
    closed = path.open("rb")
    closed.close()
    for file, said in ((closed, "open it again"), (io.BytesIO(b""), "empty"), (io.BytesIO(b"hello"), "text file")):
        with pytest.raises(InputError, match=said):
            model.encode(file)
    with path.open() as as_text, pytest.raises(InputError, match="mode 'rb'"):
        model.encode([as_text])


@pytest.mark.parametrize("item", [{"instruction": 5}, {"parts": 5}, {"parts": "ab"}, {"regions": 5}, {"text": 5}])
def test_wrong_parts_of_an_item_are_named(item: dict[str, Any]) -> None:
    model = zoo.build_model("text-test")
    with pytest.raises(InputError, match=next(iter(item))):
        model.encode(zoo.Item(**{"text": "a", **item}))


# ------------------------------------------------------------------------------------------------------ visible texts


@pytest.mark.parametrize(
    "text",
    [
        " " * 5000 + "kitty",
        "\n" * 100_000 + "x",
        "\U0001fae9",  # newer than some Pythons
        "\U0001fadf\U0001fae8",
        "\ue0b0",  # an icon of a patched font
        "\U000f0001",
        "\u0378",
        "\u200b" * 5000 + "a",
    ],
)
def test_what_can_be_seen_is_no_empty_text(text: str) -> None:
    assert zoo.build_model("text-test").encode(text).isfinite().all()


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\u200d \ufeff", "\x00\x01", "\u2028 \u3000"])
def test_what_cannot_be_seen_is_one(text: str) -> None:
    with pytest.raises(EmptyTextError):
        zoo.build_model("text-test").encode(text)
    with pytest.raises(InvalidTextError):
        zoo.build_model("text-test").encode("\ud800")
