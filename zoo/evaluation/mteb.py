"""mteb for models of the zoo: `wrap(model)` satisfies mteb's EncoderProtocol for text, images, audio and video."""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from zoo.arguments import checked, optional, text, whole
from zoo.arguments import model as a_model
from zoo.errors import ZooError

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import Licenses, PromptType
except ModuleNotFoundError as error:
    raise ZooError(f'evaluation needs {error.name}: pip install "embedding-zoo[eval]"') from error

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, SequentialSampler

from zoo.embedder import Embedder
from zoo.embedder.aiming import facing
from zoo.errors import ArgumentError, EmptyItemError, InputError, UnsupportedModalityError
from zoo.evaluation.mteb_media import stand_in, value_of
from zoo.fusion import fingerprint, is_default
from zoo.inputs.item import Item
from zoo.loading import has_revisions, load_model
from zoo.registry.trained_on import trained_on
from zoo.spec import need_one_vector

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata

logger = logging.getLogger(__name__)
ROLES = tuple(role.value for role in PromptType)
MODALITIES = ("text", "image", "video", "audio")
SCORING = {"cosine": ScoringFunction.COSINE, "dot": ScoringFunction.DOT_PRODUCT, "maxsim": ScoringFunction.MAX_SIM}
# Kinds of tasks that rank by `similarity` alone; the others put vectors into a classifier, or several measures.
RANKS = re.compile("Retriev|Rerank|Mining|VisionCentricQA|DocumentUnderstanding")
# "Instruct: …\nQuery:" and its like: the part between is a task's instruction, which mteb's tasks bring along.
_INSTRUCTION = re.compile(
    r"(?P<before>\s*(?:Instruct|Instruction|Task)\s*:\s*)(?P<words>[^\n]+)(?P<after>\n.*)", re.DOTALL
)


@checked(model=a_model, revision=optional(text), dim=optional(whole()), instruction=optional(text))
def wrap(
    model: Embedder,
    *,
    revision: str | None = None,
    dim: int | None = None,
    instruction: str | None = None,
) -> "ZooEncoder":
    """A model of the zoo as mteb takes it: `mteb.evaluate(zoo.evaluation.mteb.wrap(model), tasks)`.

    Queries get the model's query prompt, documents its document prompt, all else its default; a prompt of the model
    named like a task or a kind of task ("STS") goes first, as mteb has it. What has no embedding (None, an empty text,
    a damaged image) gets the zero vector, whose similarity to everything is 0: it never stops a run, is logged, and
    is counted in `skipped`. An entry with several modalities goes to the tower that reads them together; where
    there is none, it gets the normalised sum of its parts' vectors, as mteb does for CLIP, or what the model's own rule
    of fusion makes of image and text. Modalities that
    the model does not read are left out of an entry that has others.

    Files of audio and video are read by the zoo, wherever they come from. `datasets`, which hands them out, knows torchcodec alone:
    where that cannot load (it needs the shared libraries of FFmpeg), it hands out the files themselves from now on.

    Args:
        revision: names the model in mteb's cache; by default the fingerprint of weights, preprocessing and prompts, so
            that two models of one name never share results. For a submission give the commit on the Hub.
        dim: Matryoshka cut.
        instruction: template with "{instruction}" for models that take a task's words ("Instruct: {instruction}\\nQuery:");
            by default read from a query prompt of that form.

    Raises:
        ArgumentError: `model` is none that was loaded, or another argument has another type.
        ValueError: the template has no "{instruction}".
    """
    if dim is not None and dim > model.spec.dim:
        raise ArgumentError(f"dim must be between 1 and {model.spec.dim} for {model.spec.name}, not {dim}")
    return ZooEncoder(model, revision, dim=dim, instruction=instruction)


class ZooEncoder(AbsEncoder):
    """What `wrap` gives.

    Attributes:
        model: the `Embedder`. mteb_model_meta: its facts in mteb's form.
        skipped: entries that got the zero vector or lost a part, by reason; `seen`: all entries. Both add up until
            they are cleared.
    """

    def __init__(
        self,
        model: Embedder | str | Path,
        revision: str | None = None,
        *,
        device: str | None = None,
        dim: int | None = None,
        instruction: str | None = None,
    ) -> None:
        if not isinstance(model, Embedder):
            # What is not fetched has a revision in mteb's cache alone.
            model = load_model(model, revision=revision if has_revisions(model) else None, device=device)
        if instruction is not None and "{instruction}" not in instruction:
            raise ValueError(f'the template {instruction!r} has no "{{instruction}}"')
        stand_in()
        self.model, self.dim = model, dim
        self.instruction_template = instruction or _template(model)
        self.model_prompts = dict(model.spec.prompts)
        self.model_prompts |= {
            role: model.spec.prompts[name] for role in ROLES if (name := model.role(role)) is not None
        }
        self.mteb_model_meta = _meta(model, revision, dim, self.instruction_template)
        self.seen, self.skipped = 0, Counter()

    def encode(
        self,
        inputs: DataLoader | Iterable[Mapping[str, Any]],
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Vectors `(rows, dim)` float32 of the rows of a loader, of unit length or zero.

        Of a model that compares by dot product with their norms; an entry that is embedded in parts has their mean.

        Of a model of late interaction `(rows, tokens, dim)`, with zeros after a row's last token, as mteb's own have it;
        an entry that is embedded in parts has the tokens of them all.

        Args:
            inputs: batches, each a mapping of columns (text, image, audio, video) to lists.
            kwargs: mteb's encode_kwargs. `show_progress_bar` counts; `batch_size` does not: the model batches by its
                own budget, and halves a batch for which memory is too small.

        Raises:
            UnsupportedModalityError: the model reads no row at all.
            TokenVectorsError: a model of late interaction, and a task that does not only rank.
            ValueError: a `precision` other than float32; mteb's CompressionWrapper gives those.
        """
        if kwargs.get("precision") not in (None, "float32"):
            raise ValueError(f"precision {kwargs['precision']!r}: wrap the model in mteb's CompressionWrapper instead")
        prompt, late = self.prompt(task_metadata, prompt_type), self.model.spec.similarity == "maxsim"
        if late and not RANKS.search(task_metadata.type):
            need_one_vector(self.model.spec, f"{task_metadata.name} ({task_metadata.type})")
        where = f"{task_metadata.name} ({hf_subset}, {hf_split})"
        vectors: list[torch.Tensor] = []
        lost: dict[int, InputError] = {}
        row_of: list[int] = []
        good: list[int] = []  # the row of every part that has a vector

        def parts() -> Iterator[Item]:
            for row in rows_of(inputs):
                vectors.append(torch.zeros(self.dim or self.model.spec.dim))
                try:
                    items = self._items(row)
                except InputError as error:
                    lost[len(vectors) - 1] = error
                    continue
                for item in items:
                    row_of.append(len(vectors) - 1)
                    yield item

        progress = None if kwargs.get("show_progress_bar", True) else False
        model = facing(self.model, [_other_side(task_metadata, prompt_type)])
        for index, vector, error in model.encode_stream(parts(), prompt=prompt, dim=self.dim, progress=progress):
            if vector is not None and late:
                vectors[row_of[index]] = torch.cat([torch.atleast_2d(vectors[row_of[index]]), vector])
            elif vector is not None:
                vectors[row_of[index]] += vector
                good.append(row_of[index])
            else:
                lost[row_of[index]] = error
        self._report(where, len(vectors), lost)
        if not vectors:
            return torch.zeros(0, *[1] * late, self.dim or self.model.spec.dim)
        if late:
            # The zero vector stays where nothing was embedded: its similarity to everything is 0.
            return pad_sequence([v[1:] if v.ndim == 2 else v[None] for v in vectors], batch_first=True)
        if self.model.spec.similarity == "dot":
            parts = torch.bincount(torch.tensor(good, dtype=torch.long), minlength=len(vectors)).clamp(min=1)
            return torch.stack(vectors) / parts[:, None]
        return F.normalize(torch.stack(vectors), dim=-1)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """mteb's; of token vectors the model's own, so that no zero of the padding is the best match of a token."""
        if self.model.spec.similarity != "maxsim":
            return super().similarity(embeddings1, embeddings2)
        return self.model.similarity(_real(embeddings1), _real(embeddings2))

    def prompt(self, task: "TaskMetadata", role: PromptType | None) -> str | None:
        """The text put before the texts of this role; None for the model's default, which texts without a role get."""
        name = self.get_prompt_name(task, role)
        specific = name is not None and name not in ROLES
        takes = self.instruction_template and role != PromptType.document and not specific
        if takes and (words := self.get_instruction(task, role)):
            return self.instruction_template.replace("{instruction}", words)
        if name is None:
            return None if role is None else ""
        return self.model_prompts[name]

    def _items(self, row: Mapping[str, Any]) -> list[Item]:
        """One item where a tower reads all of the row together, else one for each part that the model reads."""
        given = {name: row[name] for name in MODALITIES if row.get(name) is not None}
        if isinstance(given.get("text"), str) and len(given) > 1 and not given["text"].strip():
            del given["text"]
        if not given:
            raise EmptyItemError("this entry has no text, image, video or audio", what="None")
        reads = {name: given[name] for name in given if name in self.model.spec.modalities}
        if not reads:
            self.model.route(Item(**given))  # raises
        values = {name: value_of(name, value, self._encoder(name)) for name, value in reads.items()}
        # The default rule is mteb's own sum, which also makes the best of an entry with a damaged part.
        readers = self.model.towers if is_default(self.model.fusion) else self.model.routes
        if len(values) == 1 or any(_together(reader.encoder, set(values)) for reader in readers):
            return [Item(**values)]
        return [Item(**{name: value}) for name, value in values.items()]

    def _encoder(self, modality: str) -> Any:
        return next((t.encoder for t in self.model.towers if modality in t.encoder.modalities), None)

    def _report(self, where: str, rows: int, lost: dict[int, InputError]) -> None:
        reasons = Counter(error.code for error in lost.values())
        self.seen += rows
        self.skipped.update(reasons)
        if not lost:
            return
        row, first = min(lost.items())
        if reasons["unsupported-modality"] == rows:
            raise UnsupportedModalityError(f"{where}: {first.args[0]}", what=first.what)
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        logger.warning(
            f"{where}: {len(lost):,} of {rows:,} entries have no full embedding ({listed}), the first at row {row}: "
            f"{first.args[0]}"
        )


def _template(model: Embedder) -> str | None:
    if model.spec.instruction:
        return model.spec.instruction.replace("{task}", "{instruction}")
    found = _INSTRUCTION.fullmatch(model.spec.prompts.get(model.role("query") or "", ""))
    return f"{found['before']}{{instruction}}{found['after']}" if found else None


def _meta(model: Embedder, revision: str | None, dim: int | None, instruction: str | None) -> ModelMeta:
    spec = model.spec
    marks = {**model.fingerprint(dim=dim), "prompts": dict(spec.prompts), "instruction": instruction}
    if not is_default(model.fusion):
        marks["fusion"] = fingerprint(model.fusion)
    weights = [*model.parameters(), *model.buffers()]
    seen = trained_on(spec.hub_id)
    return ModelMeta(
        loader=None,
        name=spec.hub_id or f"embedding-zoo/{spec.name}",
        revision=revision or hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()[:16],
        release_date=None,
        languages=None,
        n_parameters=sum(p.numel() for p in model.parameters()),
        memory_usage_mb=sum(t.numel() * t.element_size() for t in weights) / 2**20,
        max_tokens=spec.max_tokens,
        embed_dim=dim or spec.dim,
        license=spec.license if spec.license in get_args(Licenses) else None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        reference=f"https://huggingface.co/{spec.hub_id}" if spec.hub_id else None,
        similarity_fn_name=SCORING[spec.similarity],
        use_instructions=bool(spec.prompts),
        training_datasets=None if seen is None else set(seen),
        modalities=[name for name in MODALITIES if name in spec.modalities],
    )


def _other_side(task: "TaskMetadata", role: PromptType | None) -> list[str]:
    """Modalities of what the vectors of a role are compared with; of a task without roles all of its own."""
    others = {PromptType.query: PromptType.document, PromptType.document: PromptType.query}
    return task.get_modalities(None if role is None else others[role])


def _together(encoder: Any, names: set[str]) -> bool:
    """Whether it reads these in one item."""
    return encoder.takes(names) and (encoder.mixed or "text" not in names)


def _real(vectors: Any) -> list[torch.Tensor]:
    """Padded token vectors `(rows, tokens, dim)` as a list without their padding; one zero where that is all there is."""
    rows = [torch.as_tensor(row) for row in vectors]
    return [row[kept] if (kept := row.any(-1)).any() else row[:1] for row in rows]


def rows_of(inputs: Any) -> Iterator[Mapping[str, Any]]:
    """Rows of a loader, media undecoded where that can be: ours decodes in threads, and one bad file is one bad row."""
    import datasets

    dataset = getattr(inputs, "dataset", None)
    if isinstance(dataset, datasets.Dataset) and isinstance(getattr(inputs, "sampler", None), SequentialSampler):
        for name, feature in dataset.features.items():
            if isinstance(feature, datasets.Image | datasets.Audio | datasets.Video):
                dataset = dataset.cast_column(name, type(feature)(decode=False))
        yield from dataset
        return
    for batch in inputs:
        columns = {name: batch[name] for name in MODALITIES if name in batch}
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))
