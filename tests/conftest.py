"""Shared by all tests: no network but loopback, one seed, few threads where several tests run at once, one hub a worker.

Fixtures for every file: `loopback_hub`, `hub`, `client_hub`, `child`, `good`, `copy`, `pack`. Processes that start in milliseconds:
`tests.warm`. A fact of many names in one test: `tests.every`.
"""

import gc
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

# Before torch is imported: waiting threads must not spin while others work, and workers share the processors.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // workers)))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")  # a developer's own token goes to no test server
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from tests import every
from tests.hub import LoopbackHub
from tests.hub.child import Child

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _same_seed():
    import torch

    # Without a CUDA device torch.manual_seed would note the whole stack, for when there will be one: half a millisecond.
    (torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed)(0)


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests make and check is no note among the developer's own, and what those say decides nothing here."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Every connection that leaves this machine fails, at once and by name."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if isinstance(host, str) and (not host or host == "localhost" or host.startswith("127.") or host == "::1"):
            return connect(self, address)
        raise ConnectionRefusedError(f"tests may not reach {host}")

    socket.socket.connect = guarded
    yield
    socket.socket.connect = connect


@pytest.fixture(scope="session")
def loopback_hub() -> Iterator[LoopbackHub]:
    """The one hub of this pytest process (one for each worker). `clear()` it before use, or ask for `hub`."""
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def hub(loopback_hub: LoopbackHub) -> LoopbackHub:
    """The loopback hub, empty at the start of each file. A file may override it, and ask for this one, to fill it."""
    loopback_hub.clear()
    return loopback_hub


@pytest.fixture
def client_hub(loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """The loopback hub, empty, as the one that the client in this very process talks to; with a cache of its own."""
    from huggingface_hub import constants

    loopback_hub.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", loopback_hub.url)
    template = loopback_hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return loopback_hub


@pytest.fixture
def cache_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for what the zoo caches beside models."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def child(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A process whose client knows this hub alone and has a new cache; a fork of the warm process, so it costs little."""
    with Child(hub.environment(tmp_path_factory.mktemp("home"))) as child:
        yield child


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`good("timm-vit")` → the folder of one checkpoint of `tests.reference`, written once and left as it is.

    The name "zoo" is our own layout. A file with other checkpoints overrides this, and keeps `copy`.
    """
    import zoo
    from tests.reference import write

    root = tmp_path_factory.mktemp("good")

    @cache
    def folder(name: str) -> Path:
        if name == "zoo":
            return zoo.build_model("text-test").save_pretrained(root / name)
        return write(name, root / name).folder

    return folder


@pytest.fixture
def copy(good: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`copy(name)` → a copy of a good checkpoint, for this test to change."""
    return lambda name: Path(shutil.copytree(good(name), tmp_path / "checkpoint"))


@pytest.fixture
def changed(good: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """`changed(name, "config.json", key=value, inner__key=value)` → such a copy with settings of one file changed."""
    from tests.formats.settings_support import change

    def copied(name: str, file: str, **changes: Any) -> Path:
        folder = Path(shutil.copytree(good(name), tmp_path / "checkpoint", dirs_exist_ok=True))
        change(folder / file, **changes)
        return folder

    return copied


@pytest.fixture(scope="module")
def clip() -> Any:
    """A small model of images and texts, for the tests of one file."""
    return _seeded("clip-test")


@pytest.fixture(scope="module")
def text() -> Any:
    """A small model of texts, for the tests of one file."""
    return _seeded("text-test")


def _seeded(name: str) -> Any:
    import torch

    import zoo

    torch.manual_seed(0)
    return zoo.build_model(name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`run("list", ...)` → (status, stdout, stderr) of the command `zoo`."""
    from zoo.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def data_pack(name: str) -> Path:
    """A folder of the data packs (`ZOO_DATA`, else ../shared/data); skips the test where it is absent."""
    folder = Path(os.environ.get("ZOO_DATA") or PROJECT.parent / "shared" / "data") / name
    if not folder.is_dir():
        pytest.skip(f"the data pack {name} is not here ({folder}); set ZOO_DATA")
    return folder


@pytest.fixture
def pack():
    """`pack("photos")` → its folder."""
    return data_pack


# Checks that cost seconds for each family; in the default run these stand for all: both ways of writing two towers, a text
# backbone, an image backbone, and of the vision-language models, which share their code, the one of many vectors.
# `make test-all` takes every family.
FOR_ALL = {"clip-test", "colqwen2-test", "image-test", "mini-test", "text-test"}
ONE_DUAL = FOR_ALL - {"clip-test"}  # where nothing is written, one way of two towers is as good as the other
COSTLY = {"test_certificate": FOR_ALL, "test_exports": FOR_ALL, "test_demo_launch": ONE_DUAL, "test_mteb": ONE_DUAL}
# Of what every model must do, the vision-language families do most in the same code: in the default run four stand for all.
MANY, VISION_LANGUAGE = {"test_registry"}, {"colqwen2-test", "qwen3vl-test", "unite-test", "vlm2vec-test"}
AUDIO = {"ast-test", "whisper-test"}  # as clap-test and speech-test, whose windows are read by the same code


# Those that take longest go first (tens of CPU seconds each), so that no worker is left with one at the end.
LONG = (
    "test_mteb",
    "test_demo_states",
    "test_demo_browser",
    "test_certificate",
    "test_exports",
    "test_publish",
    "test_demo_client",
    "test_demo_launch",
    "test_exports_open_clip_timm",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import zoo

    every.count(items)
    items.sort(
        key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG)
    )  # else as they were
    names = set(zoo.list_models("*-test"))
    alike = {name for name in names - VISION_LANGUAGE if zoo.get_spec(name).format is not None}
    left_out = {**{file: names - few for file, few in COSTLY.items()}, **dict.fromkeys(MANY, alike | AUDIO)}
    for item in items:
        of = set(map(str, item.callspec.params.values())) if hasattr(item, "callspec") else set()
        if left_out.get(item.path.stem, set()) & of:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what the libraries made when they were imported stays; it need not be looked at again and again


def pytest_unconfigure() -> None:
    gc.unfreeze()  # Triton's would be called leaks when the process ends


def pytest_report_collectionfinish(items: list[pytest.Item]) -> str:
    return every.told(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many facts held, however the tests are cut: the figure may not fall when tests are put together."""
    if passed := [report for report in terminalreporter.getreports("passed") if report.when == "call"]:
        terminalreporter.write_line(every.told(passed) + " passed")
