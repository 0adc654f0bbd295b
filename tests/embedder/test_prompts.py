"""Prompts: by name or to the letter, never guessed; roles as sentence-transformers has them, and where the zoo differs."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from zoo.training.cached_embeddings import role_prefixes
from zoo.training.errors import RecipeError
from zoo.training.recipe import Recipe
from zoo.training.vector_cache import VectorCache, encode_cached, fill_cache

import zoo
from tests.reference.sentence_models import _write
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.errors import FingerprintMismatchError, PromptError, UnrecognisedCheckpointError
from zoo.evaluation.pairs import evaluate_pairs
from zoo.index.opening import check_model
from zoo.inputs.item import Item
from zoo.prompts import is_name
from zoo.serving.limits import Limits, RequestError
from zoo.serving.protocol import parse

TEXTS = ["a red motorbike", "two dogs playing"]
SETTINGS = "config_sentence_transformers.json"


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = zoo.build_model("text-test")
    model.spec = replace(model.spec, prompts={"query": "find: ", "passage": "text: ", "s2p_query": "ask: "})
    return model


# ---------------------------------------------------------------------------------------- against sentence-transformers


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentence") / "model"
    _write(folder, Pooling(32, "mean"))
    return folder


def both(folder: Path, prompts: dict, default: str | None):
    """The folder with these prompts, opened by sentence-transformers and by the zoo."""
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps({**settings, "prompts": prompts, "default_prompt_name": default}))
    return SentenceTransformer(str(folder), device="cpu"), zoo.load_model(folder)


@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({}, None),
        ({"query": "query: ", "document": "passage: "}, None),
        ({"query": "query: ", "document": ""}, None),
        ({"query": "query: ", "document": None}, None),
        ({"query": "", "document": "", "passage": "passage: "}, None),  # a model re-saved by sentence-transformers 6
        ({"query": "query: ", "document": "", "corpus": "two: "}, "query"),
        ({"task": "photo of "}, "task"),
        ({"query": "query: ", "task": "photo of "}, "task"),
        ({"default": "photo of "}, None),
        ({"default": "photo of "}, "default"),
        ({}, "query"),
    ],
)
def test_roles_and_the_default_are_those_of_sentence_transformers(saved, prompts, default):
    theirs, ours = both(saved, prompts, default)
    for verb in ("encode", "encode_query", "encode_document"):
        expected = torch.nn.functional.normalize(getattr(theirs, verb)(TEXTS, convert_to_tensor=True), dim=-1)
        assert (getattr(ours, verb)(TEXTS) - expected).abs().max() < 1e-5, verb
        for name in ours.spec.prompts:
            named = getattr(theirs, verb)(TEXTS, prompt_name=name, convert_to_tensor=True)
            named = torch.nn.functional.normalize(named, dim=-1)
            assert (getattr(ours, verb)(TEXTS, prompt_name=name) - named).abs().max() < 1e-5, (verb, name)
    assert set(prompts) <= set(ours.spec.prompts)
    assert ours.spec.default_prompt_name == default


def test_where_the_document_prompt_has_another_name_the_zoo_takes_it(saved):
    theirs, ours = both(saved, {"query": "query: ", "passage": "passage: "}, None)
    expected = torch.nn.functional.normalize(
        theirs.encode(TEXTS, prompt_name="passage", convert_to_tensor=True), dim=-1
    )
    assert (ours.encode_document(TEXTS) - expected).abs().max() < 1e-5
    theirs_document = torch.nn.functional.normalize(theirs.encode_document(TEXTS, convert_to_tensor=True), dim=-1)
    assert (theirs_document - expected).abs().max() > 1e-3  # the one difference: theirs puts nothing


def test_a_default_prompt_that_is_not_there_is_refused_by_both(saved):
    settings = json.loads((saved / SETTINGS).read_text())
    (saved / SETTINGS).write_text(json.dumps({**settings, "prompts": {"a": "b: "}, "default_prompt_name": "c"}))
    with pytest.raises(ValueError, match="'c'"):
        SentenceTransformer(str(saved), device="cpu")
    with pytest.raises(UnrecognisedCheckpointError, match="default_prompt_name is 'c'"):
        zoo.load_model(saved)


def test_what_was_loaded_is_saved_and_opened_again(saved, tmp_path):
    _, ours = both(saved, {"query": "", "passage": "passage: ", "default": "photo of "}, "passage")
    again = zoo.load_model(ours.save_pretrained(tmp_path / "again"))
    assert (again.spec.prompts, again.spec.default_prompt_name) == (ours.spec.prompts, "passage")
    assert (again.encode(TEXTS) - ours.encode(TEXTS)).abs().max() < 1e-6


# ------------------------------------------------------------------------------------------------------ names and text


@pytest.mark.parametrize(
    "word",
    [
        "query",
        "document",
        "passage",
        "search_document",
        "s2p-query",
        "retrieval.query",
        "STS",
        "Retrieval-query",
        "_x",
        "a1",
    ],
)
def test_a_name_in_the_place_of_the_text_is_an_error_that_points_to_prompt_name(model, word):
    with pytest.raises(PromptError, match=r"prompt_name=.*'query', 'passage', 's2p_query'") as caught:
        model.encode("a cat", prompt=word)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["query: ", "query:", "Represent:", "Represent this: ", "query ", " query", "", "[CLS]", "<q>", "query.", "a/b", "q?",
     "为这个句子生成表示以用于检索相关文章", "find: "],
)  # fmt: skip
def test_text_is_put_before_the_input_as_it_stands(model, text):
    assert torch.equal(model.encode("a cat", prompt=text), model.encode(text + "a cat", prompt=""))


def test_a_models_own_text_is_text_even_if_it_is_a_word(model):
    model.spec = replace(model.spec, prompts={"query": "Ask", "Ask2": "x: ", "same": "same"})
    assert torch.equal(model.encode("a cat", prompt="Ask"), model.encode("Aska cat", prompt=""))
    assert torch.equal(model.encode("a cat", prompt="same"), model.encode("a cat", prompt_name="same"))
    assert is_name(model.spec, "Ask2")
    assert not is_name(model.spec, "Ask")


def test_unknown_names_wrong_types_and_both_at_once(model):
    with pytest.raises(PromptError, match=r"no prompt called 'querry'.*'query', 'passage', 's2p_query'"):
        model.encode("a", prompt_name="querry")
    with pytest.raises(PromptError, match="give one of them"):
        model.encode("a", prompt="find: ", prompt_name="query")
    for wrong in ({"prompt": 5}, {"prompt_name": 5}, {"prompt": b"x: "}):
        with pytest.raises(PromptError, match="must be str"):
            model.encode("a", **wrong)
    with pytest.raises(PromptError, match="text-test has none"):
        bare = zoo.build_model("text-test")
        bare.spec = replace(bare.spec, prompts={})
        bare.encode("a", prompt_name="query")


def places(model, tmp_path):
    """Everywhere the house takes a prompt: what, and a call with `prompt=` or `prompt_name=`."""
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat\na dog\n")
    items = [Item(text=text) for text in TEXTS]
    cache = VectorCache.for_towers(tmp_path / "cache", model)

    def request(prompt=None, prompt_name=None):
        body = {"input": "a", **{k: v for k, v in (("prompt", prompt), ("prompt_name", prompt_name)) if v is not None}}
        try:
            return parse(body, model, [model.spec.name], Limits())
        except RequestError as error:
            raise PromptError(error.args) from error

    def pairs(prompt=None, prompt_name=None):
        names = {
            "prompts": (prompt, "") if prompt else None,
            "prompt_names": (prompt_name, None) if prompt_name else None,
        }
        return evaluate_pairs(model, items, items, on_bad="raise", **names)

    def recipe(prompt="", prompt_name=""):
        return role_prefixes(model, Recipe(query_prompt=prompt, document_prompt_name=prompt_name))

    return {
        "encode": lambda **asked: model.encode("a", **asked),
        "encode of a list": lambda **asked: model.encode(["a"], **asked),
        "encode of a generator": lambda **asked: model.encode(iter(["a"]), **asked),  # before anything is pulled
        "encode_query": lambda **asked: model.encode_query("a", **asked),
        "encode_document": lambda **asked: model.encode_document("a", **asked),
        "encode_stream": lambda **asked: model.encode_stream(iter(["a"]), **asked),
        "fingerprint": lambda **asked: model.fingerprint(**asked),
        "prompt_text": lambda **asked: model.prompt_text(**asked),
        "embed_dataset": lambda **asked: embed_dataset(model, texts, tmp_path / "out", progress=False, **asked),
        "evaluate_pairs": pairs,
        "fill_cache": lambda **asked: fill_cache(model, items, cache, progress=False, **asked),
        "encode_cached": lambda **asked: encode_cached(model, items, cache, progress=False, **asked),
        "a recipe": recipe,
        "the server": request,
    }


def test_every_place_that_takes_a_prompt_tells_names_from_text(model, tmp_path):
    for place, call in places(model, tmp_path).items():
        for wrong, said in (({"prompt": "query"}, "prompt_name="), ({"prompt_name": "nothing"}, "no prompt called")):
            with pytest.raises(PromptError) as caught:
                call(**wrong)
            assert said in str(caught.value), place
        assert not (tmp_path / "out").exists(), "refused before anything is written"
    for call in places(model, tmp_path).values():
        call(prompt_name="query")


def test_the_command_line(tmp_path, capsys, monkeypatch):
    model = zoo.build_model("text-test")
    folder = model.save_pretrained(tmp_path / "text")
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat\na dog\n")
    for command in (["encode", "a cat", "--json"], ["embed", str(texts), "--out", str(tmp_path / "out")]):
        command = [*command, "--model", str(folder)]
        assert main([*command, "--prompt", "query"]) == 2
        assert "prompt_name=" in capsys.readouterr().err
        assert main([*command, "--prompt-name", "nothing"]) == 2
        assert "no prompt called 'nothing'" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main([*command, "--prompt-name", "query", "--prompt", "find: "])
        capsys.readouterr()
        assert main([*command, "--prompt-name", "document"]) == 0
        written = capsys.readouterr().out
        if command[0] == "encode":
            vector = torch.tensor(json.loads(written)["vectors"][0]["vector"])
            assert (vector - model.encode_document("a cat")).abs().max() < 1e-5
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["prompt"], manifest["prompt_name"]) == (None, "document")
    assert manifest["fingerprint"]["prompt"] == "passage: "


def test_an_index_knows_its_prompt_also_from_older_folders(model, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat\n")
    for number, asked in enumerate(({"prompt_name": "query"}, {"prompt": "words: "}, {})):
        out = tmp_path / str(number)
        embed_dataset(model, texts, out, progress=False, **asked)
        check_model(model, out)
        manifest = json.loads((out / "manifest.json").read_text())
        name = manifest.pop("prompt_name")  # as it was written before there were two
        manifest["prompt"] = name if name is not None else manifest["prompt"]
        (out / "manifest.json").write_text(json.dumps(manifest))
        check_model(model, out)
    other = zoo.build_model("modernbert-test")  # has no such prompt
    with pytest.raises(FingerprintMismatchError):
        check_model(other, tmp_path / "0")


def test_a_recipe_takes_text_or_a_name_and_the_model_keeps_its_text(model):
    assert role_prefixes(model, Recipe(query_prompt_name="s2p_query", document_prompt="doc: ")) == ("ask: ", "doc: ")
    assert role_prefixes(model) == ("find: ", "text: ")
    with pytest.raises(RecipeError, match=r"query_prompt .* and query_prompt_name"):
        Recipe(query_prompt="a: ", query_prompt_name="query")


# --------------------------------------------------------------------------------------------------------------- roles


def test_a_role_is_a_fact_of_the_spec_and_is_saved(model, tmp_path):
    spec = replace(model.spec, prompts={"s2p_query": "ask: ", "s2s": "same: "}, roles={"query": "s2p_query"})
    model.spec = spec
    assert torch.equal(model.encode_query("a cat"), model.encode("ask: a cat"))
    assert zoo.load_model(model.save_pretrained(tmp_path / "m")).spec.roles == {"query": "s2p_query"}
    theirs = (
        SentenceTransformer(str(tmp_path / "m"), device="cpu") if (tmp_path / "m" / "modules.json").exists() else None
    )
    assert theirs is None or theirs.prompts["query"] == "ask: "
    for wrong in ({"roles": {"query": "other"}}, {"roles": {"asker": "s2s"}}, {"default_prompt_name": "other"}):
        with pytest.raises(ValueError, match=r"no prompt is called|roles are"):
            replace(spec, **wrong)


@pytest.mark.parametrize("name", ["retrieval.query", "web_search_query", "s2p_query"])  # jina-v3, e5-mistral, Stella
def test_a_likely_prompt_of_an_unregistered_model_is_named_in_a_warning(model, name):
    model.spec = replace(model.spec, prompts={name: "ask: ", "other": "x: "})
    with pytest.warns(UserWarning, match=rf"no prompt called 'query'.*'{name}'.*prompt_name="):
        vector = model.encode_query("a cat")
    assert torch.equal(vector, model.encode("a cat", prompt=""))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode_document("a cat")
        model.encode_query("a cat", prompt_name=name)


def test_the_default_is_for_encode_alone(model):
    model.spec = replace(model.spec, prompts={"task": "do: "}, default_prompt_name="task")
    assert torch.equal(model.encode("a cat"), model.encode("do: a cat", prompt=""))
    for verb in (model.encode_query, model.encode_document):
        assert torch.equal(verb("a cat"), model.encode("a cat", prompt=""))
    model.spec = replace(model.spec, prompts={"default": "do: "}, default_prompt_name=None)
    assert torch.equal(model.encode("a cat"), model.encode("a cat", prompt=""))


def test_specs_written_before_keep_their_meaning():
    facts = zoo.get_spec("text-test").to_dict()
    assert "default_prompt_name" not in facts
    assert "roles" not in facts
    old = {**facts, "prompts": {"default": "do: "}}
    assert zoo.ModelSpec.from_dict(old).default_prompt_name == "default"
    new = replace(zoo.get_spec("text-test"), prompts={"default": "do: "})
    assert zoo.ModelSpec.from_dict(new.to_dict()) == new


def test_a_text_that_is_the_path_of_a_file_gets_one_warning(model, tmp_path, monkeypatch):
    file = tmp_path / "cat.jpg"
    file.write_bytes(b"never read")
    texts = [str(file), str(tmp_path / "dog.jpg"), str(file), "a cat"]
    with pytest.warns(UserWarning, match=r"embedded as a text.*pathlib\.Path\(") as caught:
        vectors = model.encode(texts)
    assert len([one for one in caught if "pathlib" in str(one.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(vectors[0], model.encode(Item(text=str(file))))  # said to be a text
        asked = []
        monkeypatch.setattr("os.path.isfile", lambda path: bool(asked.append(path)))
        model.encode(["a cat", "see cat.jpg, the photo", "x" * 5000 + ".jpg", *["no.jpg"] * 3000])
    assert len(asked) == 1000
