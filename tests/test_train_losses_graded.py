"""Graded, distillation and size losses against sentence-transformers, closed forms, naive loops and finite differences."""

import math

import pytest
import torch
from torch.nn import functional as F
from zoo.training.losses import UnknownLossError, build_loss
from zoo.training.losses.angle import AnglE, angle_similarity
from zoo.training.losses.base import Loss, Temperature
from zoo.training.losses.cosent import CoSENT, ScoresShapeError
from zoo.training.losses.distillation import Distillation, NoCandidatesError
from zoo.training.losses.infonce import InfoNCE
from zoo.training.losses.matryoshka import CutError, Matryoshka, cut
from zoo.training.losses.matryoshka_2d import Matryoshka2d
from zoo.training.losses.stable_distillation import StableDistillation
from zoo.training.losses.starbucks import Starbucks

from zoo import build_model, load_model
from zoo.embedder import Tower
from zoo.encoders.base import NoSuchBlockError
from zoo.encoders.text import TransformersText
from zoo.heads import Identity, Linear
from zoo.items import Item
from zoo.models.text import byte_tokenizer
from zoo.pooling import Mean


def units(*shape: int, grad: bool = False) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1).requires_grad_(grad)


def exact(loss: Loss) -> Loss:
    """The loss in float64, with the temperature that was asked for rather than its float32."""
    for module in loss.double().modules():
        if isinstance(module, Temperature):
            temperature = round(1 / module.scale.item(), 6)
            module.log_scale.data.fill_(-math.log(temperature))
    return loss


def plain_infonce(**options) -> InfoNCE:
    return exact(InfoNCE(temperature=0.1, symmetric=False, **options))


class Columns(torch.nn.Module):
    """A model for sentence-transformers' losses, whose embeddings of a column are given."""

    def __init__(self, columns):
        super().__init__()
        self.columns = columns

    def forward(self, features):
        return {"sentence_embedding": self.columns[features["column"]]}

    def get_embedding_dimension(self):
        return self.columns[0].shape[-1]


def columns_of(queries, targets):
    """Query, positive and each hard negative, as sentence-transformers' columns."""
    count = len(queries)
    parts = [queries, targets[:count], *targets[count:].view(count, -1, targets.shape[-1]).unbind(1)]
    return Columns(parts), [{"column": i} for i in range(len(parts))]


def st(name: str):
    from sentence_transformers.sentence_transformer import losses

    return getattr(losses, name)


def same(a: torch.Tensor, b: torch.Tensor, *leaves: torch.Tensor, tolerance: float = 1e-10) -> None:
    """Equal values, and equal gradients in the leaves."""
    assert abs(a.item() - b.item()) < tolerance * max(1, abs(b.item()))
    mine, theirs = (torch.autograd.grad(value, leaves, retain_graph=True) for value in (a, b))
    for ours, reference in zip(mine, theirs, strict=True):
        assert (ours - reference).abs().max() < tolerance * max(1, reference.abs().max())


def same_on_sphere(a: torch.Tensor, b: torch.Tensor, *leaves: torch.Tensor) -> None:
    """`same` where the reference makes vectors of unit length again: gradients differ only along the vectors."""
    assert abs(a.item() - b.item()) < 1e-10 * max(1, abs(b.item()))
    mine, theirs = (torch.autograd.grad(value, leaves) for value in (a, b))
    for ours, reference, leaf in zip(mine, theirs, leaves, strict=True):
        difference = ours - reference
        along = (difference * leaf).sum(-1, keepdim=True) * leaf
        assert (difference - along).abs().max() < 1e-9 < reference.abs().max()


# ------------------------------------------------------------------------------------------------ graded pairs


@pytest.mark.parametrize(("name", "theirs"), [("cosent", "CoSENTLoss"), ("angle(in_batch=0)", "AnglELoss")])
@pytest.mark.parametrize("dim", [6, 7])
def test_graded_losses_equal_sentence_transformers(name, theirs, dim):
    queries, targets = units(12, dim, grad=True), units(24, dim, grad=True)
    scores = torch.randint(0, 4, (12,)).double() / 3
    model, features = columns_of(queries, targets[:12])
    reference = st(theirs)(model, scale=20.0)(features, scores)
    same_on_sphere(exact(build_loss(name))(queries, targets, scores=scores), reference, queries, targets)


def test_cosent_equals_a_loop_over_pairs_of_pairs():
    queries, targets, scores = units(9, 5), units(9, 5), torch.tensor([0.0, 1, 0.5, 0.5, 1, 0, 0.2, 0.2, 0.9])
    cosines = (queries * targets).sum(1).tolist()
    total = 1.0
    for i in range(9):
        for j in range(9):
            if scores[i] > scores[j]:
                total += math.exp((cosines[j] - cosines[i]) / 0.05)
    assert exact(CoSENT())(queries, targets, scores=scores).item() == pytest.approx(math.log(total), abs=1e-10)


def test_angle_similarity_is_the_real_and_imaginary_parts_of_a_quotient():
    a, b = units(5, 8), units(5, 8)
    quotient = torch.complex(*a.chunk(2, 1)) * torch.complex(*b.chunk(2, 1)).conj()
    expected = (quotient.real + quotient.imag).sum(1).abs()
    assert (angle_similarity(a, b) - expected).abs().max() < 1e-12
    assert (angle_similarity(a, a) - 1).abs().max() < 1e-12


def test_angle_adds_infonce_of_the_pairs_graded_as_same():
    queries, targets = units(8, 6, grad=True), units(8, 6, grad=True)
    scores = torch.tensor([1.0, 0.2, 1, 0, 0.5, 1, 0.9, 0.4], dtype=torch.float64)
    parts = {weight: exact(AnglE(in_batch=weight))(queries, targets, scores=scores) for weight in (0.0, 3.0)}
    logits, rows = queries @ targets.T / 0.05, scores == 1
    gold = torch.arange(8)[rows]
    both = (F.cross_entropy(logits[rows], gold) + F.cross_entropy(logits.T[rows], gold)) / 2
    same(parts[3.0] - parts[0.0], 3 * both, queries, targets)
    with_cosine = exact(AnglE(in_batch=0, cosine=2.0))(queries, targets, scores=scores)
    same(with_cosine - parts[0.0], 2 * exact(CoSENT())(queries, targets, scores=scores), queries, targets)


@pytest.mark.parametrize("name", ["cosent", "angle", "angle(cosine=1.0)"])
def test_equal_grades_cost_nothing_and_have_a_gradient_of_zero(name):
    queries, targets = units(6, 4, grad=True), units(6, 4, grad=True)
    loss = exact(build_loss(name))(queries, targets, scores=torch.full((6,), 0.5))
    assert loss.item() == 0
    assert all((grad == 0).all() for grad in torch.autograd.grad(loss, (queries, targets)))


@pytest.mark.parametrize("name", ["cosent(learn=True)", "angle(positive=0.5, cosine=0.3)"])
def test_graded_losses_have_the_gradient_of_finite_differences(name):
    loss, scores = exact(build_loss(name)), torch.tensor([0.0, 1, 0.5, 0.5, 1])
    queries, targets = units(5, 4, grad=True), units(5, 4, grad=True)
    assert torch.autograd.gradcheck(
        lambda q, t: loss(q, t, scores=scores), (queries, targets), check_undefined_grad=False
    )


def test_graded_losses_do_not_look_at_hard_negatives_and_check_their_scores():
    queries, targets, scores = units(4, 4), units(12, 4), torch.tensor([0.0, 1, 0.5, 1])
    for name in ("cosent", "angle"):
        loss = exact(build_loss(name))
        assert loss(queries, targets, scores=scores) == loss(queries, targets[:4], scores=scores)
        with pytest.raises(ScoresShapeError, match=r"4 pairs need scores \(4,\), not \(4, 1\)"):
            loss(queries, targets, scores=scores[:, None])


# ------------------------------------------------------------------------------------------------ distillation


def test_group_distillation_equals_sentence_transformers():
    queries, targets, scores = units(6, 5, grad=True), units(24, 5, grad=True), torch.randn(6, 4, dtype=torch.float64)
    model, features = columns_of(queries, targets)
    theirs = st("DistillKLDivLoss")(model, similarity_fct=lambda a, b: (a * b).sum(1), temperature=0.5)
    theirs.teacher_temperature = 0.25
    mine = exact(Distillation("group", temperature=0.5, teacher_temperature=0.25))
    # Theirs is scaled by the square of the student's temperature.
    same(mine(queries, targets, teacher_scores=scores), theirs(features, scores) / 0.25, queries, targets)


@pytest.mark.parametrize("block", [None, 3])
def test_batch_distillation_equals_the_plain_formula(block):
    queries, targets = units(7, 5, grad=True), units(14, 5, grad=True)
    teachers = {"teacher_queries": units(7, 9), "teacher_targets": units(14, 9)}
    loss = exact(Distillation(temperature=0.2, teacher_temperature=0.1, block=block))(queries, targets, **teachers)
    teacher = (teachers["teacher_queries"] @ teachers["teacher_targets"].T / 0.1).softmax(1)
    student = (queries @ targets.T / 0.2).softmax(1)
    same(loss, (teacher * (teacher.log() - student.log())).sum(1).mean(), queries, targets)


def test_student_like_its_teacher_is_at_rest_and_the_teacher_gets_no_gradient():
    queries, targets = units(6, 5, grad=True), units(12, 5, grad=True)
    loss = exact(Distillation(temperature=0.1))
    value = loss(queries, targets, teacher_queries=queries.detach(), teacher_targets=targets.detach())
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert all(grad.abs().max() < 1e-12 for grad in torch.autograd.grad(value, (queries, targets)))
    teachers = {"teacher_queries": units(6, 3, grad=True), "teacher_targets": units(12, 3, grad=True)}
    loss(queries, targets, **teachers).backward()
    assert queries.grad.abs().max() > 0
    assert all(teacher.grad is None for teacher in teachers.values())
    scores = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    exact(Distillation("group", cosine=0.5))(queries, targets, teacher_scores=scores, **teachers).backward()
    assert scores.grad is None
    assert teachers["teacher_queries"].grad is None


def test_a_teacher_that_is_sure_makes_infonce():
    queries, targets = units(5, 8, grad=True), units(15, 8, grad=True)
    sure = torch.eye(15, dtype=torch.float64)
    loss = exact(Distillation(temperature=0.1, teacher_temperature=1e-3))
    same(
        loss(queries, targets, teacher_queries=sure[:5], teacher_targets=sure),
        plain_infonce()(queries, targets),
        queries,
    )
    scores = F.one_hot(torch.zeros(5, dtype=torch.long), 3).double()
    group = exact(Distillation("group", temperature=0.1, teacher_temperature=1e-3))(
        queries, targets, teacher_scores=scores
    )
    same(group, plain_infonce(in_batch=False)(queries, targets), queries, targets)


def test_distillation_adds_infonce_with_the_same_temperature_and_its_masks():
    queries, targets = units(5, 4, grad=True), units(10, 4, grad=True)
    extras = {"teacher_queries": units(5, 4), "teacher_targets": units(10, 4)}
    groups = {
        "query_groups": torch.tensor([0, 0, 1, 2, 3]),
        "target_groups": torch.tensor([0, 0, 1, 2, 3, 1, 1, 4, 5, 6]),
    }
    alone, both = (exact(Distillation(temperature=0.1, infonce=w, symmetric=False)) for w in (0.0, 0.5))
    assert both.may_read == InfoNCE.may_read
    assert alone.may_read == frozenset()
    difference = both(queries, targets, **extras, **groups) - alone(queries, targets, **extras)
    same(difference, 0.5 * plain_infonce()(queries, targets, **groups), queries, targets)
    assert len(list(both.parameters())) == 1


def test_u_marvel_teacher_is_the_mean_of_cosine_and_reranker():
    queries, targets, scores = units(4, 5, grad=True), units(12, 5, grad=True), torch.rand(4, 3, dtype=torch.float64)
    extras = {"teacher_queries": units(4, 7), "teacher_targets": units(12, 7)}
    loss = Distillation("group", cosine=0.5)
    assert loss.reads == {"teacher_scores", "teacher_queries", "teacher_targets"}
    total = 0.0
    for i in range(4):
        own = [i, 4 + 2 * i, 5 + 2 * i]
        cosine = extras["teacher_targets"][own] @ extras["teacher_queries"][i]
        teacher = ((cosine + scores[i]) / 2 / 0.05).softmax(0)
        student = (targets[own] @ queries[i] / 0.05).softmax(0)
        total = total + (teacher * (teacher / student).log()).sum() / 4
    same(exact(loss)(queries, targets, teacher_scores=scores, **extras), total, queries, targets)


def test_learned_temperature_gets_the_gradient_of_finite_differences():
    queries, targets = units(4, 5, grad=True), units(8, 5, grad=True)
    extras = {"teacher_queries": units(4, 3), "teacher_targets": units(8, 3)}
    loss = exact(Distillation(temperature=0.5, learn=True, teacher_temperature=0.3, infonce=0.2))
    raw = loss.temperature.log_scale

    def value(q, t, log_scale):
        return torch.func.functional_call(loss, {"temperature.log_scale": log_scale}, (q, t), extras)

    assert torch.autograd.gradcheck(
        value, (queries, targets, raw.detach().requires_grad_()), check_undefined_grad=False
    )


def test_distillation_of_many_rows_keeps_memory_flat():
    queries, targets = (F.normalize(torch.randn(2048, 8), dim=1).requires_grad_() for _ in range(2))
    teachers = {"teacher_queries": queries.detach(), "teacher_targets": targets.detach()}
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            sizes.extend([out.numel()] if isinstance(out, torch.Tensor) else [])
            return out

    with Watch():
        Distillation()(queries, targets, **teachers).backward()
    assert max(sizes) <= 2**20 < 2048 * 2048


def test_distillation_says_what_is_wrong():
    with pytest.raises(NoCandidatesError, match="zoo mine"):
        Distillation("group")(units(3, 4).float(), units(3, 4).float(), teacher_scores=torch.ones(3, 1))
    with pytest.raises(ScoresShapeError, match="each of the 9 targets, not \\(3, 2\\)"):
        Distillation("group")(units(3, 4).float(), units(9, 4).float(), teacher_scores=torch.ones(3, 2))
    for wrong in ('space="rows"', "teacher_temperature=0", "cosine=0.5"):
        with pytest.raises(UnknownLossError):
            build_loss(f"distillation({wrong})")


def naive_stable(queries, targets, scores, temperature, removed=()):
    """The loss as the paper has it: a loop over queries, ranks and candidates; `removed` holds (query, target)."""
    count, group = scores.shape
    weights, total = scores.softmax(1), 0.0
    for i in range(count):
        own = [i] + [count + i * (group - 1) + k for k in range(group - 1)]
        ranks = [0, *sorted(range(1, group), key=lambda k: -scores[i, k].item())]
        for g, k in enumerate(ranks):
            gone = {own[r] for r in ranks[:g]} | {n for query, n in removed if query == i}
            if own[k] not in gone:
                logits = torch.stack([queries[i] @ targets[n] for n in range(len(targets)) if n not in gone])
                likelihood = queries[i] @ targets[own[k]] / temperature - (logits / temperature).logsumexp(0)
                total = total - weights[i, k] * likelihood
    return total / count


@pytest.mark.parametrize("block", [None, 2])
def test_stable_distillation_equals_a_triple_loop(block):
    queries, targets, scores = units(5, 6, grad=True), units(20, 6, grad=True), torch.randn(5, 4, dtype=torch.float64)
    loss = exact(StableDistillation(temperature=0.2, block=block))(queries, targets, teacher_scores=scores)
    same(loss, naive_stable(queries, targets, scores, 0.2), queries, targets)


def test_stable_distillation_is_infonce_of_groups_of_one_and_of_sure_rewards():
    queries, targets = units(5, 6, grad=True), units(5, 6, grad=True)
    loss = exact(StableDistillation(temperature=0.1))
    same(loss(queries, targets, teacher_scores=torch.randn(5, 1)), plain_infonce()(queries, targets), queries, targets)
    targets = units(15, 6, grad=True)
    sure = torch.tensor([[1e4, 0.0, 1.0]]).expand(5, 3)
    same(loss(queries, targets, teacher_scores=sure), plain_infonce()(queries, targets), queries, targets)
    one = loss(queries[:1], targets[:3], teacher_scores=torch.zeros(1, 3))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(one, (queries, targets)))


def test_stable_distillation_of_a_lower_candidate_leaves_the_better_ones_alone():
    loss = exact(StableDistillation(temperature=0.1))
    loss(units(3, 4), units(9, 4), teacher_scores=torch.tensor([[0.0, -1, 1]] * 3, dtype=torch.float64))
    assert loss.ranked.tolist() == [[0, 4, 3], [1, 6, 5], [2, 8, 7]]
    loss.weights = torch.tensor([[0.0, 0, 1]] * 3, dtype=torch.float64)  # the last in rank alone
    logits = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(loss.row_losses(logits, torch.arange(3), 0).sum(), logits)
    assert (grad[0] != 0).tolist() == [False, True, True, True, False, True, True, True, True]


def test_stable_distillation_adds_infonce_and_leaves_out_what_groups_remove():
    queries, targets, scores = units(4, 5, grad=True), units(12, 5, grad=True), torch.randn(4, 3, dtype=torch.float64)
    alone, both = (exact(StableDistillation(0.1, infonce=w)) for w in (0.0, 2.0))
    difference = both(queries, targets, teacher_scores=scores) - alone(queries, targets, teacher_scores=scores)
    same(difference, 2 * plain_infonce()(queries, targets), queries, targets)
    groups = torch.arange(12)
    groups[4] = 0  # the first hard negative of query 0 is the very thing
    masked = alone(queries, targets, teacher_scores=scores, query_groups=groups[:4], target_groups=groups)
    same(masked, naive_stable(queries, targets, scores, 0.1, removed=[(0, 4)]), queries, targets)


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
            assert (loss.reads, loss.may_read) == (alone.reads, alone.may_read)
    assert build_loss("matryoshka(dims=[4]):matryoshka_2d(dims=[4]):infonce").layers == "all"
    assert build_loss("starbucks(pairs=[[1, 2], [3, 4], [3, 8]]):infonce").layers == (1, 3)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """One tiny BERT as sentence-transformers' model and as a tower of ours: the very same weights."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
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
    theirs = (
        SentenceTransformer(modules=[Blocks(folder), Pooling(16, "mean"), Normalize()], device="cpu").double().eval()
    )
    backbone = theirs[0].auto_model
    settings = backbone.config.to_diff_dict() | {"model_type": "bert"}
    encoder = TransformersText(settings, 40, backbone=backbone, tokenizer=byte_tokenizer())
    return theirs, Tower(encoder, Mean(), Identity()).eval()


TEXTS = [["a cat", "the dog sat", "one"], ["cats", "a dog", "two words"], ["bird", "no", "three more words"]]


def layered(tower, layers):
    """Queries `(3, L, 16)` and targets `(6, L, 16)` of the texts."""
    queries, targets = (
        tower(tower.encoder.prepare([Item(text=text) for text in texts]), layers)
        for texts in (TEXTS[0], [*TEXTS[1], *TEXTS[2]])
    )
    return queries, targets


@pytest.mark.parametrize(("weighting", "kl"), [("uniform", 1.0), ("log", 0.0), ("linear", 0.5)])
def test_matryoshka_2d_equals_sentence_transformers_on_a_bert(bert, weighting, kl):
    model, tower = bert
    mnrl = st("MultipleNegativesRankingLoss")(model, scale=10.0)
    every = {"n_layers_per_step": -1, "n_dims_per_step": -1, "kl_div_weight": kl, "prior_layers_weight": 0.7}
    # Block 1 is number 0 for theirs once the embedding table is gone.
    weigh = {"uniform": lambda i: 1, "log": lambda i: 1 / (1 + math.log(2 + i)), "linear": lambda i: 1 / (2 + i)}
    theirs = st("Matryoshka2dLoss")(model, mnrl, [16, 8, 4], [1, 2, 0.5], **every, layer_weighting=weigh[weighting])
    options = {"dims_per_step": None, "layers_per_step": None, "kl": kl, "prior": 0.7, "weighting": weighting}
    mine = Matryoshka2d(plain_infonce(), [16, 8, 4], [1, 2, 0.5], **options)
    features = [model.preprocess(texts) for texts in TEXTS]
    weights = [p for p in tower.parameters() if p.requires_grad]
    # The third column is one hard negative a query: theirs takes all of them for all queries, as ours does.
    same(mine(*layered(tower, (1, 2, 3, 4))), theirs(features, None), *weights, tolerance=1e-9)


def test_matryoshka_2d_of_one_block_and_the_whole_length_is_the_inner_loss():
    queries, targets = units(5, 1, 8, grad=True), units(5, 1, 8, grad=True)
    inner = plain_infonce()
    same(Matryoshka2d(inner, [8])(queries, targets), inner(queries[:, 0], targets[:, 0]), queries, targets)


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
    queries, targets = units(5, 3, 8, grad=True), units(10, 3, 8, grad=True)
    inner, pairs = plain_infonce(), [[1, 2], [2, 4], [3, 8]]

    def small(vectors, place, dim):
        return F.normalize(vectors[:, place, :dim], dim=-1)

    full = queries[:, 2], targets[:, 2]
    value = inner(*full)
    columns = value.clone()
    for place, dim in ((0, 2), (1, 4)):
        mine = small(queries, place, dim), small(targets, place, dim)
        teacher = (full[0] @ full[1].T / 0.1).softmax(1).detach()
        student = (mine[0] @ mine[1].T / 0.1).softmax(1)
        value = value + inner(*mine) + 2 * (teacher * (teacher / student).log()).sum(1).mean()
        target = torch.cat([small(queries, 2, dim), small(targets, 2, dim)]).softmax(1).detach()
        kl = (target * (target / torch.cat(mine).softmax(1)).log()).sum(1).mean()
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
    with pytest.raises(CutError, match="embeddings of 8 columns to 16"):
        Matryoshka(InfoNCE(), [16])(units(2, 8).float(), units(2, 8).float())
    with pytest.raises(CutError, match=r"\[2, 4\] and embeddings have 8 columns"):
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
        with pytest.raises(UnknownLossError):
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
