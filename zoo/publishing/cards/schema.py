"""`check`: the rules of the Hub for a README's front matter, kept here so that they are known before an upload."""

import math
import re
from typing import Any

from zoo.errors import InvalidCardError
from zoo.evaluation.blocks import GENERATED, split

# The Hub's licence identifiers. Written down without the network: one that is newer than 2025 may be missing.
_LICENSES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
    cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c
    ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa
    unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1
    llama3.2 llama3.3 llama4 grok2-community gemma unknown other
"""
LICENSES = frozenset(_LICENSES.split())
# The Hub's tasks that an embedding model or its Space can be listed under.
_PIPELINE_TAGS = """
    sentence-similarity feature-extraction image-feature-extraction zero-shot-image-classification
    zero-shot-classification zero-shot-object-detection visual-document-retrieval any-to-any text-ranking
    text-classification image-classification audio-classification video-classification image-text-to-text
    image-to-text video-text-to-text audio-text-to-text visual-question-answering document-question-answering
    fill-mask other
"""
PIPELINE_TAGS = frozenset(_PIPELINE_TAGS.split())
RELATIONS = frozenset({"finetune", "adapter", "quantized", "merge"})
COLOURS = frozenset(["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"])
SDKS = frozenset(["gradio", "streamlit", "docker", "static"])
# key → what it must be: str, bool, list (of str, or one str), dict, or any.
_COMMON: dict[str, Any] = {
    "license": str, "license_name": str, "license_link": str, "tags": list, "datasets": list, "thumbnail": str,
}  # fmt: skip
_MODEL = _COMMON | {
    "language": list, "library_name": str, "pipeline_tag": str, "base_model": list, "base_model_relation": str,
    "new_version": str, "metrics": list, "model_name": str, "model-index": list, "inference": object, "widget": list,
    "co2_eq_emissions": object, "extra_gated_prompt": str, "extra_gated_fields": dict, "extra_gated_heading": str,
    "extra_gated_description": str, "extra_gated_button_content": str, "arxiv": list,
}  # fmt: skip
_SPACE = _COMMON | {
    "title": str, "emoji": str, "colorFrom": str, "colorTo": str, "sdk": str, "sdk_version": str,
    "python_version": str, "app_file": str, "app_port": int, "base_path": str, "pinned": bool, "header": str,
    "fullWidth": bool, "short_description": str, "models": list, "preload_from_hub": list, "suggested_hardware": str,
    "suggested_storage": str, "hf_oauth": bool, "hf_oauth_scopes": list, "hf_oauth_expiration_minutes": int,
    "startup_duration_timeout": str, "disable_embedding": bool, "custom_headers": dict,
}  # fmt: skip
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_DATASET_TYPE = re.compile(r"([\w-]+/)?[\w.-]+")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|code|multilingual")
_LICENSE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MOST = 1_000_000  # characters; the Hub cuts what is longer


def check(text: str) -> list[str]:
    """What the Hub would refuse or misread in a README of a model, or of a Space (it has the key `sdk`); [] if nothing.

    No network: `ModelCard.validate` asks the Hub. What only the Hub knows (whether a base model exists) is not checked.
    """
    wrong = _markers(text)
    if len(text) > _MOST:
        wrong.append(f"the card has {len(text):,} characters; the Hub shows {_MOST:,}")
    try:
        facts, body = split(text)
    except InvalidCardError as error:
        return [*wrong, str(error)]
    if not facts:
        return [*wrong, "there is no front matter: the file must begin with a line of three hyphens and `license: …`"]
    space = "sdk" in facts
    known = _SPACE if space else _MODEL
    for key, value in facts.items():
        if key not in known:
            wrong.append(f"{key}: unknown key; known are {', '.join(sorted(known))}")
        elif value is not None:
            wrong += _type(key, value, known[key])
    if not body.strip():
        wrong.append("there is nothing below the front matter")
    return wrong + _licence(facts) + (_space(facts) if space else _model(facts))


def _markers(text: str) -> list[str]:
    wrong = []
    for name in (*GENERATED, "notes"):
        starts, ends = text.count(f"<!-- {name}:start"), text.count(f"<!-- {name}:end -->")
        if starts != ends or starts > 1:
            wrong.append(f"`<!-- {name}:start` stands {starts} times and its end {ends} times; one of each or none")
    return wrong


def _type(key: str, value: Any, wanted: Any) -> list[str]:
    if wanted is str and not isinstance(value, str):
        # 3.10 would be read as 3.1, and `no` as false.
        return [f"{key}: {value!r} is read as {type(value).__name__}; write it in quotation marks"]
    if wanted is list and key in ("model-index", "widget"):
        return [] if isinstance(value, list) else [f"{key}: must be a list"]
    if wanted is list:
        entries = value if isinstance(value, list) else [value]
        return [
            f"{key}: {entry!r} is read as {type(entry).__name__}; write it in quotation marks"
            for entry in entries
            if not isinstance(entry, str)
        ]
    if wanted is int and isinstance(value, bool):
        return [f"{key}: must be a whole number"]
    return [] if isinstance(value, wanted) else [f"{key}: must be a {wanted.__name__}, not a {type(value).__name__}"]


def _licence(facts: dict[str, Any]) -> list[str]:
    license = facts.get("license")
    if license is None:
        return ["license: missing; write the Hub's identifier, or `other` with license_name and license_link"]
    if license not in LICENSES:
        return [f"license: {license!r} is no identifier of the Hub; write `other`, license_name and license_link"]
    if license != "other":
        return [f"{key}: only with `license: other`" for key in ("license_name", "license_link") if facts.get(key)]
    wrong = []
    if not _LICENSE_NAME.fullmatch(str(facts.get("license_name") or "")):
        wrong.append("license_name: `license: other` needs a name in lower case, such as my-license-1.0")
    link = str(facts.get("license_link") or "")
    if not (link.startswith("https://") or link in ("LICENSE", "LICENSE.md", "LICENSE.txt")):
        wrong.append("license_link: `license: other` needs an https address, or LICENSE for a file of the repository")
    return wrong


def _model(facts: dict[str, Any]) -> list[str]:
    wrong = []
    tag = facts.get("pipeline_tag")
    if tag is not None and tag not in PIPELINE_TAGS:
        wrong.append(
            f"pipeline_tag: {tag!r} is no task of an embedding model; known are {', '.join(sorted(PIPELINE_TAGS))}"
        )
    for key in ("base_model", "datasets", "new_version"):
        for name in _strings(facts.get(key)):
            if not _HUB_ID.fullmatch(name) or "--" in name or ".." in name or (key == "base_model" and "/" not in name):
                wrong.append(f"{key}: {name!r} is no repository of the Hub (org/name)")
    relation = facts.get("base_model_relation")
    if relation is not None and relation not in RELATIONS:
        wrong.append(f"base_model_relation: {relation!r} is none of {', '.join(sorted(RELATIONS))}")
    if relation is not None and not facts.get("base_model"):
        wrong.append("base_model_relation: without base_model it means nothing")
    wrong += [
        f"language: {language!r} is no ISO 639 code such as en"
        for language in _strings(facts.get("language"))
        if not _LANGUAGE.fullmatch(language)
    ]
    return wrong + _index(facts.get("model-index"))


def _index(index: Any) -> list[str]:
    """The rules of the model-index block."""
    wrong = []
    for place, model in enumerate(index if isinstance(index, list) else []):
        where = f"model-index[{place}]"
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            wrong.append(f"{where}: needs a name")
            continue
        for row, result in enumerate(model.get("results") or []):
            at = f"{where}.results[{row}]"
            task, data, metrics = (result.get(key) for key in ("task", "dataset", "metrics"))
            if not isinstance(task, dict) or not isinstance(task.get("type"), str):
                wrong.append(f"{at}.task.type: missing")
            if not isinstance(data, dict) or not _DATASET_TYPE.fullmatch(str(data.get("type") or "")):
                wrong.append(f"{at}.dataset.type: must be an identifier such as org/name, without spaces")
            elif not isinstance(data.get("name"), str):
                wrong.append(f"{at}.dataset.name: missing")
            for number, metric in enumerate(metrics if isinstance(metrics, list) and metrics else [{}]):
                value = metric.get("value")
                if not isinstance(metric.get("type"), str):
                    wrong.append(f"{at}.metrics[{number}].type: missing")
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                    wrong.append(f"{at}.metrics[{number}].value: {value!r} is no number")
    return wrong


def _space(facts: dict[str, Any]) -> list[str]:
    wrong = [
        f"{key}: missing" for key in ("title", "app_file") if facts["sdk"] in ("gradio", None) and not facts.get(key)
    ]
    if facts["sdk"] not in SDKS:
        wrong.append(f"sdk: {facts['sdk']!r} is none of {', '.join(sorted(SDKS))}")
    for key in ("colorFrom", "colorTo"):
        if facts.get(key) is not None and facts[key] not in COLOURS:
            wrong.append(f"{key}: {facts[key]!r} is none of {', '.join(sorted(COLOURS))}")
    if len(str(facts.get("short_description") or "")) > 60:
        wrong.append(f"short_description: has {len(facts['short_description'])} characters; the Hub takes 60")
    return wrong


def _strings(value: Any) -> list[str]:
    return [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, str)]
