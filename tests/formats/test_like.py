"""A text checkpoint that is read like a registered model has its prompts, unless its own files say others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zoo
from tests.reference.text_published import CASES, write

NAME = "gte-qwen2-1.5b-instruct"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(CASES[NAME], tmp_path / "mine")


def prompts(folder: Path, **settings: object) -> Path:
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def test_prompts_tasks_and_roles_are_the_named_models(folder: Path) -> None:
    spec = zoo.get_spec(NAME)
    for told in ({}, {"prompts": dict(spec.prompts)}):
        model = zoo.load_model(prompts(folder, **told), like=NAME)
        assert model.spec.prompts == spec.prompts
        assert (model.spec.instruction, model.spec.roles) == (spec.instruction, spec.roles)
        assert model.encode_query("a cat").tolist() == model.encode("a cat", prompt=spec.prompts["query"]).tolist()
        model.encode_query("a cat", task="Find animals")


def test_what_the_files_say_counts(folder: Path) -> None:
    model = zoo.load_model(prompts(folder, prompts={"query": "mine: "}), like=NAME)
    assert model.spec.prompts == {"query": "mine: "}
    assert not model.spec.instruction
