"""Backends: the same vectors as torch's, exported once, refused where they would differ, and torch again once a weight is changed.

The room's own logic is tested with TorchScript, which comes with torch; OpenVINO and ONNX Runtime where they are installed.
"""

from __future__ import annotations

import copy
import json
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch

import zoo
from tests.backends.script import TorchScript
from tests.house import PROJECT
from zoo.backends import base, check_backend, list_backends, run_by
from zoo.backends.cache import home
from zoo.cli import main
from zoo.encoders.program import Run
from zoo.errors import ArgumentError, BackendError, MissingPackageError

TEXTS = ["a cat", "two dogs in the snow " * 30, "why?", "the same, twice", "the same, twice"]
NAMES = ["text-test", "clip-test", "image-test", "mini-test"]


pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text embedder as a folder."""
    return zoo.build_model("text-test").save_pretrained(tmp_path_factory.mktemp("models") / "text")


def inputs_of(model: zoo.Embedder) -> list:
    images = [np.random.default_rng(i).integers(0, 255, (40 + i, 30, 3), np.uint8) for i in range(3)]
    return (TEXTS if "text" in model.spec.modalities else []) + (images if "image" in model.spec.modalities else [])


def check_equal(backend: str, names: Sequence[str]) -> None:
    """Vectors of a backend are torch's: one and many, short and long, cut and whole."""
    for name in names:
        model = zoo.build_model(name)
        inputs = inputs_of(model)
        wanted = model.encode(inputs)
        run_by(model, backend)
        assert any(tower.compiled for tower in model.towers)
        assert (model.encode(inputs) - wanted).abs().max() < 1e-5, name
        assert (model.encode(inputs[0]) - wanted[0]).abs().max() < 1e-5, name
        assert (model.encode(inputs, batch_size=2) - wanted).abs().max() < 1e-5, name
        assert torch.equal(run_by(model, "torch").encode(inputs), wanted), name


def test_vectors_are_those_of_torch() -> None:
    check_equal("script", ["text-test", "image-test"])


def test_an_int8_model_is_exported_as_integers_and_compared() -> None:
    model = zoo.build_model("clip-test")
    quantized = zoo.quantize(model, [*TEXTS * 2, *inputs_of(model)[-3:] * 3])
    wanted = quantized.encode(inputs_of(model))
    run_by(quantized, "script")
    assert all(tower.compiled for tower in quantized.towers)
    assert (quantized.encode(inputs_of(model)) - wanted).abs().max() < 0.03
    programs = [torch.jit.load(path) for path in home().rglob("program.pt")]
    kinds = {node.kind() for program in programs for node in program.inlined_graph.nodes()}
    assert kinds >= {"aten::fake_quantize_per_tensor_affine", "aten::fake_quantize_per_channel_affine"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch goes on computing")
@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_runtimes_compute_int8_models_in_integers(backend: str) -> None:
    for package in base.get_backend(backend).packages:
        pytest.importorskip(package)
    model = zoo.build_model("siglip-test")
    inputs = inputs_of(model)
    quantized = zoo.quantize(model, [*TEXTS * 2, *inputs[-3:] * 3])
    wanted = quantized.encode(inputs)
    run_by(quantized, backend)
    assert (quantized.encode(inputs) - wanted).abs().max() < 0.03
    used = [kinds_in(backend, folder.parent) for folder in home().rglob("facts.json")]
    assert len(used) == 2
    assert all(used)


def kinds_in(backend: str, folder: Path) -> bool:
    """Whether a program's products are computed in integers, as the runtime itself says."""
    if backend == "openvino":
        import openvino

        compiled = openvino.Core().compile_model(folder / "program.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        told = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        facts = [(one["layerType"].astype(str), one["runtimePrecision"].astype(str)) for one in told]
        return sum(kind == "FullyConnected" and numbers in ("u8", "i8") for kind, numbers in facts) >= 5
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(folder / "program.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]
    return kinds.count("MatMulIntegerToFloat") >= 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch goes on computing")
@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_runtimes_give_the_vectors_of_torch(backend: str) -> None:
    for package in base.get_backend(backend).packages:
        pytest.importorskip(package)
    check_equal(backend, [*NAMES, "siglip-test", "bge-m3-test", "modernbert-test", "qwen3-embedding-test"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_commands_that_answer_start_with_a_runtime(backend: str, saved: Path) -> None:
    for package in (*base.get_backend(backend).packages, "gradio", "uvicorn"):
        pytest.importorskip(package)
    wanted = zoo.load_model(saved).encode("a cat")
    for command, ready in (("serve", "/v1 "), ("demo", "is ready: open")):
        options = [str(saved), "--backend", backend, "--port", "0", *(["--no-samples"] if command == "demo" else [])]
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        try:
            line = next((line for line in process.stdout if ready in line), "")
            assert line, process.stderr.read()
            url = re.search(r"http://[\d.:]+", line)[0]
            if command == "serve":
                body = json.dumps({"input": "a cat"}).encode()
                request = Request(f"{url}/v1/embeddings", body, {"Content-Type": "application/json"})
                with urlopen(request, timeout=60) as answer:
                    found = json.loads(answer.read())["data"][0]["embedding"]
                assert np.abs(np.array(found) - wanted.numpy()).max() < 1e-5
            else:
                assert urlopen(url, timeout=60).status == 200
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
            assert f"backend text: {backend}, at most" in errors
        finally:
            process.kill()
            process.wait()


def test_a_folder_is_loaded_with_a_backend_and_exported_once(saved: Path, script: type[TorchScript]) -> None:
    plain, model = zoo.load_model(saved), zoo.load_model(saved, backend="script", device="cpu")
    assert script.exported == 1
    assert torch.allclose(model.encode(TEXTS), plain.encode(TEXTS), atol=1e-5)
    assert "script, at most" in repr(model)
    assert "script" not in repr(plain)
    assert model.fingerprint() == plain.fingerprint()  # an index of one is searched with the other
    zoo.load_model(saved, backend="script")
    assert script.exported == 1


def test_programs_of_other_versions_and_damaged_ones_are_made_anew(saved: Path, script: type[TorchScript]) -> None:
    wanted = zoo.load_model(saved, backend="script").encode(TEXTS)
    facts, *_ = sorted(home().rglob("facts.json"))
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "torch": "0.4"}))
    zoo.load_model(saved, backend="script")
    assert script.exported == 2
    assert json.loads(facts.read_text())["torch"] != "0.4"
    (facts.parent / "program.pt").write_bytes(b"half a file")
    assert torch.allclose(zoo.load_model(saved, backend="script").encode(TEXTS), wanted, atol=1e-6)
    assert script.exported == 3
    assert not list(home().rglob(".*"))  # nothing half written stays


def test_a_cache_that_cannot_be_written_costs_the_export_alone(saved: Path, script: type[TorchScript]) -> None:
    home().parent.mkdir(parents=True)
    home().write_text("a file where the folder should be")
    assert len(zoo.load_model(saved, backend="script").encode(TEXTS)) == len(TEXTS)
    assert script.exported == 1


def test_two_models_that_differ_in_one_weight_have_two_programs(script: type[TorchScript]) -> None:
    model = zoo.build_model("text-test")
    run_by(model, "script")
    run_by(copy.deepcopy(model), "script")
    assert script.exported == 1
    with torch.no_grad():
        next(model.parameters())[-1, -1] += 1e-7
    run_by(model, "script")
    assert script.exported == 2


def test_other_vectors_than_those_of_torch_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = TorchScript.open

    def off(self: TorchScript, folder: Path, threads: int) -> Run:
        run = opened(self, folder, threads)
        return lambda tensors: run(tensors) * torch.linspace(0.99, 1.01, 64)[:1] + 1e-3

    monkeypatch.setattr(TorchScript, "open", off)
    model = zoo.build_model("text-test")
    with pytest.raises(BackendError, match=r"text-test is refused in script: its vectors differ .* by up to .*e-0\d"):
        run_by(model, "script")
    assert all(tower.compiled is None for tower in model.towers)
    assert not list(home().rglob("facts.json"))


def test_what_cannot_be_exported_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"qwen3vl-test cannot be run by script .*no single function of tensors"):
        run_by(zoo.build_model("qwen3vl-test"), "script")
    with pytest.warns(UserWarning, match=r"torch goes on computing a part of mini-test .text: .*StaticText"):
        run_by(zoo.build_model("mini-test"), "script")

    def refuse(*_: object) -> None:
        raise RuntimeError("Unsupported operator\naten::frobnicate")

    monkeypatch.setattr(TorchScript, "export", refuse)
    model = zoo.build_model("text-test")
    with pytest.raises(BackendError, match=r"TransformersText cannot be exported to script: .* operator aten::frob"):
        run_by(model, "script")


def test_a_subclass_with_a_forward_pass_of_its_own_is_not_taken_for_its_parent() -> None:
    with pytest.raises(BackendError, match="no single function"):
        run_by(zoo.build_model("jina-v3-test"), "script")


def test_what_cannot_be_followed_is_refused_before_anything_is_opened() -> None:
    assert list_backends() == ["torch", "onnx", "openvino", "script"]
    for options, said in (
        ({"backend": "tensorrt"}, "no such backend; write one of auto, torch, onnx, openvino, script"),
        ({"backend": "script", "dtype": "bfloat16"}, "in float32, not in"),
    ):
        with pytest.raises(ArgumentError, match=said):
            zoo.load_model("hf:org/never-asked-for", **options)
    with pytest.raises(ArgumentError, match="on the CPU, not on cuda"):
        check_backend("script", "cuda")
    with pytest.raises(ArgumentError, match="in float32"):
        run_by(zoo.build_model("text-test").half(), "script")


def test_a_backend_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino", "onnx"):
        monkeypatch.setattr(type(base.get_backend(name)), "packages", ("no-such-package",))
        with pytest.raises(MissingPackageError, match=rf"no-such-package: pip install 'embedding-zoo\[{name}\]'"):
            check_backend(name)


def test_changed_weights_are_computed_by_torch() -> None:
    changes = {
        "in place": lambda model: next(model.parameters()).mul_(1.5),
        "through .data": lambda model: next(model.parameters()).data.mul_(1.5),
        "loaded": lambda model: model.load_state_dict(zoo.build_model("text-test").state_dict()),
        "moved": lambda model: model.double().float(),
    }
    for how, change in changes.items():
        model = run_by(zoo.build_model("text-test"), "script")
        with torch.no_grad():
            change(model)
        with pytest.warns(UserWarning, match="the weights were changed since script was given them"):
            found = model.encode(TEXTS)
        assert torch.equal(found, run_by(model, "torch").encode(TEXTS)), how


def test_gradients_layers_hooks_and_copies_are_those_of_torch() -> None:
    model, plain = run_by(zoo.build_model("text-test"), "script"), None
    tower, batch = model.towers[0], model.towers[0].encoder.prepare([zoo.Item(text=text) for text in TEXTS])
    tower(batch).sum().backward()
    assert all(one.grad is not None for one in tower.encoder.backbone.encoder.layer.parameters())
    plain = pickle.loads(pickle.dumps(model))
    assert plain.towers[0].compiled is None
    assert copy.deepcopy(model).towers[0].compiled is None
    with torch.inference_mode():
        assert torch.equal(tower(batch, layers=[1]), plain.towers[0](batch, layers=[1]))
    assert torch.allclose(model.train().encode(TEXTS), plain.encode(TEXTS), atol=1e-5)
    seen: list[int] = []
    hook = tower.encoder.backbone.register_forward_hook(lambda *_: seen.append(1))
    model.encode(TEXTS)
    hook.remove()
    assert seen


def test_a_model_of_a_backend_is_saved(saved: Path, tmp_path: Path) -> None:
    model = zoo.load_model(saved, backend="script")
    again = zoo.load_model(model.save_pretrained(tmp_path / "again"))
    assert torch.allclose(again.encode(TEXTS), model.encode(TEXTS), atol=1e-5)


def test_other_outputs_are_torchs_beside_a_backend() -> None:
    model = zoo.build_model("bge-m3-test")
    wanted = model.encode_outputs(TEXTS)
    found = run_by(model, "script").encode_outputs(TEXTS)
    assert model.towers[0].compiled is not None
    assert torch.equal(found.dense, wanted.dense)
    assert (model.encode(TEXTS) - wanted.dense).abs().max() < 1e-5


def test_a_folder_of_vectors_is_continued_with_another_backend(saved: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "texts.txt", tmp_path / "vectors"
    texts = ["a cat", "a dog", "a red boat", "two dogs in the snow"]
    source.write_text("\n".join(texts[:2]))
    zoo.embed_dataset(saved, source, out)
    source.write_text("\n".join(texts))
    report = zoo.embed_dataset(saved, source, out, backend="script")
    assert (report.added, report.unchanged) == (2, 2)
    plain = zoo.load_model(saved)
    index = zoo.open_index(out, model=plain)
    for text in texts:
        (hit,) = index.search(plain.encode_document(text), k=1)
        assert hit.score == pytest.approx(1.0, abs=1e-5)


def test_commands_take_a_backend(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "texts.txt", tmp_path / "vectors"
    source.write_text("\n".join(["a cat", "a dog", "a red boat"]))
    assert main(["embed", str(source), "--out", str(out), "--model", str(saved), "--backend", "script"]) == 0
    assert "script" in capsys.readouterr().err
    assert main(["search", str(out), "a dog", "--model-backend", "script"]) == 0  # of the same folder's fingerprint
    assert main(["search", str(out), "a dog"]) == 0
    assert main(["encode", "a cat", "--model", str(saved), "--backend", "nonesuch"]) == 2
    assert "no such backend" in capsys.readouterr().err
    data = tmp_path / "pairs.csv"
    data.write_text("query,positive\na cat,an animal that purrs\nwhy?,because\na boat,it swims\n")
    exported = TorchScript.exported
    assert main(["eval", str(saved), "--data", str(data), "--backend", "script", "--json"]) == 0
    assert TorchScript.exported == exported  # the program of before: the same weights
    assert main(["eval", f"{saved}@backend=nonesuch", "--data", str(data)]) == 2
    assert "no such backend" in capsys.readouterr().err
    assert main(["eval", f"{saved}@backend=script", "--data", str(data), "--backend", "auto"]) == 2
    assert "backend is said twice" in capsys.readouterr().err
