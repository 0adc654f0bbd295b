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
from zoo.encoders.quiet import quiet
from zoo.encoders.text import text_class
from zoo.errors import ZooError
from zoo.formats.backbones import fields_of, table_of

TEXTS = ["a red motorbike", "two dogs playing in the snow on the pier"]
MOVED, BOUND = 1e-4, 1e-5
OWN = {"model_type", "architectures", "auto_map"}
# No other value of these moves a vector of the small models here: they count together with others, or for longer texts.
UNTESTED: dict[str, set[str]] = {"bert": {"pad_token_id"}}
KINDS = ("bert", "xlm-roberta")  # whose settings somebody has looked at, one by one


def others(value: Any) -> Iterator[Any]:
    """Other values of a setting, of its own kind."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value * 2 + 1, value // 2 + 3, value + 0.25)
    elif isinstance(value, str):
        yield from ("relu", "gelu_new", "silu")
    elif isinstance(value, list):
        yield value[::-1]
        yield ["full_attention"] * len(value)
        yield ["sliding_attention"] * len(value)
    elif isinstance(value, dict):
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
    except Exception:  # whatever a library answers nonsense with
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
    folder = write_plain(root / kind, kind)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    base, read = ours(folder), transformers.AutoTokenizer.from_pretrained(folder)
    ids = [torch.tensor(read(text).input_ids) for text in TEXTS]
    assert base is not None
    assert differ(base, theirs(folder, ids)) < BOUND
    defaults, table, found = vars(transformers.AutoConfig.for_model(kind)), table_of(kind), []
    for key in sorted(fields_of(kind) - OWN):
        moved = still = False
        for value in others(config.get(key, defaults.get(key))):
            path.write_text(json.dumps({**config, key: value}))
            expected, given = theirs(folder, ids), ours(folder)
            if expected is None or expected.shape != base.shape:
                continue  # the files do not fit: nobody's vector
            moved |= differ(expected, base) > MOVED
            still |= differ(expected, base) <= MOVED and given is not None
            if given is not None and differ(given, expected) > BOUND and key not in table.inert:
                found.append(f"{kind}: {key} = {value!r} is not followed: {differ(given, expected):.1e}")
            if moved:
                break
        if moved and key in table.inert:
            found.append(f"{kind}: {key} has an effect, and the table says that it has none")
        if still and not moved and key not in table.inert and key not in UNTESTED.get(kind, set()):
            found.append(f"{kind}: no other value of {key} moves a vector, and nothing says why")
    shutil.rmtree(folder)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_followed_or_said(kind: str, tmp_path: Path) -> None:
    found = wrong(kind, tmp_path)
    assert not found, "\n".join(found)
