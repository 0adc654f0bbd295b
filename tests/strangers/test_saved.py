"""Saved models, adapters, certificates and cards from a stranger: read without leaving their folder, and written into safely."""

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.strangers import runs
from tests.strangers.harness import Answer, Sandbox

slow = pytest.mark.slow
LOAD = "import sys, zoo; print(zoo.load_model(sys.argv[1], device='cpu').spec.name)"
SAVE = "import sys, zoo; zoo.build_model('text-test').save_pretrained(sys.argv[1])"
VERIFY = ("--quick", "--loaders", "zoo,sentence-transformers")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the files of every loader, a certificate and a card."""
    import zoo
    from zoo.publishing import certificate, exports

    folder = tmp_path_factory.mktemp("published") / "model"
    model = zoo.build_model("text-test")
    exports.export(model, folder)
    written = zoo.load_model(folder, device="cpu").fingerprint()["preprocessing"]
    replace(certificate.make(model, halves=()), preprocessing=written).save(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    return folder


@pytest.fixture
def model(sandbox: Sandbox, published: Path) -> Path:
    return Path(shutil.copytree(published, sandbox.gift / "model"))


@pytest.fixture
def saved(sandbox: Sandbox) -> Path:
    import zoo

    return zoo.build_model("text-test").save_pretrained(sandbox.gift / "model")


def load(sandbox: Sandbox, folder: Path) -> Answer:
    return sandbox.python(LOAD, folder)


# ---------------------------------------------------------------------------------------------------------- reading


@slow
def test_an_honest_model_is_loaded_and_verified(sandbox: Sandbox, model: Path) -> None:
    load(sandbox, model).harmless()
    sandbox.zoo("verify", model, *VERIFY).harmless()
    assert "# A model" in sandbox.zoo("card", model, "--raw").harmless().out


READ = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "zoo.json", "modules.json"]
READ += ["1_Pooling/config.json", "certificate.json", "sentence_bert_config.json", "extra.jinja", "source.spm"]


def test_a_configuration_that_lies_elsewhere(sandbox: Sandbox, saved: Path) -> None:
    runs.put(saved / "config.json", "file", sandbox.home)
    load(sandbox, saved).refused("config.json is a link to")


@slow
@pytest.mark.parametrize("name", READ)
def test_a_file_that_lies_elsewhere_is_not_opened(sandbox: Sandbox, model: Path, name: str) -> None:
    runs.put(model / name, "file", sandbox.home)
    load(sandbox, model).refused(f"{re.escape(name)} is a link to")
    sandbox.zoo("verify", model, *VERIFY).refused(f"{re.escape(name)} is a link to")


@slow
@pytest.mark.parametrize("name", READ[2:])
def test_nor_is_a_fifo(sandbox: Sandbox, model: Path, name: str) -> None:
    runs.put(model / name, "fifo", sandbox.home)
    sandbox.zoo("verify", model, *VERIFY).refused(f"{re.escape(name)} is a FIFO")
    load(sandbox, model).safe()


@slow
@pytest.mark.parametrize("name", ["1_Pooling", "additional_chat_templates", "sub/folder"])
def test_a_folder_that_lies_elsewhere_is_not_entered(sandbox: Sandbox, model: Path, name: str) -> None:
    runs.put(model / name, "folder", sandbox.home)
    sandbox.zoo("verify", model, *VERIFY).refused(f"{re.escape(name)} is a link to")


@slow
@pytest.mark.parametrize("name", [*READ[:6], "certificate.json", "certificate.safetensors", "x.jinja"])
def test_three_gigabytes_of_nothing(sandbox: Sandbox, model: Path, name: str) -> None:
    runs.put(model / name, "sparse", sandbox.home)
    load(sandbox, model).safe()
    answer = sandbox.zoo("verify", model, *VERIFY).safe()
    assert answer.status


@slow
def test_a_socket_and_a_device_are_named(sandbox: Sandbox, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)  # names of sockets are short
    os.unlink("modules.json")
    socket.socket(socket.AF_UNIX).bind("modules.json")
    load(sandbox, model).refused("modules.json is a socket")
    os.unlink("modules.json")
    if not os.geteuid():
        os.mknod("modules.json", 0o020644, os.makedev(1, 5))
        load(sandbox, model).refused("modules.json is a device")


@slow
def test_links_of_the_hubs_cache_are_honest_and_hard_ones_too(sandbox: Sandbox, model: Path) -> None:
    repo = sandbox.gift / "models--a--b"
    (repo / "blobs").mkdir(parents=True)
    snapshot = repo / "snapshots" / ("0" * 40)
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        place = snapshot / path.relative_to(model)
        place.parent.mkdir(parents=True, exist_ok=True)
        blob = repo / "blobs" / path.relative_to(model).as_posix().replace("/", "-")
        shutil.copy(path, blob)
        place.symlink_to(os.path.relpath(blob, place.parent))
    sandbox.zoo("verify", snapshot, *VERIFY).harmless()
    assert "# A model" in sandbox.zoo("card", snapshot, "--raw").harmless().out
    os.link(model / "config.json", sandbox.gift / "config.json")
    load(sandbox, model).harmless()


def _modules(folder: Path, change: Callable[[list], list]) -> None:
    rows = json.loads((folder / "modules.json").read_text())
    runs.write(folder / "modules.json", change(rows))


STRANGE_MODULES = [
    lambda rows: [{**rows[0], "path": "../../home"}, *rows[1:]],
    lambda rows: [*rows, {"idx": 9, "name": "9", "path": "../../home", "type": "sentence_transformers.models.Dense"}],
    lambda rows: [*rows, {"idx": 9, "name": "9", "path": "", "type": "os.system"}],
    lambda rows: [{**rows[0], "type": "zoo_module.ZooModule"}, *rows[1:]],
    lambda rows: [],
    lambda rows: {"a": 1},
]


@slow
@pytest.mark.parametrize("change", STRANGE_MODULES)
def test_other_libraries_read_what_the_zoo_would(sandbox: Sandbox, model: Path, change) -> None:
    """Beside the zoo's own configuration, which loads, lies one of sentence-transformers that nobody has looked at."""
    other = sandbox.gift / "other"
    shutil.copytree(model, other)
    import zoo

    zoo.build_model("text-test").save_pretrained(other)
    _modules(other, change)
    load(sandbox, other).safe()
    answer = sandbox.zoo("verify", other, *VERIFY).safe()
    assert answer.status == 1
    assert re.search("is not run|lies outside|not the file", answer.text)


@slow
@pytest.mark.parametrize("kind", ["file", "fifo", "sparse", "folder"])
@pytest.mark.parametrize("name", ["README.md", "results.json", "recipe.json", "data.json", "report"])
def test_what_lies_beside_a_model_and_is_published(sandbox: Sandbox, model: Path, name: str, kind: str) -> None:
    runs.put(model / name, kind, sandbox.home)
    answer = sandbox.zoo(
        "publish", model, "--to", "me/mine", "--dry-run", "--no-verify", "--keep", sandbox.out / "staged"
    )
    answer.safe()
    assert answer.status == (0 if name == "report" else 2), answer.text
    if name == "README.md":
        sandbox.zoo("card", model).refused("README.md")


# ---------------------------------------------------------------------------------------------------------- writing


PLANTED = [
    ("tower0", "folder"),
    (".zoo-half-saved", "nothing"),
    (".zoo-half-saved", "file"),
    (".zoo-half-saved", "fifo"),
    ("tower5", "folder"),
]


@pytest.mark.parametrize(("name", "what"), [PLANTED[0], *(pytest.param(*case, marks=slow) for case in PLANTED[1:])])
def test_saving_into_a_folder_of_links(sandbox: Sandbox, name: str, what: str) -> None:
    runs.put(sandbox.gift / name, what, sandbox.home)
    sandbox.python(SAVE, sandbox.gift, writes=[sandbox.gift]).refused(f"{name} is a (link|FIFO)")
    assert not (sandbox.home / "new").exists()


@slow
@pytest.mark.parametrize("what", ["file", "nothing", "fifo"])
def test_a_link_in_the_place_of_a_file_gives_way(sandbox: Sandbox, saved: Path, what: str) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "README.md"):
        runs.put(saved / name, what, sandbox.home)
    sandbox.python(SAVE, saved, writes=[sandbox.gift]).harmless()
    assert not (saved / "config.json").is_symlink()
    assert not (sandbox.home / "new").exists()
    load(sandbox, saved).harmless()


@slow
def test_a_file_with_another_name_keeps_what_it_holds(sandbox: Sandbox, saved: Path) -> None:
    for name in ("config.json", "model.safetensors", "certificate.json"):
        (saved / name).unlink(missing_ok=True)
        (sandbox.home / name).write_text(f"{{}} {sandbox.SECRET}")
        os.link(sandbox.home / name, saved / name)
    sandbox.python(SAVE, saved, writes=[sandbox.gift]).safe()
    sandbox.zoo("verify", saved, "--write", writes=[saved]).harmless()


@slow
@pytest.mark.parametrize(
    "name", ["config.json", "certificate.json", "certificate.safetensors", ".certificate.json.part"]
)
@pytest.mark.parametrize("what", ["file", "nothing", "fifo"])
def test_writing_a_certificate(sandbox: Sandbox, saved: Path, name: str, what: str) -> None:
    runs.put(saved / name, what, sandbox.home)
    sandbox.zoo("verify", saved, "--write", writes=[saved]).safe()
    assert not (sandbox.home / "new").exists()


@pytest.mark.parametrize("what", ["file", pytest.param("fifo", marks=slow)])
def test_writing_a_calibration(sandbox: Sandbox, saved: Path, what: str) -> None:
    pairs = sandbox.gift / "pairs.csv"
    pairs.write_text("query,positive\n" + "".join(f"what {i},it {i}\n" for i in range(40)))
    if what == "file":  # the user's own configuration of another model
        shutil.move(saved / "config.json", sandbox.home / "config.json")
        (saved / "config.json").symlink_to(sandbox.home / "config.json")
    else:
        runs.put(saved / "config.json", what, sandbox.home)
    answer = sandbox.zoo("calibrate", saved, "--pairs", pairs, "--write", writes=[saved])
    answer.refused("config.json is a (link|FIFO)|of the zoo's own layout")


PROCESSOR = """
import sys
from pathlib import Path
import zoo
from zoo.publishing.exports.automodel import ZooProcessor
from zoo.formats.writing import described
model = zoo.build_model("text-test")
given = Path(sys.argv[1])
layout = described(model, ["tower0"])
ZooProcessor([tower.encoder for tower in model.towers], layout).save_pretrained(given)
"""


@slow
@pytest.mark.parametrize("name", ["tower0", "tower0/tokenizer.json", "config.json", "modeling_zoo.py"])
def test_writing_for_transformers(sandbox: Sandbox, name: str) -> None:
    runs.put(sandbox.gift / "m" / name, "folder" if name == "tower0" else "nothing", sandbox.home)
    sandbox.python(PROCESSOR, sandbox.gift / "m", writes=[sandbox.gift]).safe()
    assert not (sandbox.home / "new").exists()


@slow
@pytest.mark.parametrize("name", ["README.md", "results.json", "merge.json"])
def test_a_merge_writes_a_new_folder(sandbox: Sandbox, saved: Path, name: str) -> None:
    other = shutil.copytree(saved, sandbox.gift / "other")
    runs.put(sandbox.gift / "merged" / name, "nothing", sandbox.home)
    answer = sandbox.zoo("merge", saved, other, "--out", sandbox.gift / "merged", writes=[sandbox.gift])
    answer.refused("is there already")
    runs.put(other / "config.json", "file", sandbox.home)
    sandbox.zoo("merge", saved, other, "--out", sandbox.out / "merged").refused("config.json is a link")


@slow
def test_mined_pairs_and_their_media(sandbox: Sandbox) -> None:
    """What the user names is his; what lies beside it under a name of ours is not followed."""
    code = """
import sys
from pathlib import Path
from zoo.inputs.item import Item
from zoo.tables import write_pairs
from zoo.tables.pairs import Pair
image = Path(sys.argv[2]).read_bytes()
write_pairs([Pair(Item(image=image), Item(text="a"))], Path(sys.argv[1]))
"""
    shutil.copy(sandbox.home / "photos" / "cat.png", sandbox.out / "cat.png")
    from PIL import Image

    Image.new("RGB", (8, 8)).save(sandbox.out / "cat.png")
    runs.put(sandbox.gift / "pairs-media", "folder", sandbox.home)
    sandbox.python(code, sandbox.gift / "pairs.jsonl", sandbox.out / "cat.png", writes=[sandbox.gift]).refused(
        "pairs-media is a link"
    )


# ---------------------------------------------------------------------------------------------------------- adapters


ADAPTER = """
import sys
import torch, zoo
from zoo.training.adapters import Lora, add_lora, load_adapter, save_adapter
model = zoo.build_model("text-test")
if sys.argv[2] == "save":
    save_adapter(add_lora(model, Lora(rank=2)), sys.argv[1])
else:
    load_adapter(model, sys.argv[1])
"""


def adapter(sandbox: Sandbox, folder: Path, what: str) -> Answer:
    return sandbox.python(ADAPTER, folder, what, writes=[sandbox.gift])


@slow
@pytest.mark.parametrize("what", ["file", "nothing", "fifo"])
@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.safetensors", "zoo_adapter.json", "trained.safetensors"]
)
def test_an_adapter_of_links(sandbox: Sandbox, name: str, what: str) -> None:
    folder = sandbox.gift / "adapter"
    adapter(sandbox, folder, "save").harmless()
    adapter(sandbox, folder, "load").harmless()
    runs.put(folder / name, what, sandbox.home)
    adapter(sandbox, folder, "load").refused(f"{name} is a (link|FIFO)")
    answer = adapter(sandbox, folder, "save").safe()
    assert not (sandbox.home / "new").exists()
    assert (answer.status == 0) == (name in ("zoo_adapter.json", "trained.safetensors"))


STRANGE = [
    ({"towers": {"../../home": 0}, "trained": []}, "leads out"),
    ({"towers": {"/etc": 0}, "trained": []}, "leads out"),
    ({"towers": {".": "0"}, "trained": []}, "towers"),
    ({"towers": {".": 10**30}, "trained": []}, "towers"),
    ({"towers": {".": -1}, "trained": []}, "towers"),
    ({"towers": {}, "trained": []}, "towers"),
    ({"towers": {".": 7}, "trained": []}, "is for tower 7"),
    ({"towers": []}, "lacks"),
    ([], "object"),
]


@slow
@pytest.mark.parametrize(("facts", "said"), STRANGE)
def test_an_adapter_of_strange_facts(sandbox: Sandbox, facts: object, said: str) -> None:
    folder = sandbox.gift / "adapter"
    adapter(sandbox, folder, "save").harmless()
    runs.write(folder / "zoo_adapter.json", facts)
    adapter(sandbox, folder, "load").refused(said)


@slow
@pytest.mark.parametrize(
    "facts",
    [
        {"target_modules": "(a+)+$"},
        {"target_modules": "(.*)*x"},
        {"exclude_modules": "(a|a)*b"},
        {"r": 2**40},
        {"peft_type": "ADALORA"},
        {"base_model_name_or_path": "../../home"},
        {"layer_replication": [[0, 10**9]]},
        {"eva_config": {"rho": 1e308}},
        {"auto_mapping": {"parent_library": "os"}},
    ],
)
def test_an_adapters_configuration(sandbox: Sandbox, facts: dict) -> None:
    folder = sandbox.gift / "adapter"
    adapter(sandbox, folder, "save").harmless()
    runs.change(folder / "adapter_config.json", **facts)
    answer = adapter(sandbox, folder, "load").safe()
    assert answer.status == 2 or facts.keys() & {"base_model_name_or_path", "eva_config", "auto_mapping"}
