"""Several outputs of one pass: the vector of a text, its lexical weights, and a vector for every token (see `zoo.outputs`)."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from zoo.arguments import checked, flag, one_of, optional, texts, whole
from zoo.embedder.cutting import TRUNCATIONS, Cuts, Truncation
from zoo.embedder.given import many_of
from zoo.embedder.passes import halved, to_device
from zoo.embedder.streaming import kept, not_finite, progress_bar, stream
from zoo.errors import ArgumentError, InputError, UnsupportedInputError
from zoo.outputs import sparse as coo
from zoo.similarity import usable
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder
    from zoo.embedder.tower import Tower

DENSE = "dense"


class Outputs(NamedTuple):
    """What `encode_outputs` gives, None where it was not asked for; of one text without the axis of texts.

    Attributes:
        dense: vectors `(n, dim)`, as `encode` gives them. sparse: lexical weights, sparse COO `(n, vocab)`, coalesced, float32.
        tokens: of each text its token vectors `(tokens, dim)`, of unit length.
    """

    dense: Tensor | None = None
    sparse: Tensor | None = None
    tokens: list[Tensor] | Tensor | None = None


class WithOutputs:
    """The methods of `Embedder` for models that give more of a text than its vector (`spec.outputs`)."""

    @checked(
        outputs=optional(texts),
        batch_size=optional(whole()),
        on_error=one_of("raise", "skip"),
        truncation=one_of(*TRUNCATIONS),
        progress=optional(flag),
    )
    def encode_outputs(
        self: "Embedder",
        inputs: Any,
        outputs: Sequence[str] | None = None,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        truncation: Truncation = "cut",
        progress: bool | None = None,
    ) -> Outputs:
        """Embeds texts once and gives several outputs of that one pass.

        Args:
            inputs: one text or many, as `encode` takes them; an iterable is read to its end.
            outputs: among "dense" and the model's `spec.outputs`, "sparse" and "tokens"; by default all that it has.
            prompt, prompt_name, batch_size, on_error, truncation, progress: as of `encode`.

        Returns:
            `Outputs`, on the CPU, without gradients: `model.encode_outputs(texts, ["dense", "sparse"]).sparse`.

        Raises:
            ArgumentError: the model has no such output; the message names models that have. Besides what `encode` raises.
        """
        wanted = tuple(dict.fromkeys((DENSE, *self.spec.outputs) if outputs is None else outputs))
        check_outputs(self.spec, wanted)
        prefix, many = self.prompt_text(prompt, prompt_name), many_of(inputs)
        inputs = [inputs] if many is None else many
        bar, cuts = progress_bar(inputs, progress, self.spec.name), Cuts(self, truncation)

        def embed(model: "Embedder", tower: "Tower", reads: list[Any], batch_size: int | None = None) -> list[Any]:
            return _rows(model, tower, reads, wanted)

        results = stream(self, inputs, prefix, batch_size=batch_size, dim=None, bar=bar, cuts=cuts, embed=embed)
        rows = list(kept(results, on_error))
        if many is not None:
            return _together(self, rows, wanted)
        if not rows:
            raise UnsupportedInputError("the only input was skipped; there is nothing to return")
        return rows[0]

    def encode_sparse(self: "Embedder", inputs: Any, **options: Any) -> Tensor:
        """Lexical weights: which tokens of a text count, and how much; sparse COO `(vocab,)` of one text, `(n, vocab)` of many.

        Two texts are compared by the dot product (`zoo.similarity.lexical`); `token_weights` shows the tokens.

        Args:
            inputs: one text or many. options: those of `encode_outputs`.

        Raises:
            As `encode_outputs`.
        """
        return self.encode_outputs(inputs, ("sparse",), **options).sparse

    def encode_tokens(self: "Embedder", inputs: Any, **options: Any) -> Tensor | list[Tensor]:
        """A unit vector for every token, for late interaction: `(tokens, dim)` of one text, a list of them of many.

        Compared by `zoo.similarity.mean_maxsim`, as BGE-M3's authors do, or `maxsim`, the sum.

        Args:
            inputs: one text or many. options: those of `encode_outputs`.

        Raises:
            As `encode_outputs`.
        """
        return self.encode_outputs(inputs, ("tokens",), **options).tokens

    def token_weights(self: "Embedder", sparse: Tensor) -> dict[str, float] | list[dict[str, float]]:
        """The tokens of lexical weights, as the tokenizer writes them, the heaviest first: `{"▁cat": 0.31, …}`.

        Args:
            sparse: what `encode_sparse` gives, `(vocab,)`, or `(n, vocab)` for a list.

        Raises:
            ArgumentError: it is no such tensor of this model, or the model has no such output.
        """
        check_outputs(self.spec, ("sparse",))
        tower = _giving(self, "sparse")
        vocab = tower.outputs["sparse"].vocab
        if not isinstance(sparse, Tensor) or not sparse.is_sparse or sparse.shape[-1] != vocab or sparse.ndim > 2:
            raise ArgumentError(
                f"token_weights takes what encode_sparse of {self.spec.name} gives, a sparse tensor (n, {vocab}), not {sparse!r:.60}"
            )
        rows = [row.coalesce() for row in (sparse[None] if sparse.ndim == 1 else sparse)]
        found = []
        for row in rows:
            values, order = row.values().sort(descending=True, stable=True)
            tokens = row.indices()[0][order].tolist()
            found.append(
                {tower.encoder.tokenize.token(i): value for i, value in zip(tokens, values.tolist(), strict=True)}
            )
        return found[0] if sparse.ndim == 1 else found


def check_outputs(spec: ModelSpec, wanted: Iterable[str]) -> None:
    """Raises ArgumentError where a model does not give one of these outputs."""
    from zoo.registry import get_spec, list_models

    for name in wanted:
        if name == DENSE or name in spec.outputs:
            continue
        if name == "tokens" and spec.similarity == "maxsim":
            raise ArgumentError(
                f"every vector of {spec.name} is a token's already: call encode, which gives (tokens, dim)"
            )
        have = [other for other in list_models() if name in get_spec(other).outputs]
        offered = (
            f"; models that do: {', '.join(have)}" if have else f"; its outputs are {', '.join((DENSE, *spec.outputs))}"
        )
        raise ArgumentError(f"{spec.name} gives no {name!r:.40} output of a text{offered}")
    if not wanted:
        raise ArgumentError(f"outputs is empty; write some of {', '.join((DENSE, *spec.outputs))}")


def _giving(model: "Embedder", name: str) -> "Tower":
    """The tower that has this output head."""
    return next(tower for tower in model.towers if name in tower.outputs)


@torch.inference_mode(False)
def _rows(model: "Embedder", tower: "Tower", reads: list[Any], wanted: tuple[str, ...]) -> list[Outputs | InputError]:
    """The outputs of each read of a batch, ordinary tensors on the CPU; out of memory halves the batch and tries again."""

    def run(some: list[Any]) -> list[Outputs | InputError]:
        with model.eval_mode.during_pass(tower), torch.inference_mode():
            batch = to_device(tower.encoder.collate(some), model.device)
            found = {name: tensor.cpu() for name, tensor in tower.forward_outputs(batch, wanted).items()}
        return _split(found, len(some), model.spec)

    parts = halved(run, reads, model.device, partial(model._room.ran_out, tower.encoder))
    return [row for part in parts for row in part]


def _split(found: dict[str, Tensor], count: int, spec: ModelSpec) -> list[Outputs | InputError]:
    """The outputs of a batch by text; the error in the place of one that is not finite."""
    good = torch.ones(count, dtype=torch.bool)
    by_text: dict[str, list[Tensor]] = {}
    if (dense := found.get(DENSE)) is not None:
        good &= usable(dense, spec.similarity)
        by_text[DENSE] = list(dense.clone())  # autograd takes no tensor of inference mode
    if (weights := found.get("sparse")) is not None:
        (rows, columns), values = weights.indices().clone(), weights.values().clone()
        sizes = rows.bincount(minlength=count).tolist()
        parts = zip(columns.split(sizes), values.split(sizes), strict=True)
        by_text["sparse"] = [coo(columns[None], values, (weights.shape[1],)) for columns, values in parts]
        good &= torch.tensor([bool(vector.values().isfinite().all()) for vector in by_text["sparse"]])
    if (tokens := found.get("tokens")) is not None:
        real = tokens.abs().amax(-1) > 0  # (B, T); NaN is not, and a text of which nothing is left is an error below
        good &= real.any(-1) & tokens.isfinite().all(-1).all(-1)
        by_text["tokens"] = [row[mask] for row, mask in zip(tokens.clone(), real, strict=True)]
    names = list(by_text)
    whole = (Outputs(**dict(zip(names, row, strict=True))) for row in zip(*by_text.values(), strict=True))
    return [row if ok else not_finite() for row, ok in zip(whole, good.tolist(), strict=True)]


@torch.inference_mode(False)
def _together(model: "Embedder", rows: list[Outputs], wanted: tuple[str, ...]) -> Outputs:
    """The outputs of many texts, of none where there is none."""
    found: dict[str, Any] = {}
    if DENSE in wanted:
        found[DENSE] = torch.stack([row.dense for row in rows]) if rows else torch.zeros(0, model.spec.dim)
    if "sparse" in wanted:
        size = _giving(model, "sparse").outputs["sparse"].vocab
        numbers = torch.tensor([row.sparse._nnz() for row in rows], dtype=torch.long)
        which = torch.arange(len(rows)).repeat_interleave(numbers)
        columns = [torch.zeros(0, dtype=torch.long), *(row.sparse.indices()[0] for row in rows)]
        values = torch.cat([torch.zeros(0), *(row.sparse.values() for row in rows)])
        found["sparse"] = coo(torch.stack([which, torch.cat(columns)]), values, (len(rows), size))
    if "tokens" in wanted:
        found["tokens"] = [row.tokens for row in rows]
    return Outputs(**found)
