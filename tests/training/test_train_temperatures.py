"""Where temperatures begin (named, the stage before, the checkpoint's own, the loss's default) and where the model's ends."""

import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from zoo.training import train
from zoo.training.dry_run import rehearse
from zoo.training.errors import LossError
from zoo.training.losses import build_loss
from zoo.training.losses.base import Temperature
from zoo.training.merging import slerp, task_arithmetic, uniform
from zoo.training.recipes import umarvel_stages
from zoo.training.self_positioning import self_position
from zoo.training.temperatures import Before, begin, kept, temperatures

from tests.training.train_support import fresh, quick, remove, same_weights, shape_pairs, text_pairs
from zoo import load_model
from zoo.cli import main
from zoo.spec import LogitScale

CALM = {"progress": False, "trackers": (), "report": False}
CLIP, SIGLIP = LogitScale(math.log(50)), LogitScale(math.log(117.0), -16.5)


def model_with(scale: LogitScale | None, name: str = "text-test"):
    model = fresh(name)
    model.logit_scale = scale
    return model


# Loss, the checkpoint's own → temperature at the start, bias, what is said.
BEGINS = [
    ("infonce", None, 0.07, None, "the loss's default"),
    ("infonce", CLIP, 0.02, None, "the checkpoint's own"),
    ("infonce", SIGLIP, 1 / 117, None, "the checkpoint's own"),  # above CLIP's limit of 100
    ("infonce(divisor=True)", CLIP, 0.02, None, "the checkpoint's own"),
    ("infonce(learn=False)", CLIP, 0.02, None, "the checkpoint's own, fixed"),
    ("infonce(temperature=0.05)", CLIP, 0.05, None, "as named"),
    ("infonce(temperature=0.07, learn=False)", CLIP, 0.07, None, "as named, fixed"),
    ("matryoshka(dims=[16, 8]):infonce", CLIP, 0.02, None, "the checkpoint's own"),
    ("focal", CLIP, 0.02, None, "the checkpoint's own"),
    ("infonce(temperature=0.005)", CLIP, 0.005, None, "as named"),  # below CLIP's limit of 0.01
    ("matryoshka(dims=[8]):infonce(temperature=0.005, learn=False)", CLIP, 0.005, None, "as named, fixed"),
    ("infonce(temperature=0.0005, divisor=True)", CLIP, 0.0005, None, "as named"),
    ("infonce(divisor=True)", LogitScale(math.log(2000)), 0.0005, None, "the checkpoint's own"),
    ("sigmoid(temperature=0.002, learn=False)", CLIP, 0.002, -10.0, "as named, fixed"),
    ("cosent(temperature=0.002)", CLIP, 0.002, None, "as named, fixed"),
    ("angle(temperature=0.002)", CLIP, 0.002, None, "as named, fixed"),
    ("gist", CLIP, 0.01, None, "as named, fixed"),  # the paper's, which is no start
    ("gist(learn=True)", CLIP, 0.02, None, "the checkpoint's own"),
    ("distillation", CLIP, 0.05, None, "as named, fixed"),
    ("distillation(learn=True)", CLIP, 0.02, None, "the checkpoint's own"),
    ("sigmoid", None, 0.1, -10.0, "the loss's default"),
    ("sigmoid", CLIP, 0.1, -10.0, "the loss's default"),  # of a softmax: it has no bias to go with
    ("sigmoid", SIGLIP, 1 / 117, -16.5, "the checkpoint's own"),
    ("sigmoid(bias=-3.0)", SIGLIP, 1 / 117, -3.0, "the checkpoint's own"),
    ("sigmoid(temperature=0.2)", SIGLIP, 0.2, -10.0, "as named"),
    ("cosent", CLIP, 0.05, None, "the loss's default, fixed"),
    ("cosent(learn=True)", CLIP, 0.05, None, "the loss's default"),
    ("angle", CLIP, 0.05, None, "the loss's default, fixed"),
]


@pytest.mark.parametrize(("written", "own", "temperature", "bias", "said"), BEGINS)
def test_it_begins(written, own, temperature, bias, said):
    loss = build_loss(written)
    shown = f"temperature {temperature:.3g}" + (f" and bias {bias:.3g}" if bias is not None else "")
    assert begin(loss, model_with(own)) == f"{shown}, {said}"
    ((owner, found),) = temperatures(loss)
    assert 1 / found.scale.item() == pytest.approx(temperature, rel=1e-6)
    assert bias is None or owner.bias.item() == bias
    found.limit()
    assert 1 / found.scale.item() == pytest.approx(temperature, rel=1e-6)
    ended = kept(loss, model_with(own))
    if owner.of_model:
        assert ended.log == pytest.approx(-math.log(temperature), rel=1e-6)
        assert ended.bias == bias  # of a softmax none: an old one would not fit the new scale
    else:
        assert ended == own


@pytest.mark.parametrize("value", ["1e400", "1e-60", "'cold'", "-0.1", "0"])
def test_temperatures_that_are_none_are_refused(value):
    for written in ("infonce", "infonce(divisor=True)", "sigmoid", "cosent", "angle"):
        name, _, rest = written.partition("(")
        with pytest.raises(LossError, match="temperature must be"):
            build_loss(f"{name}(temperature={value}{', ' + rest if rest else ')'}")


def test_the_own_scale_is_taken_bit_by_bit():
    own = LogitScale(float(torch.tensor(3.1415927)))
    loss = build_loss("infonce")
    begin(loss, model_with(own))
    assert kept(loss, model_with(own)) == own


def test_a_loss_without_a_temperature_leaves_the_models():
    loss = build_loss("ranking")
    assert begin(loss, model_with(SIGLIP)) == ""
    assert kept(loss, model_with(SIGLIP)) == SIGLIP


def test_what_the_stage_before_learned_goes_on_for_losses_of_its_kind():
    first, second = build_loss("cosent(learn=True)"), build_loss("cosent(learn=True)")
    first.temperature.begin(math.log(30))
    model = model_with(None)
    assert begin(second, model, Before("grades", first)) == "temperature 0.0333, where the stage grades ended"
    for other, temperature in (("infonce", 0.07), ("angle(learn=True)", 0.05)):
        begun = begin(build_loss(other), model, Before("grades", first))
        assert begun == f"temperature {temperature}, the loss's default"
    for before in (first, build_loss("ranking")):  # neither had the model's own
        begun = begin(build_loss("infonce"), model_with(CLIP), Before("grades", before))
        assert begun == "temperature 0.02, the checkpoint's own"


def start_and_end(folder: Path) -> tuple[float, float]:
    """Temperatures after the first and the last step."""
    lines = [json.loads(line)["temperature"] for line in (folder / "metrics.jsonl").open()]
    return lines[0], lines[-1]


def test_a_run_begins_at_the_checkpoints_own_and_saves_where_it_ended(tmp_path, capsys):
    model = model_with(CLIP)
    train(model, text_pairs(), quick(lr=1e-2), tmp_path, **{**CALM, "progress": True})
    assert "quick: temperature 0.02, the checkpoint's own" in capsys.readouterr().out
    first, last = start_and_end(tmp_path)
    assert first == pytest.approx(0.02, rel=0.02)
    assert abs(last / 0.02 - 1) > 0.005
    assert load_model(tmp_path).logit_scale == model.logit_scale
    assert model.logit_scale.temperature == pytest.approx(last, rel=1e-6)


def stages():
    return (
        quick(name="first", loss="infonce(temperature=0.05)", lr=2e-2),
        quick(name="second", loss="infonce(divisor=True)", lr=2e-3),
        quick(name="third", lr=2e-2),
        quick(name="fourth", loss="infonce(temperature=0.05)", steps=1),
    )


def test_stages_pass_it_on_and_a_name_sets_it_anew(tmp_path, capsys):
    train(fresh("text-test"), text_pairs(), stages(), tmp_path / "a", **{**CALM, "progress": True})
    said = capsys.readouterr().out
    names = ("first", "second", "third", "fourth")
    ends = [start_and_end(tmp_path / "a" / f"stage-{i}-{name}") for i, name in enumerate(names, 1)]
    assert "first: temperature 0.05, as named" in said
    assert f"second: temperature {ends[0][1]:.3g}, where the stage first ended" in said
    assert f"third: temperature {ends[1][1]:.3g}, where the stage second ended" in said
    assert "fourth: temperature 0.05, as named" in said
    assert ends[1][0] == pytest.approx(ends[0][1], rel=0.2)
    assert abs(ends[0][1] / 0.05 - 1) > 0.02
    # In the middle of a later stage, as a kill would have left it.
    whole, stopped = load_model(tmp_path / "a"), tmp_path / "a"
    remove(stopped / "stage-3-third" / "checkpoints" / "step-00000006")
    remove(stopped / "stage-4-fourth")
    again = train(fresh("text-test"), text_pairs(), stages(), stopped, resume=True, **CALM)
    assert same_weights(whole, again)
    assert again.logit_scale == whole.logit_scale


def test_u_marvels_later_stages_go_on():
    losses = [build_loss(stage.loss) for stage in umarvel_stages()]
    named = [[t.named for _, t in temperatures(loss)] for loss in losses]
    assert named == [[True], [True], [False], [False], [False]]
    assert [t.learn for loss in losses for _, t in temperatures(loss)] == [False, False, True, True, True]


def test_the_dry_run_and_the_command_say_it(tmp_path, capsys):
    facts = rehearse(model_with(CLIP), text_pairs(), quick())
    assert facts["quick: begins with"] == "temperature 0.02, the checkpoint's own"
    folder = model_with(CLIP).save_pretrained(tmp_path / "clip")
    lines = "\n".join(f"{p.query.text}\t{p.positive.text}" for p in text_pairs())
    (tmp_path / "pairs.tsv").write_text(f"query\tpositive\n{lines}\n")
    assert main(["train", str(tmp_path / "pairs.tsv"), "--model", str(folder), "--dry-run"]) == 0
    assert "temperature 0.02, the checkpoint's own" in capsys.readouterr().out


def test_merging_treats_it_as_one_more_weight(tmp_path):
    models = [model_with(LogitScale(log)) for log in (1.0, 2.0, 4.0)]
    assert uniform(models[:2], [1, 3]).logit_scale.log == pytest.approx(1.75)
    assert task_arithmetic(models[0], models[1:], scale=0.5).logit_scale.log == pytest.approx(1 + 0.5 * (1 + 3))
    assert slerp(models[0], models[1], 0.25).logit_scale.log == pytest.approx(1.25)
    folders = [model.save_pretrained(tmp_path / str(i)) for i, model in enumerate(models[:2])]
    assert uniform(folders).logit_scale.log == pytest.approx(1.5)
    for place, stays in enumerate((None, LogitScale(1.0))):
        lacking = [model_with(None), models[0]] if place == 0 else [models[0], model_with(None)]
        with pytest.warns(UserWarning, match=rf"no temperature is merged, for model {place + 1} .*states none"):
            assert uniform(lacking).logit_scale == stays
    with pytest.warns(UserWarning, match=r"the base \(text-test\) states none: 0.135, that of text-test, is kept"):
        assert task_arithmetic(model_with(None), models[1:]).logit_scale == LogitScale(2.0)
    with pytest.warns(UserWarning, match=r"no bias beside its temperature, as model 1 .*has none"):
        assert uniform([models[0], model_with(SIGLIP)]).logit_scale.bias is None
    with warnings.catch_warnings():  # nothing to say where none has one, or all have all
        warnings.simplefilter("error")
        assert uniform([model_with(None), model_with(None)]).logit_scale is None
        assert uniform([model_with(SIGLIP), model_with(SIGLIP)]).logit_scale == SIGLIP


def test_self_position_merges_it_as_the_weights():
    base, *models = (model_with(LogitScale(log)) for log in (1.0, 2.0, 4.0))
    found = self_position(models, text_pairs(), base=base, steps=1)
    moves = zip(found.weights, (1.0, 3.0), strict=True)
    assert found.model.logit_scale.log == pytest.approx(1 + found.scale * sum(w * m for w, m in moves))
    found = self_position(models, text_pairs(), steps=1)
    assert found.model.logit_scale.log == pytest.approx(
        sum(w * log for w, log in zip(found.weights, (2, 4), strict=True))
    )
    base.logit_scale = None
    with pytest.warns(UserWarning, match=r"the base .*states none"):
        assert self_position(models, text_pairs(), base=base, steps=1).model.logit_scale == LogitScale(2.0)


def test_that_of_anothers_checkpoint_is_merged_too(copy):
    """Folders that are not ours are loaded, not read tensor by tensor."""
    path = copy("transformers-clip")
    other = load_model(path)
    own = other.logit_scale
    other.logit_scale = LogitScale(own.log - 1)
    assert uniform([path, other]).logit_scale.log == pytest.approx(own.log - 0.5)
    assert uniform([other, path], [1, 3]).logit_scale.log == pytest.approx(own.log - 0.25)


@pytest.mark.slow
def test_images_too(tmp_path):
    model = model_with(SIGLIP, "siglip-test")
    train(model, shape_pairs(), quick(loss="sigmoid", steps=2), tmp_path, **CALM)
    assert start_and_end(tmp_path)[0] == pytest.approx(1 / 117, rel=0.01)
    assert load_model(tmp_path).logit_scale == model.logit_scale
    assert model.logit_scale.bias == pytest.approx(-16.5, abs=0.02)
    assert model.logit_scale.bias != -16.5
    assert Temperature(0.001, learn=True).scale.item() == pytest.approx(1000)  # as named, beyond where CLIP stops
