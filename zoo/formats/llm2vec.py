"""LLM2Vec: an adapter that makes an embedder of a language model, over a first adapter that taught it to read in both directions.

The weights are those of the language model, to which both adapters are added, in the order in which they were trained.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders._logging import quiet
from zoo.encoders.wraps import LONGEST, WRAPS
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats import TOKENIZER_FILES, check_weights, read_object, weight_files
from zoo.formats.backbones import read_config
from zoo.formats.checks.folder import check_folder
from zoo.formats.checks.probing import check_states
from zoo.formats.layout import Layout, Opening, register_layout
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import PICKLES, folder_config, from_pretrained, longest_text, text_spec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

ADAPTER = "adapter_config.json"
BASES = {  # language models that the authors' adapters name, one of which is no sign of other adapters
    "meta-llama/Meta-Llama-3-8B-Instruct",
    "mistralai/Mistral-7B-Instruct-v0.2",
    "meta-llama/Llama-2-7b-chat-hf",
    "princeton-nlp/Sheared-LLaMA-1.3B",
}
KINDS = ("llama", "mistral")
_PICKLED = ("adapter_model.bin",)


@register_layout
class Llm2Vec(Layout):
    """What McGill NLP publishes as McGill-NLP/LLM2Vec-…-supervised and -unsup-simcse."""

    name = "llm2vec"
    order = 5  # before adapters of vision-language models
    looked_for = f'llm2vec: {ADAPTER} over one of LLM2Vec\'s {len(BASES)} bases, or of a class "…BiModel", and adapter_model.safetensors'
    told = frozenset({"sequence"})
    reads_adapters = True

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether there is an adapter for one of the authors' language models, or for a class of theirs."""
        config = read_json(ADAPTER) if ADAPTER in names else None
        if not isinstance(config, dict):
            return False
        base, kind = config.get("base_model_name_or_path"), config.get("auto_mapping")
        made_for = str(kind.get("base_model_class")) if isinstance(kind, dict) else ""
        return base in BASES or base in WRAPS or made_for.endswith("BiModel")

    def files(self, names: set[str]) -> list[str]:
        """The adapter alone."""
        return sorted((names & {ADAPTER}) | set(weight_files(names, "adapter_model", _PICKLED)))

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses an adapter of which nobody says what it lies over."""
        _told(opening, where)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """One tower: the language model, its adapters merged, and the mean over the states of a text."""
        from transformers import AutoModel

        from zoo.embedder import Embedder, Tower
        from zoo.encoders.wrapped import WrappedText
        from zoo.formats.adapters import merge_adapter
        from zoo.heads import Identity
        from zoo.pooling import Mean

        like = _told(opening, str(folder))
        first = _first(folder, opening)
        check_folder(first, adapter=True)
        base = _base(first, opening)
        check_folder(base)
        config, where = folder_config(base, opening.allow_pickle, trust_remote_code=True), base / "config.json"
        if config.get("model_type") not in KINDS:
            raise UnrecognisedCheckpointError(
                f"{where} is of the type {config.get('model_type')!r}, none of {', '.join(KINDS)}"
            )
        shape = read_config(config, where, opening.ignore, "bidirectional")
        with quiet():
            tokenizer = read_tokenizer(first, opening.ignore, str(config["model_type"]))
        options = {"config": shape, "dtype": opening.dtype, "whole": True}
        backbone = from_pretrained(AutoModel, base, opening.allow_pickle, **options)
        names = {r"^model\.": ""}  # of the class that writes text
        for adapter in (first, folder):
            merge_adapter(
                backbone, adapter, key_mapping=names, allow_pickle=opening.allow_pickle, ignore=opening.ignore
            )
        encoder = WrappedText(
            backbone.config.to_diff_dict() | {"model_type": config["model_type"]},
            min(LONGEST, longest_text(backbone.config, tokenizer)),
            **WRAPS[like]._asdict(),
            padding_side="left",
            backbone=backbone,
            tokenizer=tokenizer,
        )
        check_states(encoder, where)
        spec = text_spec(opening.name, encoder, encoder.width, attention="bidirectional")
        return Embedder(replace(spec, base=like), [Tower(encoder, Mean(), Identity())])


def _told(opening: Opening, where: str) -> str:
    """The first adapter's name, of the registered model that these files are read like.

    Raises:
        UnrecognisedCheckpointError: no model is named, or one of another family.
    """
    base = opening.like.base if opening.like is not None else None
    if base not in WRAPS:
        raise UnrecognisedCheckpointError(
            f"{where} is an adapter over an adapter, and says neither which one lies under it nor how texts are written; where it "
            'is one of LLM2Vec\'s, pass like="llm2vec-meta-llama-3-8b-instruct-mntp-supervised" or another of zoo list '
            "'llm2vec-*'; merge any other into its base model with peft, and load the sum"
        )
    return base


def _first(folder: Path, opening: Opening) -> Path:
    """The folder of the first adapter: the one that a user's own files name, else the authors'."""
    from zoo.formats.fetching import snapshot

    like, base = opening.like, read_object(folder / ADAPTER).get("base_model_name_or_path")
    if opening.local and isinstance(base, str) and (Path(base).expanduser() / ADAPTER).is_file():
        return Path(base).expanduser()

    def choose(names: set[str]) -> list[str]:
        weights = weight_files(names, "adapter_model", _PICKLED)
        check_weights(weights, f"hf:{like.base}", "adapter_model.safetensors", opening.allow_pickle)
        return sorted((names & {ADAPTER, *TOKENIZER_FILES}) | set(weights))

    return snapshot(like.base, like.base_revision, choose)


def _base(first: Path, opening: Opening) -> Path:
    """The folder of the language model that the first adapter is for.

    Raises:
        MissingWeightsError: none is named.
    """
    from zoo.formats.fetching import snapshot

    if not (first / ADAPTER).is_file():
        raise MissingWeightsError(f"{first} has no {ADAPTER}, which names the language model under it")
    settings = read_object(first / ADAPTER)
    base, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(base, str) or not base:
        raise MissingWeightsError(f"{first / ADAPTER} names no language model; add base_model_name_or_path")
    if opening.local and Path(base).expanduser().is_dir():
        return Path(base).expanduser()
    if not isinstance(revision, str | None):
        raise UnrecognisedCheckpointError(f"{first / ADAPTER} has the revision {str(revision)[:60]}, which is none")

    def choose(names: set[str]) -> list[str]:
        weights = weight_files(names, "model", PICKLES)
        check_weights(weights, f"hf:{base}, the base of {opening.name},", "model.safetensors", opening.allow_pickle)
        return sorted((names & {"config.json"}) | set(weights))

    return snapshot(base, revision, choose)
