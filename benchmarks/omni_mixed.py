"""One gallery of photos, clips, recordings and pages, asked with texts: what plain scores find, and calibrated ones.

`python -m benchmarks omni_mixed` measures zoo-omni on val, --test on test, which is used once and adds to model_cards/results/zoo-omni.json. What a
text asks for is known by the packs' labels: photos that are called so, clips whose subject is called so, and of four kinds of
things (`omni_figures.SHOWN`) the sounds that they make. The caption of a clip asks for that motion alone, a text of a page for the page.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import zoo
from benchmarks.common import table
from benchmarks.omni_figures import SHOWN, by_text, page_vectors
from zoo import Embedder, Item
from zoo.evaluation.metrics import bootstrap
from zoo.evaluation.mixed import Ranked, ranked
from zoo.evaluation.results import Result, rounded, today, write_results
from zoo.scales import Scales
from zoo.tables.pack_files import read_pack

DATA, TASK = "photos, audio, video, documents", "mixed-retrieval"
WHAT = "what is seen or heard"


def gallery(model: Embedder, split: str) -> tuple[Tensor, Tensor, list[str], list[str]]:
    """Scores `(texts, documents)`, which are right, the kind of every document, and what every text asks for."""
    photos, audio = read_pack("photos", split), read_pack("audio", split)
    clips = [row for row in read_pack("video", split) if row["motion"]]
    heard = {label: caption for caption, label in SHOWN.items()}
    asked: list[tuple[str, str, str]] = []  # the text, what it is about, and of which sort
    for sort, rows in ((WHAT, photos), (WHAT, audio)):
        asked += dict.fromkeys((row["captions"][0], row["label"], sort) for row in rows)
    asked += dict.fromkeys((row["captions"][0], row["captions"][0], "what the camera does") for row in clips)
    holds = [{row["label"]} for row in photos]
    holds += [{row["label"], SHOWN.get(row["label"], row["label"])} for row in audio]
    holds += [
        {*row["subjects"], row["captions"][0], *(heard[s] for s in row["subjects"] if s in heard)} for row in clips
    ]
    for place, row in enumerate(photos):
        holds[place] |= {heard[row["label"]]} if row["label"] in heard else set()
    items = [Item(image=r["image"]) for r in photos] + [Item(audio=r["audio"]) for r in audio]
    vectors = model.encode(items + [Item(video=r["video"]) for r in clips])
    kinds = ["image"] * len(photos) + ["audio"] * len(audio) + ["video"] * len(clips)
    right = torch.tensor([[about in own for own in holds] for _, about, _ in asked])
    # Pages and what is asked of them stand apart in the pack: no text of one is right for the other.
    pages, queries = page_vectors(model, split)
    _, own = by_text(model, split)
    texts = torch.cat([model.encode([text for text, _, _ in asked]), queries])
    right = torch.block_diag(right.float(), own.float()).bool()
    sorts = [sort for _, _, sort in asked] + ["what a page says"] * len(queries)
    return texts @ torch.cat([vectors, pages]).T, right, kinds + ["document"] * len(pages), sorts


def results(ways: dict[str, Ranked], kinds: list[str], count: int, part: str) -> Iterator[Result]:
    """As cards show them."""
    for way, found in ways.items():
        facts = {
            "dataset": DATA,
            "task": TASK,
            "part": part,
            "direction": f"text → all kinds, {way} scores",
            "date": today(),
        }
        facts |= {
            "source": "python -m benchmarks omni_mixed --test",
            "notes": f"{count:,} texts, {len(kinds):,} documents",
        }
        for metric, values in (("recall@10", found.recall), ("ndcg@10", found.ndcg), ("kinds apart@10", found.apart)):
            value, low, high = bootstrap(values[:, None])[0][:3]
            yield rounded(Result(metric=metric, value=value, low=low, high=high, **facts))


def main(*, test: bool = False) -> None:
    """Measures and prints; on test also writes."""
    torch.set_num_threads(2)
    model, split = zoo.load_model("zoo-omni", device="cpu"), "test" if test else "val"
    scores, right, kinds, sorts = gallery(model, split)
    known = Scales.of(model, "text").known
    mean, scale = (torch.tensor([getattr(known[kind], fact) for kind in kinds]) for fact in ("mean", "scale"))
    rows: list[list[object]] = []
    for part in ("all", *dict.fromkeys(sorts)):
        mine = torch.tensor([part in ("all", sort) for sort in sorts]) & right.any(1)
        ways = {"plain": ranked(scores[mine], right[mine], kinds)}
        ways["calibrated"] = ranked(((scores - mean) / scale)[mine], right[mine], kinds)
        for way, found in ways.items():
            shares = " ".join(f"{kind} {share.mean():.2f}" for kind, share in found.shares.items())
            figures = [f"{values.mean():.3f}" for values in (found.recall, found.ndcg, found.apart)]
            rows.append([part, int(mine.sum()), way, *figures, shares])
        wanted = {
            kind: right[mine][:, torch.tensor([k == kind for k in kinds])].sum(1) / right[mine].sum(1)
            for kind in dict.fromkeys(kinds)
        }
        rows.append([part, "", "right answers", "", "", "", " ".join(f"{k} {s.mean():.2f}" for k, s in wanted.items())])
        if test:
            write_results(Path("model_cards/results/zoo-omni.json"), results(ways, kinds, int(mine.sum()), part))
    table(
        f"zoo-omni, one gallery of {len(kinds):,} on {split}",
        ["part", "texts", "scores", "R@10", "nDCG@10", "apart", "first ten"],
        rows,
    )


if __name__ == "__main__":
    main()
