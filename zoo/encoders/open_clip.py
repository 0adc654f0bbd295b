"""Towers of open_clip, image and text apart: each pools and projects by itself and gives one token."""

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, Cut, Encoder, one_token
from zoo.encoders.config_checks import check_open_clip, check_open_clip_name, check_transformers
from zoo.encoders.dense import LastStage, open_clip_stage
from zoo.encoders.image_transform import Normalize, PixelTransform, as_transform
from zoo.encoders.places import check_tokenizer_files
from zoo.encoders.program import Program
from zoo.encoders.rust import Core, naming, panicked
from zoo.encoders.shortening import encoder_of, shorten
from zoo.encoders.tokenizing import check_text, held
from zoo.encoders.unknown import Vocabulary
from zoo.errors import HubError, MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.inputs.item import Item, Tokens
from zoo.strangers import trial


class OpenClipImage(Encoder):
    """The vision tower of an open_clip model.

    Args:
        model_cfg: open_clip's "model_cfg" (`embed_dim`, `vision_cfg`, ...).
        transform: resize, crop, mean and std.
        tower: a loaded tower; None builds one with random weights.
    """

    modalities = frozenset({"image"})

    def __init__(
        self, model_cfg: dict[str, Any], transform: PixelTransform | dict[str, Any], tower: nn.Module | None = None
    ) -> None:
        super().__init__()
        from open_clip.model import _build_vision_tower

        check_open_clip(model_cfg)
        self.model_cfg = {
            k: deepcopy(model_cfg[k]) for k in ("embed_dim", "vision_cfg", "quick_gelu") if k in model_cfg
        }
        if "timm_model_name" in self.model_cfg["vision_cfg"]:
            self.model_cfg["vision_cfg"]["timm_model_pretrained"] = False
        self.transform = as_transform(transform)
        self.width = self.model_cfg["embed_dim"]
        # quick_gelu, x · sigmoid(1.702 x), is what OpenAI's weights were trained with; a config without it means GELU.
        self.tower = tower or _build_vision_tower(**{"quick_gelu": False, **self.model_cfg})
        self.normalize = Normalize(self.transform)

    def prepare_item(self, item: Item) -> Tensor:
        return self.transform.read(item.image)

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        return {"pixels": torch.stack(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        return one_token(_vector(self.tower(self.normalize(batch["pixels"]))))

    def program(self) -> Program | str:
        return Program({"pixels": ("batch",)})

    def last_stage(self) -> LastStage | str:
        return open_clip_stage(self.tower)

    def config(self) -> dict[str, Any]:
        return {"model_cfg": self.model_cfg, "transform": self.transform.to_dict()}

    def preprocessing(self) -> dict[str, Any]:
        return self.transform.to_dict()


class OpenClipText(Encoder):
    """The text tower of an open_clip model; texts are padded to its context length, as it was trained.

    Args:
        model_cfg: open_clip's "model_cfg" (`embed_dim`, `text_cfg`, ...).
        tower: a loaded tower; None builds one with random weights.
        tokenizer: open_clip's tokenizer; None loads it when the first text comes.
        assets: folder with the tokenizer's files.
    """

    modalities = frozenset({"text"})

    def __init__(
        self,
        model_cfg: dict[str, Any],
        tower: nn.Module | None = None,
        tokenizer: Any = None,
        assets: Path | None = None,
    ) -> None:
        super().__init__()
        check_open_clip(model_cfg)
        self.model_cfg = {k: deepcopy(model_cfg[k]) for k in ("embed_dim", "text_cfg", "quick_gelu") if k in model_cfg}
        if "hf_model_name" in self.model_cfg["text_cfg"]:
            self.model_cfg["text_cfg"]["hf_model_pretrained"] = False
        self.width = self.model_cfg["embed_dim"]
        self.tower = tower or self._build()
        self._tokenizer = tokenizer
        if assets is not None and tokenizer is None:
            self._tokenizer = open_clip_tokenizer(self.model_cfg["text_cfg"], assets)

    def _build(self) -> nn.Module:
        from open_clip.model import _build_text_tower

        fetch_text_config(self.model_cfg["text_cfg"])
        return _build_text_tower(**{"quick_gelu": False, **self.model_cfg})

    @property
    def tokenizer(self) -> Any:
        """open_clip's tokenizer: texts → ids `(batch, context_length)`."""
        if self._tokenizer is None:
            self._tokenizer = open_clip_tokenizer(self.model_cfg["text_cfg"], None)
        return self._tokenizer

    def prepare_item(self, item: Item) -> Tensor:
        text = check_text(item.text)
        if self.core is not None and getattr(self.tokenizer, "reduction_fn", None) is None:
            self.core.check(text[: 16 * self.context_length])  # of a longer one only what can be read is tokenised
        with naming(text):
            return _tokenized(self.tokenizer, text, self.context_length, self.core)

    def tokens(self, read: Tensor) -> int:
        return len(read)

    @property
    def context_length(self) -> int:
        """Tokens of every text, special ones and filler included."""
        # 77 as in CLIP, where a config does not say.
        return self.model_cfg["text_cfg"].get("context_length", 77)

    def cut(self, item: Item) -> Cut | None:
        text = check_text(item.text)
        if _length(self.tokenizer, text, self.context_length, self.core) <= self.context_length:
            return None
        inner = getattr(self.tokenizer, "tokenizer", None)
        return Cut(self.context_length, getattr(inner, "truncation_side", "right"))

    @cached_property
    def core(self) -> Core | None:
        """Of a tokenizer of transformers the core in Rust."""
        core = getattr(getattr(self.tokenizer, "tokenizer", None), "backend_tokenizer", None)
        return None if core is None else Core(core)

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        inner = getattr(self.tokenizer, "tokenizer", None)  # open_clip's own tokenizer reads bytes
        if (core := getattr(inner, "backend_tokenizer", None)) is None:
            return None if inner is None else Vocabulary(inner)
        own = type(core).from_str(core.to_str())  # other threads cut and fill with the first at the same time
        own.no_truncation(), own.no_padding()
        return Vocabulary(own)

    def unknown_share(self, item: Item) -> float:
        text = check_text(item.text)
        return 0.0 if self.vocabulary is None else self.vocabulary.share(self.tokenizer.clean_fn(text))

    def doubtful(self, read: Tensor, prompted: Item, item: Item) -> bool:
        return self.vocabulary is not None and self.vocabulary.doubtful(read.tolist(), item.text, None)

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        return {"ids": torch.stack(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        return one_token(_vector(self.tower(batch["ids"])))

    def program(self) -> Program | str:
        return Program({"ids": ("batch",)})

    def config(self) -> dict[str, Any]:
        return {"model_cfg": self.model_cfg}

    def save_assets(self, folder: Path) -> None:
        inner = getattr(self.tokenizer, "tokenizer", None)
        if hasattr(inner, "save_pretrained"):
            inner.save_pretrained(folder)


def fetch_text_config(text_cfg: dict[str, Any]) -> None:
    """Where a text tower is a backbone of transformers, its shape comes from another repository: brings it here.

    Raises:
        HubError: it is out of reach. UnsafeCheckpointError: it asks for code of its own.
    """
    name = text_cfg.get("hf_model_name")
    if not name:
        return
    from transformers import AutoConfig, PretrainedConfig

    try:
        # As it stands in the file: reading it into a configuration would already follow what it names.
        check_transformers(PretrainedConfig.get_config_dict(name)[0], f"config.json of {name}")
        AutoConfig.from_pretrained(name, trust_remote_code=False)  # open_clip's own call would ask on the terminal
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise HubError(f"the text tower's shape is described by {name} on the Hub, out of reach: {reason}") from error
    except UnsafeCheckpointError:
        raise
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UnsafeCheckpointError(f"the text tower's shape is described by {name}: {reason}") from error


def _tokenized(tokenizer: Any, text: str, limit: int, core: Core | None) -> Tensor:
    """Ids `(context_length,)` of a text by open_clip's tokenizer, of a long one as if all of it were tokenised.

    What cleans a text (white space, entities, broken encodings) sees all of it; of the rest only what can be read is tokenised.
    """
    if (
        len(text) <= 16 * limit or getattr(tokenizer, "reduction_fn", None) is not None
    ):  # which may choose from anywhere
        return tokenizer([text])[0]
    plain = copy(tokenizer)
    plain.clean_fn = str
    return plain([_shortened(tokenizer, plain, text, limit, core)[0]])[0]


def _shortened(
    tokenizer: Any, plain: Any, text: str, limit: int, core: Core | None
) -> tuple[str, Callable[[str], list[int]]]:
    """A text cleaned, as much of it as decides what is read; and what gives all tokens of it, without special ones.

    Args:
        plain: the tokenizer without its cleaning. core: of one of transformers the core in Rust.
    """
    text = tokenizer.clean_fn(text)
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:  # in Python, with a time that grows with the square of a word's length
        return shorten(text, limit, plain.encode, weighs=False, marks=False), plain.encode
    encode, weighs = encoder_of(core) if core is not None else (partial(inner.encode, add_special_tokens=False), True)
    return shorten(text, limit, encode, side=inner.truncation_side, weighs=weighs), encode


def _length(tokenizer: Any, text: str, limit: int, core: Core | None) -> int:
    """Tokens of a text with the special ones; of a long text some number over the limit."""
    plain = copy(tokenizer)
    plain.clean_fn = str
    text, encode = _shortened(tokenizer, plain, text, limit, core)
    inner = getattr(tokenizer, "tokenizer", None)
    # Two more of open_clip's own tokenizer: a start and an end token.
    return len(encode(text)) + (2 if inner is None else inner.num_special_tokens_to_add())


def _vector(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out  # CoCa's towers also return their tokens


def open_clip_tokenizer(text_cfg: dict[str, Any], assets: Path | None) -> Any:
    """open_clip's tokenizer for a text_cfg; with assets, a Hugging Face tokenizer is read from that folder.

    Raises:
        MissingWeightsError: the tokenizer's files are neither in the folder nor to be had from the Hub.
        UnsafeCheckpointError: they name other places, or a repository that open_clip does not name.
    """
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    context_length = text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH)
    name = text_cfg.get("hf_tokenizer_name")
    if not name:
        try:
            return SimpleTokenizer(context_length=context_length, **options)
        except TypeError as error:
            raise UnrecognisedCheckpointError(
                f"open_clip_config.json has tokenizer_kwargs = {options}, and open_clip's own tokenizer takes no such: {error}"
            ) from error
    if assets is not None and any((assets / f).is_file() for f in ("tokenizer.json", "vocab.txt", "spiece.model")):
        name = str(assets)
        check_tokenizer_files(assets)
        trial.check_tokenizer(assets)
    else:
        check_open_clip_name(text_cfg, "hf_tokenizer_name", "open_clip_config.json")
    try:
        tokenizer = HFTokenizer(
            name,
            context_length=context_length,
            tokenizer_mode=text_cfg.get("tokenizer_mode"),
            trust_remote_code=False,  # unset, transformers asks on the terminal
            **options,
        )
        if name == str(assets):  # else of a repository that open_clip itself names
            held(tokenizer.tokenizer, assets)
        return tokenizer
    except UnrecognisedCheckpointError:
        raise
    except BaseException as error:  # tokenizers raises bare Exception for a damaged file, or panics
        if not isinstance(error, Exception) and not panicked(error):
            raise
        raise MissingWeightsError(
            f"the tokenizer {name} is neither beside the weights nor to be had from the Hub; load the model once "
            f"where there is a network ({' '.join(str(error).split())[:200]})"
        ) from error
