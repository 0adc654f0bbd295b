"""A text backbone's config.json as a configuration of transformers: every setting followed, without effect, or refused."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UnrecognisedCheckpointError
from zoo.formats.gte import stretched
from zoo.formats.known import config as known
from zoo.formats.settings import Ignore, Table, read
from zoo.spec import Attention

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Settings that this module, `refuse_code` and `refuse_quantised` look at by themselves.
_OWN = ("model_type", "architectures", "auto_map", "quantization_config", "compression_config")
# What would be given back beside the states, or in another form; the zoo asks for the states alone.
_LOUD = {"output_attentions": True, "output_hidden_states": True, "return_dict": False, "torchscript": True}


def native(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json under the type that transformers has for it; most are so already."""
    old = config.get("model_type")
    if not isinstance(old, str) or old not in known.OLD_TYPES:
        return dict(config)
    return {**known.OLD_DEFAULTS[old], **config, "model_type": known.OLD_TYPES[old]}


@cache
def fields_of(model_type: str) -> frozenset[str]:
    """What the configuration class of this backbone reads: its fields, second names of them, and settings beside them."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    cls = CONFIG_MAPPING[model_type]
    names = {field.name for field in fields(cls)} | set(cls.attribute_map)
    beside = (*known.READ_BESIDE[""], *known.READ_BESIDE.get(model_type, ()))
    return frozenset({*names, *beside, *(known.ROPE if "rope_parameters" in names else ())})


@cache
def table_of(model_type: str) -> Table:
    """The settings of the config.json of this backbone."""
    causal = model_type in known.DECODERS
    held = {**known.HELD, **({} if causal else known.ENCODERS_HELD), **known.HELD_OF.get(model_type, {})}
    inert = {**known.INERT, **(known.DECODERS_INERT if causal else {}), **known.INERT_OF.get(model_type, {})}
    if "rope_parameters" in fields_of(model_type) and model_type not in known.PARTIAL:
        held["partial_rotary_factor"] = known.WHOLE_HEADS
    held = {key: only for key, only in held.items() if key not in known.INERT_OF.get(model_type, {})}
    followed = fields_of(model_type) | set(known.OLD_NAMES.get(model_type, ())) | {"is_causal", *_OWN}
    return Table(followed - set(held) - set(inert), {k: v for k, v in inert.items() if k not in held}, held)


def read_config(
    settings: Mapping[str, Any], where: Path, ignore: Ignore, attention: Attention | None = None
) -> "PreTrainedConfig":
    """The configuration of a backbone of `known.TEXT`, by what its config.json says.

    Args:
        settings: the config.json. attention: how its tokens see each other, where the caller knows it.

    Raises:
        UnreadSettingError: a setting that is not followed, a head that makes it no embedder, or code of its authors' own
            whose attention nobody stated.
        UnrecognisedCheckpointError: values that make no sense to transformers.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = settings["model_type"]
    check_text(settings, where, ignore, attention)
    settings = read(settings, table_of(kind), where, ignore)
    if (longer := known.LONGER.get(kind)) and all(type(settings.get(name)) is int for name in longer):
        settings[longer[1]] = max(settings[name] for name in longer)
    old = known.OLD_NAMES.get(kind, {})
    settings = {old.get(key, key): value for key, value in settings.items() if old.get(key) not in settings}
    settings = stretched(settings, where, ignore)
    unheard = {"auto_map", "chunk_size_feed_forward"}  # chunks must divide the length of a text, and are never needed
    settings = {key: value for key, value in settings.items() if key not in unheard and _LOUD.get(key) is not value}
    both_ways = settings.get("use_bidirectional_attention")
    if (attention is not None or both_ways) and not (both_ways and kind in known.OWN_BOTH_WAYS):
        # transformers 5.23 reads Gemma's own key only for texts without filler, and Gemma 2's not at all.
        settings["is_causal"] = (attention or "bidirectional") == "causal"
        read({"is_causal": settings["is_causal"]}, table_of(kind), where, ignore)
    if attention == "bidirectional" and kind in known.WHOLE_BOTH_WAYS:
        settings["sliding_window"] = None
    try:
        return CONFIG_MAPPING[kind].from_dict(settings)
    except Exception as error:  # its own validation raises TypeError, ValueError and types of huggingface_hub
        reason = " ".join(str(error).split())[:300]
        raise UnrecognisedCheckpointError(f"{where} makes no sense: {reason}") from error


def check_text(config: Any, where: object, ignore: Ignore, attention: Attention | None) -> None:
    """What can be refused of a text backbone by its config.json alone, before its weights are fetched; others pass.

    Raises:
        UnreadSettingError: as `read_config`.
    """
    if isinstance(config, Mapping) and (config := native(config)).get("model_type") in known.TEXT:
        check_heads(config, where, ignore)
        check_class(config, where, ignore, attention)


def check_heads(settings: Mapping[str, Any], where: object, ignore: Ignore) -> None:
    """Raises UnreadSettingError where the architectures are all of models for another task, such as rerankers."""
    names = settings.get("architectures")
    names = [str(name) for name in names] if isinstance(names, list) else []
    whys = [next((why for end, why in known.HEADS.items() if name.endswith(end)), "") for name in names]
    if names and all(whys):
        ignore.refuse(where, "architectures", names, f"{whys[0]}. As an embedder it would lose its head")


def own_class(settings: Mapping[str, Any], task: str = "AutoModel") -> str:
    """The authors' own class of a backbone that transformers knows too, "" where there is none or both are the same."""
    auto_map = settings.get("auto_map")
    name = auto_map.get(task) if isinstance(auto_map, Mapping) else None
    kind = settings.get("model_type")
    same = known.SAME_CODE.get(kind, ()) if isinstance(kind, str) else ()
    return "" if name is None or str(name).rpartition(".")[2] in same else str(name)


def check_class(settings: Mapping[str, Any], where: object, ignore: Ignore, attention: Attention | None) -> None:
    """Raises UnreadSettingError where only code beside the weights says how the tokens of this backbone see each other."""
    name, kind = own_class(settings), settings["model_type"]
    if not name or attention is not None or (kind in known.DECODERS and settings.get("is_causal") is not None):
        return
    if kind in known.DECODERS:
        why = (
            f"this {kind} has a class of its authors' own, {name}, and such classes often read in both directions, where "
            'transformers\' own reads causally; open it with like="<a registered model whose attention is stated>" (`zoo show` '
            "says it), or set is_causal in config.json"
        )
    else:
        why = f"this {kind} has a class of its authors' own, {name}, which need not compute what transformers' own does"
    ignore.refuse(where, "auto_map", settings["auto_map"], why)
