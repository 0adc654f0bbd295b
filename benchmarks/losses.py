"""Every loss against InfoNCE at its best of five temperatures, with default options and several seeds; and what parts cost together.

The toys are those of the tests of losses, small data made so that a loss should win there; the real data are sentences of papers
and their paragraphs (`pack:text`), a linear layer over MiniLM's vectors that is trained and finds held-out paragraphs. A loss wins
where the mean paired gap over the seeds is above two standard errors, and loses where it is as far below. The temperature of
InfoNCE is the best of these very seeds, which favours InfoNCE. Every run is written down at once, so that a stopped table goes on:
`python -m benchmarks losses --folder runs/losses`.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import machine, table

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURES = (0.02, 0.05, 0.1, 0.2, 0.5)
SEEDS, FEW_SEEDS, LONG_RUN = 5, 3, 120.0  # runs, and how many there are of those that take longer than so many seconds
FIRST_SEED = 100  # the tests tuned their options on others
Run = Callable[[int, str], float]
# What is added to InfoNCE, and what of it is measured, over the data that has it; sizes and depths are in `benchmarks depths`.
ON_REAL = (
    "focal",
    "hardness",
    "margin",
    "mixing",
    "mixing(pairs=0)",
    "progressive",
    "softened",
    "gist",
    "adaptive_margin",
    "sigmoid",
    "ranking",
    "ranking(negatives='max')",
    "ranking(negatives='semi-hard')",
    "distillation",
    "distillation(space='group')",
    "stable_distillation",
    "infonce + distillation",
    "infonce + focal + mixing + guided",
    "infonce + matryoshka(64, 16)",
)


def main(folder: Path | None = None, seeds: int = SEEDS, only: Sequence[str] = ()) -> None:
    """Prints the table of costs, then the experiments; `only` names some of their data."""
    print(f"\n## Losses\n\n{machine()}")
    costs()
    with tempfile.TemporaryDirectory() as temporary:
        experiments((folder or Path(temporary)) / "runs.jsonl", seeds, only)


# ------------------------------------------------------------------------------------------------ costs

PARTS = ("focal(2)", "hardness(3)", "margin(0.1)", "guided", "mixing(4)", "softened(0.2)")
TOGETHER = ("focal(2) + mixing(4) + guided", "focal(2) + hardness(3) + margin(0.1) + softened(0.2)", " + ".join(PARTS))


def costs(count: int = 1024, dim: int = 256, negatives: int = 2, repeat: int = 5) -> None:
    """CPU seconds of a loss, forward and backward, of each part beside InfoNCE and of several: the sum is InfoNCE and what each
    adds. Of the processor's time, so that a busy machine says the same; the least of several rounds in turn.
    """
    import torch
    from torch.nn import functional as F
    from zoo.training.losses import build_loss

    torch.manual_seed(0)
    unit = lambda rows: F.normalize(torch.randn(rows, dim), dim=1)  # noqa: E731
    queries, targets = unit(count).requires_grad_(), unit(count * (1 + negatives)).requires_grad_()
    extras = {"teacher_queries": unit(count), "teacher_targets": unit(count * (1 + negatives)), "progress": 0.5}

    def run(loss) -> float:
        begun = time.process_time()
        value = loss(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read})
        torch.autograd.grad(value, (queries, targets))
        return time.process_time() - begun

    # InfoNCE has a form of its own where parts weigh rows alone; hardness(0) adds nothing, and takes the way of the others.
    base = "infonce + hardness(0)"
    beside = {part: f"{'infonce' if part.startswith('hardness') else base} + {part}" for part in PARTS}
    written = ["infonce", base, *beside.values(), *(f"infonce + {parts}" for parts in TOGETHER)]
    losses = {text: build_loss(text) for text in written}
    rounds = [{text: run(loss) for text, loss in losses.items()} for _ in range(1 + repeat)]  # the first warms up
    least = {text: min(one[text] for one in rounds[1:]) for text in written}
    rows = []
    for text in written:
        parts = [part for part in text.split(" + ") if part in PARTS]
        whole = least[base if " + " in text else text] + sum(least[beside[part]] - least[base] for part in parts)
        rows.append([text, f"{least[text]:.3f}", f"{whole:.3f}", f"{least[text] / whole:.2f}x"])
    table(f"{count} x {dim}, {negatives} hard negatives", ["loss", "CPU s", "of its parts' sum", "against it"], rows)


# ------------------------------------------------------------------------------------------------ experiments


def toys() -> list[tuple[str, Run, tuple[str, ...]]]:
    """Name of a toy, its run, and the losses that are tried on it."""
    from tests.training import test_train_losses_beat as options
    from tests.training import test_train_losses_contrastive_beat as contrastive
    from tests.training import test_train_losses_graded_beat as graded

    grouped, alone = (partial(_with, options.topics, flag) for flag in (True, False))
    noise = partial(options.hard_slice, dim=16, noise=0.5)
    pairs = str(graded.PAIRS)
    return [
        ("topics, groups known", grouped, ("infonce(multi_positive=True)",)),
        ("topics, a teacher", alone, ("gist", "adaptive_margin")),
        ("other wordings", contrastive.wordings, ("gist", "adaptive_margin")),
        ("a hard tenth", options.hard_slice, ("focal", "hardness", "progressive", "progressive(mode='negatives')")),
        ("a hard tenth, noise", noise, ("sigmoid",)),
        ("uneven rows", contrastive.uneven, ("progressive", "focal")),
        ("classes in a subject", options.classes, ("infonce(symmetric=False, in_batch=False)",)),
        ("7 of 10 positives wrong", options.tuned, ("margin",)),
        ("2 of 5 positives wrong", contrastive.noisy, ("progressive(guard=0.7)", "ranking(negatives='semi-hard')")),
        ("4 pairs a batch", options.small_batch, ("sigmoid", "ranking")),
        ("small batches", contrastive.small_batches, ("sigmoid",)),
        ("confusable", contrastive.confusable, ("mixing", "mixing(pairs=0)", "mixing(lists=0)")),
        ("captions that fit many", contrastive.captions, ("focal", "ranking", "softened")),
        ("grades", graded.graded, ("cosent", "angle")),
        ("wrong positives, a teacher", graded.noisy, ("distillation",)),
        ("rewards", graded.rewarded, ("stable_distillation", "distillation(space='group')")),
        ("a short cut", graded.short, ("infonce + matryoshka(32, 6)",)),
        (
            "depths and lengths",
            graded.sized,
            ("infonce + matryoshka_2d(32, 16, 8, 4)", f"infonce + starbucks({pairs})", "infonce + layers"),
        ),
    ]


def _with(run: Callable[..., float], flag: bool, seed: int, text: str) -> float:
    return run(seed, text, flag)


def experiments(file: Path, seeds: int, only: Sequence[str]) -> None:
    """Runs what `file` does not hold yet, and prints the table."""
    import torch

    torch.set_num_threads(1)
    rows, verdicts = [], []
    for name, run, losses in [*toys(), ("papers (real)", passages, ON_REAL)]:
        if only and name not in only:
            continue
        for loss in losses:
            found = values(file, name, run, loss, seeds)
            plain = {t: values(file, name, run, plain_of(loss, t), len(found)) for t in TEMPERATURES}
            best = max(plain, key=lambda t: statistics.mean(plain[t]))
            gaps = [mine - theirs for mine, theirs in zip(found, plain[best], strict=True)]
            gap, error = statistics.mean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
            verdicts.append("wins" if gap > 2 * error else "loses" if gap < -2 * error else "draws")
            rows.append(
                [name, f"`{loss}`", spread(found), best, spread(plain[best]), f"{gap:+.3f} ± {error:.3f}", verdicts[-1]]
            )
    header = ["data", "loss", "figure", "InfoNCE's best temperature", "its figure", "gap ± standard error", "it"]
    table(f"against InfoNCE, {seeds} seeds", header, rows)
    print("\n" + ", ".join(f"{verdicts.count(said)} {said}" for said in ("wins", "draws", "loses")))


def plain_of(loss: str, temperature: float) -> str:
    """InfoNCE in the direction of a loss: one that looks from the queries alone is compared with that."""
    from zoo.training.losses import build_loss

    one_way = any(getattr(part, "symmetric", True) is False for part in build_loss(loss).modules())
    return f"infonce({temperature}{', symmetric=False' if one_way else ''})"


def spread(found: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(found):.3f} ± {statistics.stdev(found) if len(found) > 1 else 0.0:.3f}"


def values(file: Path, name: str, run: Run, loss: str, seeds: int) -> list[float]:
    """The figure of every seed, run where `file` has none yet; fewer seeds where one run takes long."""
    known = {(one["data"], one["loss"], one["seed"]): one for one in _lines(file)}
    found: list[float] = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        one = known.get((name, loss, seed))
        if one is None:
            begun = time.perf_counter()
            figure = run(seed, loss)
            one = {"data": name, "loss": loss, "seed": seed, "figure": figure, "seconds": time.perf_counter() - begun}
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(one) + "\n")
        found.append(one["figure"])
        if len(found) == FEW_SEEDS and one["seconds"] > LONG_RUN:
            break
    return found


def _lines(file: Path) -> list[dict]:
    """What a file holds; a last line that was cut off is done again."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


# ------------------------------------------------------------------------------------------------ real data

DIM, NEGATIVES, BATCH, STEPS = 64, 3, 64, 200


@cache
def _papers() -> "dict[str, tuple[Tensor, Tensor]]":
    """MiniLM's vectors of sentences and of their paragraphs, by split."""
    from benchmarks.finetune import minilm, passage_pairs
    from zoo import load_model

    model = load_model(minilm(Path()))
    found = {}
    for split in ("train", "test"):
        pairs = passage_pairs(split)
        found[split] = tuple(model.encode([getattr(p, side) for p in pairs]) for side in ("query", "positive"))
    return found


def passages(seed: int, text: str) -> float:
    """A linear layer over MiniLM's vectors, trained on sentences and paragraphs with the three nearest wrong paragraphs as hard
    negatives. nDCG@10 of held-out sentences; MiniLM is the teacher of losses that have one, its cosines their scores.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F
    from zoo.training.losses import build_loss

    queries, documents = _papers()["train"]
    right = (documents @ documents.T) > 0.9999  # a paragraph that several sentences come from
    hard = (queries @ documents.T).masked_fill(right, -2).topk(NEGATIVES, 1).indices
    torch.manual_seed(seed)
    layer, loss = nn.Linear(queries.shape[1], DIM, bias=False), build_loss(text)
    optimizer = torch.optim.Adam([*layer.parameters(), *(p for p in loss.parameters() if p.requires_grad)], 1e-3)
    unit = lambda vectors: F.normalize(layer(vectors), dim=1)  # noqa: E731
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(1000 * (seed + 1) + step)
        rows = torch.randperm(len(queries), generator=generator)[:BATCH]
        places = torch.cat([rows, hard[rows].flatten()])
        own = torch.cat([documents[rows, None], documents[hard[rows]]], 1)
        extras = {
            "ignore": right[rows][:, places],
            "teacher_queries": queries[rows],
            "teacher_targets": documents[places],
            "teacher_scores": torch.einsum("bd,bmd->bm", queries[rows], own),
            "progress": step / STEPS,
        }
        optimizer.zero_grad()
        given = {k: v for k, v in extras.items() if k in loss.reads | loss.may_read}
        loss(unit(queries[rows]), unit(documents[places]), **given).backward()
        optimizer.step()
    with torch.no_grad():
        asked, found = (unit(vectors) for vectors in _papers()["test"])
    scores = asked @ found.T
    better = (scores > scores.diagonal()[:, None]).sum(1)
    return (1 / (better + 2.0).log2()).masked_fill(better >= 10, 0.0).mean().item()


if __name__ == "__main__":
    main()
