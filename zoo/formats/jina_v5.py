"""jina-embeddings-v5-text: a Qwen3 or a EuroBERT, and a LoRA for each of four tasks in the folder `adapters`; its code is not run.

Read as modeling_jina_embeddings_v5.py of the repositories does: the adapter of a task over the backbone, the state of the last token.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders._logging import quiet
from zoo.errors import UnrecognisedCheckpointError
from zoo.formats import read_object, weight_files
from zoo.formats.backbones import read_config
from zoo.formats.checks.folder import check_folder
from zoo.formats.checks.probing import check_states
from zoo.formats.known import jina as known
from zoo.formats.known import sentence_transformers as sentence
from zoo.formats.layout import Opening, register_layout
from zoo.formats.sentence_transformers import prompts_of
from zoo.formats.settings import Ignore, read
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import OfTypes, folder_config, from_pretrained, longest_text, text_spec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

MODEL_TYPE, ADAPTERS = "jina_embeddings_v5", "adapters"


@register_layout
class JinaV5(OfTypes):
    """What Jina AI publishes as jinaai/jina-embeddings-v5-text-small and -nano."""

    name = "jina-embeddings-v5"
    order = 10  # before sentence-transformers, whose files lie beside
    looked_for = f'jina-embeddings-v5: config.json with "model_type": "{MODEL_TYPE}", model.safetensors and {ADAPTERS}/'
    types = (MODEL_TYPE,)
    beside = (sentence.SETTINGS_FILE,)

    def files(self, names: set[str]) -> list[str]:
        """Configuration, weights, tokenizer, prompts, and the adapters of all tasks; no code."""
        tasks = {name.split("/")[1] for name in names if name.startswith(f"{ADAPTERS}/") and name.count("/") == 2}
        folders = (f"{ADAPTERS}/{task}" for task in tasks)
        adapters = {
            name for folder in folders for name in weight_files(names, "adapter_model", ("adapter_model.bin",), folder)
        }
        configs = {f"{ADAPTERS}/{task}/adapter_config.json" for task in tasks}
        return sorted({*super().files(names)} | adapters | (configs & names))

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses an opening that names no task: its authors' own code does too."""
        _task(config, opening, where)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """One tower: the backbone, the adapter of a task merged into its weights, and the state of the last token."""
        from zoo.embedder import Embedder, Tower
        from zoo.encoders.text import TransformersText, text_class
        from zoo.formats.adapters import merge_adapter
        from zoo.heads import Identity
        from zoo.pooling import LastToken

        where = folder / "config.json"
        # Its code is not run: whether the caller trusts it does not matter.
        config = folder_config(folder, opening.allow_pickle, trust_remote_code=True)
        task, settings = _task(config, opening, str(where)), _backbone(config, where, opening.ignore)
        kind = settings["model_type"]
        shape = read_config(settings, where, opening.ignore)
        with quiet():
            tokenizer = read_tokenizer(folder, opening.ignore, kind)
        options = {"config": shape, "dtype": opening.dtype, "whole": True}
        backbone = from_pretrained(text_class(kind), folder, opening.allow_pickle, **options)
        check_folder(folder / ADAPTERS / task, root=folder, adapter=True)
        merge_adapter(
            backbone, folder / ADAPTERS / task, key_mapping={}, allow_pickle=opening.allow_pickle, ignore=opening.ignore
        )
        encoder = TransformersText(
            backbone.config.to_diff_dict() | {"model_type": kind},
            longest_text(backbone.config, tokenizer),
            backbone=backbone,
            tokenizer=tokenizer,
        )
        check_states(encoder, where)
        file = folder / sentence.SETTINGS_FILE
        said = read(read_object(file), sentence.SETTINGS, file, opening.ignore) if file.is_file() else {}
        spec = text_spec(opening.name, encoder, encoder.width, **prompts_of(said, file))
        model = Embedder(spec, [Tower(encoder, LastToken(), Identity())])
        model.spec = replace(spec, params=sum(p.numel() for p in model.parameters()))
        return model


def _task(config: Any, opening: Opening, where: str) -> str:
    tasks = config.get("task_names") if isinstance(config, dict) else None
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise UnrecognisedCheckpointError(f"{where}: task_names is {str(tasks)[:80]}, no list of tasks")
    task = opening.like.adapter if opening.like is not None else ""
    if task not in tasks:
        raise UnrecognisedCheckpointError(
            f"{where} has an adapter for each of {', '.join(tasks)[:200]}, one of which must be chosen: write "
            'like="jina-embeddings-v5-text-small" (retrieval), or the name of another model of this family (zoo list '
            "'jina-embeddings-v5-*')"
        )
    return task


def _backbone(config: dict[str, Any], where: Path, ignore: Ignore) -> dict[str, Any]:
    """The settings of the backbone, which is the decoder unless they say otherwise."""
    read({key: value for key, value in config.items() if key in known.V5.followed}, known.V5, where, ignore)
    kind = "eurobert" if config.get("is_decoder") is False else "qwen3"
    spare = (*known.V5.followed, "auto_map")  # of code that is not run
    return {key: value for key, value in config.items() if key not in spare} | {"model_type": kind}
