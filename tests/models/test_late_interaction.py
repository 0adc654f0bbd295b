"""Late interaction: vectors and scores of ColQwen2, ColPali and ColModernVBERT, and what takes one vector per item."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoProcessor

import zoo
from tests.encoders.sequence_support import changed
from tests.hub import LoopbackHub
from tests.hub.child import Child
from tests.reference.late import (
    DIM,
    QUERIES,
    Native,
    engine_vectors,
    items,
    pages,
    write_adapter,
    write_base,
    write_colmodernvbert,
    write_colpali,
    write_colqwen2,
)
from tests.reference.qwen2_vl import Published, write_qwen2_vl
from zoo.errors import (
    InvalidTextError,
    MissingWeightsError,
    TokenVectorsError,
    UnreadSettingError,
    UnrecognisedCheckpointError,
    UnsupportedModalityError,
)
from zoo.formats.layout import Opening, open_with
from zoo.formats.settings import Ignore
from zoo.formats.vlm import VisionLanguage
from zoo.inputs.item import Item
from zoo.publishing.certificate import inputs_of, make
from zoo.publishing.certificate.checking import verify
from zoo.publishing.exports import export

BOUND, TELLS = 1e-5, 1e-3
BASE = "vidore/colqwen2-base"
# Registered name → who writes a tiny one in its layout, and whether transformers is handed the positions of images.
NATIVE = {
    "colqwen2-v1.0-hf": (write_colqwen2, True),
    "colpali-v1.3": (write_colpali, False),
    "colmodernvbert": (write_colmodernvbert, False),
}
TINY = ("colqwen2-test", "colpali-test", "colmodernvbert-test")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_base(tmp_path_factory.mktemp("late") / "base")


@pytest.fixture(scope="module")
def adapter(base: Published, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_adapter(base, tmp_path_factory.mktemp("late") / "adapter", base_name=str(base.folder))


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Native]:
    made: dict[str, Native] = {}

    def make(name: str) -> Native:
        if name not in made:
            made[name] = NATIVE[name][0](tmp_path_factory.mktemp("native") / name)
        return made[name]

    return make


def furthest(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference of two lists of token vectors, which must have the same lengths."""
    assert [x.shape for x in a] == [x.shape for x in b]
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


def opened_otherwise(folder: Path, like: str, **changes) -> zoo.Embedder:
    """The same folder, read with other switches."""
    spec = changed(zoo.get_spec(like), **changes)
    ignore = Ignore(["query_prefix", "visual_prompt_prefix"])  # which hold the prompt that may be changed here
    return open_with(VisionLanguage(), folder, Opening("other", like=spec, ignore=ignore)).eval()


# -------------------------------------------------------------------------------------------------------------- parity


def test_an_adapter_of_2024_gives_its_authors_vectors(adapter: Published, base: Published) -> None:
    """On its base, merged into text layers and projection; a transformers of today would leave it out with a warning."""
    model = zoo.load_model(adapter.folder, like="colqwen2-v1.0")
    ours = model.encode(items())
    for side in ("left", "right"):
        assert furthest(ours, engine_vectors(adapter, items(), side=side)) < BOUND
    assert furthest(ours, engine_vectors(base, items())) > TELLS
    assert model.spec.dim == DIM == model.towers[0].head.dim
    assert model.spec.similarity == "maxsim"


def test_a_merged_copy_needs_no_adapter(base: Published) -> None:
    """As vidore/colqwen2-v0.1-merged: a Qwen2-VL with the projection among its tensors."""
    model = zoo.load_model(base.folder, like="colqwen2-v1.0")
    assert furthest(model.encode(items()), engine_vectors(base, items())) < BOUND


@pytest.mark.parametrize("name", NATIVE)
def test_a_folder_of_transformers_gives_its_vectors(name: str, native: Callable[[str], Native]) -> None:
    """Whichever side is padded, in batches of mixed lengths and one by one."""
    theirs, mrope = native(name), NATIVE[name][1]
    model = zoo.load_model(theirs.folder, like=name)
    ours = model.encode(items())
    for side in ("left", "right"):
        assert furthest(ours, theirs.vectors(items(), side, mrope)) < BOUND
    assert furthest(ours, [model.encode(item) for item in items()]) < BOUND
    assert furthest(ours, model.encode(items()[::-1], batch_size=4)[::-1]) < BOUND
    tower = model.towers[0]
    with torch.inference_mode():
        batch = tower.encoder.collate([tower.encoder.prepare_item(item) for item in items()], "left")
        padded = tower(batch)
    assert furthest(ours, [row[real] for row, real in zip(padded, batch["mask"], strict=True)]) < BOUND
    assert not padded[~batch["mask"]].any()


@pytest.mark.parametrize("key", ["query_prefix", pytest.param("visual_prompt_prefix", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NATIVE)
def test_another_prompt_in_the_processors_file_is_refused(
    name: str, key: str, native: Callable[[str], Native], tmp_path: Path
) -> None:
    """transformers would put it before every input; the one that the model is read with may stand there."""
    theirs = native(name)
    folder = Path(shutil.copytree(theirs.folder, tmp_path / "m"))
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else {}
    usual = getattr(theirs.processor, key)
    file.write_text(json.dumps({**settings, key: usual}))
    expected = zoo.load_model(folder, like=name).encode("a cat")
    # Of an image, transformers' class finds its place by the mark inside.
    file.write_text(json.dumps({**settings, key: f"{usual}Find: "}))
    changed = AutoProcessor.from_pretrained(folder)
    assert getattr(changed, key) == f"{usual}Find: "
    if key == "query_prefix":
        ids = [p.process_queries(["a cat"]).input_ids[0].tolist() for p in (theirs.processor, changed)]
        assert ids[0] != ids[1]
    with pytest.raises(UnreadSettingError, match=f'processor_config.json .*"{key}" is'):
        zoo.load_model(folder, like=name)
    assert torch.equal(zoo.load_model(folder, like=name, ignore=[key]).encode("a cat"), expected)


def test_transformers_5_counts_images_of_colqwen2_in_one_row(native: Callable[[str], Native]) -> None:
    """It computes positions only from ids, which its ColQwen2ForRetrieval keeps back; version 4 gave rows and columns."""
    theirs = native("colqwen2-v1.0-hf")
    one_row = opened_otherwise(theirs.folder, "colqwen2-v1.0-hf", positions="sequential")
    assert furthest(one_row.encode(items()), theirs.vectors(items())) < BOUND
    assert furthest(theirs.vectors(items()), theirs.vectors(items(), mrope=True)) > TELLS


@pytest.mark.parametrize("name", NATIVE)
def test_scores_are_those_of_transformers(name: str, native: Callable[[str], Native]) -> None:
    """Pair by pair: in a batch its `score_retrieval` lets the zeros of the padding win over negative similarities."""
    theirs = native(name)
    model = zoo.load_model(theirs.folder, like=name)
    queries, found = model.encode(list(QUERIES)), model.encode(pages())
    scores = torch.stack(
        [
            torch.cat([theirs.processor.score_retrieval([query], [page])[0] for page in found])  # (1, 1) each
            for query in queries
        ]
    )
    assert torch.allclose(model.similarity(queries, found), scores, atol=BOUND)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("colqwen2-v1.0", {"positions": "sequential"}),
        ("colqwen2-v1.0", {"pixels": (4 * 784, 5 * 784)}),
        ("colqwen2-v1.0", {"prompt": "{{ media }}{{ text }}"}),
        ("colpali-v1.3", {"attention": "causal"}),
        ("colpali-v1.3", {"prompt": "{% if media %}{{ media }}<bos>Describe the image.{% else %}<bos>{{ text }}{% endif %}"}),
        ("colmodernvbert", {"special_tokens": False}),
    ],
)  # fmt: skip
def test_a_wrong_switch_would_show(
    name: str, changes: dict, adapter: Published, native: Callable[[str], Native]
) -> None:
    folder = adapter.folder if name == "colqwen2-v1.0" else native(name).folder
    right, wrong = (opened_otherwise(folder, name, **some).encode(items()) for some in ({}, changes))
    far = [(a[: len(b)] - b[: len(a)]).abs().max().item() for a, b in zip(right, wrong, strict=True)]
    assert max(far) > TELLS


@pytest.mark.parametrize("like", ["colqwen2-v1.0", "colqwen2-v1.0-hf"])
def test_queries_end_as_their_processors_end_them(like: str, native: Callable[[str], Native]) -> None:
    """colpali-engine's without a line break, transformers' with one; the rest is the same."""
    encoder = zoo.load_model(native("colqwen2-v1.0-hf").folder, like=like).towers[0].encoder
    text = encoder.tokenizer.decode(encoder.prepare_item(Item(text="who paid?")).ids)
    assert text == "Query: who paid?" + 10 * "<|endoftext|>" + ("\n" if like.endswith("-hf") else "")


# ------------------------------------------------------------------------------------------------ from the hub, by name


@pytest.fixture(scope="module")
def hub(hub: LoopbackHub, base: Published, native: Callable[[str], Native], tmp_path_factory) -> LoopbackHub:
    root = tmp_path_factory.mktemp("hub")
    hub.add(base.folder, BASE)
    hub.add(write_adapter(base, root / "adapter", base_name=BASE).folder, "vidore/colqwen2-v1.0")
    for name in NATIVE:
        hub.add(native(name).folder, zoo.get_spec(name).hub_id)
    return hub


def by_name(child: Child, name: str, **more) -> list[Tensor]:
    answer = child.call("tests.reference.late:embed", name, **more)
    assert "error" not in answer, answer
    return [torch.tensor(vectors) for vectors in answer["result"]["vectors"]]


def test_registered_names(child: Child, adapter: Published, native: Callable[[str], Native]) -> None:
    assert furthest(by_name(child, "colqwen2-v1.0"), engine_vectors(adapter, items())) < BOUND
    for name, (_, mrope) in NATIVE.items():
        assert furthest(by_name(child, name), native(name).vectors(items(), mrope=mrope)) < BOUND


def test_a_repository_like_a_registered_model(child: Child, native: Callable[[str], Native]) -> None:
    theirs = native("colpali-v1.3").vectors(items())
    assert furthest(by_name(child, "hf:vidore/colpali-v1.3-hf", like="colpali-v1.3"), theirs) < BOUND


# -------------------------------------------------------------------------------------------------------------- refusals


def test_layouts_that_do_not_fit_are_refused(base: Published, native: Callable[[str], Native], tmp_path: Path) -> None:
    with pytest.raises(UnrecognisedCheckpointError, match="vector for every token"):
        zoo.load_model(native("colqwen2-v1.0-hf").folder, like="gme-qwen2vl-2b")
    with pytest.raises(UnrecognisedCheckpointError, match="is a colpali"):
        zoo.load_model(native("colpali-v1.3").folder, like="colqwen2-v1.0")
    plain = write_qwen2_vl(tmp_path / "plain")
    with pytest.raises(MissingWeightsError, match="custom_text_proj"):
        zoo.load_model(plain.folder, like="colqwen2-v1.0")


@pytest.mark.parametrize("name", TINY)
def test_texts_and_images_are_read_apart(name: str) -> None:
    model = zoo.build_model(name)
    with pytest.raises(UnsupportedModalityError, match="apart"):
        model.encode(Item(text="a page about", image=pages()[0]))
    with pytest.raises(InvalidTextError, match="take it out"):
        model.encode(f"what is {model.towers[0].encoder.readers['image'].marker}?")


# ------------------------------------------------------------------------------------------- similarity, rank, precision


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    return zoo.build_model("colqwen2-test").eval()


def some_vectors(*lengths: int, dim: int = 16, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.functional.normalize(torch.randn(n, dim, generator=generator), dim=-1) for n in lengths]


def by_numpy(a: list[Tensor], b: list[Tensor]) -> np.ndarray:
    """ColBERT's equation 3, a loop over all pairs."""
    return np.array([[(q.numpy() @ d.numpy().T).max(1).sum() for d in b] for q in a])


def test_maxsim_is_the_equation(model: zoo.Embedder) -> None:
    a, b = some_vectors(3, 1, 40), some_vectors(5, 17, 2, 9, seed=1)
    assert np.allclose(model.similarity(a, b).numpy(), by_numpy(a, b), atol=1e-5)
    assert np.allclose(model.similarity(a[2], b).numpy(), by_numpy(a[2:], b), atol=1e-5)  # one matrix is a list of one
    assert np.allclose(
        model.similarity([x.numpy() for x in a], [x.tolist() for x in b]).numpy(), by_numpy(a, b), atol=1e-5
    )
    assert torch.allclose(model.similarity(a, a).diagonal(), torch.tensor([3.0, 1.0, 40.0]), atol=1e-5)


def test_maxsim_of_nothing(model: zoo.Embedder) -> None:
    a = some_vectors(3, 4)
    assert model.similarity([], a).shape == (0, 2)
    assert model.similarity(a, []).shape == (2, 0)
    assert model.similarity([], []).shape == (0, 0)
    assert model.encode([]) == []
    assert model.rank("x", []) == []


def test_maxsim_refuses_what_differs(model: zoo.Embedder) -> None:
    with pytest.raises(ValueError, match="differ"):
        model.similarity(some_vectors(3), some_vectors(3, dim=8))
    with pytest.raises(ValueError, match="tokens, dim"):
        model.similarity(torch.randn(16), some_vectors(3))
    with pytest.raises(ValueError, match="no token"):
        model.similarity(some_vectors(3), [torch.zeros(0, 16)])


@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.02), ("binary", 0.6)])
def test_precisions_are_understood(model: zoo.Embedder, precision: str, bound: float) -> None:
    """Each of a query's tokens is off by so much at most, and packed bits are compared as their signs."""
    exact = model.encode(list(QUERIES))
    small = model.encode(list(QUERIES), precision=precision)
    assert {(x.dtype, x.shape[-1]) for x in small} == {(torch.int8, 16) if precision == "int8" else (torch.uint8, 2)}
    lengths = torch.tensor([len(x) for x in exact])[:, None]
    assert ((model.similarity(small, small) - model.similarity(exact, exact)).abs() / lengths).max() < bound
    if precision == "binary":
        signs = [torch.where(x > 0, 1.0, -1.0) for x in exact]
        assert torch.allclose(model.similarity(small, small), model.similarity(signs, signs), atol=1e-5)
        with pytest.raises(ValueError, match="binary"):
            model.similarity(small, exact)


def test_a_cut_is_made_unit_length_again(model: zoo.Embedder) -> None:
    with pytest.warns(UserWarning, match="lose accuracy"):
        short = model.encode(list(QUERIES), dim=8)
    for whole, cut in zip(model.encode(list(QUERIES)), short, strict=True):
        assert torch.allclose(cut, torch.nn.functional.normalize(whole[:, :8], dim=-1), atol=1e-6)
    with pytest.raises(ValueError, match="between 1 and 16"):
        model.encode(list(QUERIES), dim=17)


def test_rank_takes_inputs_or_their_vectors(model: zoo.Embedder) -> None:
    found = model.encode_document(pages())
    scores = model.similarity(model.encode_query(QUERIES[0]), found)[0]
    for query in (QUERIES[0], model.encode_query(QUERIES[0])):
        for documents in (pages(), found):
            hits = model.rank(query, documents, k=2)
            assert [hit.index for hit in hits] == scores.argsort(descending=True)[:2].tolist()
            assert [hit.score for hit in hits] == pytest.approx(
                scores.sort(descending=True).values[:2].tolist(), abs=1e-4
            )


def test_streams_give_token_vectors(model: zoo.Embedder) -> None:
    assert furthest(list(model.encode(iter(items()))), model.encode(items())) < BOUND
    with pytest.warns(UserWarning, match="skipped"):
        assert len(model.encode([*QUERIES, ""], on_error="skip")) == len(QUERIES)


# ------------------------------------------------------------------------------------------ what takes one vector per item


def test_what_takes_one_vector_an_item_says_so_first(model: zoo.Embedder, tmp_path: Path) -> None:
    """Before anything is read, embedded, downloaded or written."""
    from zoo.training.checks import check_run
    from zoo.training.mining import mine
    from zoo.training.recipe import Recipe

    from zoo.bulk.run import embed_dataset
    from zoo.evaluation.__main__ import measure
    from zoo.evaluation.pairs import evaluate_pairs
    from zoo.index.opening import check_model
    from zoo.publishing.exports.automodel import ZooConfig, ZooModel
    from zoo.serving import create_app

    texts = tmp_path / "texts.txt"
    texts.write_text("a\nb\n")
    attempts = {
        "a folder of vectors": lambda: embed_dataset(model, texts, tmp_path / "out"),
        "an index": lambda: check_model(model, tmp_path),
        "an embeddings server": lambda: create_app(model),
        "AutoModel": lambda: ZooModel(ZooConfig(), model),
        "the evaluation of pairs": lambda: evaluate_pairs(model, [Item(text="a")], [Item(text="b")]),
        "zoo.evaluation": lambda: measure(model, "test", [], None, True, ""),
        "training": lambda: check_run(model, [], Recipe(), nn.Module()),
        "mining": lambda: mine([], model),
    }
    for what, attempt in attempts.items():
        with pytest.raises(TokenVectorsError, match=f"colqwen2-test has one vector per token.*{what}"):
            attempt()
    assert not (tmp_path / "out").exists()


def test_one_folder_for_the_zoo_alone(model: zoo.Embedder, tmp_path: Path) -> None:
    exported = export(model, tmp_path / "exported")
    assert [name for name, reason in exported.loaders.items() if not reason] == ["zoo"]
    assert "one vector per token" in exported.loaders["sentence-transformers"]
    again = zoo.load_model(tmp_path / "exported")
    assert furthest(again.encode(items()), model.encode(items())) == 0
    assert not any(file.endswith(".py") for file in exported.files)


def test_a_certificate_is_of_every_token(model: zoo.Embedder, tmp_path: Path) -> None:
    """Vectors of all tokens, so that a change in one of them shows."""
    folder = model.save_pretrained(tmp_path / "saved")
    certificate = make(model, halves=())
    read = [golden.item for golden in inputs_of(model) if golden.name not in certificate.refused]
    longest = max(len(vectors) for vectors in model.encode(read))
    assert certificate.vectors.shape == (len(certificate.inputs), longest * model.spec.dim)
    certificate.save(folder)
    assert verify(folder, dtypes=("float32",), batch_sizes=(3,)).passed
    vectors = certificate.vectors.clone()
    vectors[0, model.spec.dim : 2 * model.spec.dim] *= -1  # the second token of the first input
    replace(certificate, vectors=vectors).save(folder)
    assert not verify(folder, dtypes=("float32",), batch_sizes=(3,)).passed


@pytest.mark.parametrize("options", [[], ["--json"], ["--out", "one.npy"]])
def test_the_command_line_shows_token_vectors(options: list[str], model, tmp_path, monkeypatch, capsys) -> None:
    import json

    from zoo.cli import main

    monkeypatch.chdir(tmp_path)
    model.save_pretrained("saved")
    texts = ["who paid?"] if options[:1] == ["--out"] else ["who paid?", "which year?"]
    assert main(["encode", *texts, "--model", "./saved", *options]) == 0
    printed = capsys.readouterr().out
    expected = model.encode(texts)
    if options == ["--json"]:
        found = [torch.tensor(row["vector"]) for row in json.loads(printed)["vectors"]]
        assert furthest(found, expected) < BOUND
    elif options:
        assert furthest([torch.from_numpy(np.load("one.npy"))], expected) < BOUND
        assert main(["encode", "a", "b", "--model", "./saved", *options]) != 0
        assert "one vector per token" in capsys.readouterr().err
    else:
        assert "one vector per token" in printed
        assert "MaxSim" in printed
        assert f"{len(expected[0])} tokens" in printed


def test_mteb_gets_padded_tokens_and_the_same_scores(model: zoo.Embedder) -> None:
    """Of each query the page that late interaction has first, as `rank` says; an empty query is worth nothing."""
    datasets, mteb = pytest.importorskip("datasets"), pytest.importorskip("mteb")
    import zoo.evaluation.mteb
    from tests.evaluation.mteb_tasks import facts, retrieval

    found = pages()
    first = {f"q{i}": model.rank(query, found, k=1)[0].index for i, query in enumerate(QUERIES)}
    queries = datasets.Dataset.from_dict({"id": list(first), "text": list(QUERIES)})
    corpus = datasets.Dataset.from_dict({"id": ["0", "1", "2"], "image": found})
    wrapped = zoo.evaluation.mteb.wrap(model)
    assert wrapped.mteb_model_meta.similarity_fn_name == "MaxSim"
    task = retrieval("LocalPages", "t2i", queries, corpus, {name: {str(page)} for name, page in first.items()})
    scores = mteb.evaluate(wrapped, task, cache=None, show_progress_bar=False)[0].scores["test"][0]
    assert scores["ndcg_at_1"] == 1
    with pytest.raises(TokenVectorsError, match=r"Local \(Classification\) takes one an item"):
        wrapped.encode([], task_metadata=facts("Local", type="Classification"), hf_split="test", hf_subset="default")
    loader = torch.utils.data.DataLoader(datasets.Dataset.from_dict({"text": [*QUERIES, ""]}), batch_size=2)
    padded = wrapped.encode(loader, task_metadata=facts("Local"), hf_split="test", hf_subset="default")
    exact = model.encode(list(QUERIES))
    assert padded.shape == (len(QUERIES) + 1, max(len(x) for x in exact), model.spec.dim)
    similarity = wrapped.similarity(padded, padded)
    assert torch.allclose(similarity[:-1, :-1], model.similarity(exact, exact), atol=1e-4)
    assert not similarity[-1].any()
    assert not similarity[:, -1].any()


def test_the_search_page_ranks_by_late_interaction(model: zoo.Embedder, tmp_path: Path) -> None:
    """Images for words, for an image, labels, the map and neighbours; numbers are means over the question's tokens."""
    pytest.importorskip("gradio")
    from zoo.demos.chooser import Models
    from zoo.demos.gallery import embed_files
    from zoo.demos.handlers import Search

    from tests.demos.demo_support import folder_images

    (tmp_path / "photos").mkdir()
    for number, page in enumerate(pages()):
        page.save(tmp_path / "photos" / f"{number}.png")
    gallery = embed_files(model, folder_images(tmp_path / "photos"))
    search = Search(Models(model), gallery, tmp_path / "work", roots=[tmp_path])
    query = model.encode_query(QUERIES[0])
    hits = model.rank(query, pages(), k=3)
    shown, scores = search.by_text(QUERIES[0], 3)
    assert [caption for _, caption in shown] == [f"{hit.index}.png" for hit in hits]
    assert [row["cosine"] for row in scores["rows"]] == pytest.approx(
        [hit.score / len(query) for hit in hits], abs=1e-5
    )
    assert "tokens" in scores["note"]
    again, scores = search.by_image(str(tmp_path / "photos" / "1.png"), 3)
    assert again[0][1] == "1.png"
    assert scores["rows"][0]["cosine"] == pytest.approx(1, abs=1e-5)
    words = ["who paid?", "a chart of wind power", "an old map"]
    labels = model.encode(words)
    best = max(range(3), key=lambda i: float(model.similarity(labels[i], gallery.vectors[1])) / len(labels[i]))
    named = search.classify(str(tmp_path / "photos" / "1.png"), "\n".join(words))
    assert named["rows"][0]["label"] == words[best]
    assert len(search.neighbours(gallery, 0)[2]) == 2
    assert Path(search.draw_map()[0]).is_file()
