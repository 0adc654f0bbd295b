"""What is asked of a loader is followed or refused by name: a revision of what has none."""

from pathlib import Path

import pytest

import zoo
from zoo.errors import ArgumentError, HubError
from zoo.evaluation.mteb import ZooEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build_model("text-test").save_pretrained(tmp_path_factory.mktemp("saved") / "m")


def test_a_folder_has_no_revision(folder: Path) -> None:
    for name in (folder, str(folder)):
        with pytest.raises(ArgumentError, match=r"revision='v1' is of a repository on the Hub.*a folder.*leave it out"):
            zoo.load_model(name, revision="v1")
    with pytest.raises(ArgumentError, match="revision='v1' is of a repository"):
        zoo.load_reranker(folder, revision="v1")


def test_a_packaged_model_has_no_revision() -> None:
    with pytest.raises(ArgumentError, match=r"revision='v1' .*zoo-mini is a model whose weights come with the package"):
        zoo.load_model("zoo-mini", revision="v1")


def test_two_revisions_of_one_repository_are_refused() -> None:
    with pytest.raises(HubError, match="hf:org/name@v1 and revision='v2' name two revisions"):
        zoo.load_model("hf:org/name@v1", revision="v2")


def test_what_lies_on_no_hub_has_no_revision() -> None:
    with pytest.raises(ArgumentError, match=r"timm:gcvit_tiny\.in1k lies on no Hub, and has no revision 'v1'"):
        zoo.load_model("timm:gcvit_tiny.in1k", revision="v1")


def test_a_revision_names_a_folder_in_the_cache_of_mteb(folder: Path) -> None:
    assert ZooEncoder(folder, "third-try", device="cpu").mteb_model_meta.revision == "third-try"
