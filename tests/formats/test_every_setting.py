"""Every setting of a backbone's config.json, listed from its class in the installed transformers, set to other values.

Where another value moves transformers' own vector, ours follows or refuses it; where it moves nothing, the zoo's table says why,
or it is listed here as untested. So a setting of a new version fails here until somebody has looked at it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import zoo
from tests.reference.backbones import write_plain
from zoo.encoders._logging import quiet
from zoo.encoders.text import text_class
from zoo.errors import ZooError
from zoo.formats.backbones import fields_of, table_of
from zoo.formats.known.config import TEXT

TEXTS = ["a red motorbike", "two dogs playing in the snow on the pier"]
MOVED, BOUND = 1e-4, 1e-5
OWN = {"model_type", "architectures", "auto_map"}
# Settings that transformers works out of older ones as it saves; the older ones count only where these are absent.
NEWER = ("rope_parameters", "layer_types", "attention_layers", "no_rope_layers", "dense_act_fn", "per_layer_config")
# What the older ones say in their place, where it is not what the class has by default.
OLDER: dict[str, dict[str, dict[str, Any]]] = {
    "embedding_gemma2_text": {"per_layer_config": {"global_head_dim": 16, "num_global_key_value_heads": 1}},
}
# Values that nobody would guess from a setting's default.
_THETAS = {kind: {"rope_type": "default", "rope_theta": 7.0} for kind in ("full_attention", "sliding_attention")}
GUESSES: dict[str, dict[str, tuple[Any, ...]]] = {
    "embedding_gemma2_text": {"rope_scaling": (_THETAS,)},
    "ultrabert": {"attention_windows": ([2, 0],), "rope_scaling": (_THETAS,), "rope_theta": ([7.0, 7.0],)},
}
# What makes more settings count in a small model.
_WINDOW = {"sliding_window": 4}
_MIXED = {**_WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_QWEN = {**_WINDOW, "use_sliding_window": True, "max_window_layers": 1}
_LOCAL = {"local_attention": 4, "global_attn_every_n_layers": 2}
_RELATIVE = {"relative_attention": True, "max_relative_positions": 12, "pos_att_type": ["c2p", "p2c"]}
BASES: dict[str, dict[str, Any]] = {
    "deberta": _RELATIVE,
    "deberta-v2": {
        **_RELATIVE,
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "conv_kernel_size": 3,
        "share_att_key": True,
    },
    "ernie": {"use_task_id": True},
    "gemma2": _MIXED,
    "gemma3_text": _MIXED,
    "mistral": _WINDOW,
    "modernbert": _LOCAL,
    "phi3": _WINDOW,
    "qwen2": _QWEN,
    "qwen3": _QWEN,
    "smollm3": {**_WINDOW, "use_sliding_window": True, "no_rope_layer_interval": 2},
    "starcoder2": _WINDOW,
    "ultrabert": _MIXED,
}
# No other value of these moves a vector of the small models here, each for its reason; "": of every type.
_LENGTH = "it says where a text is cut, which the reference here does not; no number depends on it"
UNTESTED: dict[str, dict[str, str]] = {
    "": {
        "max_position_embeddings": _LENGTH,
        "pad_token_id": "filler is masked; where positions are counted from it (RoBERTa) it moves the vector",
    },
    "deberta": {"pos_att_type": "the order does not count, and another set has other weights"},
    "gpt2": {"reorder_and_upcast_attn": "the weights here are float32 already"},
    "phi3": {"original_max_position_embeddings": "it counts with longrope, for longer texts than those here"},
    "embedding_gemma2_text": dict.fromkeys(
        ("global_head_dim", "num_global_key_value_heads"),
        "they count without per_layer_config, as here in one form; other values have other weights",
    ),
    "distilbert": {"sinusoidal_pos_embds": "the positions of the weights are taken"},
    "gemma2": {
        "use_bidirectional_attention": "transformers does not read it here; ours does (tests/formats/test_backbones.py)"
    },
}


def others(value: Any) -> Iterator[Any]:
    """Other values of a setting, of its own kind."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value * 2 + 1, value // 2 + 3, value + 0.25, 1)
    elif isinstance(value, str):
        yield from ("relu", "gelu_new", "silu")
    elif isinstance(value, list):
        yield from (value[::-1], value[:1])
        yield ["full_attention"] * len(value)
        yield ["sliding_attention"] * len(value)
    elif isinstance(value, dict):
        yield {key: {**inner, "rope_theta": 7.0} if isinstance(inner, dict) else inner for key, inner in value.items()}
        yield {**value, "rope_theta": 7.0}
    else:
        yield from (True, 1, 2, 0.25, {"type": "linear", "rope_type": "linear", "factor": 4.0}, ["c2p"], "relu")


def theirs(folder: Path, ids: list[torch.Tensor]) -> torch.Tensor | None:
    """transformers' own mean vectors; None where it cannot load them whole."""
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder)
            cls = text_class(config.model_type)
            model, report = cls.from_pretrained(folder, config=config, output_loading_info=True)
            if any("pooler" not in key for key in report["missing_keys"]) or report["unexpected_keys"]:
                return None
            with torch.inference_mode():
                states = [model(input_ids=row[None], return_dict=True).last_hidden_state[0].mean(0) for row in ids]
    except Exception:  # whatever a library answers invalid files with
        return None
    vectors = torch.nn.functional.normalize(torch.stack(states), dim=-1)
    return vectors if vectors.isfinite().all() else None


def ours(folder: Path) -> torch.Tensor | None:
    """Our vectors; None where the load is refused by name."""
    try:
        return zoo.load_model(folder).encode(TEXTS)
    except ZooError:
        return None


def differ(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item() if a.shape == b.shape else 1.0


def wrong(kind: str, root: Path) -> list[str]:
    """What is wrong with the settings of a backbone: silently dropped, or nobody knows whether."""
    folder = write_plain(root / kind, kind, **BASES.get(kind, {}))
    path = folder / "config.json"
    saved, read = json.loads(path.read_text()), transformers.AutoTokenizer.from_pretrained(folder)
    ids = [torch.tensor(read(text).input_ids) for text in TEXTS]
    older = OLDER.get(kind, {})
    without = [
        {key: value for key, value in saved.items() if key != newer} | older.get(newer, {})
        for newer in NEWER
        if newer in saved
    ]
    bases = [(form, based(folder, form, ids)) for form in (saved, *without)]
    names, defaults = (
        transformers.AutoConfig.for_model(kind).attribute_map,
        vars(transformers.AutoConfig.for_model(kind)),
    )
    table, untested, found = table_of(kind), UNTESTED[""] | UNTESTED.get(kind, {}), []
    for key in sorted(fields_of(kind) - OWN):
        moved = still = refused = False
        for form, base in bases:
            # A second name of a setting counts where the first is not there.
            rest = {name: value for name, value in form.items() if name != names.get(key)}
            now = form.get(key, form.get(names.get(key, ""), defaults.get(key)))
            for value in (*others(now), *GUESSES.get(kind, {}).get(key, ())):
                if json.dumps(value) == json.dumps(now):
                    continue
                path.write_text(json.dumps({**rest, key: value}))
                expected, given = theirs(folder, ids), ours(folder)
                if expected is None or expected.shape != base.shape:
                    continue  # the files do not fit: nobody's vector
                moved |= differ(expected, base) > MOVED
                still |= differ(expected, base) <= MOVED
                refused |= given is None
                if given is not None and differ(given, expected) > BOUND and key not in {*table.inert, *untested}:
                    found.append(f"{kind}: {key} = {value!r} is not followed: {differ(given, expected):.1e}")
                if moved:
                    break
            if moved:
                break
        if moved and key in table.inert:
            found.append(f"{kind}: {key} has an effect, and the table says that it has none")
        if still and not (moved or refused or key in table.inert or key in untested):
            found.append(f"{kind}: no other value of {key} moves a vector, and nothing says why")
    shutil.rmtree(folder)
    return found


def based(folder: Path, form: dict[str, Any], ids: list[torch.Tensor]) -> torch.Tensor:
    """Our vectors of a config.json that nobody changed, which are transformers' own."""
    (folder / "config.json").write_text(json.dumps(form))
    base, expected = ours(folder), theirs(folder, ids)
    assert base is not None
    assert expected is not None
    assert differ(base, expected) < BOUND
    return base


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) for k in TEXT])
def test_every_setting_is_followed_or_said(kind: str, tmp_path: Path) -> None:
    found = wrong(kind, tmp_path)
    assert not found, "\n".join(found)
