"""backend="auto": torch for short jobs, then what a trial found, which is remembered; never other vectors."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest
import torch

import zoo
from tests.backends.script import TorchScript
from zoo.backends import auto, base, run_by, settle
from zoo.backends.cache import home, program_in
from zoo.backends.golden import trial_batches
from zoo.cli import main
from zoo.errors import BackendError

TEXTS = ["a cat", "two dogs in the snow " * 30, "why?"]
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit")


@pytest.fixture
def only_script(monkeypatch: pytest.MonkeyPatch, script: type[TorchScript]) -> type[TorchScript]:
    """As where nothing but TorchScript is installed."""
    monkeypatch.setattr(base, "_BACKENDS", {"script": base._BACKENDS["script"]})
    return script


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch, only_script: type[TorchScript]) -> dict[str, float]:
    """What a trial measures, and how many were made; a choice is due with the first pass."""
    told = {"torch": 2.0, "script": 1.0, "trials": 0}

    def least(runs: dict, *_: object) -> dict[str, float]:
        told["trials"] += 1
        return {name: told[name] for name in runs}

    monkeypatch.setattr(auto, "_least", least)
    monkeypatch.setattr(auto, "LOOK", 0.0)
    monkeypatch.setattr(auto, "TRY", 0.0)
    return told


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text embedder as a folder."""
    return zoo.build_model("text-test").save_pretrained(tmp_path_factory.mktemp("models") / "text")


def choices() -> list[Path]:
    return sorted((home() / "auto").glob("*.json"))


def test_a_short_job_is_torchs_and_leaves_nothing(saved: Path, only_script: type[TorchScript]) -> None:
    model = zoo.load_model(saved, backend="auto")
    assert torch.equal(model.encode(TEXTS), zoo.load_model(saved).encode(TEXTS))
    assert model.backend == "text: torch, until a trial of script pays"
    assert not home().exists()
    assert not only_script.exported


def test_the_faster_one_is_found_once_and_remembered(saved: Path, seconds: dict[str, float]) -> None:
    wanted = zoo.load_model(saved).encode(TEXTS)
    for _ in range(2):
        model = zoo.load_model(saved, backend="auto")
        first, second = model.encode(TEXTS), model.encode(TEXTS)
        assert torch.equal(first, wanted)
        assert (second - wanted).abs().max() < 1e-5
        assert model.backend.startswith("text: script, at most ")
        assert model.backend.endswith("from torch (fastest of a trial here: script 2.00x torch's speed)")
        assert model.backend in repr(model)
    assert seconds["trials"] == TorchScript.exported == 1
    assert model.fingerprint() == zoo.load_model(saved).fingerprint()


def test_what_is_no_faster_is_left(saved: Path, seconds: dict[str, float]) -> None:
    seconds["script"] = 1.9
    model = settle(zoo.load_model(saved, backend="auto"))
    assert model.backend == "text: torch (fastest of a trial here: script 1.05x torch's speed)"
    assert torch.equal(model.encode(TEXTS), zoo.load_model(saved).encode(TEXTS))


def test_a_choice_of_another_version_or_a_damaged_one_is_made_anew(saved: Path, seconds: dict[str, float]) -> None:
    model = zoo.load_model(saved)
    settle(run_by(model, "auto"))
    (place,) = choices()
    good = json.loads(place.read_text())
    damages = [{**good, "versions": {"script": {"torch": "0.4"}}}, {**good, "fastest": "gone"}, [good], None]
    for number, damage in enumerate(damages):
        place.write_text("{" if damage is None else json.dumps(damage))
        settle(run_by(model, "auto"))
        assert seconds["trials"] == number + 2
        assert json.loads(place.read_text()) == good


def test_what_cannot_be_exported_or_differs_is_torchs_with_one_line(
    saved: Path, seconds: dict[str, float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise BackendError("no such operator")

    monkeypatch.setattr(TorchScript, "export", refuse)
    model = zoo.load_model(saved, backend="auto")
    for _ in range(2):
        assert torch.equal(model.encode(TEXTS), zoo.load_model(saved).encode(TEXTS))
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 1
    assert "script is left out" in lines[0]
    assert "no such operator" in lines[0]
    assert model.backend == "text: torch (nothing else computes it here)"


def test_a_machine_without_any_other_backend_is_told_once(
    saved: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(base.get_backend("script"), "packages", ("no-such-package",), raising=False)
    for name in ("onnx", "openvino"):
        monkeypatch.setattr(type(base.get_backend(name)), "packages", ("no-such-package",))
    assert zoo.load_model(saved, backend="auto").backend == "torch"
    (line,) = [record.getMessage() for record in caplog.records]
    assert "nothing else is installed" in line
    assert "embedding-zoo[onnx]" in line
    assert "embedding-zoo[openvino]" in line


def test_other_numbers_than_float32_are_torchs(saved: Path, seconds: dict[str, float]) -> None:
    model = zoo.load_model(saved, backend="auto", dtype="bfloat16")
    assert model.encode(TEXTS).isfinite().all()
    assert model.backend == "torch"
    assert not seconds["trials"]


def test_towers_that_are_no_program_stay_with_torch(seconds: dict[str, float]) -> None:
    model = settle(run_by(zoo.build_model("mini-test"), "auto"))  # its texts are a table of vectors
    assert "image: script" in model.backend
    assert "text" not in model.backend


def test_gradients_and_training_come_before_a_choice(saved: Path, seconds: dict[str, float]) -> None:
    model = zoo.load_model(saved, backend="auto")
    encoder = model.towers[0].encoder
    batch = encoder.prepare([zoo.Item(text="a cat")])
    model.towers[0](batch).sum().backward()
    with torch.no_grad():
        model.train().towers[0](batch)
    assert not seconds["trials"]


def test_trials_are_timed_on_texts_of_several_lengths() -> None:
    text, image = zoo.build_model("text-test").towers[0].encoder, zoo.build_model("image-test").towers[0].encoder
    lengths = [[len(item.text.split()) for item in batch] for batch in trial_batches(text)]
    assert [(min(batch), max(batch), len(batch)) for batch in lengths] == [(12, 14, 8), (40, 42, 12), (120, 122, 4)]
    assert [len(batch) for batch in trial_batches(image)] == [8]


def test_a_real_trial_ends(only_script: type[TorchScript], saved: Path) -> None:
    model = settle(zoo.load_model(saved, backend="auto"))
    (place,) = choices()
    assert json.loads(place.read_text())["speeds"]["script"] > 0
    assert "fastest of a trial here: script" in model.backend


def test_two_that_make_a_program_at_once_share_it(tmp_path: Path) -> None:
    both, found = threading.Barrier(2), []

    def make(folder: Path) -> None:
        both.wait(10)
        (folder / "program").write_text("whole")

    def one() -> None:
        with program_in(tmp_path / "program", {"torch": "1"}, make) as folder:
            both.wait(10)  # both have theirs now
            found.append((folder, (folder / "program").read_text()))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(tmp_path / "program", "whole")] * 2


def test_commands_say_what_they_found(
    saved: Path, seconds: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "texts.txt"
    source.write_text("a cat\na dog\n")
    options = ["--out", str(tmp_path / "vectors"), "--model", str(saved), "--backend", "auto"]
    assert main(["embed", str(source), *options]) == 0
    said = capsys.readouterr().err
    assert "backend text: torch, until a trial of script pays" in said
    assert "backend auto, text: script, at most" in said
    assert main(["search", str(tmp_path / "vectors"), "a dog", "--model-backend", "auto"]) == 0
    assert main(["encode", "a cat", "--model", str(saved), "--backend", "auto"]) == 0
    assert seconds["trials"] == 1
