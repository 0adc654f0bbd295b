"""`zoo verify` of an exported folder in which one thing was changed: it fails, and names what was changed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from tests.every import standing_for
from tests.hub import LoopbackHub
from tests.reference import sentence_models
from zoo.cli import main
from zoo.formats import TOKENIZER_FILES
from zoo.publishing import certificate, exports
from zoo.publishing.certificate import Certificate, checking
from zoo.publishing.certificate.files import steers

QUICK: dict[str, Any] = {"dtypes": ("float32",), "batch_sizes": (8,)}
PROMPTS = {"query": "ask: ", "passage": "read this: "}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Exported folders with their certificates: text backbones with prompts, two towers, and a model of our own parts."""
    root = tmp_path_factory.mktemp("good")

    @cache
    def folder(name: str) -> Path:
        model = zoo.build_model(name)
        if model.spec.modalities == {"text"}:
            model.spec = replace(model.spec, prompts=PROMPTS, dims=(16, 8))
        exports.export(model, root / name)
        certificate.make(zoo.load_model(root / name, device="cpu")).save(root / name)
        return root / name

    return folder


def verify(folder: Path, *loaders: str) -> checking.Report:
    return certificate.verify(folder, loaders=loaders or None, **QUICK)


# ------------------------------------------------------------------------------------------------------- one change


def change(file: str, edit: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A JSON file in which one thing is changed; what `edit` returns takes its place, or it was changed in place."""

    def apply(folder: Path) -> None:
        value = json.loads((folder / file).read_text())
        changed = edit(value)
        (folder / file).write_text(json.dumps(value if changed is None else changed))

    return apply


def fact(name: str, value: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = "zoo.json" if (folder / "zoo.json").is_file() else "config.json"
        change(file, lambda facts: facts["spec"].update({name: value}))(folder)

    return apply


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return apply


def without_document(settings: dict[str, Any]) -> None:
    del settings["prompts"]["document"]


def stronger(folder: Path) -> None:
    """The last layer of the backbone scaled: directions stay, norms do not, so that only norms can tell."""
    tensors = load_file(folder / "model.safetensors")
    for name in ("encoder.layer.1.output.LayerNorm.weight", "encoder.layer.1.output.LayerNorm.bias"):
        tensors[name] = tensors[name] * 3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


ST, MODULES, POOLING = "config_sentence_transformers.json", "modules.json", "1_Pooling/config.json"
# What is done → to which folder, what is named, and which library's own vectors show it (where they do).
TABLE: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "Normalize leaves modules.json": ("text-test", change(MODULES, lambda rows: rows[:-1]), MODULES, "sentence-transformers"),
    "document leaves the prompts": ("text-test", change(ST, without_document), ST, "sentence-transformers"),
    "another query prompt": ("text-test", change(ST, lambda s: s["prompts"].update(query="x")), ST, "sentence-transformers"),
    "another default prompt": ("text-test", change(ST, lambda s: s.update(default_prompt_name="query")), ST, "sentence-transformers"),
    "dot product": ("clip-test", change(ST, lambda s: s.update(similarity_fn_name="dot")), ST, ""),
    "a cut by default": ("clip-test", change(ST, lambda s: s.update(truncate_dim=8)), ST, "sentence-transformers"),
    "another pooling": ("text-test", change(POOLING, lambda s: s.update(pooling_mode="max")), POOLING, "transformers"),
    "a shorter limit": ("text-test", change("sentence_bert_config.json", lambda s: s.update(max_seq_length=8)), "sentence_bert_config.json", "sentence-transformers"),
    "a longer limit": ("text-test", change("tokenizer_config.json", lambda s: s.update(model_max_length=9)), "tokenizer_config.json", "transformers"),
    "stronger states": ("text-test", stronger, "model.safetensors", "transformers"),
    "other cuts": ("text-test", fact("dims", [16]), "dims", ""),
    "another licence": ("text-test", fact("license", "mit"), "license", ""),
    "another licence, own layout": ("mini-test", fact("license", "mit"), "license", ""),
    "other cuts, own layout": ("mini-test", fact("dims", [8]), "dims", ""),
    "other prompts": ("text-test", fact("prompts", {"query": "x: "}), "prompts", "zoo"),
    "another similarity": ("clip-test", change("config.json", lambda c: c["spec"].update(similarity="dot")), "similarity", ""),
    "code of its own": ("clip-test", change("config.json", lambda c: c.pop("auto_map") and None), "config.json", ""),
    "open_clip resizes otherwise": ("clip-test", change("open_clip_config.json", lambda c: c["preprocess_cfg"].update(mean=[0.1, 0.1, 0.1])), "open_clip_config.json", "open_clip"),
    "the certificate is deleted": ("text-test", lambda f: (f / "certificate.json").unlink(), "no certificate", ""),
    "both of its files are deleted": ("text-test", lambda f: [p.unlink() for p in f.glob("certificate.*")], "no certificate", ""),
    "a pickle is added": ("text-test", write("pytorch_model.bin", b"\x80\x02."), "pytorch_model.bin was not there when the certificate was made: a pickle", ""),
    "a pickle for open_clip": ("clip-test", write("open_clip_pytorch_model.bin", b"\x80\x02."), "open_clip_pytorch_model.bin was not there .* a pickle", ""),
    "code is added": ("text-test", write("modeling_x.py", b"x = 1\n"), "modeling_x.py was not there .* code", ""),
    "an adapter's weights": ("text-test", write("adapter_model.safetensors", b"{}"), "adapter_model.safetensors was not there", ""),
    "a settings file": ("text-test", write("sentence_roberta_config.json", b'{"max_seq_length": 8}'), "sentence_roberta_config.json was not there", ""),
    "a chat template": ("text-test", write("chat_template.jinja", b"x"), "chat_template.jinja was not there", ""),
    "a file that nobody knows": ("mini-test", write("steering.cfg", b"x"), "steering.cfg was not there", ""),
    "the facts are deleted": ("text-test", lambda f: (f / "zoo.json").unlink(), "zoo.json is missing", ""),
}  # fmt: skip


# Every file that steers is found in the same way, and every fact of the spec: one of each stands for the others.
ALIKE = {
    "other cuts, own layout",
    "another licence, own layout",
    "both of its files are deleted",
    "a pickle for open_clip",
}
ALIKE |= {"code is added", "an adapter's weights", "a settings file", "a chat template"}


@pytest.mark.parametrize("name", standing_for(TABLE, TABLE.keys() - ALIKE))
def test_one_change_is_named_and_never_passes(name: str, copy: Callable[[str], Path]) -> None:
    model, spoil, named, loader = TABLE[name]
    folder = copy(model)
    spoil(folder)
    report = verify(folder, *([loader] if loader else ["zoo"]))
    assert not report.passed
    assert re.search(named, report.reason), report.reason
    if loader:
        assert any(row.passed is False for row in report.rows if row.loader == loader), "its vectors do not show it"


@pytest.mark.parametrize("name", ["text-test", "clip-test", "mini-test"])
def test_without_a_change_it_passes_and_papers_are_nobodys_business(name: str, copy: Callable[[str], Path]) -> None:
    folder = copy(name)
    (folder / "README.md").write_text("# Another card")
    for paper in ("LICENSE", "docs.png", "results.json", ".gitattributes", ".eval_results/a.yaml", "report/x.json"):
        (folder / paper).parent.mkdir(exist_ok=True)
        (folder / paper).write_text("x")
    report = verify(folder)
    assert report.passed, report.reason
    assert report.notes == []


def test_what_steers() -> None:
    for name in (
        "config.json",
        "1_Pooling/config.json",
        "vocab.txt",
        "a.bin",
        "x/y/z.unknown",
        "openvino/m.xml",
        "a.jinja",
    ):
        assert steers(name), name
    for name in ("README.md", "license.txt", "NOTICE", "a/b.png", "checkpoints/step-1/state.json", "certificate.json"):
        assert not steers(name), name


# --------------------------------------------------------------------------------------- roles, norms and dtypes


def test_a_certificate_states_norms_and_roles(good: Callable[[str], Path]) -> None:
    stored = Certificate.load(good("text-test"))
    assert stored.norms is not None
    assert len(stored.norms) == len(stored.inputs)
    assert max(abs(norm - 1) for norm in stored.norms) > 0.1, "norms of unit vectors would tell nothing"
    raw = exports.encode_with("transformers", good("text-test"), [zoo.Item(text="motorbike")], raw=True)
    assert float(raw.norm()) == pytest.approx(
        stored.norms[[row[0] for row in stored.inputs].index("text: word")], rel=1e-4
    )
    names = {row[0] for row in stored.inputs}
    assert {"text: word (as query)", "text: sentence (as document)"} <= names
    assert stored.spec["dims"] == [16, 8]


def test_where_sentence_transformers_has_no_prompt_for_a_role_is_said(tmp_path: Path) -> None:
    """Prompts called query and passage: ours for documents is the second, theirs an empty one. No false alarm."""
    folder = tmp_path / "e5"
    sentence_models._write(
        folder, sentence_models.Pooling(32, "mean"), sentence_models.Normalize(), prompts=dict(PROMPTS)
    )
    change(ST, without_document)(folder)
    model = zoo.load_model(folder, device="cpu")
    certificate.make(model).save(folder)
    report = verify(folder)
    assert report.passed, report.reason
    assert ["encode_document of sentence-transformers puts '' before a text" in note for note in report.notes] == [True]
    assert "'read this: '" in report.notes[0]
    change(ST, lambda s: s["prompts"].update(query="x: "))(folder)
    assert not verify(folder, "sentence-transformers").passed


def test_half_precision_weights_are_said(tmp_path: Path) -> None:
    model = zoo.build_model("text-test").to(torch.float16)
    exports.export(model, tmp_path / "half")
    certificate.make(zoo.load_model(tmp_path / "half", device="cpu")).save(tmp_path / "half")
    report = verify(tmp_path / "half")
    assert report.passed, report.reason
    assert any("stored as float16" in note for note in report.notes)


# ------------------------------------------------------------------------------------------------ older, and missing


def as_format_1(folder: Path) -> None:
    """The certificate as the zoo before this one wrote it."""
    path = folder / "certificate.json"
    facts = json.loads(path.read_text())
    rows = [i for i, row in enumerate(facts["inputs"]) if "(as " not in row["name"]]
    facts["inputs"] = [{k: v for k, v in facts["inputs"][i].items() if k != "norm"} for i in rows]
    facts["files"] = {k: v for k, v in facts["files"].items() if k.endswith(".safetensors") or k in TOKENIZER_FILES}
    path.write_text(json.dumps({k: v for k, v in facts.items() if k not in ("spec", "known")} | {"format": 1}))
    vectors = load_file(folder / "certificate.safetensors")["vectors"][rows]
    save_file({"vectors": vectors.contiguous()}, folder / "certificate.safetensors")


def test_a_certificate_of_format_1_verifies_as_far_as_it_can(copy: Callable[[str], Path]) -> None:
    folder = copy("text-test")
    as_format_1(folder)
    report = verify(folder)
    assert report.passed, report.reason
    assert ["format 1" in note and "norms" in note for note in report.notes] == [True]
    fact("license", "mit")(folder)
    assert verify(folder, "zoo").passed, "it does not cover that, and says so"
    change(MODULES, lambda rows: rows[:-1])(folder)
    assert any(row.passed is False for row in verify(folder, "sentence-transformers").rows), "vectors still tell"
    write("pytorch_model.bin", b"\x80\x02.")(folder)
    assert "pytorch_model.bin" in verify(folder, "zoo").reason


def test_the_command_says_that_there_is_no_certificate(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy("mini-test")
    assert main(["verify", str(folder), "--quick"]) == 0
    said = capsys.readouterr().out
    assert "PASS" in said
    assert "resized: images that are scaled" in said
    (folder / "certificate.json").unlink()
    assert main(["verify", str(folder), "--quick"]) != 0
    said = capsys.readouterr().out
    assert "NO CERTIFICATE: there is no certificate (certificate.json)" in said
    assert "certificate.safetensors is there without its certificate.json" in said


@pytest.mark.slow
def test_a_pickle_beside_it_on_the_hub_is_named_and_not_fetched(
    copy: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy("text-test")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with LoopbackHub() as hub:
        hub.add(folder, "me/tampered")
        for key, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(key, value)
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from zoo.cli import main; sys.exit(main(sys.argv[1:]))", "verify", "hf:me/tampered", "--quick", "--loaders", "zoo"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "pytorch_model.bin was not there when the certificate was made: a pickle" in done.stdout
    assert not list((tmp_path / "home").rglob("pytorch_model.bin"))
