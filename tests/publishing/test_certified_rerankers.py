"""Certificates of rerankers: they pass where they were made, and name the file, fact or score that departs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import CertificateError
from zoo.publishing.certificate.scores import QUERY, verify_scores, write_scores

NAMES = ("ms-marco-test", "qwen3-reranker-test")


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    made = zoo.build_reranker(request.param).save_pretrained(tmp_path / "mine")
    write_scores(zoo.load_reranker(made, device="cpu"), made)
    return made


def test_it_passes_where_it_was_made_and_holds_the_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 0
    assert "PASS" in capsys.readouterr().out
    stored = json.loads((folder / "certificate.json").read_text())
    assert len(stored["pairs"]) > 3
    assert len({round(one["score"], 6) for one in stored["pairs"]}) > 3
    word = next(one for one in stored["pairs"] if one["name"] == "text: word")
    from zoo.publishing.certificate.golden import TEXTS

    score = zoo.load_reranker(folder, device="cpu").score(QUERY, [TEXTS["word"]])
    assert word["score"] == pytest.approx(score.item(), abs=1e-6)


def test_what_departs_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "certificate.json"
    stored = json.loads(file.read_text())
    stored["pairs"][0]["score"] += 1e-3 * max(1, abs(stored["pairs"][0]["score"]))
    file.write_text(json.dumps(stored))
    report = verify_scores(folder)
    assert not report.passed
    assert f"{stored['pairs'][0]['name']} differs by 1.0e-03" in report.reason
    write_scores(zoo.load_reranker(folder, device="cpu"), folder)
    (folder / "extra.bin").write_bytes(b"x")
    assert main(["verify", str(folder), "--quick"]) == 1
    assert "extra.bin was not there when the certificate was made" in capsys.readouterr().out
    file.write_text("{}")
    with pytest.raises(CertificateError, match="damaged"):
        verify_scores(folder)


def test_without_one_and_refused_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "certificate.json").unlink()
    assert main(["verify", str(folder)]) == 1
    assert "NO CERTIFICATE" in capsys.readouterr().out
    assert main(["verify", str(folder), "--dtypes", "float32"]) == 2
    assert "--dtypes is of embedders" in capsys.readouterr().err
    assert main(["verify", "bge-reranker-v2-m3"]) == 2
    assert "its authors' repository" in capsys.readouterr().err
    assert main(["verify", str(folder), "--write"]) == 0
    moved = folder.rename(folder.parent / "elsewhere")
    assert main(["verify", str(moved), "--quick"]) == 0
