"""Merging models that read their inputs in different ways: refused with both values, or one is kept by name."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from zoo.training.errors import DifferentModelsError
from zoo.training.losses.infonce import InfoNCE
from zoo.training.merging import greedy, slerp, task_arithmetic, ties, uniform
from zoo.training.self_positioning import Probe, self_position

from tests.training.train_support import text_pairs
from zoo import build_model
from zoo.embedder import Embedder
from zoo.fusion import WeightedSum
from zoo.pooling import Cls


def prompted(model: Embedder) -> None:
    model.spec = replace(model.spec, prompts={"query": "ask: ", "document": ""}, default_prompt_name="query")


def pooled(model: Embedder) -> None:
    model.towers[0].pooler = Cls()


def shortened(model: Embedder) -> None:
    model.towers[0].encoder.limit(9)


def cut(model: Embedder) -> None:
    model.spec = replace(model.spec, dims=(8,))


def fused(model: Embedder) -> None:
    model.fusion = WeightedSum(image=0.3)


def resized(model: Embedder) -> None:
    encoder = model.towers[0].encoder
    encoder.transform = replace(encoder.transform, interpolation="bilinear")


# What is done to one of two, and what is said of it with its value first.
WAYS: dict[Callable[[Embedder], None], tuple[str, str]] = {
    prompted: (
        "text-test",
        "its prompt query is 'ask: ' and not 'query: '; .*its default prompt is query and not absent",
    ),
    pooled: ("text-test", "its tower 0 pooler is Cls and not Mean"),
    shortened: ("text-test", "its tower 0 encoder max_tokens is 9 and not "),
    cut: ("text-test", r"its dims is \[8\] and not \[32, 16\]"),
    fused: ("clip-test", "its fusion image is 0.3 and not absent"),
    resized: ("clip-test", "its tower 0 encoder transform.interpolation is bilinear and not bicubic"),
}


def pair(change: Callable[[Embedder], None], name: str) -> tuple[Embedder, Embedder]:
    torch.manual_seed(0)
    first = build_model(name)
    second = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    change(second)
    return first, second


COSTLY = (fused, resized)  # of two towers


@pytest.mark.parametrize(
    "change",
    [pytest.param(w, id=w.__name__, marks=pytest.mark.slow if w in COSTLY else ()) for w in WAYS],
)
def test_they_are_refused_with_both_values_and_one_is_kept_by_its_place(change, tmp_path):
    name, says = WAYS[change]
    first, second = pair(change, name)
    with pytest.raises(DifferentModelsError, match=rf"model 2 .*{says}.*keep=0.*keep=1"):
        uniform([first, second])
    ways = [[first, second]]
    if change in (prompted, pooled):  # folders are read another way
        ways.append([model.save_pretrained(tmp_path / str(i)) for i, model in enumerate((first, second))])
        with pytest.raises(DifferentModelsError, match=says):
            uniform(ways[1])
    for keep, kept in enumerate((first, second)):
        for models in ways:
            merged = uniform(models, [0.25, 0.75], keep=keep)
            for part, tensor in merged.named_parameters():
                expected = 0.25 * first.get_parameter(part) + 0.75 * second.get_parameter(part)
                torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-5)
        facts = [(m.spec.prompts, m.spec.dims, m.spec.default_prompt_name) for m in (merged, kept)]
        assert facts[0] == facts[1]
        for mine, theirs in zip(merged.towers, kept.towers, strict=True):
            assert type(mine.pooler) is type(theirs.pooler)
            assert mine.encoder.config() == theirs.encoder.config()


def test_every_method_refuses_before_any_work_and_keeps():
    first, second = pair(pooled, "text-test")
    scored = []

    def score(model: Embedder) -> float:
        scored.append(model)
        return float(len(scored))

    probe = Probe(text_pairs(12), first, loss=InfoNCE(temperature=0.1))
    methods = {
        "greedy": lambda **keep: greedy([first, second], score, **keep).model,
        "task_arithmetic": lambda **keep: task_arithmetic(first, [first, second], **keep),
        "slerp": lambda **keep: slerp(first, second, **keep),
        "ties": lambda **keep: ties(first, [first, second], **keep),
        "self_position": lambda **keep: self_position([first, second], probe, base=first, steps=1, **keep).model,
    }
    for name, method in methods.items():
        with pytest.raises(DifferentModelsError, match="pooler is Cls and not Mean"):
            method()
        assert not scored
        assert [type(method(keep=keep).towers[0].pooler).__name__ for keep in (0, 1)] == ["Mean", "Cls"], name
        scored.clear()
        with pytest.raises(ValueError, match="place of one of the 2 models"):
            method(keep=2)


def test_how_the_base_reads_does_not_matter():
    first, base = pair(pooled, "text-test")
    merged = task_arithmetic(base, [first], scale=1.0)
    assert type(merged.towers[0].pooler).__name__ == "Mean"
    assert all(torch.allclose(merged.get_parameter(n), p, atol=1e-6) for n, p in first.named_parameters())


def test_weights_below_zero_and_shares_beyond_the_ends_are_refused():
    first, second = pair(lambda _: None, "text-test")
    with pytest.raises(ValueError, match=r"must not be negative, such as -0\.5; task_arithmetic"):
        uniform([first, second], [1.5, -0.5])
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="share must be from 0"):
            slerp(first, second, share)
