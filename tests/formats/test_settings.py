"""Settings of checkpoints: each is followed, has no effect, or is refused by name until the caller ignores it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.formats.settings_support import change, check_refused
from tests.reference import write
from zoo.cli import main
from zoo.errors import TableError, UnreadSettingError, UnrecognisedCheckpointError
from zoo.formats.settings import NOTHING, Ignore, Only, Table, read
from zoo.tables.ignoring import settings_to_ignore

TABLE = Table(
    followed={"width"}, inert={"author": "a name"}, held={"residual": Only((None, False), "it adds the input")}
)
SETTINGS = "config_sentence_transformers.json"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "mean"
    write("sentence-mean", folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    import shutil

    return shutil.copytree(written, tmp_path / "checkpoint")


# ---------------------------------------------------------------------------------------------------- the mechanism


def test_what_a_table_follows_is_given_back() -> None:
    settings = {"width": 3, "author": "me", "residual": False}
    assert read(settings, TABLE, "file.json", NOTHING) == settings


def test_all_that_is_refused_is_named_at_once() -> None:
    with pytest.raises(UnreadSettingError) as caught:
        read({"widht": 3, "residual": True}, TABLE, "file.json", NOTHING)
    assert caught.value.keys == ("widht", "residual")
    for said in ("file.json", '"widht" is 3', '"residual" is true: it adds the input', 'ignore=["widht", "residual"]'):
        assert said in str(caught.value)
    assert isinstance(caught.value, UnrecognisedCheckpointError)


def test_what_the_caller_ignores_is_left_out() -> None:
    ignore = Ignore(["text.residual"])
    assert read({"width": 3, "residual": True}, TABLE, "file.json", ignore, "text.") == {"width": 3}
    ignore.say_unmet()


def test_true_is_not_one() -> None:
    held = Table(held={"n": Only((1,), "because")})
    read({"n": 1}, held, "file.json", NOTHING)
    with pytest.raises(UnreadSettingError):
        read({"n": True}, held, "file.json", NOTHING)


def test_a_setting_stands_in_one_column() -> None:
    with pytest.raises(ValueError, match="width"):
        Table(followed={"width"}, inert={"width": "no"})


@pytest.mark.parametrize("wrong", ["truncate_dim", [1], [b"x"]])
def test_ignore_takes_names(wrong: Any, folder: Path) -> None:
    with pytest.raises(TypeError, match="list of str"):
        zoo.load_model(folder, ignore=wrong)


# ------------------------------------------------------------------------------------------------- through load_model


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (SETTINGS, "similarity_fn_name", "euclidean"),
        (SETTINGS, "no_such_setting", 1),
        ("sentence_bert_config.json", "query_expansion", {"strategy": "fixed", "length": 32}),
        ("sentence_bert_config.json", "processing_kwargs", {"text": {"max_length": 3}}),
        ("1_Pooling/config.json", "no_such_setting", 1),
        ("2_Normalize/config.json", "module_input_name", "token_embeddings"),
    ],
)
def test_a_setting_that_is_not_followed(file: str, key: str, value: Any, folder: Path) -> None:
    check_refused(folder, file, key, value)


def test_every_name_of_the_first_module_s_file_is_read(folder: Path) -> None:
    from zoo.formats.known.sentence_transformers import TRANSFORMER_FILES

    (folder / "sentence_bert_config.json").unlink()
    for name in TRANSFORMER_FILES:
        (folder / name).write_text('{"max_seq_length": 7}')
        assert zoo.load_model(folder).spec.max_tokens == 7, name
        (folder / name).unlink()


def test_a_name_that_nothing_refused_is_said(folder: Path) -> None:
    change(folder / SETTINGS, similarity_fn_name="euclidean")
    with pytest.warns(UserWarning, match="similarity_name"):
        zoo.load_model(folder, ignore=["similarity_fn_name", "similarity_name"])
    with pytest.raises(UnreadSettingError):
        zoo.load_model(folder, ignore=["similarity_name"])


def test_of_several_checkpoints_one_is_enough(folder: Path, tmp_path: Path) -> None:
    plain = zoo.build_model("text-test").save_pretrained(tmp_path / "plain")
    change(folder / SETTINGS, similarity_fn_name="euclidean")
    with settings_to_ignore(["similarity_fn_name"]) as settings, warnings.catch_warnings():
        warnings.simplefilter("error")
        for place in (folder, plain):
            zoo.load_model(place, ignore=settings)
    with (
        pytest.raises(TableError, match="--ignore similarity_name"),
        settings_to_ignore(["similarity_name"]) as settings,
    ):
        zoo.load_model(plain, ignore=settings)
    with pytest.warns(UserWarning, match="similarity_name"):  # alone, it is reported as before
        zoo.load_model(plain, ignore=["similarity_name"])


def test_the_command_line_ignores_it_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder / SETTINGS, similarity_fn_name="euclidean")
    assert main(["encode", "kitty", "--model", str(folder), "--json"]) != 0
    assert "--ignore similarity_fn_name" in capsys.readouterr().err
    assert main(["encode", "kitty", "--model", str(folder), "--json", "--ignore", "similarity_fn_name"]) == 0
    assert len(json.loads(capsys.readouterr().out)["vectors"]) == 1


@pytest.mark.parametrize(
    "command", ["embed", "encode", "search", "serve", "eval", "mine", "merge", "verify", "publish", "demo", "train"]
)
def test_every_command_that_opens_a_model_takes_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--ignore KEY" in capsys.readouterr().out
