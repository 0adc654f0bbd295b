"""Self Positioning: how much of each model a merged one should hold, found by descent on a small probe set."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from zoo.callers import warn
from zoo.embedder import Embedder
from zoo.encoders.prefetch import batches
from zoo.errors import InputError, TooFewPairsError
from zoo.evaluation.metrics import hits
from zoo.inputs.identity import Answers, Right, Row
from zoo.inputs.item import Item
from zoo.loading import load_model
from zoo.tables.pairs import Pair, PairTable, datasets_of

from .kinds.embedders import check_similarity
from .losses.base import Loss
from .losses.infonce import InfoNCE
from .merging import Merged, Model, kept, merge_with, merged_scale, tensors_of

Tensors = Mapping[str, Tensor]
Objective = Callable[[dict[str, Tensor]], Tensor]


class TaskScore(NamedTuple):
    """How a model does on a task of the probe: mean InfoNCE in nats, and recall@1 among the task's targets, 0 to 1."""

    task: str
    loss: float
    recall: float


class Probe:
    """A small set of pairs, read once; every task (data set) counts the same, whatever its size.

    Args:
        pairs: queries and positives; unusable ones are listed in `bad` and left out.
        model: any of those to be merged: its encoders read the items.
        per_task: pairs of a task in a batch. loss: by default InfoNCE at a fixed temperature of 0.05.
        limit: pairs of a task that are read; of more, evenly spaced ones.
    """

    def __init__(
        self,
        pairs: Sequence[Pair] | PairTable,
        model: Embedder,
        per_task: int = 32,
        loss: Loss | None = None,
        limit: int = 500,
    ) -> None:
        self.per_task, self.loss = per_task, loss or InfoNCE(0.05, learn=False)
        check_similarity(model.spec, self.loss)
        self.bad: list[tuple[str, str]] = []
        prefixes = [model.prompt_text(**model.for_role(role)) for role in ("query", "document")]
        numbers, names = datasets_of(pairs)
        self.tasks: dict[str, list[tuple[Any, Any]]] = {name: [] for name in names}
        self.rows: dict[str, list[int]] = {name: [] for name in names}  # of `answers`
        told: list[Row] = []
        for row in _spaced(numbers, limit):
            name, where = names[int(numbers[row])], f"pair {row}"
            try:
                pair = pairs[row]
                where = pair.where or where
                reads = [_read(model, item, p) for item, p in zip((pair.query, pair.positive), prefixes, strict=True)]
            except InputError as error:
                self.bad.append((where, str(error)))
                continue
            self.tasks[name].append(tuple(reads))
            self.rows[name].append(len(told))
            told.append(Row(pair.query, (pair.positive, *pair.extra_positives), group=pair.group))
        self.answers = Answers(told)
        few = [name for name, rows in self.tasks.items() if len(rows) < 2]
        if few or not self.tasks:
            listed = f"; unusable: {self.bad[:3]}" if self.bad else ""
            raise TooFewPairsError(f"a probe needs two usable pairs of every task; {few or 'it'} has fewer{listed}")

    def batch_loss(self, model: Embedder, tensors: Tensors, generator: torch.Generator) -> Tensor:
        """Mean loss over the tasks of a random batch, as a function of the model's parameters."""
        losses = []
        for name, rows in self.tasks.items():
            picked = torch.randperm(len(rows), generator=generator)[: self.per_task].tolist()
            losses.append(self._loss(model, name, picked, tensors)[0])
        return torch.stack(losses).mean()

    @torch.no_grad()
    def scores(self, model: Embedder) -> list[TaskScore]:
        """Loss and recall@1 of a model on every task, over all its pairs."""
        scores = []
        for name, rows in self.tasks.items():
            whole = list(range(len(rows)))
            loss, queries, targets = self._loss(model, name, whole, dict(model.named_parameters()))
            right = self._right(name, whole)
            relevant = right.answers(slice(None))
            similarity = (queries @ targets.T).cpu().masked_fill(right.same(slice(None)) & ~relevant, -torch.inf)
            recall = hits(similarity, relevant, ks=(1,))[1]
            scores.append(TaskScore(name, float(loss), recall))
        return scores

    def mean_recall(self, model: Embedder) -> float:
        """Mean recall@1 over the tasks."""
        scores = self.scores(model)
        return sum(score.recall for score in scores) / len(scores)

    def _loss(self, model: Embedder, task: str, rows: list[int], tensors: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        pairs = [self.tasks[task][row] for row in rows]
        right = self._right(task, rows, model.device)
        queries, targets = (_vectors(model, [pair[side] for pair in pairs], tensors) for side in (0, 1))
        extras = {} if right.plain else {"right": right}
        return self.loss(queries, targets, **extras), queries, targets

    def _right(self, task: str, rows: list[int], device: torch.device | str = "cpu") -> Right:
        numbers = [self.answers.of(self.rows[task][row])[:2] for row in rows]
        return self.answers.right(*torch.from_numpy(np.stack(numbers, 1)).to(device))


def _spaced(numbers: np.ndarray, limit: int) -> list[int]:
    """Rows of every task, at most `limit` each."""
    of_tasks = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    return [
        int(rows[i])
        for rows in of_tasks
        for i in np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int)
    ]


def _read(model: Embedder, item: Item, prefix: str) -> tuple[int, Any]:
    """(tower, read) of an item, its prompt before the text."""
    place = model.route_index(item)
    encoder = model.routes[place].encoder
    return place, encoder.prepare_item(encoder.prompted(item, prefix))


def _vectors(model: Embedder, reads: Sequence[tuple[int, Any]], tensors: Tensors) -> Tensor:
    """Embeddings `(n, dim)` with these parameters in place of the model's."""
    parts, places = [], []
    names = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    for number, tower in enumerate(model.routes):
        mine = [(place, read) for place, (position, read) in enumerate(reads) if position == number]
        # By identity: what fuses two towers has their parameters under names of its own.
        own = {n: tensors[names[id(t)]] for n, t in tower.state_dict(keep_vars=True).items() if names[id(t)] in tensors}
        for chunk in batches(mine, tower.encoder, None) if mine else ():
            batch = tower.encoder.collate([read for _, read in chunk])
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            parts.append(functional_call(tower, own, (batch,)))
            places += [place for place, _ in chunk]
    return torch.cat(parts)[torch.tensor(places).argsort()]


# ------------------------------------------------------------------------------------------------ the search


class Position(NamedTuple):
    """Where the merged model lies: base + scale · Σ weights_k (task_k - base), and the losses on the way there."""

    weights: Tensor
    scale: float
    losses: list[float]


def at_position(base: Tensors, vectors: Sequence[Tensors], weights: Tensor, scale: Tensor | float) -> dict[str, Tensor]:
    """base + scale · Σ_k weights_k · vectors_k, tensor by tensor."""
    return {
        name: tensor + sum(scale * weight * vector[name] for weight, vector in zip(weights, vectors, strict=True))
        for name, tensor in base.items()
    }


def weight_gradient(
    base: Tensors, vectors: Sequence[Tensors], objective: Objective, weights: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The objective, and its gradient for the weights `(K,)` and the scale.

    dL/dw_k = scale · ⟨dL/dθ, v_k⟩: one backward pass of the model, however many there are to merge.
    """
    with torch.no_grad():
        tensors = at_position(base, vectors, weights, scale)
    leaves = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    loss = objective(leaves)
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    met = [(name, grad) for name, grad in zip(leaves, grads, strict=True) if grad is not None]
    # Chain rule for θ = base + scale · Σ w_k v_k: dL/dw_k = scale · ⟨dL/dθ, v_k⟩, dL/d scale = Σ w_k ⟨dL/dθ, v_k⟩.
    along = torch.stack([sum((grad * vector[name]).sum() for name, grad in met) for vector in vectors])
    return loss.detach(), scale * along, weights @ along


def find_position(
    base: Tensors,
    vectors: Sequence[Tensors],
    objective: Objective,
    *,
    steps: int = 200,
    lr: float = 0.05,
    convex: bool = True,
    learn_scale: bool = True,
) -> Position:
    """Weights, and a scale from 1/2 to 2, that make an objective small, by Adam (Self Positioning).

    Args:
        base: the tensors to start from. vectors: what each task adds to them.
        objective: tensors → loss; may draw a new batch each time.
        convex: weights are a softmax, above 0 with a sum of 1; else free, from 1/K each.
    """
    from tqdm import tqdm

    count = len(vectors)
    first = next(iter(base.values()))
    options = {"dtype": first.dtype, "device": first.device}
    logits = torch.full((count,), 0.0 if convex else 1 / count, **options).requires_grad_()
    turn = torch.zeros((), **options).requires_grad_(learn_scale)
    optimiser = torch.optim.Adam([logits, turn] if learn_scale else [logits], lr=lr)

    def place() -> tuple[Tensor, Tensor]:
        # 2^tanh(x) is 1 at x = 0 and stays within 1/2 and 2: halving and doubling are equally far.
        return logits.softmax(0) if convex else logits, 2 ** torch.tanh(turn)

    losses = []
    for _ in tqdm(range(steps), "positioning", unit=" steps", disable=None, delay=2):  # None: terminals only
        weights, scale = place()
        loss, *grads = weight_gradient(base, vectors, objective, weights.detach(), float(scale.detach()))
        optimiser.zero_grad()
        # From the weights and the scale on to what Adam moves: through the softmax and 2^tanh.
        torch.autograd.backward([weights, scale] if learn_scale else [weights], grads if learn_scale else grads[:1])
        optimiser.step()
        losses.append(float(loss))
    with torch.no_grad():
        weights, scale = place()
    return Position(weights.detach(), float(scale), losses)


def self_position(
    models: Sequence[Model],
    probe: Sequence[Pair] | PairTable | Probe,
    *,
    base: Model | None = None,
    steps: int = 200,
    lr: float = 0.05,
    convex: bool = True,
    learn_scale: bool = True,
    seed: int = 0,
    keep: int | None = None,
) -> Merged:
    """Merges models with the weights that do best on a small probe set, equal parts of every task.

    base + scale · Σ w_k (model_k - base), w and scale by Adam on the probe's InfoNCE (Self Positioning,
    ../shared/papers/text_embedders.md, section 15). All models are in memory at once.

    Args:
        models: fine-tuned from one base. probe: a few dozen pairs of every task; a pair's task is its data set.
        base: what they were trained from; without it the scale stays 1, and weights that are not convex may drift.
        convex: weights above 0 with a sum of 1. learn_scale: also search how far to go, 1/2 to 2.
        keep: place of the model whose prompts, poolers and preprocessing are kept, where they differ.

    Raises:
        DifferentModelsError: another architecture, or another way of reading inputs without `keep`. TooFewPairsError: too small a probe.
    """
    loaded = [model if isinstance(model, Embedder) else load_model(model) for model in models]
    start = loaded[0] if base is None else base if isinstance(base, Embedder) else load_model(base)
    like = kept(loaded, keep)
    tensors_of(loaded, base=None if base is None else start, like=like)
    carrier = merge_with(loaded, lambda parts: parts[0], like=like).eval()  # averages what is no parameter
    zero = {name: tensor if base is not None else 0 * tensor for name, tensor in _floats(start, carrier.device).items()}
    vectors = [{n: tensor - zero[n] for n, tensor in _floats(model, carrier.device).items()} for model in loaded]
    ready = probe if isinstance(probe, Probe) else Probe(probe, carrier)
    generator = torch.Generator().manual_seed(seed)
    found = find_position(
        zero,
        vectors,
        lambda tensors: ready.batch_loss(carrier, tensors, generator),
        steps=steps,
        lr=lr,
        convex=convex,
        learn_scale=learn_scale and base is not None,
    )
    with torch.no_grad():
        for name, tensor in at_position(zero, vectors, found.weights, found.scale).items():
            carrier.get_parameter(name).copy_(tensor)
    _place_scale(carrier, loaded, None if base is None else start, found)
    return Merged(carrier, tuple(found.weights.tolist()), found.scale, tuple(found.losses))


def _place_scale(carrier: Embedder, models: Sequence[Embedder], base: Embedder | None, found: Position) -> None:
    """The temperature where the weights are; `merge_with` has told of models without one."""

    def combine(parts: list[Tensor]) -> Tensor:
        zero, *rest = parts if base is not None else [0 * parts[0], *parts]
        moves = [weight * (part - zero) for weight, part in zip(found.weights.tolist(), rest, strict=True)]
        return zero + found.scale * torch.stack(moves).sum()

    given = [*models] if base is None else [base, *models]
    names = [f"model {place} ({model.spec.name})" for place, model in enumerate(models, start=1)]
    names = names if base is None else [f"the base ({base.spec.name})", *names]
    carrier.logit_scale, told = merged_scale([model.logit_scale for model in given], combine, names, carrier)
    for line in told if all(model.logit_scale is not None for model in models) else ():
        warn(line)


def _floats(model: Embedder, device: torch.device) -> dict[str, Tensor]:
    return {name: parameter.detach().to(device) for name, parameter in model.named_parameters()}
