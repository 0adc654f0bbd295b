"""Certificates: golden inputs are the same everywhere, a model in order passes, and whatever is changed is named."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.cli import main
from zoo.errors import CertificateError
from zoo.publishing import certificate, exports
from zoo.publishing.certificate import FILE, VECTORS, Certificate, checking, golden

QUICK = {"dtypes": ("float32",), "batch_sizes": (1, 32)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dual tower that the zoo, transformers, sentence-transformers and open_clip open, with its certificate."""
    folder = tmp_path_factory.mktemp("clip") / "model"
    exports.export(zoo.build_model("clip-test"), folder)
    certificate.make(zoo.load_model(folder)).save(folder)
    return folder


@pytest.fixture
def copy(clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip, tmp_path / "copy"))


ALL = frozenset({"text", "image", "audio", "video", "regions"})


def test_golden_inputs_are_those_of_the_packaged_certificate():
    """Made on another day, by another process: every byte must be the same."""
    stored = Certificate.load(checking.fetch("zoo-mini"))
    now = {g.name: g.sha256 for g in certificate.inputs_of(zoo.load_model("zoo-mini"))}
    assert {name: digest for name, _, _, digest in stored.inputs} == now
    assert len(now) >= 20


def test_golden_inputs_cover_every_modality_and_only_what_is_read():
    everything = golden.golden_inputs([ALL], 64, ["query"])
    assert {g.kind for g in everything} == {"text", "image", "resized image", "audio", "video", "regions"}
    assert len({g.sha256 + str(g.prompt) for g in everything}) == len(everything), "two are the same"
    for g in everything:
        samples = None if g.item.audio is None else g.item.audio.samples
        for array in (g.item.image, samples, g.item.video):
            assert array is None or np.isfinite(array).all()
            assert array is None or len(np.unique(array)) > 1 or "black" in g.name
        if samples is not None:
            assert samples.dtype == np.float32
            assert np.abs(samples).max() <= 1
    assert {g.kind for g in golden.golden_inputs([frozenset({"text"})], None)} == {"text"}
    apart = golden.golden_inputs([frozenset({"text"}), frozenset({"image"})], 64)
    assert all(len(g.item.modalities) == 1 for g in apart), "dual towers read no image with a text"


def test_the_sine_table_is_a_sine():
    table = golden._sines() / 32768
    exact = np.sin(np.arange(1024) * 2 * np.pi / 1024)
    assert np.abs(table - exact).max() < 0.002  # Bhaskara's approximation is within 0.0016


@pytest.mark.parametrize("name", zoo.list_models("*-test"))
def test_every_family_passes_with_every_loader(name: str, tmp_path: Path):
    folder = tmp_path / "model"
    exported = exports.export(zoo.build_model(name), folder)
    certificate.make(zoo.load_model(folder)).save(folder)
    report = certificate.verify(folder, **QUICK)
    assert report.passed, report.reason
    assert report.certified
    ran = {row.loader for row in report.rows if row.passed}
    assert ran == {loader for loader, reason in exported.loaders.items() if not reason}
    exact = [row.difference for row in report.rows if row.kind != "resized image"]
    assert max(exact) < 1e-5


@pytest.mark.slow
def test_half_precision_and_batch_sizes(clip: Path):
    report = certificate.verify(clip, loaders=["zoo"])
    assert report.passed, report.reason
    assert {(row.dtype, row.batch_size) for row in report.rows} == {
        (dtype, size) for dtype in checking.DTYPES for size in checking.BATCHES
    }
    halves = [row.difference for row in report.rows if row.dtype == "bfloat16"]
    assert min(halves) > 1e-5, "bfloat16 was not computed in bfloat16"


def test_a_changed_weight_is_named(copy: Path):
    tensors = load_file(copy / "model.safetensors")
    name = max((n for n in tensors if "attn" in n and n.endswith("weight")), key=lambda n: tensors[n].numel())
    tensors[name] = tensors[name] + 0.05 * torch.randn_like(tensors[name])
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    report = certificate.verify(copy, **QUICK)
    assert not report.passed
    assert "model.safetensors is not the file" in report.reason
    assert "zoo in float32" in report.reason
    assert all(row.passed for row in report.rows if row.loader == "open_clip"), "its own file was left alone"


def test_one_loaders_own_file_is_told_apart(copy: Path):
    tensors = load_file(copy / "open_clip_model.safetensors")
    name = next(n for n in tensors if n.endswith("positional_embedding") and n.startswith("visual"))
    tensors[name] = tensors[name] + torch.randn_like(tensors[name])
    save_file(tensors, copy / "open_clip_model.safetensors", metadata={"format": "pt"})
    report = certificate.verify(copy, **QUICK)
    departs = {row.loader for row in report.rows if row.passed is False}
    assert departs == {"open_clip"}
    assert "open_clip_model.safetensors is not the file" in report.reason


def test_another_resize_is_named(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    image = next(t["encoder"] for t in config["towers"] if "transform" in t["encoder"])
    image["transform"]["mean"] = [0.1, 0.1, 0.1]
    (copy / "config.json").write_text(json.dumps(config))
    report = certificate.verify(copy, loaders=["zoo"], **QUICK)
    assert "preprocessing" in report.reason
    assert any(row.passed is False and row.kind == "image" for row in report.rows)
    assert all(row.passed for row in report.rows if row.kind == "text")


def test_a_changed_certificate_is_named(copy: Path):
    vectors = load_file(copy / VECTORS)["vectors"]
    vectors[0] = vectors[1]
    save_file({"vectors": vectors}, copy / VECTORS)
    report = certificate.verify(copy, loaders=["zoo"], **QUICK)
    first = Certificate.load(copy).inputs[0][0]
    assert {row.worst for row in report.rows if row.passed is False} == {first}

    facts = json.loads((copy / FILE).read_text())
    facts["inputs"][2]["sha256"] = "0" * 64
    (copy / FILE).write_text(json.dumps(facts))
    assert (
        f"the golden input {facts['inputs'][2]['name']!r}" in certificate.verify(copy, loaders=["zoo"], **QUICK).reason
    )


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda f: (f / FILE).write_text("{"), "damaged"),
        (lambda f: (f / FILE).write_text('{"format": 1}'), "damaged"),
        (lambda f: (f / FILE).write_text('{"format": 9}'), "format 9"),
        (lambda f: (f / VECTORS).write_bytes((f / VECTORS).read_bytes()[:200]), "damaged"),
        (lambda f: (f / VECTORS).unlink(), "damaged"),
        (lambda f: save_file({"vectors": torch.zeros(3, 7)}, f / VECTORS), r"shape \(3, 7\)"),
    ],
)
def test_a_damaged_certificate_is_an_error(copy: Path, spoil, named: str):
    spoil(copy)
    with pytest.raises(CertificateError, match=named):
        certificate.verify(copy, **QUICK)


def _facts(folder: Path, change) -> None:
    facts = json.loads((folder / FILE).read_text())
    change(facts)
    (folder / FILE).write_text(json.dumps(facts))


def _cut_short(folder: Path, rows: int) -> None:
    _facts(folder, lambda facts: facts.update(inputs=facts["inputs"][:rows]))
    save_file({"vectors": load_file(folder / VECTORS)["vectors"][:rows].clone()}, folder / VECTORS)


def _not_a_number(folder: Path) -> None:
    vectors = load_file(folder / VECTORS)["vectors"]
    vectors[3] = float("nan")
    save_file({"vectors": vectors}, folder / VECTORS)


def _other_words(facts: dict) -> None:
    for row in facts["inputs"]:
        row["sha256"] = "0"


def _columns(folder: Path) -> None:
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncate_dim": 8}))


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("spoil", "loader", "named"),
    [
        (lambda f: _cut_short(f, 0), "zoo", "lacks 26 golden inputs"),
        (lambda f: _cut_short(f, 1), "zoo", "lacks 25 golden inputs"),
        (lambda f: _facts(f, _other_words), "zoo", "'text: word' is not the one"),
        (_not_a_number, "zoo", "text: capitals: NaN"),
        (
            lambda f: _cut_off(f / "open_clip_model.safetensors"),
            "open_clip",
            "open_clip is not run.*damaged or cut off",
        ),
        (lambda f: (f / "open_clip_config.json").write_text("<html>"), "open_clip", "open_clip_config.json"),
        (
            lambda f: (f / "modules.json").write_text("[]"),
            "sentence-transformers",
            "sentence-transformers is not run.*no list of",
        ),
        (_columns, "sentence-transformers", "vectors of 8 columns, not 16"),
    ],
)
def test_whatever_is_wrong_is_named_and_never_passes(copy: Path, spoil, loader: str, named: str):
    spoil(copy)
    report = certificate.verify(copy, loaders=[loader], dtypes=("float32",), batch_sizes=(32,))
    assert not report.passed
    assert re.search(named, report.reason)
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("name", "allowed"), [("bfloat16", -5.0), ("float32", 1.0), ("float16", "much")])
def test_a_certificate_that_allows_everything_is_an_error(copy: Path, name: str, allowed: object):
    _facts(copy, lambda facts: facts["tolerances"][name].update(allowed=allowed))
    with pytest.raises(CertificateError, match=rf"tolerances\.{name}\.allowed is {allowed!r}; it must be"):
        certificate.verify(copy, **QUICK)


def test_another_tokenizer_is_named(tmp_path: Path):
    folder = zoo.build_model("mini-test").save_pretrained(tmp_path / "m")
    certificate.make(zoo.load_model(folder)).save(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    rows = tokenizer["model"]["vocab"]
    rows["a"], rows["e"] = rows["e"], rows["a"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    report = certificate.verify(folder, **QUICK)
    assert "tokenizer.json is not the file" in report.reason
    assert {row.kind for row in report.rows if row.passed is False} == {"text"}


def test_a_library_that_resizes_otherwise_departs(copy: Path):
    """Bilinear instead of bicubic moves the cosine by a few 1e-4 only: a bound that is not measured lets it through."""
    path = copy / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"]["interpolation"] = "bilinear"
    path.write_text(json.dumps(config))
    report = certificate.verify(copy, loaders=["zoo", "open_clip"], dtypes=("float32",), batch_sizes=(32,))
    departs = {(row.loader, row.kind) for row in report.rows if row.passed is False}
    assert departs == {("open_clip", "resized image")}


def test_a_model_that_overflows_in_half_precision_is_no_failure(tmp_path: Path):
    model = zoo.build_model("text-test")
    with torch.no_grad():
        model.towers[0].encoder.backbone.encoder.layer[0].output.LayerNorm.weight.mul_(1e6)
    folder = model.save_pretrained(tmp_path / "m")
    made = certificate.make(zoo.load_model(folder))
    made.save(folder)
    assert made.tolerances["float16"].allowed is None
    report = certificate.verify(folder, batch_sizes=(32,))
    assert report.passed, report.reason
    assert {row.dtype: row.passed for row in report.rows} == {"float32": True, "bfloat16": True, "float16": None}
    alone = certificate.verify(folder, dtypes=("float16",))
    assert "nothing could be compared" in alone.reason
    assert "overflows" in alone.reason


def test_a_model_of_another_size_is_named(copy: Path):
    stored = Certificate.load(copy)
    wider = torch.nn.functional.pad(stored.vectors, (0, 8))
    replace(stored, dim=stored.dim + 8, vectors=wider).save(copy)
    report = certificate.verify(copy, **QUICK)
    assert not report.passed
    assert f"{stored.dim} columns" in report.reason


def test_without_a_certificate_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    zoo.build_model("text-test").save_pretrained(tmp_path / "m")
    assert main(["verify", str(tmp_path / "m"), "--quick"]) == 1
    said = capsys.readouterr().out
    assert "has no certificate" in said
    assert "NO CERTIFICATE" in said


def test_the_command_writes_passes_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "m"
    zoo.build_model("mini-test").save_pretrained(folder)
    assert main(["verify", str(folder), "--write"]) == 0
    assert main(["verify", str(folder), "--quick"]) == 0
    assert "PASS" in capsys.readouterr().out
    other = zoo.build_model("mini-test")
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    other.save_pretrained(folder)
    assert main(["verify", str(folder), "--quick", "--json"]) == 1
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["passed"] is False
    assert "model.safetensors" in outcome["reason"]


def test_bad_options_are_named(capsys: pytest.CaptureFixture[str]):
    assert main(["verify", "zoo-mini", "--loaders", "tensorflow"]) == 2
    assert "open_clip" in capsys.readouterr().err
    assert main(["verify", "zoo-mini", "--dtypes", "int3"]) == 2
    assert main(["verify", "hf:me/x", "--trust-remote-code"]) == 2
    assert "full commit" in capsys.readouterr().err


def test_zoo_mini_keeps_to_its_certificate():
    report = certificate.verify("zoo-mini", **QUICK)
    assert report.certified
    assert report.passed, report.reason


def test_foreign_code_is_named(copy: Path):
    """What `AutoModel.from_pretrained(trust_remote_code=True)` would run must be what the zoo wrote."""
    code = copy / "modeling_zoo.py"
    code.write_text("MARK = 1\n" + code.read_text())
    report = certificate.verify(copy, loaders=["zoo"], **QUICK)
    assert not report.passed
    assert "Python files that this zoo did not write" in report.reason
