"""Rerankers by name: as facts, and as shapes with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.arguments import checked, flag, one_of, optional, text, whole
from zoo.errors import UnknownModelError, UnrecognisedCheckpointError
from zoo.modalities import MODALITIES, Modality
from zoo.registry.absent import ABSENT_RERANKERS, why_absent
from zoo.registry.names import Names
from zoo.reranking.spec import RerankerSpec, check_names
from zoo.sequences import check_marked

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker

Builder = Callable[[RerankerSpec], "Reranker"]
Facts = dict[str, Any]  # those that the rerankers of a family share
RERANKERS: Names[RerankerSpec] = Names(RerankerSpec, "rerankers", "reranker")


def register_reranker(**facts: Any) -> Callable[[Builder], Builder]:
    """Registers the decorated builder under its own name, with hyphens, or `name=`; the facts are those of `RerankerSpec`.

    Raises:
        ArgumentError: a fact is unknown, missing or of another type.
        ValueError: the name is taken or badly spelled, or a fact is wrong.
    """
    check_names({"name": "", **facts})
    judge = facts.get("judge")
    check_marked(getattr(judge, "media", None), getattr(judge, "format", None))
    return RERANKERS.register(**facts)


@checked(
    pattern=text,
    modality=optional(one_of(*MODALITIES)),
    max_params=optional(whole(0)),
    license=optional(text),
    language=optional(text),
    tests=flag,
)
def list_rerankers(
    pattern: str = "*",
    *,
    modality: Modality | None = None,
    max_params: int | None = None,
    license: str | None = None,
    language: str | None = None,
    tests: bool = False,
) -> list[str]:
    """Names of registered rerankers, sorted, that match all conditions; these are as those of `zoo.list_models`."""
    conditions = {"modality": modality, "max_params": max_params, "license": license, "language": language}
    return RERANKERS.listed(pattern, tests=tests, **conditions)


def is_reranker(name: str) -> bool:
    """Whether a reranker is called so, one for tests too."""
    return name in RERANKERS


@checked(name=text)
def get_reranker_spec(name: str) -> RerankerSpec:
    """The facts of a registered reranker.

    Raises:
        UnknownModelError: no such name; the message gives the nearest ones.
    """
    if name in RERANKERS:
        return RERANKERS[name]
    if why := why_absent(name, ABSENT_RERANKERS):
        raise UnknownModelError(f"no reranker is called {name!r}: {why}")
    near, offered = RERANKERS.nearest(name), list_rerankers()
    told = f"nearest: {', '.join(near)}" if near else f"known are {', '.join(offered)}"
    raise UnknownModelError(f"no reranker is called {name!r}; {told}. Any other: hf:ORG/REPO, or ./FOLDER")


def like(name: str) -> RerankerSpec:
    """The facts of the reranker that a checkpoint is asked like: a registered name, or what the names of several begin with
    that are all asked in one way ("qwen3vl-reranker").

    Raises:
        UnknownModelError: no such name.
    """
    if is_reranker(name):
        return RERANKERS[name]
    family = [RERANKERS[known] for known in list_rerankers() if known.startswith(f"{name}-")]
    if family and all(spec.judge == family[0].judge for spec in family):
        return family[0]
    raise UnknownModelError(f"there is no reranker {name!r}; known are {', '.join(list_rerankers())}")


def for_backbone(model_type: object) -> list[RerankerSpec]:
    """A reranker for each way in which checkpoints of this backbone are asked; [] for a backbone of none."""
    specs = [RERANKERS[name] for name in list_rerankers()]
    ways: list[RerankerSpec] = []
    for spec in specs:
        if spec.judge is None:
            continue
        if spec.judge.format.backbone == model_type and all(spec.judge != other.judge for other in ways):
            ways.append(spec)
    return ways


def published_as(repo: str) -> RerankerSpec | None:
    """The registered reranker whose weights are this repository of the Hub; None without one."""
    return RERANKERS.published_as(repo)


@checked(name=text)
def build_reranker(name: str) -> "Reranker":
    """The shape of a registered reranker with random weights; needs no network. For trained weights: `load_reranker`.

    Raises:
        UnknownModelError: no such name. UnrecognisedCheckpointError: what was built reads less than the facts promise.
    """
    spec = get_reranker_spec(name)
    model = RERANKERS.builder(name)(spec)
    check_promise(spec, model)
    return model.eval()


def reranker_meant(source: Any) -> str:
    """The name of the reranker that is meant, one loaded, its name or its folder; "" for what is none."""
    from zoo.reranking.recognising import says_reranker

    spec = getattr(source, "spec", None)
    if isinstance(spec, RerankerSpec):
        return spec.name
    if not isinstance(source, str | Path):
        return ""
    return str(source) if is_reranker(str(source)) or says_reranker(Path(source).expanduser()) else ""


def check_promise(spec: RerankerSpec, model: "Reranker") -> None:
    """Raises UnrecognisedCheckpointError where a reranker does not read what is registered under its name."""
    if model.spec.judge != spec.judge or not spec.modalities <= model.encoder.modalities:
        raise UnrecognisedCheckpointError(
            f"{spec.name} should read {sorted(spec.modalities)} as its facts say; what was built reads "
            f"{sorted(model.encoder.modalities)}"
        )
