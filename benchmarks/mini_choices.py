"""What zoo-mini's image tower could have been: trunks, image sizes and heads, judged on the val splits alone.

`python -m benchmarks.mini_choices` prints two tables. The trunks see every twelfth training image, whole, and learn with one
seed; the heads are compared on every third image, and those that learn say mean and spread over three seeds. In the columns
"unseen" Caltech's classes of one third are left out of training in turn: R@1 of their val images says what a head makes of
things that no pair named, those that ImageNet has and those that it has not.
"""

import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from zoo.training.losses import build_loss
from zoo.training.recipes.mini.trunk import MEAN, STD, TRUNKS, load_trunk
from zoo.training.recipes.mini.views import begin_head, class_vectors

import zoo
from benchmarks.common import table
from zoo.encoders.image import TimmImage
from zoo.encoders.image_transform import PixelTransform
from zoo.evaluation.imagenet import synsets_of
from zoo.evaluation.metrics import first_ranks, same
from zoo.evaluation.packs import BENCHMARKS
from zoo.heads import Named
from zoo.tables.pack_files import read_pack

PARTS = {"caltech101": 1, "clothing": 1, "grocery": 1, "emoji": 10, "symbols": 10}  # k of each part's recall
UNSEEN = ("unseen, in ImageNet", "unseen, not")
CHOSEN = ("efficientnet-lite2", 192)
CHOICES = [("efficientnet-lite0", 192), ("efficientnet-lite0", 224), CHOSEN]
CHOICES += [("efficientnet-lite2", 224), ("efficientnet-lite2", 260)]
EACH, FEW = 3, 12  # every third training image for the heads, every twelfth for the trunks
SEEDS = (0, 1, 2)
STEPS, BATCH, RATE = 300, 256, 6e-4
GAIN, RIDGE, BALANCE = 3.5, 30.0, 0.5
SHARES, KEPT = (0.5, 0.75, 1.0), 0.75
_FORWARD = 32
Made = Iterator[tuple[tuple[str, int], Named]]  # heads with their names and seeds


class Facts(NamedTuple):
    """Of an image: the source of a photo or the pack of a drawing, its text, a photo's label, and whether the trunks see it too."""

    part: str
    text: str
    label: str
    few: bool


class Seen(NamedTuple):
    """What a trunk sees of images `(N, 1280)`, and their facts."""

    vectors: Tensor
    facts: list[Facts]

    def where(self, keep: Callable[[Facts], bool]) -> "Seen":
        """Those of these images."""
        rows = [row for row, facts in enumerate(self.facts) if keep(facts)]
        return Seen(self.vectors[rows], [self.facts[row] for row in rows])

    @property
    def texts(self) -> list[str]:
        """Of each image."""
        return [facts.text for facts in self.facts]


class Words:
    """What the text tower makes of the images' texts, and of the trunk's classes `(1000, dim)`."""

    def __init__(self, model: zoo.Embedder, texts: Sequence[str]) -> None:
        known = sorted(set(texts))
        self._vectors = dict(zip(known, model.encode(known), strict=True))
        self.classes, self.dim = class_vectors(model), model.spec.dim

    def __getitem__(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self._vectors[text] for text in texts])


def images(split: str) -> list[tuple[bytes, Facts]]:
    """Images of the three packs; every third one of training."""
    found = []
    for pack in BENCHMARKS:
        for row, image in enumerate(read_pack(pack.pack, split)[:: EACH if split == "train" else 1]):
            part, label = (image["source"], image["label"]) if pack.pack == "photos" else (pack.pack, "")
            found.append((image["image"], Facts(part, pack.text(image), label, row % (FEW // EACH) == 0)))
    return found


@torch.inference_mode()
def seen(trunk: str, side: int, asked: Sequence[tuple[bytes, Facts]]) -> Seen:
    """What a trunk pools of every image, squeezed into a square."""
    encoder = TimmImage(TRUNKS[trunk].arch, PixelTransform(side, resize="squash", mean=MEAN, std=STD)).eval()
    state = load_trunk(trunk).state_dict()
    encoder.backbone.load_state_dict({name: state[name] for name in encoder.backbone.state_dict()})
    vectors = []
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(asked), _FORWARD):
            files = [file for file, _ in asked[start : start + _FORWARD]]
            pixels = list(pool.map(encoder.transform.read, files))
            vectors.append(encoder(encoder.collate(pixels)).states[:, 0])
    return Seen(torch.cat(vectors).clone(), [facts for _, facts in asked])


def begun(trunk: str, words: Words, train: Seen) -> Named:
    """A head as the recipe begins it."""
    head = Named(train.vectors.shape[1], words.dim, len(words.classes), gain=GAIN, temperature=2.0)
    classifier = load_trunk(trunk).classifier
    weights = _numbered(train.texts)[1] ** -BALANCE
    begin_head(head, classifier, words.classes, train.vectors, words[train.texts], weights, RIDGE)
    return head


def learned(start: Named, words: Words, train: Seen, seed: int) -> Named:
    """The head after steps of InfoNCE on its projection; images of a rare text are drawn more often."""
    torch.manual_seed(seed)
    head, loss, targets = copy.deepcopy(start), build_loss("infonce(temperature=0.05)"), words[train.texts]
    numbers, sizes = _numbered(train.texts)
    with torch.no_grad():
        named = head.gain * head.named(train.vectors)  # nothing of it learns
    optimizer = torch.optim.AdamW(head.project.parameters(), lr=RATE, weight_decay=0.0)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        rows = torch.multinomial(sizes**-BALANCE, BATCH, replacement=True)
        found = F.normalize(head.project(train.vectors[rows]) + named[rows], dim=1)
        double = numbers[rows][:, None] == numbers[rows][None]
        optimizer.zero_grad()
        loss(found, targets[rows], ignore=double).backward()
        optimizer.step()
    return head


def _numbered(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Of each image the number of its text, and how many images have that text `(N,)`."""
    known = {text: number for number, text in enumerate(sorted(set(texts)))}
    numbers = torch.tensor([known[text] for text in texts])
    return numbers, torch.bincount(numbers)[numbers].float()


@torch.no_grad()
def changed(start: Named, gain: float = GAIN, towards: Named | None = None, share: float = 1.0) -> Named:
    """A head with another gain of the names, or `share` of the way to another; towards none its projection fades."""
    head = copy.deepcopy(start)
    head.gain = gain
    for name, value in head.project.named_parameters():
        end = torch.zeros_like(value) if towards is None else towards.project.get_parameter(name)
        value.lerp_(end, share)
    return head


def two_heads(start: Named, words: Words, train: Seen) -> Made:
    """The heads that the trunks are compared with: one that does not learn, and the chosen one, of one seed."""
    yield ("the start", SEEDS[0]), start
    after = learned(start, words, train, SEEDS[0])
    yield (f"then InfoNCE, {KEPT} of what it changed", SEEDS[0]), changed(start, towards=after, share=KEPT)


def heads(start: Named, words: Words, train: Seen) -> Made:
    """The heads that are compared; those that do not learn once."""
    alone = changed(start, gain=0.0, share=0.0)
    yield ("the start: ridge and names", 0), start
    yield ("ridge alone", 0), alone
    yield ("names alone", 0), changed(start)
    for seed in SEEDS:
        after = learned(start, words, train, seed)
        for share in SHARES:
            yield (f"then InfoNCE, {share} of what it changed", seed), changed(start, towards=after, share=share)
        yield ("InfoNCE without names", seed), learned(alone, words, train, seed)


@torch.no_grad()
def ranks(head: Named, words: Words, asked: Seen, texts: Sequence[str]) -> Tensor:
    """Place of each image's own text among all of these `(N,)`, 1 being the best."""
    similarity = F.normalize(head(asked.vectors), dim=1) @ words[texts].T
    return first_ranks(similarity, same(asked.texts, texts))


def judged(
    make: Callable[[Seen], Made], words: Words, train: Seen, val: Seen
) -> dict[tuple[str, int], dict[str, float]]:
    """The figures of each head that `make` makes of training images: of all of them, and without a third of Caltech's classes."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for name, head in make(train):
        found[name] = {}
        for part, k in PARTS.items():
            rows = val.where(lambda facts, part=part: facts.part == part)
            found[name][part] = float((ranks(head, words, rows, sorted(set(rows.texts))) <= k).float().mean())
    photos = val.where(lambda facts: facts.part == "caltech101")
    classes, texts, known = sorted({facts.label for facts in photos.facts}), sorted(set(photos.texts)), synsets_of()
    first: dict[tuple[tuple[str, int], str], list[Tensor]] = {}
    for third in range(3):
        left = set(classes[third::3])
        for name, head in make(train.where(lambda facts, left=left: facts.label not in left)):
            for column in UNSEEN:
                has = column == UNSEEN[0]
                rows = photos.where(lambda f, left=left, has=has: f.label in left and bool(known[f.label]) == has)
                first.setdefault((name, column), []).append(ranks(head, words, rows, texts) == 1)
    for (name, column), right in first.items():
        found[name][column] = float(torch.cat(right).float().mean())
    return found


def main() -> None:
    """Prints both tables."""
    model, train, val = zoo.load_model("zoo-mini", device="cpu"), images("train"), images("val")
    words = Words(model, [facts.text for _, facts in (*train, *val)])
    lines = []
    for trunk, side in CHOICES:
        # The chosen one sees all that the heads are compared on, once.
        mine = [image for image in train if image[1].few or (trunk, side) == CHOSEN]
        whole, asked = (seen(trunk, side, some) for some in (mine, val))
        if (trunk, side) == CHOSEN:
            kept = whole, asked
        few = whole.where(lambda facts: facts.few)
        made = judged(lambda some, trunk=trunk: two_heads(begun(trunk, words, some), words, some), words, few, asked)
        lines += [[f"{trunk}, {side} px: {name}", *_cells([figures])] for (name, _), figures in made.items()]
    columns = ["", *PARTS, *UNSEEN]
    told = "val, percent; R@1 image → text, R@10 of emoji and symbols"
    table(f"Trunks and sizes ({told})", columns, lines)
    several: dict[str, list[dict[str, float]]] = {}
    for (name, _), figures in judged(
        lambda some: heads(begun(CHOSEN[0], words, some), words, some), words, *kept
    ).items():
        several.setdefault(name, []).append(figures)
    lines = [[name, *_cells(figures)] for name, figures in several.items()]
    table(f"Heads on {CHOSEN[0]} at {CHOSEN[1]} px ({told})", columns, lines)


def _cells(figures: list[dict[str, float]]) -> list[str]:
    """Mean of each column in percent, with its spread where there are several."""
    columns = [[100 * one[column] for one in figures] for column in (*PARTS, *UNSEEN)]
    return [
        f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")
        for values in columns
    ]


if __name__ == "__main__":
    main()
