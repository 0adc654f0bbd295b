"""Losses over several lengths and depths, and the towers that give the depths: references, formulas, saved and loaded."""

import pytest
import torch
from torch.nn import functional as F
from zoo.training.errors import LossError
from zoo.training.losses import build_loss
from zoo.training.losses.infonce import InfoNCE
from zoo.training.losses.layers import Layers
from zoo.training.losses.matryoshka import Matryoshka, cut
from zoo.training.losses.matryoshka_2d import Matryoshka2d
from zoo.training.losses.starbucks import Starbucks

from tests.training.loss_support import columns_of, exact, plain_infonce, same, same_on_sphere, st, units
from zoo import build_model, load_model
from zoo.embedder import Tower
from zoo.encoders.text import TransformersText
from zoo.errors import NoSuchBlockError
from zoo.heads import Identity, Linear
from zoo.inputs.item import Item
from zoo.models.text import byte_tokenizer
from zoo.pooling import Mean

# ------------------------------------------------------------------------------------------------ sizes


def test_matryoshka_equals_sentence_transformers():
    queries, targets = units(6, 12, grad=True), units(12, 12, grad=True)
    mnrl = st("MultipleNegativesRankingLoss")
    model, features = columns_of(queries, targets)
    theirs = st("MatryoshkaLoss")(model, mnrl(model, scale=10.0), [12, 7, 3], [1.0, 0.5, 2.0])(features, None)
    mine = Matryoshka(plain_infonce(), [12, 7, 3], [1.0, 0.5, 2.0])(queries, targets)
    same_on_sphere(mine, theirs, queries, targets)


def test_matryoshka_of_the_whole_length_is_the_inner_loss_and_shares_its_temperature():
    queries, targets = units(6, 8, grad=True), units(6, 8, grad=True)
    inner = plain_infonce()
    loss = Matryoshka(inner, [8])
    same(loss(queries, targets), inner(queries, targets), queries, targets)
    assert list(loss.parameters()) == list(inner.parameters())
    assert (cut(queries, 3).norm(dim=1) - 1).abs().max() < 1e-12


def test_matryoshka_draws_cuts_anew_from_the_seed():
    queries, targets = units(6, 8), units(6, 8)
    loss = Matryoshka(plain_infonce(), [8, 4, 2], per_step=1)
    values = {round(plain_infonce()(cut(queries, d), cut(targets, d)).item(), 9) for d in (8, 4, 2)}
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        first = loss(queries, targets)
        torch.manual_seed(seed)
        assert loss(queries, targets) == first
        seen.add(round(first.item(), 9))
    assert seen == values


def test_wrappers_read_what_the_inner_loss_reads():
    for text in ("matryoshka(dims=[4, 2]):{}", "matryoshka_2d(dims=[4, 2]):{}", "starbucks(pairs=[[1, 2], [2, 4]]):{}"):
        for inner in ("cosent", "distillation(infonce=0.5)", "stable_distillation"):
            loss, alone = build_loss(text.format(inner)), build_loss(inner)
            own = frozenset() if text.startswith("matryoshka(") else {"empty"}  # for divergences of their own
            assert (loss.reads, loss.may_read) == (alone.reads, alone.may_read | own)
    assert build_loss("infonce + layers + matryoshka(4)").layers == "all"
    with pytest.raises(LossError, match="compares layers already"):
        build_loss("matryoshka(dims=[4]):matryoshka_2d(dims=[4]):infonce")
    assert build_loss("starbucks(pairs=[[1, 2], [3, 4], [3, 8]]):infonce").layers == (1, 3)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """One tiny BERT as sentence-transformers' model and as a tower of ours: the very same weights."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    class Blocks(Transformer):
        def forward(self, features):
            out = super().forward(features)
            if "all_layer_embeddings" in out and len(out["all_layer_embeddings"]) == 5:
                # Theirs counts the embedding table as a layer.
                out["all_layer_embeddings"] = out["all_layer_embeddings"][1:]
            return out

    torch.manual_seed(0)
    folder = str(tmp_path_factory.mktemp("bert"))
    config = {"vocab_size": 260, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    BertModel(BertConfig(**config, intermediate_size=32, max_position_embeddings=40)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), pad_token="[PAD]").save_pretrained(folder)
    theirs = SentenceTransformer(modules=[Blocks(folder), Pooling(16, "mean")], device="cpu").double().eval()
    backbone = theirs[0].auto_model
    settings = backbone.config.to_diff_dict() | {"model_type": "bert"}
    encoder = TransformersText(settings, 40, backbone=backbone, tokenizer=byte_tokenizer())
    return theirs, Tower(encoder, Mean(), Identity()).eval()


TEXTS = [["a cat", "the dog sat", "one"], ["cats", "a dog", "two words"], ["bird", "no", "three more words"]]


def layered(tower, layers):
    """Queries `(3, L, 16)` and targets `(6, L, 16)` of the texts, before they are of unit length."""
    queries, targets = (
        tower(tower.encoder.prepare([Item(text=text) for text in texts]), layers, norms=True)
        for texts in (TEXTS[0], [*TEXTS[1], *TEXTS[2]])
    )
    return queries, targets


@pytest.mark.parametrize(("weighting", "kl"), [("uniform", 1.0), ("log", 0.0), ("linear", 0.5)])
def test_matryoshka_2d_equals_sentence_transformers_on_a_bert(bert, weighting, kl):
    model, tower = bert
    mnrl = st("MultipleNegativesRankingLoss")(model, scale=10.0)
    every = {"n_layers_per_step": -1, "n_dims_per_step": -1, "kl_div_weight": kl, "prior_layers_weight": 0.7}
    theirs = st("Matryoshka2dLoss")(model, mnrl, [16, 8, 4], [1, 2, 0.5], **every, layer_weighting=weighting)
    options = {"dims_per_step": None, "layers_per_step": None, "kl": kl, "prior": 0.7, "weighting": weighting}
    mine = Matryoshka2d(plain_infonce(), [16, 8, 4], [1, 2, 0.5], **options)
    features = [model.preprocess(texts) for texts in TEXTS]
    weights = [p for p in tower.parameters() if p.requires_grad]
    # The third column is one hard negative a query: theirs takes all of them for all queries, as ours does.
    same(mine(*layered(tower, (1, 2, 3, 4))), theirs(features, None), *weights, tolerance=1e-9)


def test_layers_equal_sentence_transformers_on_a_bert(bert):
    model, tower = bert
    mnrl = st("MultipleNegativesRankingLoss")(model, scale=10.0)
    theirs = st("AdaptiveLayerLoss")(
        model, mnrl, n_layers_per_step=-1, prior_layers_weight=0.7, layer_weighting=lambda i: 1
    )
    mine = Layers(plain_infonce(), per_step=None, prior=0.7)
    features = [model.preprocess(texts) for texts in TEXTS]
    weights = [p for p in tower.parameters() if p.requires_grad]
    same(mine(*layered(tower, (1, 2, 3, 4))), theirs(features, None), *weights, tolerance=1e-9)


def test_the_divergence_is_of_states_before_they_are_of_unit_length(bert):
    """Of columns of unit vectors every softmax is nearly flat, and the divergence says nothing."""
    _, tower = bert
    states = layered(tower, (1, 2, 3, 4))
    on, off = (Layers(plain_infonce(), per_step=None, kl=kl)(*states) for kl in (1.0, 0.0))
    flat = [F.normalize(vectors, dim=-1) for vectors in states]
    of_units = Layers(plain_infonce(), per_step=None)(*flat)
    assert (on - off).item() > 3 * (of_units - off).item() > 0


def test_matryoshka_2d_of_one_block_and_the_whole_length_is_the_inner_loss():
    queries, targets = units(5, 1, 8, grad=True), units(5, 1, 8, grad=True)
    inner = plain_infonce()
    same_on_sphere(Matryoshka2d(inner, [8])(queries, targets), inner(queries[:, 0], targets[:, 0]), queries, targets)


def test_matryoshka_2d_draws_every_earlier_block():
    loss = Matryoshka2d(plain_infonce(), [8], kl=0.0)
    touched = set()
    for seed in range(30):
        torch.manual_seed(seed)
        queries, targets = units(4, 4, 8, grad=True), units(4, 4, 8)
        loss(queries, targets).backward()
        used = tuple((queries.grad.abs().sum((0, 2)) > 0).nonzero()[:, 0].tolist())
        assert len(used) == 2
        assert used[1] == 3
        touched.add(used[0])
    assert touched == {0, 1, 2}


def test_starbucks_equals_its_formula_and_one_pair_is_the_inner_loss():
    queries, targets = (torch.randn(n, 3, 8, dtype=torch.float64, requires_grad=True) for n in (5, 10))
    inner, pairs = plain_infonce(), [[1, 2], [2, 4], [3, 8]]

    def small(vectors, place, dim):
        return F.normalize(vectors[:, place, :dim], dim=-1)

    full = small(queries, 2, 8), small(targets, 2, 8)
    value = inner(*full)
    columns = value.clone()
    for place, dim in ((0, 2), (1, 4)):
        mine = small(queries, place, dim), small(targets, place, dim)
        teacher = (full[0] @ full[1].T / 0.1).softmax(1).detach()
        student = (mine[0] @ mine[1].T / 0.1).softmax(1)
        value = value + inner(*mine) + 2 * (teacher * (teacher / student).log()).sum(1).mean()
        target = torch.cat([queries[:, 2, :dim], targets[:, 2, :dim]]).softmax(1).detach()
        student = torch.cat([queries[:, place, :dim], targets[:, place, :dim]]).softmax(1)
        kl = (target * (target / student).log()).sum(1).mean()
        columns = columns + inner(*mine) + 0.3 * kl
    same(Starbucks(inner, pairs, kl=2.0)(queries, targets), value, queries, targets)
    same(Starbucks(inner, pairs, kl=0.3, space="columns")(queries, targets), columns, queries, targets)
    same(Starbucks(inner, [[3, 8]])(queries[:, 2:], targets[:, 2:]), inner(*full), queries, targets)


@pytest.mark.parametrize("space", ["scores", "columns"])
def test_starbucks_divergence_gives_the_full_size_and_the_temperature_no_gradient(space):
    queries, targets = units(5, 2, 8, grad=True), units(5, 2, 8, grad=True)
    inner = exact(InfoNCE(temperature=0.1))
    pairs = [[1, 4], [2, 8]]
    with_kl, without = (Starbucks(inner, pairs, kl=kl, space=space)(queries, targets) for kl in (1.0, 0.0))
    leaves = (queries, targets, inner.temperature.log_scale)
    for a, b in zip(torch.autograd.grad(with_kl, leaves), torch.autograd.grad(without, leaves), strict=True):
        difference = a - b
        if difference.ndim == 0:
            assert difference.abs() < 1e-12
        else:
            assert difference[:, 1].abs().max() < 1e-12 < difference[:, 0, :4].abs().max()


def test_size_losses_have_the_gradient_of_finite_differences():
    queries, targets = units(3, 2, 6, grad=True), units(6, 2, 6, grad=True)
    both = Starbucks(plain_infonce(), [[1, 3], [2, 6]], space="columns", kl=0.0)
    assert torch.autograd.gradcheck(both, (queries, targets), check_undefined_grad=False)
    flat = units(3, 6, grad=True), units(6, 6, grad=True)
    assert torch.autograd.gradcheck(Matryoshka(plain_infonce(), [6, 2], [1, 3]), flat, check_undefined_grad=False)


def test_size_losses_say_what_is_wrong():
    with pytest.raises(LossError, match="embeddings of 8 columns to 16"):
        Matryoshka(InfoNCE(), [16])(units(2, 8).float(), units(2, 8).float())
    with pytest.raises(LossError, match=r"\[2, 4\] and embeddings have 8 columns"):
        Starbucks(InfoNCE(), [[1, 2], [2, 4]])(units(2, 2, 8).float(), units(2, 2, 8).float())
    for wrong in (
        "matryoshka(dims=[]):infonce",
        "matryoshka(dims=[0, 4]):infonce",
        "matryoshka(dims=[4, 4]):infonce",
        "matryoshka(dims=[4, 2], weights=[1]):infonce",
        "matryoshka(dims=[4], per_step=2):infonce",
        "matryoshka:infonce",
        "matryoshka_2d(dims=[4]):matryoshka_2d(dims=[4]):infonce",
        "matryoshka_2d(dims=[4], weighting='square'):infonce",
        "matryoshka_2d(dims=[4], kl_temperature=0):infonce",
        "starbucks(pairs=[]):infonce",
        "starbucks(pairs=[[1]]):infonce",
        "starbucks(pairs=[[2, 4], [1, 8]]):infonce",
        "starbucks(pairs=[[1, 4], [1, 4]]):infonce",
        "starbucks(pairs=[[1, 4]], space='rows'):infonce",
    ):
        with pytest.raises(LossError, match=r"^\w+: |wraps another loss|write a loss like"):
            build_loss(wrong)


# ------------------------------------------------------------------------------------------------ blocks of a tower

CONFIGS = {
    "bert": {"num_hidden_layers": 3},
    "modernbert": {"num_hidden_layers": 3, "local_attention": 16, "pad_token_id": 0, "bos_token_id": 1}
    | {"cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2},
    "qwen2": {"num_hidden_layers": 3, "num_key_value_heads": 2},
    "distilbert": {"n_layers": 3, "dim": 16, "n_heads": 2, "hidden_dim": 32},
}


def text_tower(kind: str) -> Tower:
    sizes = {"vocab_size": 260, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "distilbert":
        sizes = {"vocab_size": 260}
    config = {"model_type": kind, **sizes, "max_position_embeddings": 64, **CONFIGS[kind]}
    return Tower(TransformersText(config, 60, tokenizer=byte_tokenizer()), Mean(), Linear(16, 8)).eval()


@pytest.mark.parametrize("kind", CONFIGS)
@torch.no_grad()
def test_a_block_gives_what_the_tower_cut_there_gives(kind):
    tower = text_tower(kind)
    batch = tower.encoder.prepare([Item(text="some words"), Item(text="a"), Item(text="quite a few more words")])
    layers = tower(batch, (1, 2, 3))
    assert layers.shape == (3, 3, 8)
    assert tower.encoder.depth == 3
    assert (layers.norm(dim=-1) - 1).abs().max() < 1e-5
    assert (tower(batch, [3])[:, 0] - tower(batch)).abs().max() < 1e-5
    assert (layers[:, 0] - layers[:, 2]).abs().max() > 1e-4
    for depth in (2, 1):
        assert tower.encoder.truncate(depth) is tower.encoder
        assert tower.encoder.depth == depth
        assert (tower(batch) - layers[:, depth - 1]).abs().max() < 1e-5
    again = TransformersText(**tower.encoder.config(), tokenizer=byte_tokenizer()).eval()
    assert again.load_state_dict(tower.encoder.state_dict())
    assert again.depth == 1
    assert torch.equal(again(batch).states, tower.encoder(batch).states)


def test_a_model_cut_to_its_first_blocks_is_saved_and_loaded(tmp_path):
    model = build_model("modernbert-test")
    texts = ["a cat", "some more words about a dog"]
    batch = model.towers[0].encoder.prepare([Item(text=text) for text in texts])
    with torch.no_grad():
        expected = model.eval().towers[0](batch, (2,))[:, 0]
    model.towers[0].encoder.truncate(2)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.towers[0].encoder.depth == 2
    assert (loaded.encode(texts) - expected).abs().max() < 1e-5


def test_encoders_say_which_blocks_they_have():
    tower = text_tower("bert")
    batch = tower.encoder.prepare([Item(text="a")])
    with pytest.raises(NoSuchBlockError, match="blocks 1 to 3, not 4"):
        tower(batch, (1, 4))
    with pytest.raises(NoSuchBlockError, match="blocks 1 to 3, not 0"):
        tower.encoder.truncate(0)
    image = build_model("clip-test").towers[0]
    assert image.encoder.depth == 0
    with pytest.raises(NoSuchBlockError, match="gives only its last layer"):
        image({}, (1,))
    shared = {"model_type": "albert", "vocab_size": 260, "hidden_size": 16, "embedding_size": 8, "num_hidden_layers": 2}
    albert = TransformersText({**shared, "num_attention_heads": 2, "intermediate_size": 16}, 60)
    with pytest.raises(NoSuchBlockError, match="albert"):
        albert.truncate(1)
