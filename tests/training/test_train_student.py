"""A text tower that begins as a part of MiniLM: its tokenizer's pieces, its blocks, and the teacher's very vectors where it keeps all."""

import string
from dataclasses import replace
from typing import Any

import pytest
import torch
from zoo.training import Pair
from zoo.training.errors import RecipeError
from zoo.training.recipes.mini import Student
from zoo.training.recipes.mini.student import begin_as_part, make_student, student_tokenizer

import zoo
from tests.training.train_support import fresh
from zoo import Embedder
from zoo.embedder import Tower
from zoo.encoders.bert import BertText
from zoo.heads import Identity
from zoo.inputs.item import Item
from zoo.pooling import Mean

TEXTS = ["a cat on a mat", "Two dogs, asleep.", "it's 3 o'clock", "a photo of an elephant"]
NAME = "all-minilm-l6-v2"


@pytest.fixture(scope="module")
def teacher() -> Embedder:
    return zoo.load_model(NAME, device="cpu")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return student_tokenizer(TEXTS)


def encoder_of(pieces: int, layers: int, hidden: int = 1536, positions: int = 64) -> BertText:
    return BertText(pieces, 384, layers, heads=12, hidden=hidden, positions=positions, max_tokens=64)


def model_of(encoder: BertText) -> Embedder:
    spec = replace(zoo.get_spec("text-test"), name="student", dim=384, dims=(), prompts={})
    return Embedder(spec, [Tower(encoder, Mean(), Identity())]).eval()


class TestTokenizer:
    def test_texts_that_it_was_made_for_fall_into_the_teachers_pieces(self, teacher, tokenizer):
        whole = teacher.towers[0].encoder
        pieces = {row: piece for piece, row in tokenizer.get_vocab().items()}
        assert sorted(pieces) == list(range(tokenizer.get_vocab_size()))
        assert [pieces[row] for row in range(4)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        for text in TEXTS:
            encoding = tokenizer.encode(text)
            assert [pieces[row] for row in encoding.ids] == encoding.tokens
            assert (encoding.tokens[0], encoding.tokens[-1], encoding.ids[0], encoding.ids[-1]) == (
                "[CLS]",
                "[SEP]",
                2,
                3,
            )
            assert len(encoding.ids) == len(whole.prepare_item(Item(text=text)))
        assert tokenizer.encode("A CAT on a mat").tokens == tokenizer.encode("a cat on a mat").tokens

    def test_every_ascii_character_is_read_wherever_it_stands(self, tokenizer):
        characters = set(string.printable) - set(string.whitespace)
        assert len(characters) == 94
        for character in characters:
            for text in (character, f"q{character}", f"{character}q{character}", f"a {character} b"):
                assert "[UNK]" not in tokenizer.encode(text).tokens, text

    def test_unseen_words_fall_into_smaller_pieces_and_other_scripts_are_unknown(self, tokenizer):
        assert "elephant" in tokenizer.encode("an elephant").tokens
        assert tokenizer.encode("zebra").tokens[1:-1] == ["z", "##e", "##b", "##r", "##a"]
        assert student_tokenizer([*TEXTS, "zebra"]).encode("zebra").tokens[1:-1] == ["zebra"]
        assert tokenizer.encode("кошка 猫").tokens[1:-1] == ["[UNK]", "[UNK]"]
        assert tokenizer.encode("café").tokens == tokenizer.encode("cafe").tokens  # as the teacher does

    def test_special_tokens_are_no_words(self, tokenizer):
        assert not [piece for piece in tokenizer.get_vocab() if piece.startswith("[unused")]
        assert "[MASK]" not in tokenizer.get_vocab()
        assert "[UNK]" not in tokenizer.encode("[MASK]").tokens

    def test_long_texts_are_not_cut_by_it(self, tokenizer):
        encoding = tokenizer.encode("cat " * 600)
        assert len(encoding.ids) == 602
        assert len({len(one.ids) for one in tokenizer.encode_batch(["a", "a cat"])}) == 2


class TestBlocks:
    @pytest.mark.parametrize("layers", [(0, 2, 5), (4,)])
    def test_they_are_the_teachers_and_so_are_the_rows_of_its_pieces(self, layers, teacher, tokenizer):
        made = encoder_of(tokenizer.get_vocab_size(), len(layers))
        begin_as_part(made, teacher, tokenizer, Student(layers=layers))
        state, source = made.backbone.state_dict(), teacher.towers[0].encoder.backbone.state_dict()
        for place, layer in enumerate(layers):
            names = [name for name in source if name.startswith(f"encoder.layer.{layer}.")]
            assert len(names) == 16
            for name in names:
                assert torch.equal(state[name.replace(f"layer.{layer}.", f"layer.{place}.")], source[name]), name
        rows = teacher.towers[0].encoder.prepare_item(Item(text=TEXTS[3]))
        of_words, whole = (s["embeddings.word_embeddings.weight"] for s in (state, source))
        assert torch.equal(of_words[tokenizer.encode(TEXTS[3]).ids], whole[rows])
        assert torch.equal(of_words[0], whole[0])  # [PAD] of both
        assert made.prepare_item(Item(text=TEXTS[3])) == tokenizer.encode(TEXTS[3]).ids

    def test_with_all_blocks_it_is_the_teacher(self, teacher, tokenizer):
        model = model_of(encoder_of(tokenizer.get_vocab_size(), 6))
        pairs = [Pair(Item(text=TEXTS[0]), Item(text=TEXTS[1])), Pair(Item(text=TEXTS[2]), Item(text=TEXTS[3]))]
        make_student(model, pairs, Student(layers=tuple(range(6))))
        model.eval()
        torch.testing.assert_close(model.encode(TEXTS), teacher.encode(TEXTS), atol=2e-6, rtol=0)
        # Its own pieces alone decide: a word that it reads in others lies elsewhere.
        assert float((model.encode("zebra") * teacher.encode("zebra")).sum()) < 0.95


class TestRefused:
    @pytest.mark.parametrize(
        ("extra", "depth", "changes", "layers", "said"),
        [
            (1, 3, {}, (0, 2, 5), r"embeddings\.word_embeddings\.weight is \(\d+, 384\) here and \(\d+, 384\) there"),
            (0, 3, {}, (0, 2), r"encoder\.layer\.2\.\S+ is \(384, 384\) here and None there"),
            (0, 3, {}, (0, 0, 5), r"encoder\.layer\.1\.\S+ is \(384, 384\) here and None there"),
            (
                0,
                1,
                {"hidden": 768},
                (0,),
                r"encoder\.layer\.0\.intermediate\.dense\.weight is \(768, 384\) here and \(1536, 384\)",
            ),
            (
                0,
                1,
                {"positions": 1024},
                (0,),
                r"embeddings\.position_embeddings\.weight is \(1024, 384\) here and \(512, 384\)",
            ),
        ],
    )
    def test_a_tower_that_is_no_part(self, extra, depth, changes, layers, said, teacher, tokenizer):
        encoder = encoder_of(tokenizer.get_vocab_size() + extra, depth, **changes)
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        with pytest.raises(RecipeError, match=f"the text tower is no part of {NAME}: {said}"):
            begin_as_part(encoder, teacher, tokenizer, Student(layers=layers))
        assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())

    @pytest.mark.parametrize(
        ("plan", "said"),
        [
            ({"layers": (0, 2, 6)}, r"blocks, 0 to 5, not \(0, 2, 6\)"),
            ({"layers": ()}, r"blocks, 0 to 5, not \(\)"),
            ({"teacher": "e5-small-v2"}, "begins as a part of all-minilm-l6-v2, .* not of 'e5-small-v2'"),
        ],
    )
    def test_a_plan_of_what_the_teacher_has_not(self, plan, said):
        with pytest.raises(RecipeError, match=said):
            Student(**plan)

    def test_a_tower_that_is_no_transformer(self):
        with pytest.raises(RecipeError, match="mini-test: its text tower is no BERT"):
            make_student(fresh("mini-test"), [Pair(Item(text="a"), Item(text="b"))], Student())
