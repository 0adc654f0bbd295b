"""What zoo-mini's image tower could have been: trunks, image sizes, heads and their parts, judged on the val splits alone.

`python -m benchmarks.mini_choices` prints two tables, mean and spread over three seeds. Every third training image takes part.
Caltech's classes of one third are left out of training in turn: R@1 of their val images says what a head makes of things that no
pair named, those that ImageNet has and those that it has not.
"""

import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from zoo.training.recipes.mini.regress import ridge_regression
from zoo.training.recipes.mini.trunk import MEAN, STD, load_trunk
from zoo.training.recipes.mini.views import class_vectors

import zoo
from benchmarks.common import table
from zoo.encoders.pixels import PixelTransform
from zoo.evaluation.imagenet import synsets_of
from zoo.evaluation.metrics import hits, same
from zoo.heads import Named
from zoo.tables.pack_files import read_pack

PARTS = ("caltech101", "clothing", "grocery", "emoji", "symbols")
SIZES = [("efficientnet-lite0", side) for side in (192, 224)] + [
    ("efficientnet-lite2", side) for side in (192, 224, 260)
]
SEEDS = (0, 1, 2)
STEPS, BATCH, RATE, TEMPERATURE = 400, 512, 6e-4, 0.05
GAIN, RIDGE = 2.3, 30.0
_EACH = 3  # every third training image


class Rows(NamedTuple):
    """Images of a split: what the trunk sees `(N, width)`, the part each is of, and its text."""

    vectors: Tensor
    parts: list[str]
    texts: list[str]
    labels: list[str]

    def at(self, keep: list[int]) -> "Rows":
        """Those of these rows."""
        own = ([column[row] for row in keep] for column in self[1:])
        return Rows(self.vectors[keep], *own)


def images(split: str) -> tuple[list[bytes], list[str], list[str], list[str]]:
    """Images, parts, texts and labels of the three packs."""
    found: tuple[list, ...] = ([], [], [], [])
    for pack in ("photos", "emoji", "symbols"):
        for row in read_pack(pack, split)[:: _EACH if split == "train" else 1]:
            text = {"photos": lambda r: r["captions"][0], "emoji": lambda r: r["names"]["en"]}.get(
                pack, lambda r: r["text_en"]
            )
            part = row["source"] if pack == "photos" else pack
            for column, value in zip(found, (row["image"], part, text(row), row.get("label", "")), strict=True):
                column.append(value)
    return found


@torch.no_grad()
def seen(trunk: torch.nn.Module, files: list[bytes], side: int) -> Tensor:
    """What the trunk pools of every image, squeezed into a square: `(N, 1280)`."""
    transform = PixelTransform(side, resize="squash", mean=MEAN, std=STD)
    out = []
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(files), 32):
            pixels = torch.stack(list(pool.map(transform.read, files[start : start + 32]))).float() / 255
            pixels = ((pixels - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
            out.append(trunk.forward_head(trunk.forward_features(pixels), pre_logits=True))
    return torch.cat(out)


def began(model: zoo.Embedder, trunk: torch.nn.Module, train: Rows, gain: float = GAIN, ridge: float = RIDGE) -> Named:
    """A head as the recipe begins it."""
    head = Named(train.vectors.shape[1], model.spec.dim, 1000, gain=gain, temperature=2.0)
    names = class_vectors(model)
    targets = targets_of(model, train)
    counts = {text: train.texts.count(text) for text in set(train.texts)}
    weights = torch.tensor([counts[text] ** -0.5 for text in train.texts])
    weight, bias = ridge_regression(train.vectors, targets, weights, ridge)
    with torch.no_grad():
        head.classify.load_state_dict(trunk.classifier.state_dict())
        head.names.copy_(names - names.mean(0))
        head.project.weight.copy_(weight)
        head.project.bias.copy_(bias - targets.mean(0))
    return head


def targets_of(model: zoo.Embedder, rows: Rows) -> Tensor:
    """The texts' vectors, one a row."""
    texts = sorted(set(rows.texts))
    return model.encode(texts)[torch.tensor([texts.index(text) for text in rows.texts])]


def learned(head: Named, model: zoo.Embedder, train: Rows, seed: int, share: float = 1.0) -> Named:
    """The head after steps of InfoNCE on its projection; `share` of what they changed is kept."""
    torch.manual_seed(seed)
    targets = targets_of(model, train)
    numbers = {text: number for number, text in enumerate(sorted(set(train.texts)))}
    own = torch.tensor([numbers[text] for text in train.texts])
    chances = torch.bincount(own)[own].float().rsqrt()
    before = {name: value.detach().clone() for name, value in head.project.named_parameters()}
    optimizer = torch.optim.AdamW(head.project.parameters(), lr=RATE, weight_decay=0.0)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        rows = torch.multinomial(chances, BATCH, replacement=True)
        logits = F.normalize(head(train.vectors[rows]), dim=1) @ targets[rows].T / TEMPERATURE
        double = (own[rows][:, None] == own[rows][None]) & ~torch.eye(BATCH, dtype=torch.bool)
        logits = logits.masked_fill(double, -1e4)
        loss = F.cross_entropy(logits, torch.arange(BATCH)) + F.cross_entropy(logits.T, torch.arange(BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for name, value in head.project.named_parameters():
            value.copy_(torch.lerp(before[name], value, share))
    return head


@torch.no_grad()
def figures(head: Callable[[Tensor], Tensor], model: zoo.Embedder, val: Rows) -> dict[str, float]:
    """R@1 image → text of the photos' parts, R@10 of emoji and symbols."""
    out = {}
    for part in PARTS:
        rows = val.at([row for row, one in enumerate(val.parts) if one == part])
        out[part] = recall(head, model, rows, sorted(set(rows.texts)), 10 if part in ("emoji", "symbols") else 1)
    return out


@torch.no_grad()
def recall(head: Callable[[Tensor], Tensor], model: zoo.Embedder, rows: Rows, texts: list[str], k: int) -> float:
    """Share of the images whose own text is among the k nearest."""
    similarity = F.normalize(head(rows.vectors), dim=1) @ model.encode(texts).T
    return hits(similarity, same(rows.texts, texts), (k,))[k]


def unseen(
    make: Callable[[Rows], Callable[[Tensor], Tensor]], model: zoo.Embedder, train: Rows, val: Rows
) -> dict[str, float]:
    """R@1 of Caltech's val images of classes that were left out of training, among all its texts."""
    photos = val.at([row for row, part in enumerate(val.parts) if part == "caltech101"])
    classes, known = sorted(set(photos.labels)), {label for label, synsets in synsets_of().items() if synsets}
    texts, found = sorted(set(photos.texts)), {True: [], False: []}
    for third in range(3):
        left = set(classes[third::3])
        head = make(train.at([row for row, label in enumerate(train.labels) if label not in left]))
        for has in (True, False):
            rows = [row for row, label in enumerate(photos.labels) if label in left and (label in known) == has]
            found[has].append(recall(head, model, photos.at(rows), texts, 1))
    return {"unseen, in ImageNet": statistics.mean(found[True]), "unseen, not": statistics.mean(found[False])}


def heads(
    model: zoo.Embedder, trunk: torch.nn.Module
) -> Iterator[tuple[str, Callable[[Rows, int], Callable[[Tensor], Tensor]]]]:
    """The heads that are compared: name, and what makes one of training rows and a seed."""
    yield "ridge alone", lambda train, seed: began(model, trunk, train, gain=0.0)
    yield "names alone", lambda train, seed: began(model, trunk, train).named
    yield "ridge + names (the start)", lambda train, seed: began(model, trunk, train)
    for share in (0.3, 0.6, 1.0):
        yield (
            f"then InfoNCE, {share} of what it changed",
            lambda train, seed, share=share: learned(began(model, trunk, train), model, train, seed, share),
        )
    for gain in (0.0, 1.5, 4.0):
        yield (
            f"then InfoNCE, gain of the names {gain}",
            lambda train, seed, gain=gain: learned(began(model, trunk, train, gain=gain), model, train, seed),
        )
    yield (
        "then InfoNCE, ridge 1000",
        lambda train, seed: learned(began(model, trunk, train, ridge=1e3), model, train, seed),
    )


def main() -> None:
    """Prints both tables."""
    model, rows = zoo.load_model("zoo-mini", device="cpu"), {split: images(split) for split in ("train", "val")}
    columns = [*PARTS, "unseen, in ImageNet", "unseen, not"]
    for title, choices in (
        ("trunks and sizes, the start's head", SIZES),
        ("heads, efficientnet-lite2 at 192 px", SIZES[2:3]),
    ):
        lines = []
        for name, side in choices:
            trunk = load_trunk(name).to(memory_format=torch.channels_last)
            train, val = (Rows(seen(trunk, files, side), *facts) for files, *facts in (rows["train"], rows["val"]))
            several = list(heads(model, trunk)) if choices is not SIZES else list(heads(model, trunk))[2:3]
            for head, make in several:
                seeds = SEEDS if "InfoNCE" in head else SEEDS[:1]
                found = [_judged(partial(make, seed=seed), model, train, val) for seed in seeds]
                label = f"{name}, {side} px" if choices is SIZES else head
                lines.append([label, *(_mean([one[column] for one in found]) for column in columns)])
        table(f"{title} (val; R@1, emoji and symbols R@10)", ["", *columns], lines)


def _judged(
    make: Callable[[Rows], Callable[[Tensor], Tensor]], model: zoo.Embedder, train: Rows, val: Rows
) -> dict[str, float]:
    return figures(make(train), model, val) | unseen(make, model, train, val)


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
