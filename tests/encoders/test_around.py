"""Prompts that are tokens around a text's: where they stand, what is cut, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import zoo
from zoo.encoders.around import AroundText
from zoo.errors import MissingWeightsError, TooManyTokensError
from zoo.inputs.item import Item
from zoo.models.text import BERT_SPECIALS, bert, byte_tokenizer

LIMIT = 16


@pytest.fixture(scope="module")
def encoder() -> AroundText:
    tokenizer = byte_tokenizer((*BERT_SPECIALS, "<mode>"))
    config = bert(layers=1, width=16, vocab=261, heads=2, positions=LIMIT)
    return AroundText(config, LIMIT, {"mode": "<mode> [SEP] $A", "[": "[ $A ]"}, tokenizer=tokenizer)


def ids(encoder: AroundText, text: str, prompt: str) -> list[str]:
    read = encoder.prepare_item(encoder.prompted(Item(text=text), prompt))
    return [encoder.tokenize.tokenizer.id_to_token(number) for number in read]


def test_the_tokens_stand_between_the_tokenizers_own_and_the_text(encoder: AroundText) -> None:
    assert ids(encoder, "ab", "mode") == ["[CLS]", "<mode>", "[SEP]", "a", "b", "[SEP]"]
    assert ids(encoder, "ab", "[") == ["[CLS]", "[", "a", "b", "]", "[SEP]"]
    assert ids(encoder, "ab", "q") == ["[CLS]", "q", "a", "b", "[SEP]"], "another prompt is letters"
    assert ids(encoder, "ab", "") == ["[CLS]", "a", "b", "[SEP]"]
    instructed = encoder.prompted(Item(text="ab", instruction="c"), "[")
    assert len(encoder.prepare_item(instructed)) == 6, (
        "an item's own instruction stands in the prompt's place: c, a space, ab"
    )


@pytest.mark.parametrize(("prompt", "marks"), [("mode", 2), ("[", 2), ("", 0)])
def test_a_long_text_is_cut_and_they_stay(encoder: AroundText, prompt: str, marks: int) -> None:
    for length in (LIMIT - 2 - marks, LIMIT - 1 - marks, 40):
        text = "a" * length
        found = ids(encoder, text, prompt)
        assert found.count("a") == min(length, LIMIT - 2 - marks)
        assert found[-1] == "[SEP]"
        assert (encoder.cut(encoder.prompted(Item(text=text), prompt)) is None) == (length + 2 + marks <= LIMIT)
    assert ids(encoder, "a" * 40, "[")[-2] == "]"


def test_what_leaves_no_room_for_a_text_is_refused() -> None:
    model = zoo.build_model("sgpt-test")
    model.towers[0].encoder.limit(2)
    with pytest.raises(TooManyTokensError, match="no token is left"):
        model.encode_query("a cat")


def test_a_tokenizer_without_these_tokens_is_another_models(encoder: AroundText) -> None:
    other = AroundText(encoder.settings, LIMIT, {"m": "<other> $A"}, tokenizer=byte_tokenizer())
    with pytest.raises(MissingWeightsError, match="<other>"):
        other.prepare_item(other.prompted(Item(text="a"), "m"))


def test_facts_are_held_to_the_prompts() -> None:
    spec = zoo.get_spec("sgpt-test")
    for around in ({"(": "( $A )"}, {"[": "[ ]"}):
        with pytest.raises(ValueError, match="around is of a prompt"):
            replace(spec, around=around)
    assert zoo.ModelSpec.from_json(spec.to_json()) == spec


def test_it_comes_back_from_a_folder(tmp_path: Path) -> None:
    model = zoo.build_model("sgpt-test")
    model.save_pretrained(tmp_path / "saved")
    again = zoo.load_model(tmp_path / "saved")
    assert (model.encode_query("a [cat]") - again.encode_query("a [cat]")).abs().max() < 1e-6
    assert (again.encode_query("a cat") - again.encode_document("a cat")).abs().max() > 1e-3
