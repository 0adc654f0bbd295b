"""Size, speed and memory as results: of a real small model, in processes of their own."""

from pathlib import Path

import pytest

import zoo
from zoo.errors import ZooError
from zoo.evaluation.speed import SPEEDS, measured, measured_apart, size_results


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build_model("mini-test").save_pretrained(tmp_path_factory.mktemp("speed") / "mini")


@pytest.mark.slow
def test_one_thread_has_a_process_of_its_own(saved: Path) -> None:
    rates = measured_apart(str(saved), 1, images=3, texts=4)
    assert set(rates) - {"MB"} == set(SPEEDS) - {"MB"}
    assert all(value > 0 for value in rates.values())


def test_memory_is_told_where_the_system_tells_it() -> None:
    rates = measured(zoo.build_model("mini-test"), images=2, texts=2)
    assert ("MB" in rates) == Path("/proc/self/status").is_file()
    assert rates.get("MB", 100) > 50, "Python with torch takes more"


def test_more_threads_than_cores_are_refused(saved: Path) -> None:
    with pytest.raises(ZooError, match=r"100000 threads cannot be measured on \d+ cores?; use --no-speed"):
        measured_apart(str(saved), 100_000)


def test_what_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"at 1 threads was not measured: .*gone"):
        measured_apart(str(tmp_path / "gone"), 1)


def test_a_copy_of_a_packaged_model_has_the_size_of_its_own_file(tmp_path: Path) -> None:
    model = zoo.load_model("zoo-mini")
    assert model.spec.packaged
    (tmp_path / "model.safetensors").write_bytes(bytes(300_000))
    found = {result.dataset: result.value for result in size_results(model, str(tmp_path), "again")}
    assert found["model.safetensors"] == 0.3


def test_size_of_a_folder_and_of_a_packaged_model(saved: Path) -> None:
    model = zoo.load_model(saved, device="cpu")
    found = {result.dataset: result for result in size_results(model, str(saved), "again")}
    assert found["weights"].value == model.spec.params
    assert found["model.safetensors"].value == round((saved / "model.safetensors").stat().st_size / 1e6, 1)
    packaged = Path(zoo.__file__).parent / "weights" / "zoo-mini" / "model.safetensors"
    found = {result.dataset: result for result in size_results(zoo.load_model("zoo-mini"), "zoo-mini", "again")}
    assert found["model.safetensors"].value == round(packaged.stat().st_size / 1e6, 1)
    assert {r.dataset for r in size_results(zoo.build_model("text-test"), "text-test", "again")} == {"weights"}
