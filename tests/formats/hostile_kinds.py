"""Kinds of hostile checkpoint: each takes a good one, changes one thing, and says how it must be answered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.formats.hostile_support import (
    BASES,
    BERT,
    DENSE,
    KINDS,
    LOADS,
    NAFLEX,
    OPEN_CLIP,
    SIGLIP,
    STATIC,
    TIMM,
    Kind,
    bomb,
    edit,
    kind,
    parts,
    put,
    python,
    safetensors,
    setting,
    weights,
)

__all__ = ["BASES", "KINDS", "LOADS", "Kind"]

# ---------------------------------------------------------------------------------------------------------- pickles


@kind(BERT, "UnsafeCheckpointError", "pickle")
@kind(DENSE, "UnsafeCheckpointError", "pickle")
@kind(TIMM, "UnsafeCheckpointError", "pickle")
@kind("zoo-text", "MissingWeightsError", "safetensors|does not exist")
def pickle_only(folder: Path, mark: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.with_name("pytorch_model.bin").write_bytes(bomb(mark))
        path.unlink()


@kind(BERT, LOADS)
@kind("zoo-text", LOADS)
@kind(OPEN_CLIP, LOADS)
@kind(TIMM, LOADS)
def pickle_beside(folder: Path, mark: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(bomb(mark))
    (folder / "open_clip_pytorch_model.bin").write_bytes(bomb(mark))


@kind("zoo-text", "UnsafeCheckpointError", "pickle")
@kind(BERT, "UnsafeCheckpointError", "pickle")
@kind(OPEN_CLIP, "UnsafeCheckpointError", "pickle")
@kind(TIMM, "UnsafeCheckpointError", "pickle")
def pickle_as_safetensors(folder: Path, mark: Path) -> None:
    weights(folder).write_bytes(bomb(mark))


@kind("zoo-text", "UnsafeCheckpointError", "pickle")
@kind(STATIC, "UnsafeCheckpointError", "pickle")
def zip_as_safetensors(folder: Path, mark: Path) -> None:
    torch.save({"weight": torch.zeros(4)}, weights(folder))


# ------------------------------------------------------------------------------------------------------------- code


@kind(BERT, "UnreadSettingError", "auto_map")
@kind(SIGLIP, "UnreadSettingError", "auto_map")
def code_beside_a_known_type(folder: Path, mark: Path) -> None:
    python(folder / "evil.py", mark, "Model Config")
    edit(folder / "config.json", lambda c: put(c, "auto_map", {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}))


@kind(BERT, "UnsafeCheckpointError", "auto_map")
def code_of_an_unknown_type(folder: Path, mark: Path) -> None:
    code_beside_a_known_type(folder, mark)
    edit(folder / "config.json", lambda c: put(c, "model_type", "evil"))


@kind("zoo-text", "UnsafeCheckpointError", "auto_map")
def code_in_our_layout(folder: Path, mark: Path) -> None:
    code_beside_a_known_type(folder, mark)


@kind(BERT, "UnsafeCheckpointError", "another repository", on_hub=False, trust_remote_code=True)
def code_of_another_repository(folder: Path, mark: Path) -> None:
    auto_map = {"AutoModel": "org/evil--evil.Model", "AutoConfig": "org/evil--evil.Config"}
    edit(folder / "config.json", lambda c: {**c, "model_type": "evil", "auto_map": auto_map})


setting(BERT, "config.json", "trust_remote_code", True, "UnsafeCheckpointError", "trust_remote_code")
setting("zoo-text", "config.json", "trust_remote_code", True, "UnsafeCheckpointError", "trust_remote_code")
setting(SIGLIP, "config.json", "vision_config.trust_remote_code", True, "UnsafeCheckpointError", "trust_remote_code")
setting("zoo-text", "config.json", "_attn_implementation", "org/evil", "UnsafeCheckpointError", "_attn_implementation")
setting(
    "zoo-text",
    "config.json",
    "towers.0.encoder.config._experts_implementation",
    "x",
    "UnsafeCheckpointError",
    "_experts",
)
setting(BERT, "config.json", "_attn_implementation", "org/evil", "UnsafeCheckpointError", "_attn_implementation")
for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
    setting(BERT, "config.json", key, {"": "org/evil"}, "UnsafeCheckpointError", key)
    setting(BERT, "config.json", key, [{"x": ["org/evil"]}], "UnsafeCheckpointError", key)


@kind(BERT, "UnreadSettingError", "auto_map")
@kind(SIGLIP, "UnreadSettingError", "auto_map")
def code_of_a_tokenizer(folder: Path, mark: Path) -> None:
    python(folder / "evil.py", mark, "Tokenizer")
    pair = ["evil.Tokenizer", "evil.Tokenizer"]
    edit(folder / "tokenizer_config.json", lambda c: put(c, "auto_map", {"AutoTokenizer": pair}))


@kind(NAFLEX, "UnreadSettingError", "auto_map")
@kind(SIGLIP, "UnreadSettingError", "auto_map")
def code_of_a_processor(folder: Path, mark: Path) -> None:
    python(folder / "evil.py", mark, "Processor")
    path = next(p for p in (folder / "preprocessor_config.json", folder / "processor_config.json") if p.is_file())
    for key in ("AutoImageProcessor", "AutoProcessor"):
        edit(path, lambda c, key=key: put(c, f"auto_map.{key}", "evil.Processor"))


@kind(DENSE, "UnsafeCheckpointError", "evil")
def code_in_modules_json(folder: Path, mark: Path) -> None:
    python(folder / "evil.py", mark, "Module")
    edit(folder / "modules.json", lambda rows: put(rows, "1.type", "evil.Module"))


@kind(BERT, "UnsafeCheckpointError", "adapter", on_hub=False)  # from the Hub it is not fetched
@kind(DENSE, "UnsafeCheckpointError", "adapter")
def adapter_beside(folder: Path, mark: Path) -> None:
    edit(folder / "adapter_config.json", lambda _: {"peft_type": "LORA", "base_model_name_or_path": "org/evil"})
    (folder / "adapter_model.bin").write_bytes(bomb(mark))


for foreign in (
    "os:system",
    "encoders.text:AutoModel",
    "encoders.evil:Model",
    "hub:open_folder",
    "pooling:Mean",
    None,
    7,
):
    setting("zoo-text", "config.json", "towers.0.encoder.kind", foreign, "UnrecognisedCheckpointError", "part")
setting("zoo-text", "config.json", "towers.0.head.kind", "heads:_Unit", "UnrecognisedCheckpointError", "part")
setting("zoo-text", "config.json", "towers.0.pooler.kind", "pooling:Tokens", "UnrecognisedCheckpointError", "part")
setting(
    TIMM, "config.json", "model_args", {"checkpoint_path": "/etc/passwd"}, "UnsafeCheckpointError", "checkpoint_path"
)
setting(
    OPEN_CLIP, "open_clip_config.json", "model_cfg.text_cfg.hf_tokenizer_name", "../x", "UnsafeCheckpointError", "x"
)
OURS = "towers.1.encoder.model_cfg.text_cfg"
setting("zoo-clip", "config.json", f"{OURS}.hf_tokenizer_name", "org/evil", "UnsafeCheckpointError", "org/evil")
setting("zoo-clip", "config.json", f"{OURS}.hf_model_name", "org/evil", "UnsafeCheckpointError", "org/evil")


# ------------------------------------------------------------------------------------------------------ other places

for place in ("../outside", "/etc", "1_Pooling/../../x", "..\\outside"):
    setting(DENSE, "modules.json", "1.path", place, "UnsafeCheckpointError", "outside")
for place in ("..", "/etc", "tower0/../..", 7):
    setting("zoo-text", "config.json", "towers.0.assets", place, "UnsafeCheckpointError", "outside")


@kind(BERT, "UnsafeCheckpointError", "outside")
def weights_index_that_leads_out(folder: Path, mark: Path) -> None:
    shutil.move(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "../outside.safetensors"}}
    edit(folder / "model.safetensors.index.json", lambda _: index)


@kind("zoo-text", "UnsafeCheckpointError", "link", on_hub=False)
@kind(BERT, "UnsafeCheckpointError", "link", on_hub=False)
@kind(OPEN_CLIP, "UnsafeCheckpointError", "link", on_hub=False)
@kind(TIMM, "UnsafeCheckpointError", "link", on_hub=False)
def link_out_of_the_folder(folder: Path, mark: Path) -> None:
    outside = folder.parent / f"{folder.name}-outside.safetensors"
    shutil.move(weights(folder), outside)
    (
        folder / ("model.safetensors" if not folder.name.startswith("open") else "open_clip_model.safetensors")
    ).symlink_to(outside)


@kind(DENSE, "UnsafeCheckpointError", "link", on_hub=False)
def link_of_a_module(folder: Path, mark: Path) -> None:
    outside = folder.parent / f"{folder.name}-outside"
    shutil.move(folder / "2_Dense", outside)
    (folder / "2_Dense").symlink_to(outside)


# ---------------------------------------------------------------------------------------------------------- headers


@kind("zoo-text", "MissingWeightsError", "header")
@kind(BERT, "MissingWeightsError", "header")
def header_longer_than_the_file(folder: Path, mark: Path) -> None:
    safetensors(weights(folder), {}, length=(1 << 40) + 2)


@kind("zoo-text", "MissingWeightsError", "header")
@kind(OPEN_CLIP, "MissingWeightsError", "header")
def header_bomb(folder: Path, mark: Path) -> None:
    entry = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    safetensors(weights(folder), b"{" + b"".join(entry % i for i in range(300_000)) + b'"e":{}}')


def _header(folder: Path, change: Callable[[dict[str, Any], str], None], extra: bytes = b"") -> None:
    header, data = parts(weights(folder))
    change(header, max((name for name in header if name != "__metadata__"), key=lambda n: header[n]["data_offsets"][1]))
    safetensors(weights(folder), header, data + extra)


@kind("zoo-text", "MissingWeightsError", "promises")
@kind(TIMM, "MissingWeightsError", "promises")
def header_that_promises_more(folder: Path, mark: Path) -> None:
    def change(header: dict[str, Any], last: str) -> None:
        start = header[last]["data_offsets"][0]
        header[last] |= {"shape": [1 << 30, 1 << 8], "dtype": "F32", "data_offsets": [start, start + (1 << 40)]}

    _header(folder, change)


@kind("zoo-text", "MissingWeightsError", "begins at")
@kind(DENSE, "MissingWeightsError", "begins at")
def overlapping_tensors(folder: Path, mark: Path) -> None:
    def change(header: dict[str, Any], last: str) -> None:
        start, stop = header[last]["data_offsets"]
        header[last]["data_offsets"] = [start - 4, stop - 4]

    _header(folder, change)


@kind("zoo-text", "MissingWeightsError", "shape")
def shape_and_bytes_that_differ(folder: Path, mark: Path) -> None:
    _header(folder, lambda header, last: put(header[last], "shape", [1 << 20, 1 << 20]))


@kind("zoo-text", "MissingWeightsError", "damaged")
def shape_that_is_no_shape(folder: Path, mark: Path) -> None:
    _header(folder, lambda header, last: put(header[last], "shape", [-1, -4]))


@kind("zoo-text", "MissingWeightsError", "promises")
def bytes_after_the_weights(folder: Path, mark: Path) -> None:
    _header(folder, lambda header, last: None, b"something hidden")


@kind("zoo-text", "MissingWeightsError", "twice")
def a_tensor_twice(folder: Path, mark: Path) -> None:
    header, data = parts(weights(folder))
    name = next(name for name in header if name != "__metadata__")
    text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}"
    safetensors(weights(folder), text.encode(), data)


@kind("zoo-text", "MissingWeightsError", "shape")
@kind(BERT, "MissingWeightsError", "another shape")
def shapes_that_do_not_fit(folder: Path, mark: Path) -> None:
    tensors = load_file(weights(folder))
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    save_file({**tensors, name: tensors[name].T.contiguous()}, weights(folder), metadata={"format": "pt"})


def _dtypes(folder: Path, dtype: torch.dtype) -> None:
    save_file(
        {k: v.to(dtype) for k, v in load_file(weights(folder)).items()}, weights(folder), metadata={"format": "pt"}
    )


for dtype in (torch.float8_e4m3fn, torch.complex64):
    for base in ("zoo-text", BERT, STATIC):
        kind(base, "MissingWeightsError", "type", name=f"weights_of_{dtype}-{base}")(
            lambda folder, mark, dtype=dtype: _dtypes(folder, dtype)
        )
kind("zoo-text", "MissingWeightsError", "stored as I32", name="weights_of_whole_numbers")(
    lambda folder, mark: _dtypes(folder, torch.int32)
)


def _not_finite(folder: Path) -> None:
    tensors = load_file(weights(folder))
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    tensors[name][-1, -1] = torch.nan if "LayerNorm" not in name else torch.inf
    save_file(tensors, weights(folder), metadata={"format": "pt"})


@kind("zoo-text", "MissingWeightsError", "NaN")  # one number of a table, that no text may ever meet: said on load
def one_nan(folder: Path, mark: Path) -> None:
    _not_finite(folder)


@kind(BERT, "MissingWeightsError", "NaN")
@kind("zoo-text", "MissingWeightsError", "NaN")
def all_nan(folder: Path, mark: Path) -> None:
    tensors = {name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(weights(folder)).items()}
    save_file(tensors, weights(folder), metadata={"format": "pt"})


# ------------------------------------------------------------------------------------------------------ no such file


def _replace(name: str, content: bytes) -> Callable[[Path, Path], None]:
    return lambda folder, mark: (folder / (name or weights(folder).name)).write_bytes(content) and None


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1000000\n"
HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"
for what, content, match in (
    ("pointer", POINTER, "git lfs pull"),
    ("page", HTML, "web page"),
    ("gguf", b"GGUF\3\0\0\0" + bytes(range(64)), "GGUF"),
    ("empty", b"", "damaged"),
):
    for base in ("zoo-text", BERT, OPEN_CLIP, TIMM):
        kind(base, "MissingWeightsError", match, name=f"{what}_as_weights-{base}")(_replace("", content))
for what, content, match in (
    ("page", HTML, "web page"),
    ("pointer", POINTER, "JSON"),
    ("nothing", b"", "JSON"),
    ("latin-1", json.dumps({"model_type": "zoo", "name": "Zürich"}, ensure_ascii=False).encode("latin-1"), "utf-8"),
    ("utf-16", json.dumps({"model_type": "zoo"}).encode("utf-16"), "utf-8"),
    ("deep", b"[" * 100_000 + b"]" * 100_000, "JSON|deep"),
    ("forty-deep", b'{"a":' * 40 + b"1" + b"}" * 40, "deep"),
    ("large", b'{"model_type": "zoo", "x": "' + b"x" * 100_000_000 + b'"}', "bytes"),
    ("many-lists", b"[" + b"[]," * 300_000 + b"[]]", ""),
    ("long-number", b'{"model_type": "zoo", "format": ' + b"9" * 100_000 + b"}", "JSON"),
):
    kind("zoo-text", "UnrecognisedCheckpointError", match, name=f"{what}_as_config")(_replace("config.json", content))


@kind("zoo-text", "UnrecognisedCheckpointError", "twice")
@kind(BERT, "UnrecognisedCheckpointError", "twice")
def a_key_twice(folder: Path, mark: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().rstrip()[:-1] + ', "model_type": "zoo", "model_type": "bert"}')


@kind("zoo-text", "UnrecognisedCheckpointError", "number")
@kind(BERT, "UnrecognisedCheckpointError", "number")
def a_config_with_nan(folder: Path, mark: Path) -> None:
    edit(folder / "config.json", lambda c: put(c, "layer_norm_eps", float("nan")))


@kind("zoo-text", "UnrecognisedCheckpointError", "tokenizer", on_hub=False)
def a_huge_tokenizer(folder: Path, mark: Path) -> None:
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file: it takes no room


# ---------------------------------------------------------------------------------------------------- absurd sizes

SIZE, TEXT = "OversizedError", "towers.0.encoder.config"
setting("zoo-text", "config.json", f"{TEXT}.num_hidden_layers", 10**9, SIZE, "num_hidden_layers")
setting("zoo-text", "config.json", f"{TEXT}.vocab_size", 10**12, SIZE, "vocab_size")
setting("zoo-text", "config.json", f"{TEXT}.num_labels", 10**9, SIZE, "num_labels")
setting("zoo-text", "config.json", f"{TEXT}.vocab_size", 4_000_000, SIZE, "numbers")
setting("zoo-text", "config.json", f"{TEXT}.vocab_size", 261, "MissingWeightsError", "shape")
setting("zoo-text", "config.json", f"{TEXT}.num_hidden_layers", 3, "MissingWeightsError", "lacks")
setting("zoo-text", "config.json", f"{TEXT}.hidden_size", -32, "UnrecognisedCheckpointError", "")
setting("zoo-clip", "config.json", "towers.0.encoder.transform.size", [10**6, 10**6], SIZE, "size")
setting("zoo-clip", "config.json", "towers.0.encoder.model_cfg.vision_cfg.image_size", 10**6, SIZE, "image_size")
setting("zoo-clip", "config.json", f"{OURS}.context_length", 100_000, SIZE, "numbers")
setting("zoo-mini", "config.json", "towers.0.encoder.args", {"depth_multiplier": 1e6}, SIZE, "depth_multiplier")
setting("zoo-mini", "config.json", "towers.1.encoder.vocab_size", 10**12, SIZE, "vocab_size")
setting("zoo-mini", "config.json", "towers.1.encoder.width", 4_000_000, SIZE, "numbers")
setting("zoo-named", "config.json", "towers.0.head.classes", 10**12, SIZE, "classes")
setting("zoo-named", "config.json", "towers.0.head.classes", 4_000_000, SIZE, "numbers")
setting("zoo-named", "config.json", "towers.0.head.classes", 6, "MissingWeightsError", "shape")
setting("zoo-named", "config.json", "towers.1.encoder.layers", 10**9, SIZE, "layers")
setting("zoo-named", "config.json", "towers.1.encoder.layers", 5_000, SIZE, "layers")
setting("zoo-named", "config.json", "towers.1.encoder.layers", 4, "MissingWeightsError", "lacks")
setting("zoo-named", "config.json", "towers.1.encoder.vocab_size", 10**12, SIZE, "vocab_size")
setting("zoo-named", "config.json", "towers.1.encoder.hidden", 4_000_000, SIZE, "numbers")
setting("zoo-named", "config.json", "towers.1.encoder.positions", 4_000_000, SIZE, "numbers")
setting(BERT, "config.json", "num_hidden_layers", 10**9, SIZE, "num_hidden_layers")
setting(BERT, "config.json", "vocab_size", 10**12, SIZE, "vocab_size")
setting(BERT, "config.json", "vocab_size", 4_000_000, SIZE, "numbers")
setting(BERT, "config.json", "hidden_size", 1_000_000, SIZE, "numbers")
setting(BERT, "config.json", "max_position_embeddings", 16_000_000, SIZE, "numbers")
setting(BERT, "config.json", "num_labels", 10**9, SIZE, "num_labels")
setting(SIGLIP, "config.json", "vision_config.image_size", 10**6, SIZE, "image_size")
setting(SIGLIP, "config.json", "text_config.vocab_size", 4_000_000, SIZE, "numbers")
setting(NAFLEX, "preprocessor_config.json", "max_num_patches", 10**9, SIZE, "patches")
setting(OPEN_CLIP, "open_clip_config.json", "model_cfg.vision_cfg.layers", 10**9, SIZE, "layers")
setting(OPEN_CLIP, "open_clip_config.json", "model_cfg.vision_cfg.layers", [500] * 4, SIZE, "layers")
setting(OPEN_CLIP, "open_clip_config.json", "model_cfg.vision_cfg.image_size", 10**6, SIZE, "image_size")
setting(OPEN_CLIP, "open_clip_config.json", "model_cfg.text_cfg.vocab_size", 4_000_000, SIZE, "numbers")
setting(OPEN_CLIP, "open_clip_config.json", "model_cfg.text_cfg.context_length", 100_000, SIZE, "numbers")
setting(OPEN_CLIP, "open_clip_config.json", "preprocess_cfg.size", 10**6, SIZE, "size")
setting(TIMM, "config.json", "model_args", {"depth": 10**9}, SIZE, "depth")
setting(TIMM, "config.json", "model_args", {"embed_dim": 10**7}, SIZE, "numbers")
setting(TIMM, "config.json", "model_args", {"img_size": 10**6}, SIZE, "img_size")
setting(TIMM, "config.json", "pretrained_cfg.input_size", [3, 10**6, 10**6], SIZE, "input_size")
setting(DENSE, "2_Dense/config.json", "out_features", 10**6, "MissingWeightsError", "fit")
setting(DENSE, "2_Dense/config.json", "out_features", None, "UnrecognisedCheckpointError", "out_features")
setting(DENSE, "sentence_bert_config.json", "max_seq_length", 10**30, "UnrecognisedCheckpointError", "max_seq_length")


# The number is allowed, and its weights are few; what would take the memory is the modules.
@kind(BERT, SIZE, "layers")
def very_many_small_layers(folder: Path, mark: Path) -> None:
    small = {"num_hidden_layers": 510, "hidden_size": 2, "num_attention_heads": 1, "intermediate_size": 1}
    edit(folder / "config.json", lambda c: {**c, **small})


@kind(STATIC, SIZE, "share")
def a_table_shared_too_often(folder: Path, mark: Path) -> None:
    table = {"embedding.weight": torch.ones(1, 100_000), "mapping": torch.zeros(1_000_000, dtype=torch.uint8)}
    save_file(table, weights(folder))


@kind(STATIC, "MissingWeightsError", "fit")
def a_mapping_out_of_the_table(folder: Path, mark: Path) -> None:
    save_file({**load_file(weights(folder)), "mapping": torch.full((8,), 10**9)}, weights(folder))


# ------------------------------------------------------------------------------------------------------------ facts

BAD = "UnrecognisedCheckpointError"
setting("zoo-text", "config.json", "format", 2, BAD, "format 2")
setting("zoo-text", "config.json", "format", True, BAD, "format")
setting("zoo-text", "config.json", "surprise", 1, BAD, "surprise")
setting("zoo-text", "config.json", "towers", [], BAD, "towers")
setting("zoo-text", "config.json", "towers.0.encoder.surprise", 1, BAD, "surprise")
setting("zoo-text", "config.json", "towers.0.encoder.assets", "/etc", BAD, "assets")
setting("zoo-text", "config.json", "towers.0.encoder.max_tokens", "64", BAD, "max_tokens")
setting("zoo-text", "config.json", "spec.dim", 33, BAD, "33")
setting("zoo-text", "config.json", "spec.dim", "32", BAD, "dim")
setting("zoo-text", "config.json", "spec.modalities", ["text", "image"], BAD, "image")
setting("zoo-text", "config.json", "spec.prompts", {"query": 1}, BAD, "prompts")
setting("zoo-text", "config.json", "spec.name", ["a"], BAD, "name")
setting("zoo-clip", "config.json", "towers.0.encoder.transform.surprise", 1, BAD, "surprise")
setting("zoo-named", "config.json", "towers.0.head.temperature", 0.0, BAD, "temperature must be above 0")
setting("zoo-named", "config.json", "towers.0.head.gain", "2", BAD, "gain")
setting("zoo-named", "config.json", "towers.0.head.surprise", 1, BAD, "surprise")
setting("zoo-named", "config.json", "towers.1.encoder.heads", 0, BAD, "heads")
setting("zoo-named", "config.json", "towers.1.encoder.heads", 5, BAD, "5 heads")
setting("zoo-named", "config.json", "towers.1.encoder.layers", 0, BAD, "blocks|layers")
setting("zoo-named", "config.json", "towers.1.encoder.max_tokens", 41, BAD, "after 41 tokens")
setting("zoo-named", "config.json", "towers.1.encoder.assets", "/etc", BAD, "assets")
setting(BERT, "zoo.json", "format", 1, BAD, "spec")
setting(BERT, "zoo.json", "code", "import os", BAD, "code|format")
setting(BERT, "config.json", "model_type", ["bert"], BAD, "")
setting(DENSE, "config_sentence_transformers.json", "prompts", ["query"], BAD, "prompts")
setting(DENSE, "config_sentence_transformers.json", "default_prompt_name", ["query"], BAD, "default_prompt_name")
setting(DENSE, "1_Pooling/config.json", "pooling_mode", [["mean"]], BAD, "pooling_mode")
