"""Merge models of one architecture into one, without training.

MODELS are names of `zoo list` or folders, usually fine-tuned from one base. The mean of their weights (uniform) often
beats each of them; greedy adds a model only if the probe does not get worse. task-arithmetic, ties and self-position
start from --base, which the models were trained from. slerp takes two models.

--probe is a file with a few dozen pairs of every task and a column `dataset` that names the task. With it, the default
method is self-position: the weights are found by gradient descent on the probe, every task counting the same, so that a small task is not
drowned by a large one. The table shows loss and recall@1 on the probe for every model and for the merged one; judge the
result on other data.
"""

import argparse
import contextlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._shared import (
    add_ignore,
    add_pair_options,
    check_folder,
    existing,
    integer,
    positive,
    print_json,
    print_table,
    reading,
    real,
    refuse_pair_options,
    source,
    waiting,
)
from zoo.errors import ZooError
from zoo.strangers.folders import Place

if TYPE_CHECKING:
    from zoo.embedder import Embedder

EXAMPLES = (
    "zoo merge runs/a runs/b runs/c --out merged/",
    "zoo merge runs/a runs/b --weights 0.3 0.7 --out merged/",
    "zoo merge runs/a runs/b --base zoo-mini --probe probe.csv --out merged/",
    "zoo merge runs/a runs/b runs/c --method greedy --probe probe.csv --out merged/",
    "zoo merge runs/a runs/b --base zoo-mini --method task-arithmetic --scale 0.4 --out merged/",
    "zoo merge runs/a runs/b --method slerp --weights 0.5 0.5 --out merged/",
    "zoo merge runs/a runs/b --keep runs/a --out merged/  # of two prompts, poolers or preprocessings a's",
    "zoo merge runs/a runs/b --base zoo-mini --method task-arithmetic --weights 1 -1 --unlearn --out merged/",
)
METHODS = ("uniform", "greedy", "task-arithmetic", "slerp", "ties", "self-position")
_NEEDS_BASE, _NEEDS_PROBE = ("task-arithmetic", "ties"), ("greedy", "self-position")
_READ_BY = {  # options, and the methods that read them
    "base": (*_NEEDS_BASE, "self-position"),
    "scale": _NEEDS_BASE,
    "density": ("ties",),
    "steps": ("self-position",),
    "seed": ("self-position",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo merge`."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names of `zoo list`, or folders")
    parser.add_argument("--out", required=True, type=existing, metavar="DIR", help="a new folder for the merged model")
    parser.add_argument("--method", choices=METHODS, help="default: self-position with --probe, else uniform")
    parser.add_argument("--base", metavar="NAME", help="what the models were trained from")
    parser.add_argument("--weights", nargs="+", type=real, metavar="W", help="one per model (default: all equal)")
    parser.add_argument(
        "--unlearn", action="store_true", help="task-arithmetic: negative weights take away what a model learned"
    )
    parser.add_argument(
        "--keep", metavar="MODEL", help="whose prompts, poolers and preprocessing to keep if they differ; or: first"
    )
    parser.add_argument("--scale", type=real, metavar="X", help="of task vectors (default: 0.4; ties: 1)")
    parser.add_argument("--density", type=real, metavar="X", help="of ties: share kept (default: 0.2)")
    parser.add_argument("--probe", metavar="SOURCE", help="pairs of every task: a file, a folder, or hf:ORG/NAME")
    parser.add_argument("--steps", type=positive, metavar="N", help="of self-position (default: 200)")
    parser.add_argument("--seed", type=integer, metavar="N", help="of self-position (default: 0)")
    parser.add_argument("--device", metavar="DEVICE", help="of the probe: cpu, cuda (default: cpu)")
    add_ignore(parser, "or this column of the probe; ")
    probe = parser.add_argument_group("how the probe is read")
    add_pair_options(probe)
    probe.add_argument("--split", metavar="S", help="rows of this split (default: train)")
    parser.add_argument("--json", action="store_true", help="for machines")


def run(arguments: argparse.Namespace) -> int:
    """Merges, saves, and says what the probe thinks of it."""
    from zoo.tables import open_sources
    from zoo.tables.ignoring import settings_to_ignore
    from zoo.tables.options import check_format
    from zoo.training.self_positioning import Probe

    method = arguments.method or ("self-position" if arguments.probe else "uniform")
    _check(arguments, method)
    pairs = None
    if arguments.probe:
        told = reading(arguments)
        pairs = open_sources([arguments.probe], told)
        check_format(told, pairs)
    for name in (*arguments.models, *([arguments.base] if arguments.base else [])):
        source(name)  # a name of no model is reported before the first of the others is read
    with settings_to_ignore(arguments.ignore, *([pairs] if pairs is not None else [])) as settings:
        models = [_source(name, settings) for name in arguments.models]
        base = _source(arguments.base, settings) if arguments.base else None
    probe = None
    if pairs is not None:
        with waiting(f"reading {arguments.probe}"):
            probe = Probe(pairs, _loaded(models[_place(arguments) or 0], arguments.device))
        models = [_loaded(model, arguments.device) for model in models]  # they are scored, so they are needed whole
        base = _loaded(base, arguments.device) if base is not None else None
    # The search has a bar of its own.
    with waiting(f"merging {len(models)} models") if method != "self-position" else contextlib.nullcontext():
        merged, weights, scale = _merged(method, models, base, probe, arguments)
    merged.save_pretrained(arguments.out)
    facts: dict[str, Any] = {"method": method, "models": arguments.models, "base": arguments.base}
    facts |= {"keep": arguments.models[_place(arguments)]} if arguments.keep else {}
    facts |= {"weights": weights, "scale": scale}
    if probe is not None:
        named = {**dict(zip(arguments.models, models, strict=True)), "merged": merged}
        facts["probe"] = {name: [score._asdict() for score in probe.scores(model)] for name, model in named.items()}
        facts["left_out"] = probe.bad
    (Place.of(arguments.out) / "merge.json").write((json.dumps(facts, indent=2) + "\n").encode())
    if arguments.json:
        print_json({"out": str(arguments.out), **facts})
    else:
        _summarise(facts, arguments)
    return 0


def _check(arguments: argparse.Namespace, method: str) -> None:
    count = len(arguments.models)
    if len({Path(name).resolve() if "/" in name else name for name in arguments.models}) < count or count < (
        1 if method == "self-position" else 2
    ):
        raise ZooError("name two different models or more: zoo merge runs/a runs/b --out merged/")
    if method == "slerp" and count != 2:
        raise ZooError(f"slerp merges two models, not {count}; use --method uniform")
    for option, methods in _READ_BY.items():
        if getattr(arguments, option) is not None and method not in methods:
            raise ZooError(f"--{option} is of {', '.join(methods)}; --method {method} does not read it: leave it out")
    if not arguments.probe:
        refuse_pair_options(arguments, "the probe, and there is none: say --probe", "device", "split")
    if method in _NEEDS_BASE and not arguments.base:
        raise ZooError(f"--method {method} needs --base NAME: what the models were trained from")
    if method in _NEEDS_PROBE and not arguments.probe:
        raise ZooError(f"--method {method} needs --probe FILE: a few dozen pairs of every task")
    if arguments.weights and method in _NEEDS_PROBE:
        raise ZooError(f"--method {method} finds the weights itself; leave --weights out, or use --method uniform")
    if arguments.weights and method == "ties":
        raise ZooError("ties takes no --weights; use --scale and --density")
    if arguments.weights and len(arguments.weights) != count:
        raise ZooError(f"--weights gives {len(arguments.weights)} numbers for {count} models; give one each")
    if arguments.weights and method != "task-arithmetic" and not 0 < sum(arguments.weights) < math.inf:
        raise ZooError(f"--weights must have a sum above 0, not {sum(arguments.weights)}")
    if arguments.density is not None and not 0 < arguments.density <= 1:
        raise ZooError(f"--density must be above 0 and at most 1, not {arguments.density}")
    _check_negative(arguments, method)
    _place(arguments)
    out = arguments.out
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise ZooError(f"--out {out} is there already; name a new folder, or remove it first")
    check_folder(out)


def _check_negative(arguments: argparse.Namespace, method: str) -> None:
    """Raises ZooError for what is taken away and not added, unless it was asked for in so many words."""
    negative = [weight for weight in arguments.weights or () if weight < 0]
    scale = arguments.scale is not None and arguments.scale < 0
    if arguments.unlearn and method != "task-arithmetic":
        raise ZooError("--unlearn is of --method task-arithmetic alone, which needs --base NAME")
    if method == "task-arithmetic":
        if (negative or scale) and not arguments.unlearn:
            what = f"--weights {negative[0]}" if negative else f"--scale {arguments.scale}"
            raise ZooError(f"{what} is negative and takes away what was learned; if that is meant, add --unlearn")
    elif negative:
        raise ZooError(
            f"--weights {negative[0]} is negative, which no mean has; to take away what a model learned: --method "
            "task-arithmetic --base NAME --unlearn"
        )
    elif scale:
        raise ZooError(f"--scale must not be negative, not {arguments.scale}")


def _place(arguments: argparse.Namespace) -> int | None:
    """Which model --keep names, None without it."""
    if arguments.keep is None:
        return None
    if arguments.keep in arguments.models:
        return arguments.models.index(arguments.keep)
    if arguments.keep.lower() == "first":
        return 0
    raise ZooError(f"--keep {arguments.keep}: name one of the models, {', '.join(arguments.models)}, or write first")


def _source(name: str, ignore: list[str]) -> "Embedder | Path":
    """A folder as its path, so that its tensors are read one at a time; anything else loaded."""
    from zoo.loading import load_model

    found = source(name)
    return found if isinstance(found, Path) and not ignore else load_model(found, device="cpu", ignore=ignore)


def _loaded(model: "Embedder | Path", device: str | None) -> "Embedder":
    from zoo.arguments import device as device_here
    from zoo.loading import load_model

    model = load_model(model, device="cpu") if isinstance(model, Path) else model
    return model.to(device_here("--device", device or "cpu"))


def _merged(
    method: str, models: list, base: Any, probe: Any, arguments: argparse.Namespace
) -> "tuple[Embedder, list[float], float | None]":
    """The model, its weights and its scale."""
    from zoo.training import merging
    from zoo.training.self_positioning import self_position

    count, scale, keep = len(models), arguments.scale, _place(arguments)
    weights = arguments.weights or [1 / count] * count
    if method == "self-position":
        options = {name: value for name in ("steps", "seed") if (value := getattr(arguments, name)) is not None}
        found = self_position(models, probe, base=base, keep=keep, **options)
        return found.model, list(found.weights), found.scale
    if method == "greedy":
        found = merging.greedy(models, probe.mean_recall, keep=keep)
        return found.model, list(found.weights), None
    if method == "task-arithmetic":
        scale, weights = 0.4 if scale is None else scale, arguments.weights or [1.0] * count
        return merging.task_arithmetic(base, models, scale, weights, keep=keep), weights, scale
    if method == "ties":
        scale = 1.0 if scale is None else scale
        density = 0.2 if arguments.density is None else arguments.density
        return merging.ties(base, models, density, scale, keep=keep), [1.0] * count, scale
    weights = [weight / sum(weights) for weight in weights]
    if method == "slerp":
        return merging.slerp(*models, weights[1], keep=keep), weights, None
    return merging.uniform(models, weights, keep=keep), weights, None


def _summarise(facts: dict[str, Any], arguments: argparse.Namespace) -> None:
    shown = ", ".join(f"{name} {weight:.3f}" for name, weight in zip(facts["models"], facts["weights"], strict=True))
    scale = f", scale {facts['scale']:.3f}" if facts["scale"] is not None else ""
    print(f"{facts['method']}: {shown}{scale}")
    if "keep" in facts:
        print(f"prompts, poolers and preprocessing of {facts['keep']}")
    given, whole = arguments.weights or [], facts["method"] in ("uniform", "slerp")
    if whole and given and abs(sum(given) - 1) > 1e-6:
        print(f"the weights add up to {sum(given):g}, not 1: their shares were taken")
    sign = -1 if (facts["scale"] or 0) < 0 else 1
    if unlearned := [n for n, w in zip(facts["models"], facts["weights"], strict=True) if sign * w < 0]:
        print(f"unlearned: {', '.join(unlearned)}")
    if "probe" in facts:
        tasks = [score["task"] or "probe" for score in facts["probe"]["merged"]]
        headers = [head for task in tasks for head in (f"{task} loss", f"{task} recall@1")]
        rows = [
            (name, *(text for s in scores for text in (f"{s['loss']:.3f}", f"{s['recall']:.3f}")))
            for name, scores in facts["probe"].items()
        ]
        print_table(("model", *headers), rows, numbers=headers)
        for place, reason in facts["left_out"][:5]:
            print(f"left out: {place}: {reason}")
    folder = arguments.out if arguments.out.is_absolute() else f"./{arguments.out}"
    print(f"saved: {folder}")
    print(f'next: zoo encode --model {folder} "a red motorbike"')
