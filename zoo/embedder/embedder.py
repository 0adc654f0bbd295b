"""Embedder: a model is a list of towers (`tower.py`); everything ends as a vector in one space, of unit length but for "dot"."""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.arguments import checked, flag, iterable, many, number, one_of, optional, path, text, vectors, whole
from zoo.arguments import dtype as dtype_of
from zoo.callers import warn
from zoo.embedder.aiming import facing
from zoo.embedder.cutting import TRUNCATIONS, Cuts, Truncation
from zoo.embedder.describing import backends, described, elsewhere, names_of
from zoo.embedder.fingerprints import fingerprint
from zoo.embedder.fused import disjoint
from zoo.embedder.given import is_vectors, many_of
from zoo.embedder.outputs import WithOutputs
from zoo.embedder.passes import Room
from zoo.embedder.photos import WithPhotos
from zoo.embedder.regional import regions_of
from zoo.embedder.routes import Reader, Routes
from zoo.embedder.spans import WithSpans
from zoo.embedder.streaming import Encoded, EvalMode, kept, packed, progress_bar, stream
from zoo.embedder.tasks import asked
from zoo.embedder.tower import Tower
from zoo.embedder.tracks import Track, encode_track
from zoo.encoders.int8 import Quantization
from zoo.errors import ArgumentError, UnsupportedInputError
from zoo.fusion import WeightedSum
from zoo.inputs.item import Item, as_item
from zoo.inputs.regions import Region
from zoo.inputs.spacing import PERS, Per, Spacing
from zoo.prompts import Role, for_role, name_for, text_of
from zoo.regions import MaskedCrop, RegionRule, rule_of
from zoo.scales import Scales
from zoo.similarity import PRECISIONS, Precision, check_precision, similarity
from zoo.spec import Calibration, LogitScale, ModelSpec


class RankHit(NamedTuple):
    """One result of `rank`: the document's position and its similarity to the query (see `Embedder.similarity`)."""

    index: int
    score: float


class Embedder(WithOutputs, WithPhotos, WithSpans, nn.Module):
    """A model of the zoo. An item goes to the first tower whose encoder reads every modality that it carries.

    Where different modalities have a tower each, an item of several is fused by the model's rule (see `zoo.fusion`). Where no encoder
    reads regions, those of an image are read by the model's rule for them (see `zoo.regions`); where none reads documents, their
    pages are read as images (see `zoo.embedder.documents`).

    Attributes:
        towers: what the model is made of. fusion: the rule for an item that several towers read, None where one reads
            all that the model reads; `model.fusion = WeightedSum(image=0.3)` sets another.
        logit_scale: the temperature (and bias) that the checkpoint was trained with, None where it does not say.
        calibration: what its similarities mean, by "query>document" modalities ("text>image"); {} where nobody measured.
        quantized: what of it is int8 (`zoo.quantize`), None of a model in floating-point numbers.

    Raises:
        ValueError: a rule of fusion for a model whose towers do not read different things.
    """

    def __init__(
        self,
        spec: ModelSpec,
        towers: Sequence[Tower],
        fusion: nn.Module | None = None,
        region_rule: RegionRule | str | None = None,
    ) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.spec = spec
        sets = disjoint(towers)
        if fusion is not None and not sets:
            raise ValueError(f"{spec.name} has no towers that read different things, so there is nothing to fuse")
        self.fusion = WeightedSum() if fusion is None and sets else fusion
        self.logit_scale: LogitScale | None = None
        self.calibration: dict[str, Calibration] = {}
        self.quantized: Quantization | None = None
        self._region_rule = rule_of(region_rule or MaskedCrop())
        self._routed: tuple[Routes, ...] = ()
        self._made_of: tuple[Any, ...] = ()  # the routes
        self.eval_mode, self._room = EvalMode(), Room()

    def train(self, mode: bool = True) -> "Embedder":
        """Training or eval mode, for what the caller runs: the forward passes of `encode` and its variants are always in eval
        mode. Where one is under way in another thread, the change comes after it."""
        self.eval_mode.ask(lambda: super(Embedder, self).train(mode))
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> "Embedder":
        """`to`, `half` and the like, but for the frequencies of rotary positions: rounded to bfloat16 (by up to
        0.4 %) they would be about a radian off after a thousand tokens."""
        kept = [(m, name, b) for m in self.modules() for name, b in m._buffers.items() if name.endswith("inv_freq")]
        super()._apply(fn, recurse)
        for module, name, exact in kept:
            moved = module._buffers[name]
            if exact is not None and moved.dtype != exact.dtype:
                module._buffers[name] = exact.to(moved.device)
        return self

    def __repr__(self) -> str:
        return described(self)

    def __dir__(self) -> list[str]:
        return names_of(self)

    def __getattr__(self, name: str) -> Any:
        """What is no attribute: names of other libraries get a hint."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if (hint := elsewhere(self, name)) is None:
                raise
            raise AttributeError(hint, name=name, obj=self) from None

    @property
    def spec(self) -> ModelSpec:
        """The facts of the model. Setting them sets whether its vectors keep their norms."""
        return self._spec

    @spec.setter
    def spec(self, spec: ModelSpec) -> None:
        self._spec = spec
        for tower in self.towers:
            tower.similarity = spec.similarity

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def backend(self) -> str:
        """What computes which tower, and how far from torch; "torch" where nothing else does (see `zoo.backends`)."""
        return backends(self) or "torch"

    @property
    def region_rule(self) -> RegionRule:
        """How regions of images are read where no encoder reads them. Set by a rule or its name: `model.region_rule = "dense"`.

        Raises:
            ArgumentError: set to no rule, or to one that is for none of the model's towers; the message says why.
        """
        return self._region_rule

    @region_rule.setter
    def region_rule(self, rule: RegionRule | str) -> None:
        rule = rule_of(rule)
        readers = [tower for tower in self.towers if "image" in tower.encoder.modalities]
        refusals = [rule.refusal(tower) for tower in readers]
        if not readers or all(refusals):
            why = refusals[0] if refusals else "it reads no images"
            raise ArgumentError(f"{self.spec.name} cannot read regions so: {why}")
        self._region_rule = rule

    @property
    def against(self) -> str | None:
        """What the vectors of its texts are made to be compared with, one of `spec.targets`; None for all other models, whose texts
        have one vector. Set by name: `model.against = "regions"`.

        Raises:
            ArgumentError: set to no target of the model.
        """
        return next((tower.encoder.against for tower in self.towers if tower.encoder.targets), None)

    @against.setter
    def against(self, target: str) -> None:
        self.spec.check_target(target)
        self.towers = nn.ModuleList(tower.aimed(target) for tower in self.towers)

    @checked(target=text)
    def with_against(self, target: str) -> "Embedder":
        """The same model, its weights shared, whose texts are compared with something else; raises as `against`."""
        other = copy(self)
        other._modules = dict(self._modules)  # else it would have its towers in common with this one
        other.against = target
        return other

    @property
    def routes(self) -> tuple[Reader, ...]:
        """All that items can go to: the towers, after them the routes over them, for regions, documents and several parts."""
        return self._routes.readers

    @property
    def _routes(self) -> Routes:
        made_of = (self.fusion, self._region_rule, self._spec, *self.towers, *(tower.encoder for tower in self.towers))
        if self._made_of != made_of:
            # Kept in a tuple, so that their towers are not registered a second time.
            self._routed = (Routes(list(self.towers), self.fusion, self._region_rule, self._spec),)
            self._made_of = made_of
        return self._routed[0]

    def route(self, item: Item) -> Reader:
        """The tower that reads this item, or what reads it by means of towers.

        Raises:
            UnsupportedModalityError: no tower reads all its modalities.
        """
        return self.routes[self.route_index(item)]

    def route_index(self, item: Item) -> int:
        """The position in `routes` of what reads this item; raises as `route`."""
        return self._routes.index_of(item)

    @checked(
        batch_size=optional(whole()),
        dim=optional(whole(None)),
        precision=one_of(*PRECISIONS),
        on_error=one_of("raise", "skip"),
        progress=optional(flag),
        against=optional(text),
        truncation=one_of(*TRUNCATIONS),
    )
    def encode(
        self,
        inputs: Any,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int | None = None,
        dim: int | None = None,
        precision: Precision = "float32",
        on_error: Literal["raise", "skip"] = "raise",
        progress: bool | None = None,
        against: str | None = None,
        truncation: Truncation = "cut",
    ) -> Tensor | list[Tensor] | Iterator[Tensor]:
        """Embeds one input as `(dim,)`, a list as `(n, dim)`, any other iterable as a stream of `(dim,)`.

        A model of late interaction (`spec.similarity == "maxsim"`) gives `(tokens, dim)` for one input, a list of them
        for a list.

        Args:
            inputs: str, pathlib.Path, bytes, a file opened in mode "rb", image, array or `Item`, or many of them (see
                `zoo.inputs.item.as_item`).
            prompt: text that is put before texts as it stands, or where a vision-language model has its instruction.
            prompt_name: a prompt of the model's by its name (`spec.prompts`), in place of `prompt`. With neither, the
                default prompt of a model that has one (`spec.default_prompt_name`).
            batch_size: items of one forward pass; by default a token budget that suits the encoder.
            dim: Matryoshka cut; vectors are cut and made unit length again, but for "dot".
            precision: "int8" scales each vector by its own largest value to ±127; "binary" packs the signs of eight
                columns into a byte, `(n, dim / 8)`. `similarity` understands all three.
            on_error: "skip" leaves bad items out, in order, with one warning that lists them.
            progress: a bar with items/s and time left; by default on a terminal when it takes over two seconds.
            against: what texts are to be compared with, one of `spec.targets`, of a model whose texts have a vector for each; by
                default the model's own (`against`). As a prompt, it is of the texts of a call alone.
            truncation: "error" refuses a text of more tokens than are read; "cut" says once what is lost.

        Returns:
            Vectors on the CPU, ordinary tensors without a gradient: float32 of unit length (with their norms where
            `spec.similarity` is "dot"), int8, or packed uint8.

        Raises:
            InputError: an item cannot be embedded; the message says which, why and what to do.
            PromptError: no prompt has this name, or `prompt` is the name of one (see `zoo.prompts.text_of`).
            ArgumentError: `against` of a model that has no such target.
            NormsLostError: int8 or binary of a model that compares by dot product.
        """
        check_precision(self.spec, precision)
        many, model = many_of(inputs), self if against is None else self.with_against(against)
        options = {"prompt": prompt, "prompt_name": prompt_name, "batch_size": batch_size, "dim": dim}
        options["truncation"] = truncation
        stream = model.encode_stream([inputs] if many is None else many, progress=progress, **options)
        if many is not None and not hasattr(many, "__len__"):
            return (packed(vector, precision) for vector in kept(stream, on_error))
        vectors = list(kept(stream, on_error))
        if many is None:
            if not vectors:
                raise UnsupportedInputError("the only input was skipped; there is no vector to return")
            return packed(vectors[0], precision)
        if self.spec.similarity == "maxsim":
            return [packed(vector, precision) for vector in vectors]
        return packed(vectors, precision, dim or self.spec.dim)

    def encode_regions(
        self,
        image: Any,
        regions: Sequence[Region | Sequence[Region]],
        *,
        region: RegionRule | str | None = None,
        **options: Any,
    ) -> Tensor | list[Tensor]:
        """Embeds regions of one image as `(n, dim)`, a vector each; the image is decoded once, and with "dense" embedded once.

        Args:
            image: anything that `encode` takes as an image, or an `Item` with one, whose text and instruction go with every region
                where the model reads them together.
            regions: `zoo.Box`, `zoo.Point`, `zoo.Polygon` or `zoo.Mask`, in pixels of the upright image; several in a list are one
                region together.
            region: a rule of `zoo.regions` or its name, "masked-crop", "dense", "dense-hd" or "ensemble", for this call; by default
                the model's own (`region_rule`). A model whose encoder reads regions has none.
            options: those of `encode`.

        Raises:
            InvalidRegionError: a region is none, lies outside the image or has no area; the message says which.
            ArgumentError: no such rule, or none for this model. Besides what `encode` raises.
        """
        model = self if region is None else self.with_region_rule(region)
        return model.encode(regions_of(image, regions), **options)

    @checked(per=one_of(*PERS), seconds=optional(number), hop=optional(number), fps=optional(number))
    def encode_track(
        self,
        item: Any,
        per: Per,
        *,
        seconds: float | None = None,
        hop: float | None = None,
        fps: float | None = None,
        **options: Any,
    ) -> Track:
        """Embeds a document, video or audio part by part, in bounded memory: vectors with their times or pages.

        Args:
            item: a document, video or audio, as `encode` takes it, or an `Item` with one; its text and instruction go with every part.
            per: "page" of a document, as an image (also of documents that are too long for one vector); "frame" of a video, as an
                image; "second" for segments of a video or of audio, each read as the model reads a whole one.
            seconds, hop: with "second", the length of a segment (1) and from one to the next, at most `seconds`, which it is by
                default. The last one ends where the source ends, and overlaps the one before.
            fps: with "frame", how many a second are taken (1), evenly spread.
            options: those of `encode`, without `on_error`.

        Raises:
            ArgumentError: there are no such parts of it, or a length that is none. UnsupportedModalityError: the model does not read
                such parts; the message says which ones it does. InputError: it, or a part of it, cannot be read.
        """
        return encode_track(self, item, per, Spacing.of(per, seconds, hop, fps), options)

    def with_region_rule(self, rule: RegionRule | str) -> "Embedder":
        """The same model, its weights shared, with another rule of regions; raises as `region_rule`."""
        if any("regions" in tower.encoder.modalities for tower in self.towers):
            raise ArgumentError(
                f"{self.spec.name} reads regions by itself, and follows no rule of zoo.regions; leave region out"
            )
        other = copy(self)
        other.region_rule = rule
        return other

    def encode_query(
        self,
        inputs: Any,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        task: str | None = None,
        examples: Iterable[tuple[str, str]] | None = None,
        **options: Any,
    ) -> Tensor | list[Tensor] | Iterator[Tensor]:
        """`encode` with the model's query prompt; where it has none, with none at all. Another prompt takes its place.

        Args:
            task, examples: what queries ask for, in place of a prompt (see `zoo.prompts.of_task`): described in words, with pairs of a
                query and its answer, or by name, as the model has it.
        """
        return self.encode(inputs, **asked(self.spec, "query", prompt, prompt_name, task, examples), **options)

    def encode_document(
        self,
        inputs: Any,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        task: str | None = None,
        **options: Any,
    ) -> Tensor | list[Tensor] | Iterator[Tensor]:
        """`encode` with the model's document prompt, or that of a task by name; where it has none, with none at all."""
        return self.encode(inputs, **asked(self.spec, "document", prompt, prompt_name, task), **options)

    @checked(
        inputs=iterable,
        batch_size=optional(whole()),
        dim=optional(whole(None)),
        progress=optional(flag),
        truncation=one_of(*TRUNCATIONS),
    )
    def encode_stream(
        self,
        inputs: Iterable[Any],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int | None = None,
        dim: int | None = None,
        progress: bool | None = None,
        truncation: Truncation = "cut",
    ) -> Iterator[Encoded]:
        """Embeds any iterable in bounded memory: one `Encoded` per item, in order; a bad item never stops the rest.

        Files are read and texts tokenised in threads while the model runs. Inputs that come slowly are embedded about
        half a second after they came; where the iterable raises, what it gave before is embedded first.

        Raises:
            PromptError, NotOfferedError: at once, as `encode`, or where it is not known of a model what "error" would refuse.
        """
        prefix, dim = self.prompt_text(prompt, prompt_name), self._cut(dim)
        bar, cuts = progress_bar(inputs, progress, self.spec.name), Cuts(self, truncation)
        return stream(self, inputs, prefix, batch_size=batch_size, dim=dim, bar=bar, cuts=cuts)

    def unknown_share(self, texts: Any) -> Any:
        """Of each text, the share of its tokens that the model's vocabulary does not know, 0 to 1.

        At 1 the model cannot read the text (other scripts, one unbroken run of letters), and `encode` says so. Neither
        the prompt nor special tokens count; a model that reads bytes knows every text.

        Args:
            texts: one text, or an iterable of them; also as `Item`. What carries no text has a share of 0.

        Returns:
            A float for one text, a list of floats for many.

        Raises:
            InputError: a text is empty or not Unicode.
        """
        many = many_of(texts)
        shares = []
        for value in [texts] if many is None else many:
            item = as_item(value)
            shares.append(0.0 if item.text is None else self.route(item).encoder.unknown_share(item))
        return shares[0] if many is None else shares

    @checked(a=vectors, b=vectors)
    def similarity(self, a: Any, b: Any) -> Tensor:
        """Similarity `(n, m)` of vectors `(n, dim)` and `(m, dim)`, as `spec.similarity` says (see `zoo.similarity`).

        The cosine, -1 to 1, also of int8 or of packed binary vectors; the dot product, of float vectors; or, for late
        interaction, MaxSim of two lists of `(tokens, dim)`.
        """
        return similarity(a, b, self.spec.similarity)

    @checked(documents=many, k=optional(whole(0)))
    def rank(self, query: Any, documents: Any, k: int | None = 10) -> list[RankHit]:
        """The `k` documents most similar to one query, best first.

        Args:
            query: one input, or its vector `(dim,)`. documents: a list of inputs, or their vectors `(n, dim)`. With
                late interaction vectors are `(tokens, dim)` and a list of these. Where a text has a vector for each target, that for
                the other side's items is taken, unless another was chosen (`against`). Inputs of several kinds are ranked by how far
                each stands above wrong ones, if the model has a calibration for all of them (`zoo.scales`).
        """
        late = self.spec.similarity == "maxsim"
        asked = is_vectors(query, 2 if late else 1)
        embedded = is_vectors(documents[0], 2) if late and len(documents) else is_vectors(documents, 2)
        sides = [[] if asked else [query], [] if embedded else list(documents)]
        by_query, by_document = (self._facing(side) for side in reversed(sides))
        vector = query if asked else by_query.encode_query(query)
        matrix = documents if embedded else by_document.encode_document(sides[1])
        if len(matrix) == 0:
            return []
        scores = ranked = self.similarity(vector, matrix)[0]
        if self.calibration and sides[0] and sides[1]:
            kinds = ["+".join(sorted(as_item(document).modalities)) for document in documents]
            ranked = torch.tensor(Scales.of(self, as_item(query).modalities).ranked_by(scores.tolist(), kinds))
        best = ranked.sort(descending=True, stable=True).indices[:k].tolist()
        return [RankHit(i, float(scores[i])) for i in best]

    def _facing(self, others: Iterable[Any]) -> "Embedder":
        return facing(self, (as_item(other).modalities for other in others)) if self.spec.targets else self

    def prompt_text(self, prompt: str | None = None, prompt_name: str | None = None) -> str:
        """The text that `encode` puts before texts for these arguments; raises PromptError (see `zoo.prompts.text_of`)."""
        return text_of(self.spec, prompt, prompt_name)

    @checked(role=one_of("query", "document"))
    def role(self, role: Role) -> str | None:
        """The name of the model's prompt for queries or documents, even of an empty one; None where it has none."""
        return name_for(self.spec, role)

    @checked(role=one_of("query", "document"))
    def for_role(self, role: Role) -> dict[str, Any]:
        """`encode`'s arguments for queries or documents: {"prompt_name": …}, or {"prompt": ""} where there is none."""
        return for_role(self.spec, role)

    def _cut(self, dim: int | None) -> int | None:
        if dim is None or dim == self.spec.dim:
            return None
        if not 0 < dim <= self.spec.dim:
            raise ArgumentError(
                f"dim must be between 1 and {self.spec.dim} for {self.spec.name}, not {dim}; leave it out for all columns"
            )
        if dim not in self.spec.dims:
            trained = f"only for {list(self.spec.dims)}" if self.spec.dims else "for no cut"
            warn(f"{self.spec.name} was trained {trained}; {dim} columns lose accuracy")
        return dim

    @checked(dim=optional(whole()), regions=flag)
    def fingerprint(
        self, prompt: str | None = None, dim: int | None = None, prompt_name: str | None = None, regions: bool = False
    ) -> dict[str, Any]:
        """What must agree for two vectors to be comparable; stored beside vectors on disk. JSON-able.

        Args:
            regions: say the rule of regions also where it is the usual one.
        """
        return fingerprint(self, self.prompt_text(prompt, prompt_name), dim or self.spec.dim, regions)

    @checked(engine=one_of("auto", "torch", "pillow"))
    def set_pixel_engine(self, engine: Literal["auto", "torch", "pillow"]) -> "Embedder":
        """Chooses how images are resized (see `PixelTransform`): "pillow" equals a PIL reference to the last digit."""
        for tower in self.towers:
            if hasattr(tower.encoder, "transform"):
                tower.encoder.transform = replace(tower.encoder.transform, engine=engine)
        return self

    @checked(folder=path, dtype=optional(dtype_of))
    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | str | None = None) -> Path:
        """Writes a folder that `load_model` reads, once it is opened and gives equal vectors (see `zoo.formats.writing`)."""
        from zoo.formats.writing import save_pretrained

        return save_pretrained(self, Path(folder), dtype)

    def push_to_hub(self, repo: str, **options: Any) -> Any:
        """Publishes the model as "org/name", with card and certificate; the options are those of `zoo.publishing.publish`."""
        from zoo.publishing import publish

        return publish(self, repo, **options)
