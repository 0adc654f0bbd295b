"""zoo-omni's folder of the package, from the run that trained it: what differs from zoo-mini, what its scores mean, its certificate.

`zoo train pack:audio pack:spoken pack:video --recipe zoo-omni --out runs/zoo-omni` trains; `python -m benchmarks omni_model --folder
runs/zoo-omni` writes `runs/zoo-omni/packaged`. Scores are calibrated on val, for every pair of kinds; nothing of val is learned.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from zoo.training import open_pairs
from zoo.training.recipes.omni import COPIES

import zoo
from benchmarks.omni_figures import by_text, page_vectors
from zoo import Item
from zoo.evaluation.calibration import calibrate_all, calibration_of
from zoo.evaluation.corpus import Corpus, Told
from zoo.formats.changes import write_changes
from zoo.publishing import certificate
from zoo.tables.pack_documents import read_pages

PACKED, BASE = "packaged", "zoo-mini"
PACKS = ("pack:photos", "pack:audio", "pack:video")
_PASSAGE = 500  # characters of a page, about what the text tower reads at once


def told() -> Iterator[Told]:
    """What belongs together on val: the packs' pairs, and texts with a passage of their page."""
    for pack in PACKS:
        for pair in open_pairs(pack, split="val"):
            for text in (pair.positive, *pair.also):
                yield Told(pair.query, text, pair.group, pair.name)
    pages, asked = read_pages("val")
    text = {page.id: page.text for page in pages}
    for query in asked:
        place = max(0, text[query.page].find(query.text[:40]) - _PASSAGE // 2)
        yield Told(Item(text=query.text), Item(text=text[query.page][place : place + _PASSAGE]), query.page, "")


def calibrated(model: zoo.Embedder) -> zoo.Embedder:
    """What its scores mean, for every pair of kinds."""
    found, left_out = calibrate_all(model, Corpus(told()))
    print(f"calibrated: {', '.join(one.pair for one in found)}", *left_out, sep="\n")
    model.calibration = {one.pair: one.calibration for one in found}
    # The pack has pages, and no PDF that a document's item could be made of. Captions ask for them too, as they do for all other kinds.
    pages, queries = page_vectors(model, "val")
    _, own = by_text(model, "val")
    texts = sorted({row.target.text for row in told() if row.query.text is None})
    scores = torch.cat([queries, model.encode(texts)]) @ pages.T
    model.calibration["text>document"] = calibration_of(scores, torch.cat([own, own.new_zeros(len(texts), len(pages))]))
    return model


def main(folder: Path | None = None) -> None:
    """Writes the package's folder of a trained model."""
    torch.set_num_threads(2)
    folder = folder or Path("runs/zoo-omni")
    base = zoo.load_model(BASE, device="cpu").state_dict()
    model = zoo.load_model(folder, device="cpu")
    changed = write_changes(model, base, folder / PACKED, torch.float16, COPIES)
    # As it is opened: what is stored has half precision.
    state = model.state_dict()
    model.load_state_dict(
        {n: t.half().float() if n in changed and t.is_floating_point() else t for n, t in state.items()}
    )
    model.spec = zoo.get_spec("zoo-omni")
    write_changes(calibrated(model.eval()), base, folder / PACKED, torch.float16, COPIES)
    for path in certificate.make(model).save(folder / PACKED):
        print(f"written {path}")


if __name__ == "__main__":
    main()
