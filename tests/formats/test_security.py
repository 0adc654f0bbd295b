"""A checkpoint is data: nothing in it may run code, read outside its folder, or switch trust on by itself.

Every hostile checkpoint here would leave a mark, a file, if its code ran. Each is a good checkpoint with one thing
changed, so that it fails (or loads) for that reason alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import zoo
from tests.formats.settings_support import change
from tests.reference import TEXTS
from zoo.errors import UnrecognisedCheckpointError, UnsafeCheckpointError, ZooError

FAMILIES = (
    "open_clip-siglip",
    "transformers-clip",
    "transformers-bert",
    "sentence-dense",
    "sentence-static",
    "timm-vit",
)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that hostile code would leave."""
    return tmp_path / "code-ran"


class Hostile:
    """Unpickling this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def module_that_marks(path: Path, mark: Path, classes: str) -> None:
    """A Python file that makes the mark when it is imported."""
    lines = [f"open({str(mark)!r}, 'w').close()", *(f"class {name}: pass" for name in classes.split())]
    path.write_text("\n".join(lines))


def weights_of(folder: Path) -> list[Path]:
    return list(folder.rglob("*.safetensors"))


def pickle_name(weights: Path) -> Path:
    stem = "open_clip_pytorch_model" if weights.stem.startswith("open_clip") else "pytorch_model"
    return weights.with_name(f"{stem}.bin")


def test_the_hostile_pickle_is_hostile(mark: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(mark), protocol=2))
    assert mark.exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_pickled_weights_are_refused(family: str, copy: Callable[[str], Path], mark: Path) -> None:
    folder = copy(family)
    for weights in weights_of(folder):
        pickle_name(weights).write_bytes(pickle.dumps(Hostile(mark), protocol=2))
        weights.unlink()
    with pytest.raises(UnsafeCheckpointError, match="pickle") as caught:
        zoo.load_model(folder)
    assert "allow_pickle=True" in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_even_an_allowed_pickle_runs_no_code(family: str, copy: Callable[[str], Path], mark: Path) -> None:
    folder = copy(family)
    for weights in weights_of(folder):
        pickle_name(weights).write_bytes(pickle.dumps(Hostile(mark), protocol=2))
        weights.unlink()
    with pytest.raises(ZooError):
        zoo.load_model(folder, allow_pickle=True)
    assert not mark.exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_safetensors_are_read_where_a_pickle_lies_beside_them(
    family: str, copy: Callable[[str], Path], mark: Path
) -> None:
    folder = copy(family)
    for weights in weights_of(folder):
        pickle_name(weights).write_bytes(pickle.dumps(Hostile(mark), protocol=2))
    zoo.load_model(folder)
    assert not mark.exists()


@pytest.mark.parametrize("trust", [False, True])
def test_code_beside_a_known_model_type_is_never_run(trust: bool, copy: Callable[[str], Path], mark: Path) -> None:
    folder = copy("transformers-bert")
    module_that_marks(folder / "evil.py", mark, "Model Config Tokenizer")
    change(folder / "config.json", auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"})
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]})
    try:
        zoo.load_model(folder, trust_remote_code=trust)
    except ZooError as error:
        assert "auto_map" in str(error) or "code" in str(error)  # noqa: PT017
    assert not mark.exists()


def test_an_unknown_model_type_with_code_is_refused(copy: Callable[[str], Path], mark: Path) -> None:
    folder = copy("transformers-bert")
    module_that_marks(folder / "evil.py", mark, "Model Config")
    auto_map = {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}
    change(folder / "config.json", model_type="evil", auto_map=auto_map)
    with pytest.raises((UnsafeCheckpointError, UnrecognisedCheckpointError)):
        zoo.load_model(folder)
    assert not mark.exists()


def test_an_image_processor_with_code_is_never_run(copy: Callable[[str], Path], mark: Path) -> None:
    folder = copy("transformers-siglip2-naflex")
    module_that_marks(folder / "evil.py", mark, "Processor")
    change(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Processor"})
    try:
        zoo.load_model(folder)
    except ZooError as error:
        assert "auto_map" in str(error)  # noqa: PT017
    assert not mark.exists()


@pytest.mark.parametrize(
    "options", [{"trust_remote_code": True}, {"trust_remote_code": True, "clean": "lower"}, {"cache_dir": "/"}]
)
def test_a_configuration_cannot_switch_trust_on(
    options: dict[str, Any], copy: Callable[[str], Path], mark: Path
) -> None:
    folder = copy("open_clip-siglip")
    module_that_marks(folder / "evil.py", mark, "Tokenizer")
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]})
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = options
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises((UnsafeCheckpointError, UnrecognisedCheckpointError)):
        zoo.load_model(folder).encode("a red motorbike")
    assert not mark.exists()


def test_a_tokenizer_with_code_does_not_ask_on_the_terminal(
    copy: Callable[[str], Path], mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks "[y/N]" where trust_remote_code is not given; yes must not be an answer."""
    folder = copy("open_clip-siglip")
    module_that_marks(folder / "evil.py", mark, "Tokenizer")
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="Tokenizer",
        auto_map={"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]},
    )
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    with contextlib.suppress(ZooError):
        zoo.load_model(folder).encode("a red motorbike")
    assert asked == []
    assert not mark.exists()


@pytest.mark.parametrize(
    ("tower", "key", "value"),
    [
        ("vision_cfg", "timm_model_name", "hf-hub:org/evil"),
        ("vision_cfg", "timm_model_name", "local-dir:/tmp"),
        ("vision_cfg", "timm_model_name", "hf_hub:org/evil"),
        ("vision_cfg", "timm_model_name", "file:///etc/passwd"),
        ("vision_cfg", "timm_model_name", ["test_vit3"]),
        ("text_cfg", "hf_tokenizer_name", "../outside"),
        ("text_cfg", "hf_tokenizer_name", "/etc"),
        ("text_cfg", "hf_model_name", "../outside"),
        ("text_cfg", "hf_model_name", "/etc"),
    ],
)
def test_an_open_clip_tower_comes_from_no_other_place(
    tower: str, key: str, value: Any, copy: Callable[[str], Path]
) -> None:
    folder = copy("open_clip-siglip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][tower][key] = value
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UnsafeCheckpointError):
        zoo.load_model(folder)


def test_a_text_tower_with_code_of_its_own_is_refused(
    copy: Callable[[str], Path], mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip asks transformers for the shape of `hf_model_name` without saying whether code may run."""
    folder = copy("open_clip-siglip")
    evil = folder.parent / "org" / "evil"
    evil.mkdir(parents=True)
    module_that_marks(evil / "configuration_evil.py", mark, "Config")
    change(evil / "config.json", model_type="evil", auto_map={"AutoConfig": "configuration_evil.Config"})
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "org/evil"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    monkeypatch.chdir(folder.parent)
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    with pytest.raises(UnsafeCheckpointError, match="org/evil"):
        zoo.load_model(folder)
    assert asked == []
    assert not mark.exists()


@pytest.mark.parametrize(
    "args",
    [
        {"checkpoint_path": "/tmp/evil.pth"},
        {"pretrained_cfg": {"url": "http://localhost/evil.pth"}},
        {"pretrained_cfg_overlay": {"file": "/tmp/evil.pth"}},
        {"pretrained_strict": False},
        {"cache_dir": "/"},
    ],
)
def test_timm_arguments_bring_no_other_weights(
    args: dict[str, Any], copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("timm-vit")
    saved = zoo.load_model(folder).save_pretrained(tmp_path / "saved")
    change(folder / "config.json", model_args=args)
    with pytest.raises(UnsafeCheckpointError, match=next(iter(args))):
        zoo.load_model(folder)
    config = json.loads((saved / "config.json").read_text())
    config["towers"][0]["encoder"]["args"] = args
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsafeCheckpointError, match=next(iter(args))):
        zoo.load_model(saved)


@pytest.mark.parametrize(
    "dotted",
    ["evil.Module", "os.system", "builtins.eval", "my_package.Pooling", "sentence_transformersx.models.Transformer"],
)
@pytest.mark.parametrize("row", [0, 1])
def test_modules_json_names_built_in_classes_only(
    dotted: str, row: int, copy: Callable[[str], Path], mark: Path
) -> None:
    folder = copy("sentence-dense")
    module_that_marks(folder / "evil.py", mark, "Module")
    rows = json.loads((folder / "modules.json").read_text())
    rows[row]["type"] = dotted
    (folder / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(UnsafeCheckpointError, match=dotted.replace(".", r"\.")):
        zoo.load_model(folder)
    assert not mark.exists()


@pytest.mark.parametrize("place", ["../outside", "/etc", "1_Pooling/../../outside", "a/../../../etc"])
@pytest.mark.parametrize("row", [0, 1])
def test_modules_json_stays_inside_its_folder(place: str, row: int, copy: Callable[[str], Path]) -> None:
    folder = copy("sentence-dense")
    shutil.copytree(folder, folder.parent / "outside")
    rows = json.loads((folder / "modules.json").read_text())
    rows[row]["path"] = place
    (folder / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(UnsafeCheckpointError, match="outside"):
        zoo.load_model(folder)


@pytest.mark.parametrize("name", ["os.system", "builtins.exec", "evil.Activation", "subprocess.Popen", ""])
def test_a_dense_layer_names_known_activations_only(name: str, copy: Callable[[str], Path], mark: Path) -> None:
    folder = copy("sentence-dense")
    module_that_marks(folder / "evil.py", mark, "Activation")
    change(folder / "2_Dense" / "config.json", activation_function=name)
    with pytest.raises((UnsafeCheckpointError, UnrecognisedCheckpointError)):
        zoo.load_model(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "kind",
    [
        "os:system",
        "encoders.text:AutoModel",
        "encoders.text:Path",
        "encoders.open_clip:deepcopy",
        "loading:open_folder",
        "encoders.text:__import__",
        "../evil:Model",
        "encoders..text:TransformersText",
        None,
        ["encoders.text:TransformersText"],
    ],
)
@pytest.mark.parametrize("part", ["encoder", "pooler", "head"])
def test_our_own_configuration_names_our_own_parts_only(kind: Any, part: str, tmp_path: Path) -> None:
    folder = zoo.build_model("text-test").save_pretrained(tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    config["towers"][0][part]["kind"] = kind
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises((UnsafeCheckpointError, UnrecognisedCheckpointError)):
        zoo.load_model(folder)


@pytest.mark.parametrize("assets", ["..", "/", "../..", "tower0/..", "tower99", 7])
def test_our_own_tokenizer_lies_inside_the_folder(assets: Any, tmp_path: Path) -> None:
    folder = zoo.build_model("text-test").save_pretrained(tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    config["towers"][0]["assets"] = assets
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ZooError):
        zoo.load_model(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_attn_implementation_internal", "org/evil-kernel"),
        ("attn_implementation", "org/evil-kernel"),
        ("_attn_implementation", "org/evil-kernel:function"),
        ("_experts_implementation_internal", "org/evil-kernel"),
    ],
)
def test_a_configuration_names_no_other_repository(key: str, value: str, copy: Callable[[str], Path]) -> None:
    """transformers before 5.3 fetched and ran what such a key names (CVE-2026-4372)."""
    folder = copy("transformers-bert")
    change(folder / "config.json", **{key: value})
    with pytest.raises(UnsafeCheckpointError, match=key):
        zoo.load_model(folder)


@pytest.mark.parametrize("place", ["../outside.safetensors", "{root}/outside.safetensors"])
def test_a_weights_index_stays_inside_its_folder(place: str, copy: Callable[[str], Path]) -> None:
    folder = copy("transformers-bert")
    whole = load_file(folder / "model.safetensors")
    first, *others = sorted(whole)
    save_file({first: whole[first]}, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    outside = folder.parent / "outside.safetensors"
    save_file({key: whole[key] for key in others}, outside, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    weight_map = dict.fromkeys(others, place.format(root=folder.parent)) | {first: "model-00001-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    with pytest.raises(UnsafeCheckpointError, match="outside"):
        zoo.load_model(folder)


def test_trust_for_a_repository_asks_for_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.hub.repository_files", lambda *_: pytest.fail("the Hub was asked"))
    for name in ("hf:org/name", "hf:org/name@main", "hf:org/name@0123abc"):
        with pytest.raises(UnsafeCheckpointError, match="40-digit commit"):
            zoo.load_model(name, trust_remote_code=True)


def test_loading_imports_nothing_from_the_checkpoint(copy: Callable[[str], Path], mark: Path) -> None:
    folder = copy("sentence-prompts")
    for name in ("torch.py", "transformers.py", "tokenizers.py", "modeling_bert.py", "sitecustomize.py"):
        module_that_marks(folder / name, mark, "Model")
    before = set(sys.path)
    zoo.load_model(folder).encode(list(TEXTS[:2]))
    assert set(sys.path) == before
    assert not mark.exists()
