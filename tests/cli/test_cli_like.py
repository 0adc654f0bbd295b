"""`--like OTHER`, which is "NAME like OTHER": in every command that opens one model, put together or refused by name."""

import argparse

import pytest

import zoo
from zoo.cli import build_parser, main
from zoo.cli._shared import with_like
from zoo.errors import ZooError

SEVERAL = {"merge", "compare"}  # each model of theirs says it in its own name


def _commands() -> dict[str, argparse.ArgumentParser]:
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices


def test_every_command_that_opens_a_model_takes_it() -> None:
    opens = {name for name, parser in _commands().items() if "--ignore" in parser._option_string_actions}
    takes = {name for name, parser in _commands().items() if "--like" in parser._option_string_actions}
    assert takes == opens - SEVERAL - {name for name in opens if not parser_names_one(name)}
    for name in takes:
        parser = _commands()[name]
        assert parser.get_default("like_of") in {action.dest for action in parser._actions}, name


def parser_names_one(name: str) -> bool:
    """Whether a command has an argument for the name of one model."""
    return bool(
        {action.dest for action in _commands()[name]._actions} & {"model", "models", "name", "source", "teacher"}
    )


def test_it_is_put_together_with_the_name_or_refused() -> None:
    arguments = argparse.Namespace(like="gme-qwen2vl-2b", like_of="model", model="./mine")
    with_like(arguments)
    assert arguments.model == "./mine like gme-qwen2vl-2b"
    with pytest.raises(ZooError, match="leave --like gme-qwen2vl-2b out"):
        with_like(arguments)
    with pytest.raises(ZooError, match="add --model NAME"):
        with_like(argparse.Namespace(like="gme-qwen2vl-2b", like_of="model", model=None))
    several = argparse.Namespace(like="gme-qwen2vl-2b", like_of="models", models=["./mine"])
    with_like(several)
    assert several.models == ["./mine like gme-qwen2vl-2b"]
    with pytest.raises(ZooError, match="is of one model, and there are 2"):
        with_like(argparse.Namespace(like="gme-qwen2vl-2b", like_of="models", models=["a", "b"]))
    untouched = argparse.Namespace(like=None, like_of="model", model=None)
    with_like(untouched)
    assert untouched.model is None


def test_a_checkpoint_is_read_like_the_model_that_it_names(tmp_path, capsys) -> None:
    zoo.build_model("text-test").save_pretrained(tmp_path / "plain")
    folder = str(tmp_path / "plain")
    assert main(["encode", "a", "--model", folder, "--like", "no-such-model"]) == 2
    assert "no model is called 'no-such-model'" in capsys.readouterr().err
    assert main(["encode", "a", "--model", f"{folder} like no-such-model"]) == 2
    assert "no model is called 'no-such-model'" in capsys.readouterr().err
