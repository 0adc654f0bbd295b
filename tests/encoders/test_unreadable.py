"""Texts that a model cannot read: every token unknown. Counted by the reference tokenizers, refused by name, never by bytes."""

import warnings
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import zoo
from tests.inputs.bad_images import make_image
from tests.reference.vocab import byte_bpe, space_bpe, unigram, wordpiece
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.encoders.open_clip import OpenClipText
from zoo.encoders.static import StaticText
from zoo.encoders.text import TransformersText
from zoo.encoders.tokenizing import load_tokenizer
from zoo.encoders.transformers_dual import HfText
from zoo.encoders.unknown import Vocabulary
from zoo.errors import EmptyTextError, MissingWeightsError, UnreadableTextError
from zoo.inputs.item import Item

RUN = "thequickbrownfox" * 8  # one unbroken run of more than WordPiece's 100 letters
TEXTS = ["a red motorbike", "two dogs 猫", "猫 犬 at dawn", "Привет мир", "猫", "日本語の文章", RUN, RUN + " ok", "🐈"]


def word_pieces(**changes):
    tokenizer = Tokenizer(models.WordPiece(wordpiece(), unk_token="[UNK]", **changes))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = [(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return tokenizer


def pieces(byte_fallback=False):
    vocabulary = unigram(["<s>", "<pad>", "</s>", "<unk>", *([f"<0x{b:02X}>" for b in range(256)] * byte_fallback)])
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return tokenizer


def byte_level():
    vocabulary, merges = byte_bpe(["<s>", "<unk>"])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def byte_fallback():
    vocabulary, merges = space_bpe(["<unk>", "<s>"])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    return tokenizer


def words():
    tokenizer = Tokenizer(
        models.WordLevel({"[UNK]": 0, "a": 1, "red": 2, "motorbike": 3, "dogs": 4}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


KNOW_SOME = {"WordPiece": (word_pieces, "[UNK]"), "Unigram": (pieces, "<unk>"), "WordLevel": (words, "[UNK]")}
KNOW_ALL = {"byte level": byte_level, "byte fallback": byte_fallback, "Unigram of bytes": lambda: pieces(True)}


def counted(tokenizer, unknown, text):
    """The share by transformers' own reading of the text; what stands for nothing but a space is no token."""
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown)
    tokens = [t for t in theirs.convert_ids_to_tokens(theirs(text, add_special_tokens=False).input_ids) if t != "▁"]
    return tokens.count(unknown) / len(tokens)


@pytest.mark.parametrize("kind", KNOW_SOME)
def test_the_share_is_that_of_the_reference_tokenizer(kind):
    make, unknown = KNOW_SOME[kind]
    shares = [load_tokenizer(make(), 256).unknown_share(text) for text in TEXTS]
    assert shares == [counted(make(), unknown, text) for text in TEXTS]
    assert {0.0, 1.0} <= set(shares)
    slow = Vocabulary(
        PreTrainedTokenizerFast(tokenizer_object=make(), unk_token=unknown)
    )  # as the encoders of open_clip
    assert [slow.share(text) for text in TEXTS] == shares
    for text, share in zip(TEXTS, shares, strict=True):
        ids = make().encode("query: " + text).ids
        assert share < 1 or slow.doubtful(ids, text, "query: "), text


@pytest.mark.parametrize("kind", KNOW_ALL)
def test_who_reads_bytes_reads_every_text(kind):
    tokenizer = load_tokenizer(KNOW_ALL[kind](), 256)
    assert tokenizer.vocabulary.unknown is None
    assert [tokenizer.unknown_share(text) for text in TEXTS] == [0.0] * len(TEXTS)


def test_letters_that_the_tokenizer_drops_leave_nothing():
    tokenizer = word_pieces()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(c, "") for c in "猫犬"])
    assert load_tokenizer(tokenizer, 64).unknown_share("猫犬") == 1.0
    model = with_text(StaticText(len(wordpiece()), 16, 64, tokenizer=tokenizer))
    for prompt in ("", "photo of "):
        with pytest.raises(UnreadableTextError):
            model.encode("猫犬", prompt=prompt)


def with_text(encoder):
    """A model of one text tower around this encoder."""
    from zoo.embedder import Embedder, Tower
    from zoo.heads import Identity
    from zoo.pooling import Mean

    spec = replace(zoo.get_spec("text-test"), dim=encoder.width, dims=())
    return Embedder(spec, [Tower(encoder, Mean(), Identity())]).eval()


def encoders():
    rows = len(wordpiece())
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = {"model_type": "bert", "vocab_size": rows, "max_position_embeddings": 256, **small}
    yield "text", TransformersText(bert, 256, tokenizer=word_pieces())
    yield "static", StaticText(rows, 16, 256, tokenizer=word_pieces())
    siglip = {"vocab_size": rows, "max_position_embeddings": 64, "projection_size": 16, **small}
    yield "a dual encoder's", HfText("siglip", siglip, 64, pad_id=0, tokenizer=word_pieces())


@pytest.fixture(scope="module", params=["text", "static", "a dual encoder's"])
def model(request):
    torch.manual_seed(0)
    return with_text(dict(encoders())[request.param])


@pytest.mark.parametrize("text", ["猫", "日本語の文章", "Привет мир", RUN, "🐈"])
def test_what_cannot_be_read_is_an_error_by_name(model, text):
    assert model.unknown_share(text) == 1.0
    for prompt in ("", "query: ", None):
        with pytest.raises(UnreadableTextError, match="item 1: the model can read nothing") as caught:
            model.encode(["a red motorbike", text], prompt=prompt)
        assert caught.value.code == "unreadable-text"
    with pytest.raises(UnreadableTextError):
        model.encode_query(text)


def test_what_can_be_read_in_part_is_embedded(model):
    shares = model.unknown_share(["two dogs", "two dogs 猫", Item(text="a cat")])
    assert shares[0] == shares[2] == 0.0
    assert 0 < shares[1] < 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.encode(["two dogs", "two dogs 猫", RUN + " dogs"]).shape[0] == 3


def test_skip_sets_them_aside_and_streams_say_so_in_place(model, tmp_path):
    texts = ["a red motorbike", "猫", "two dogs"]
    with pytest.warns(UserWarning, match="1 bad items were skipped: item 1: the model can read nothing"):
        kept = model.encode(texts, on_error="skip")
    assert torch.allclose(kept, model.encode(texts[::2]), atol=1e-6)
    assert [r.error and r.error.code for r in model.encode_stream(texts)] == [None, "unreadable-text", None]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    report = embed_dataset(model, tmp_path / "texts.txt", tmp_path / "out", progress=False)
    assert (report.vectors, dict(report.reasons)) == (2, {"unreadable-text": 1})


def test_empty_texts_and_missing_tokenizers_say_what_they_are(model):
    with pytest.raises(EmptyTextError):
        model.unknown_share(["a", " "])
    assert model.unknown_share([]) == []
    with pytest.raises(MissingWeightsError, match="without its tokenizer"):
        with_text(TransformersText(next(encoders())[1].settings, 16)).unknown_share("a")


def test_tokenizers_that_open_clip_wraps(tmp_path):
    from open_clip.tokenizer import HFTokenizer

    PreTrainedTokenizerFast(tokenizer_object=pieces(), unk_token="<unk>", pad_token="<pad>").save_pretrained(tmp_path)
    text_cfg = {
        "context_length": 32,
        "vocab_size": 400,
        "width": 16,
        "heads": 2,
        "layers": 1,
        "hf_tokenizer_name": "a/b",
    }
    tokenizer = HFTokenizer(str(tmp_path), context_length=32, clean="canonicalize")
    model = with_text(OpenClipText({"embed_dim": 16, "text_cfg": text_cfg}, tokenizer=tokenizer))
    shares = model.unknown_share(["A red motorbike!", "two dogs 猫 犬", "猫 犬"])
    assert (shares[0], shares[2]) == (0.0, 1.0)
    assert 0 < shares[1] < 1
    for unread in ("猫 犬", "?!"):  # punctuation is taken away before anything is read
        with pytest.raises(UnreadableTextError):
            model.encode(["a red motorbike", unread])
    bytes_only = OpenClipText(
        {"embed_dim": 16, "text_cfg": {k: v for k, v in text_cfg.items() if k != "hf_tokenizer_name"}}
    )
    assert with_text(bytes_only).unknown_share("猫 犬") == 0.0


@pytest.mark.parametrize("name", [n for n in zoo.list_models("*-test") if "text" in zoo.get_spec(n).modalities])
def test_every_test_model_tells_a_share(name):
    model = zoo.build_model(name)
    shares = model.unknown_share(["a cat", "猫 日本"])
    assert shares[0] == 0.0
    assert 0 <= shares[1] <= 1
    if shares[1] < 1:
        assert len(model.encode(["a cat", "猫 日本"])) == 2
    else:
        with pytest.raises(UnreadableTextError):
            model.encode(["a cat", "猫 日本"])


def test_the_text_of_a_fused_item_counts():
    model = zoo.build_model("mini-test")
    with pytest.raises(UnreadableTextError):
        model.encode(Item(text="猫", image=make_image(24, 24)))
    assert model.unknown_share(Item(text="猫", image=make_image(24, 24))) == 1.0
    assert model.unknown_share(Item(image=make_image(24, 24))) == 0.0


# ----------------------------------------------------------------------------------------------------------- languages


def test_every_published_model_that_reads_texts_says_its_languages():
    wrong = [
        name
        for name in zoo.list_models(tests=True)
        if bool((spec := zoo.get_spec(name)).languages) != ("text" in spec.modalities and not name.endswith("-test"))
    ]
    assert not wrong
    assert zoo.get_spec("multilingual-e5-small").languages == ("multilingual",)
    assert zoo.get_spec("bge-small-en-v1.5").languages == ("en",)
    assert zoo.ModelSpec.from_json(zoo.get_spec("gme-qwen2vl-2b").to_json()).languages == ("en", "zh")
    with pytest.raises(ValueError, match="not 'English'"):
        replace(zoo.get_spec("zoo-mini"), languages=("English",))


def test_the_languages_are_those_of_mtebs_records():
    """Where mteb has the very repository.

    Of Qwen3-VL-Embedding and GTE-Qwen2 it names English, and of EmbeddingGemma those of MIRACL, where their authors name over thirty,
    Chinese too, and over a hundred. E5-Mistral's authors advise English alone, where mteb names five. BGE-M3's name over a hundred,
    where mteb names some thirty.
    """
    others = ("qwen3vl", "embeddinggemma", "gte-qwen2", "e5-mistral", "bge-m3")
    registry = pytest.importorskip("mteb.models.model_implementations").MODEL_REGISTRY
    records = {name.lower(): meta.languages for name, meta in registry.items()}
    found = 0
    for name in zoo.list_models(tests=True):
        spec = zoo.get_spec(name)
        theirs = records.get(spec.hub_id.lower()) if spec.languages and not name.startswith(others) else None
        if theirs:
            found += 1
            ours = {
                "ar": "ara",
                "cs": "ces",
                "de": "deu",
                "en": "eng",
                "es": "spa",
                "fr": "fra",
                "it": "ita",
                "ja": "jpn",
                "ko": "kor",
            }
            ours |= {"nl": "nld", "pt": "por", "zh": "zho"}
            codes = {code.partition("-")[0].replace("cmn", "zho") for code in theirs}
            many = spec.languages == ("multilingual",)
            assert len(codes) > 30 if many else codes == {ours[code] for code in spec.languages}, name
    assert found > 25


def test_the_command_line_says_which_languages_a_model_reads(capsys):
    assert main(["list", "--language", "zh"]) == 0
    listed = capsys.readouterr()
    names = [line.split()[0] for line in listed.out.splitlines()[2:]]
    assert names == zoo.list_models(language="zh")
    assert {"gme-qwen2vl-2b", "siglip2-vit-b16-224"} <= set(names)
    assert "zoo-mini" not in names
    assert "image+text†" in listed.out
    assert "other languages than English" in listed.err
    assert main(["show", "gme-qwen2vl-2b"]) == 0
    assert "English, Chinese" in capsys.readouterr().out
