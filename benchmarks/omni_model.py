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
from zoo.spec import Calibration
from zoo.tables.pack_documents import read_pages

PACKED, BASE = "packaged", "zoo-mini"
PACKS = ("pack:photos", "pack:audio", "pack:video")
_PASSAGE = 500  # characters of a page, about what the text tower reads at once


def told() -> Iterator[Told]:
    """What belongs together on val: the packs' pairs, and texts with a passage of their page."""
    for pack in PACKS:
        for pair in open_pairs(pack, split="val"):
            for text in (pair.positive, *pair.extra_positives):
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
    model.calibration |= of_pages(model)
    return model


def of_pages(model: zoo.Embedder) -> dict[str, Calibration]:
    """Those of pages by their text: the pack has no PDF of which an item could be made.

    Captions ask for them too, as they do for all other kinds; of images, audio and videos no page is right, and `nothing` stays open.
    """
    pages, queries = page_vectors(model, "val")
    _, own = by_text(model, "val")
    items = {kind: [] for kind in ("text", "image", "audio", "video")}
    for row in told():
        for item in row[: 2 if row.query.text is None else 0]:
            items[next(iter(item.modalities))].append(item)
    captions = model.encode([Item(text=text) for text in dict.fromkeys(item.text for item in items.pop("text"))])
    scores = torch.cat([queries, captions]) @ pages.T
    found = {"text>document": calibration_of(scores, torch.cat([own, own.new_zeros(len(captions), len(pages))]))}
    wrong = {"text": scores[len(queries) :], "document": (pages @ pages.T)[~torch.eye(len(pages), dtype=torch.bool)]}
    wrong |= {kind: model.encode(list(dict.fromkeys(own))) @ pages.T for kind, own in items.items()}
    for kind, values in wrong.items():
        one = Calibration(float(values.mean()), float(values.std()), None)
        found |= {pair: one for pair in (f"{kind}>document", f"document>{kind}") if pair not in found}
    return found


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
