"""What was made with an earlier version opens, searches and goes on as it did (`tests/stored`, made at commit f558a39)."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from zoo.training import train
from zoo.training.adapters import load_adapter, merge_lora
from zoo.training.vector_cache import VectorCache, encode_cached, fill_cache

import zoo
from tests.every import every, standing_for
from tests.stored import inputs
from tests.stored.inputs import PROMPT, STORED
from tests.training.train_support import without_plots
from zoo.errors import FingerprintMismatchError
from zoo.shards.fingerprints import renamed

SPECS, SHAPES, FAMILIES = (inputs.read(f"{name}.json") for name in ("specs", "shapes", "families"))
FINGERPRINTS, VARIANTS = inputs.read("fingerprints.json"), inputs.read("variants.json")
CLOSE = {"rtol": 0.0, "atol": 1e-5}
# Names that another model has now: what stands under them in these files is of the model that is called so since.
RENAMED = {"zoo-mini": "zoo-mini-v1"}
PLACE = ("name", "packaged", "recipe")  # facts that change with that
FEW = {"clip-vit-b32-openai", "bge-small-en-v1.5", "gme-qwen2vl-2b", "siglip2-vit-b16-256", "zoo-mini"}
# A million weights are written and read; and those whose configuration lies with a whole model.
DEAR = {"clip-test", "image-test", "mobileclip-test", "siglip-test"} | (set(FINGERPRINTS) & set(FAMILIES))
Run = Callable[..., tuple[int, str, str]]


def folder_of(name: str) -> Path:
    """Where a stored model lies."""
    there = STORED / "models" / name
    return there if there.exists() else STORED / "published" / name / "model"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`room("bulk")` → a copy of all that is stored, as if it had been made there; the working folder is that part of it."""

    def copied(part: str) -> Path:
        root = tmp_path / "tests" / "stored"
        for name in (part, "models"):
            shutil.copytree(STORED / name, root / name, copy_function=shutil.copyfile)
        for path in (root / part).rglob("*.json"):
            if "/elsewhere" in (text := path.read_text("utf-8")):
                path.write_text(text.replace("/elsewhere", str(tmp_path)), "utf-8")
        monkeypatch.chdir(root / part)
        return root / part

    return copied


# ---------------------------------------------------------------------------------------------- facts, without weights


@every("name", SPECS)
def test_no_fact_of_a_model_has_changed(name: str) -> None:
    spec = zoo.get_spec(RENAMED.get(name, name))
    stored = zoo.ModelSpec.from_dict(SPECS[name])
    assert stored == (replace(spec, **{fact: getattr(stored, fact) for fact in PLACE}) if name in RENAMED else spec)


def test_no_model_has_gone() -> None:
    assert set(SPECS) <= set(zoo.list_models(tests=True))


@pytest.mark.parametrize("name", standing_for(SHAPES, FEW))
def test_what_decides_a_fingerprint_has_not_changed(name: str) -> None:
    """Of the real models, so that the indexes of those who use them stay valid: preprocessing, and names of tensors."""
    assert inputs.shape_facts(RENAMED.get(name, name)) == SHAPES[name]


# ------------------------------------------------------------------------------------------------- the test models


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> tuple[dict[str, Any], zoo.Embedder]:
    return FAMILIES[request.param], inputs.seeded(request.param)


def same(found: Any, stored: Any) -> None:
    """Nested lists of numbers are equal but for rounding."""
    torch.testing.assert_close(*(torch.tensor(flat(value), dtype=torch.float64) for value in (found, stored)), **CLOSE)


def flat(value: Any) -> list[float]:
    return [one for inner in value for one in flat(inner)] if isinstance(value, list) else [value]


def check_vectors(model: zoo.Embedder, stored: dict[str, Any]) -> None:
    cases = inputs.cases(model.spec)
    for case, vector in stored.items():
        same(inputs.shortened(cases[case](model)), vector)


def test_a_family_gives_its_vectors(family) -> None:
    facts, model = family
    check_vectors(model, facts["vectors"])


def test_a_family_has_its_tensors_and_fingerprints(family) -> None:
    """Weights are drawn by their names: a fingerprint changes with a tensor's name, and with what happens before."""
    facts, model = family
    assert inputs.shapes(model) == facts["tensors"]
    assert inputs.fingerprints(inputs.filled(model)) == facts["fingerprints"]


@pytest.mark.parametrize("name", standing_for(FAMILIES, set(FAMILIES) - DEAR))
def test_a_saved_configuration_opens(name: str, tmp_path: Path) -> None:
    folder = inputs.seeded(name).save_pretrained(tmp_path / name)
    (folder / "config.json").write_text(json.dumps(FAMILIES[name]["config"]), "utf-8")
    model = zoo.load_model(folder, device="cpu")
    assert model.spec == zoo.get_spec(name)
    check_vectors(model, dict(list(FAMILIES[name]["vectors"].items())[:3]))


# ----------------------------------------------------------------------------------------------------- saved models


def check_golden(model: zoo.Embedder, name: str) -> None:
    """The model gives the vectors that are kept under a name."""
    cases = {**inputs.cases(model.spec), "text, padded": inputs.padded}
    for case, vector in load_file(STORED / "golden" / f"{name}.safetensors").items():
        torch.testing.assert_close(inputs.some(cases[case](model)), vector, **CLOSE, msg=lambda m, c=case: f"{c}: {m}")


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_a_saved_model_opens_and_gives_its_vectors(name: str) -> None:
    model = zoo.load_model(folder_of(name), device="cpu")
    assert inputs.fingerprints(model) == FINGERPRINTS[name]
    check_golden(model, name)


@pytest.mark.parametrize("name", standing_for(FINGERPRINTS, {"naflex", "stack", "text-test", "vlm2vec-test"}))
def test_a_saved_model_is_saved_again(name: str, tmp_path: Path) -> None:
    model = zoo.load_model(folder_of(name), device="cpu")
    again = zoo.load_model(model.save_pretrained(tmp_path / name), device="cpu")
    assert again.fingerprint() == model.fingerprint() == FINGERPRINTS[name]["plain"]
    assert again.spec == model.spec


def test_what_is_kept_beside_the_weights_is_read() -> None:
    model = zoo.load_model(STORED / "models" / "naflex", device="cpu")
    facts = json.loads((STORED / "models" / "naflex" / "config.json").read_text("utf-8"))
    assert model.logit_scale is not None
    assert model.logit_scale.to_dict() == facts["logit_scale"]
    assert {pair: one.to_dict() for pair, one in model.calibration.items()} == facts["calibration"]
    assert type(model.fusion).__name__ == "Combiner"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_saved_model_that_reads_otherwise_opens(name: str, tmp_path: Path) -> None:
    """Of the switches of vision-language checkpoints those that no test model sets."""
    model, stored = inputs.variant(name, tmp_path), VARIANTS[name]
    assert model.fingerprint() == stored["fingerprint"]
    assert model.spec == zoo.ModelSpec.from_dict(stored["spec"])
    for case, vector in stored["vectors"].items():
        same(inputs.shortened(inputs.VARIANT_CASES[case](model)), vector)


@pytest.mark.parametrize("name", ["zoo-mini", "zoo-mini-region"])
def test_the_packaged_model_is_what_it_was(name: str) -> None:
    model = zoo.load_model(name, device="cpu")
    assert inputs.fingerprints(model) == inputs.read("packaged.json")[name]
    check_golden(model, name)


# ------------------------------------------------------------------------------- vectors: folders, indexes, caches


@pytest.mark.parametrize(
    ("name", "backend"),
    [("texts", "exact"), ("texts", "lancedb"), ("photos", "exact"), ("pairs", "exact"), ("described", "exact")],
)
def test_an_index_is_searched(name: str, backend: str, room: Callable[..., Path], run: Run) -> None:
    home = room("bulk") / "vectors" / name / "index" / backend
    before = rows_in(home)
    asked = ("search", f"vectors/{name}", "picture 3", "--backend", backend, "--k", 5, "--json", "--adopt")
    status, out, err = run(*asked, *model_of(name))
    assert status == 0, err
    found, stored = json.loads(out), inputs.read("bulk/found.json")[name]
    assert [match["id"] for match in found] == [id for id, _ in stored]
    assert [match["score"] for match in found] == pytest.approx([score for _, score in stored], abs=1e-5)
    assert before
    assert rows_in(home) == before, "the index that was there, and none made anew"


def rows_in(home: Path) -> dict[Path, bytes]:
    """The files of an index that hold its vectors and attributes."""
    suffixes = (".bin", ".arrow", ".lance")
    return {path: path.read_bytes() for path in home.rglob("*") if path.suffix in suffixes and path.is_file()}


@pytest.mark.parametrize("name", ["texts", "photos", "pairs", "described", "stopped"])
def test_embedding_again_finds_what_is_there(name: str, room: Callable[..., Path], run: Run) -> None:
    room("bulk")
    status, out, err = run("embed", *inputs.read("bulk/commands.json")[name], "--out", f"vectors/{name}", "--json")
    assert status == 0, err
    report = json.loads(out)
    new = 7 if name == "stopped" else 0
    assert (report["vectors"], report["new"], report["bad"], report["kept"]) == (12, new, 0, 0)


def model_of(name: str) -> list[str]:
    """The model that a folder of vectors was made with, as an option."""
    words = inputs.read("bulk/commands.json")[name]
    return words[words.index("--model") :][:2]


@pytest.mark.parametrize("part", ["whole", "text"])
@pytest.mark.parametrize("name", ["mini-test", "vlm2vec-test"])
def test_a_cache_has_the_vectors(name: str, part: str, tmp_path: Path) -> None:
    folder = shutil.copytree(STORED / "caches" / f"{name}-{part}", tmp_path / "cache")
    before = sorted(path.name for path in folder.iterdir())
    model = zoo.load_model(STORED / "models" / name, device="cpu")
    cache = VectorCache.for_towers(folder, model, None if part == "whole" else [len(model.towers) - 1])
    for prompt, items in (("", inputs.kept(name, part == "whole")), (PROMPT, inputs.kept(name, False))):
        vectors = encode_cached(model, items, cache, prompt=prompt)
        assert sorted(path.name for path in folder.iterdir()) == before, "every vector was there"
        torch.testing.assert_close(vectors, model.encode(items, prompt=prompt), **CLOSE)
    assert fill_cache(model, ["a new one"], cache) == {}
    assert len(list(folder.iterdir())) == len(before) + 2


# ------------------------------------------------------------------------- vectors of a name that another model has now

MADE_WITH_V1 = "were made with zoo-mini-v1, which earlier versions called zoo-mini: another model has that name now ("


@pytest.fixture(scope="module")
def another_mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is called zoo-mini, of other weights than those that the stored vectors were made with."""
    model = zoo.load_model("zoo-mini", device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    return model.save_pretrained(tmp_path_factory.mktemp("another") / "zoo-mini", torch.float16)


def test_vectors_of_an_earlier_model_of_the_name_are_refused_and_the_command_that_is_told_mends_it(
    another_mini: Path, room: Callable[..., Path], run: Run
) -> None:
    room("bulk")
    asked = ("search", "vectors/zoo-mini-v1", "picture 3", "--backend", "exact", "--adopt", "--model", another_mini)
    status, _, err = run(*asked)
    assert status != 0
    assert MADE_WITH_V1 in " ".join(err.split())
    command = err.partition("Embed again: ")[2].split("\n")[0]
    words = shlex.split(command)
    assert words[:2] == ["zoo", "embed"]
    assert words[-2:] == ["--out", "vectors/zoo-mini-v1-new"]
    status, _, err = run(*words[1:], "--model", another_mini, "--quiet")
    assert status == 0, err
    status, out, err = run("search", "vectors/zoo-mini-v1-new", *asked[2:], "--json")
    assert status == 0, err
    assert len(json.loads(out)) == 10


def test_vectors_of_two_models_of_one_name_do_not_come_into_one_folder(
    another_mini: Path, room: Callable[..., Path], run: Run
) -> None:
    home = room("bulk") / "vectors" / "zoo-mini-v1"
    before = {path: path.read_bytes() for path in home.rglob("*.parquet")}
    status, _, err = run("embed", "photos", "--out", "vectors/zoo-mini-v1", "--model", another_mini, "--quiet")
    assert status != 0
    assert MADE_WITH_V1 in " ".join(err.split())
    assert "Choose another --out, or delete this folder to embed everything anew." in " ".join(err.split())
    assert before
    assert before == {path: path.read_bytes() for path in home.rglob("*.parquet")}


def test_the_page_refuses_vectors_of_an_earlier_model_of_the_name(
    another_mini: Path, room: Callable[..., Path]
) -> None:
    pytest.importorskip("gradio")
    from zoo.demos.stored import vectors_gallery

    folder = room("bulk") / "vectors" / "zoo-mini-v1"
    with pytest.raises(FingerprintMismatchError, match=f"{re.escape(MADE_WITH_V1)}.*Embed again: zoo embed "):
        vectors_gallery(zoo.load_model(another_mini, device="cpu"), folder)


def test_vectors_of_an_earlier_packaged_model_are_told_from_those_of_the_packaged_one() -> None:
    """Where the packaged model is still the first one its vectors are in use; from then on they are refused by its name."""
    stored = inputs.read("packaged.json")["zoo-mini-v1"]["plain"]
    now = zoo.load_model("zoo-mini", device="cpu").fingerprint()
    expected = "zoo-mini-v1" if now["weights"] != stored["weights"] else ""
    assert renamed(stored, now) == expected
    assert renamed(stored, {**now, "weights": "another"}) == "zoo-mini-v1"
    assert renamed({**stored, "weights": "of nobody"}, now) == ""


# --------------------------------------------------------------------------------------------------------- training


def check_steps(out: Path) -> None:
    """The run has the eight steps; the first four are those that were done before, not done again from the start."""
    lines = (out / "metrics.jsonl").read_text("utf-8")
    assert [json.loads(line)["step"] for line in lines.splitlines()] == list(range(1, 9))
    assert lines.startswith((STORED / "trained" / out.name / "metrics.jsonl").read_text("utf-8"))


def test_a_run_goes_on(room: Callable[..., Path], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    without_plots(monkeypatch)
    out = room("trained") / "whole"
    status, _, err = run("train", "--resume", "whole", "--allow-outside")
    assert status == 0, err
    check_steps(out)
    vectors = zoo.load_model(out, device="cpu").encode([inputs.TEXT, inputs.OTHER])
    torch.testing.assert_close(vectors, load_file(STORED / "trained" / "golden.safetensors")["whole"], **CLOSE)


def test_a_run_with_an_adapter_goes_on(room: Callable[..., Path]) -> None:
    out = room("trained") / "lora"
    model = zoo.load_model(STORED / "models" / "vlm2vec-test", device="cpu")
    options = {"progress": False, "trackers": (), "report": False, "device": "cpu", "name": "adapted"}
    train(model, inputs.pairs(), inputs.lora_recipe(), out, resume=True, **options)
    check_steps(out)
    vectors = zoo.load_model(out, device="cpu").encode([inputs.TEXT, inputs.make_image(1)])
    torch.testing.assert_close(vectors, load_file(STORED / "trained" / "golden.safetensors")["lora"], **CLOSE)


def test_a_saved_adapter_fits() -> None:
    model = zoo.load_model(STORED / "models" / "vlm2vec-test", device="cpu")
    model = merge_lora(load_adapter(model, STORED / "trained" / "adapter"))
    vectors = model.eval().encode([inputs.TEXT, inputs.make_image(1)])
    torch.testing.assert_close(vectors, load_file(STORED / "trained" / "golden.safetensors")["lora"], **CLOSE)


# ------------------------------------------------------------------------------------------------------- publishing


@pytest.mark.parametrize("name", ["text-test", "unime-test"])
@pytest.mark.parametrize("loaders", ["zoo", pytest.param("all", marks=pytest.mark.slow)])
def test_a_published_repository_passes(name: str, loaders: str, run: Run) -> None:
    chosen = ["--loaders", "zoo", "--quick"] if loaders == "zoo" else []
    status, out, err = run("verify", STORED / "published" / name / "model", *chosen, "--trust-remote-code")
    assert status == 0, (out, err)
    assert "PASS" in out


def test_a_published_model_gives_the_vectors_of_the_saved_one() -> None:
    golden = load_file(STORED / "golden" / "text-test.safetensors")
    model = zoo.load_model(STORED / "published" / "text-test" / "model", device="cpu")
    for case in ("text, query", "text, document", "text, 16 columns"):
        torch.testing.assert_close(inputs.cases(model.spec)[case](model), golden[case], **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text-test", "unime-test"])
def test_sentence_transformers_opens_a_published_repository(name: str) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(STORED / "published" / name / "model"), device="cpu", trust_remote_code=True)
    vector = torch.from_numpy(model.encode([inputs.TEXT]))[0]
    torch.testing.assert_close(vector, load_file(STORED / "golden" / f"{name}.safetensors")["text"], **CLOSE)
