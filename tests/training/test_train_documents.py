"""Documents in pairs: a column of PDFs is trained on page by page, whole and in small batches."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from zoo.training import recipes, train

import zoo
from tests.inputs.pdfs import Sheet, pdf
from zoo.errors import ZooError
from zoo.tables import open_pairs


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Eight texts, each with a document of one to three pages."""
    for k in range(8):
        (tmp_path / f"{k}.pdf").write_bytes(pdf([Sheet(str(k), f"{k / 8} 0.5 {n / 3}") for n in range(1 + k % 3)]))
    rows = "".join(f"text {k},{k}.pdf\n" for k in range(8))
    (tmp_path / "pairs.csv").write_text(f"query,positive_pdf\n{rows}")
    return tmp_path / "pairs.csv"


def trained(table: Path, out: Path, **changes) -> zoo.Embedder:
    torch.manual_seed(0)
    recipe = replace(recipes.finetune(), model="clip-test", steps=3, batch_size=4, **changes)
    return train(
        zoo.build_model("clip-test"), open_pairs(table), recipe, out, report=False, progress=False, trackers=()
    )


@pytest.mark.slow
def test_a_column_of_documents_is_trained_on(table, tmp_path):
    torch.manual_seed(0)
    before = zoo.build_model("clip-test").encode(table.parent / "2.pdf")
    whole = trained(table, tmp_path / "whole")
    after = whole.encode(table.parent / "2.pdf")
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(
        zoo.load_model(tmp_path / "whole").encode(table.parent / "2.pdf"), after, atol=1e-5, rtol=0
    )
    small = trained(table, tmp_path / "small", micro_batch=2)
    torch.testing.assert_close(small.encode(table.parent / "2.pdf"), after, atol=2e-3, rtol=0)


def test_a_model_that_reads_no_images_says_so_before_it_begins(table, tmp_path):
    recipe = replace(recipes.finetune(), model="text-test", steps=1, batch_size=4)
    with pytest.raises(ZooError, match="pages are read as images"):
        train(zoo.build_model("text-test"), open_pairs(table), recipe, tmp_path / "out", report=False, progress=False)
