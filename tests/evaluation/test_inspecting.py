"""What a model is like: every measure against an independent reference, and a whole inspection against the evaluation of pairs."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import zoo
from zoo.embedder import Embedder
from zoo.errors import (
    MissingPackError,
    NonFiniteEmbeddingError,
    NoResultError,
    ResultsError,
    TokenVectorsError,
    VectorError,
)
from zoo.evaluation import evaluate_pairs
from zoo.evaluation.inspecting import Inspection, inspect_model, measures, read_inspection
from zoo.evaluation.inspecting.changes import CHANGES, compressed, cropped, turned, typos
from zoo.evaluation.inspecting.keeping import keep, with_block
from zoo.evaluation.inspecting.material import cut_to, spread
from zoo.evaluation.inspecting.sides import found_first
from zoo.evaluation.inspecting.telling import rows_of
from zoo.evaluation.results import Result
from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair

WORDS = ["red", "blue", "green", "small", "large", "old", "new", "round", "flat", "tall"]
THINGS = ["cat", "dog", "car", "boat"]


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape).double(), dim=1)


def axes(dim: int) -> torch.Tensor:
    """Every axis both ways: the most even spread that there is."""
    return torch.cat([torch.eye(dim), -torch.eye(dim)]).double()


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (20, 24, 3), dtype=np.uint8)


def captioned(count: int = 14) -> list[Pair]:
    texts = [f"a {word} {thing}" for word in WORDS for thing in THINGS][:count]
    return [Pair(Item(text=text), Item(image=image(number)), group=text) for number, text in enumerate(texts)]


def sentences(count: int = 14) -> list[Pair]:
    texts = [f"a {word} {thing}" for word in WORDS for thing in THINGS][:count]
    return [Pair(Item(text=text), Item(text=f"{text} stands in the street")) for text in texts]


@pytest.fixture(scope="module", autouse=True)
def _no_packs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_DATA", str(tmp_path_factory.mktemp("empty")))
        yield


@pytest.fixture(scope="module")
def inspected() -> tuple[Embedder, list[Pair], Inspection]:
    """A model of images and text, pairs, and what it is like on them."""
    model, pairs = zoo.build_model("mini-test"), captioned()
    return model, pairs, inspect_model(model, {"mine": pairs}, progress=False)


class TestMeasures:
    def test_mean_cosine_is_that_of_all_different_pairs(self) -> None:
        from sklearn.metrics.pairwise import cosine_similarity

        x = torch.randn(40, 7).double() + 0.5
        cosines = cosine_similarity(x.numpy())
        assert measures.mean_cosine(x) == pytest.approx(cosines[~np.eye(40, dtype=bool)].mean())
        assert measures.mean_cosine(torch.ones(3, 4)) == pytest.approx(1)
        assert measures.mean_cosine(axes(5)) == pytest.approx(-1 / 9)

    def test_effective_rank_is_the_exponential_of_an_entropy(self) -> None:
        from scipy.stats import entropy

        x = unit(50, 9)
        sigma = np.linalg.svd(x.numpy() - x.numpy().mean(0), compute_uv=False)
        assert measures.effective_rank(x) == pytest.approx(np.exp(entropy(sigma)))
        assert measures.effective_rank(axes(6)) == pytest.approx(6)
        assert measures.effective_rank(axes(6)[[0, 6]]) == pytest.approx(1)
        assert measures.effective_rank(torch.ones(4, 6)) == 0

    def test_isoscore_is_that_of_the_steps_of_the_paper(self) -> None:
        from sklearn.decomposition import PCA

        x = (unit(60, 8) * torch.linspace(1, 3, 8)).double()
        x = F.normalize(x, dim=1)
        n = x.shape[1]
        variances = np.diag(np.cov(PCA().fit_transform(x.numpy()).T))
        scaled = np.sqrt(n) * variances / np.linalg.norm(variances)
        defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (n - np.sqrt(n)))
        share = (n - defect**2 * (n - np.sqrt(n))) ** 2 / n**2
        assert measures.isoscore(x) == pytest.approx((n * share - 1) / (n - 1))
        assert measures.isoscore(axes(6)) == pytest.approx(1)
        assert measures.isoscore(axes(6)[[0, 6]]) == pytest.approx(0)

    @pytest.mark.parametrize("dim", [12, 90])  # more vectors than dimensions, and fewer
    def test_separability_is_a_ridge_classifier_by_five_folds(self, dim: int) -> None:
        from sklearn.linear_model import RidgeClassifier
        from sklearn.model_selection import PredefinedSplit, cross_val_score

        left, right = unit(40, dim), F.normalize(torch.randn(40, dim).double() + 0.12, dim=1)
        x, y = torch.cat([left, right]).numpy(), np.repeat([0, 1], 40)
        folds = PredefinedSplit(np.tile(np.arange(40) % 5, 2))
        expected = cross_val_score(RidgeClassifier(alpha=1.0), x, y, cv=folds).mean()
        assert 0.5 < expected < 1
        assert measures.separability(left, right) == pytest.approx(expected)

    def test_separability_of_sides_apart_and_of_unequal_size(self) -> None:
        apart = F.normalize(torch.randn(80, 6).double() * 0.1 + torch.eye(6)[0], dim=1)
        assert measures.separability(apart, -apart[:30]) == 1
        with pytest.raises(VectorError, match="10"):
            measures.separability(apart[:9], apart)

    def test_hubness_is_the_skewness_of_neighbour_counts(self) -> None:
        from scipy.stats import skew
        from sklearn.neighbors import NearestNeighbors

        x, y = unit(70, 5), unit(90, 5)
        found = NearestNeighbors(n_neighbors=10, metric="cosine").fit(y.numpy()).kneighbors(x.numpy())[1]
        expected = np.bincount(found.ravel(), minlength=90)
        counts = measures.occurrences(x, y)
        assert counts.tolist() == expected.tolist()
        assert measures.skewness(counts) == pytest.approx(skew(expected))
        assert measures.never_found(counts) == (expected == 0).mean()
        own = NearestNeighbors(n_neighbors=10, metric="cosine").fit(y.numpy()).kneighbors()[1]
        assert measures.occurrences(y, y, itself=True).tolist() == np.bincount(own.ravel(), minlength=90).tolist()
        assert measures.skewness(torch.full((9,), 3)) == 0
        with pytest.raises(VectorError, match="too few"):
            measures.occurrences(x, y[:10])
        with pytest.raises(VectorError, match=r"17 queries are too few .* 90 candidates .* 18"):
            measures.occurrences(x[:17], y)
        assert measures.occurrences(x[:18], y).sum() == 180

    def test_kept_is_the_cosine_row_by_row(self) -> None:
        x, y = unit(5, 4), unit(5, 4)
        assert measures.kept(x, 3 * x) == pytest.approx(np.ones(5))
        assert measures.kept(x, y) == pytest.approx([float(a @ b) for a, b in zip(x, y, strict=True)])
        with pytest.raises(VectorError, match="one input"):
            measures.kept(x, y[:3])

    @pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 0.0])
    def test_what_is_no_direction_is_refused_by_its_row(self, wrong: float) -> None:
        x = unit(12, 4)
        x[3] = wrong
        for measure in (measures.mean_cosine, measures.effective_rank, measures.isoscore):
            with pytest.raises(VectorError, match=r"1 of 12 .* row 3"):
                measure(x)

    def test_one_vector_has_no_spread(self) -> None:
        with pytest.raises(VectorError, match="at least two"):
            measures.mean_cosine(unit(1, 4))
        with pytest.raises(VectorError, match="two dimensions"):
            measures.isoscore(unit(4, 1))


class TestChanges:
    @pytest.mark.parametrize("text", ["a red motorbike", "ein grünes Auto", "красный мотоцикл", "赤い自転車です"])
    def test_typos_are_few_always_the_same_and_stay_in_the_script(self, text: str) -> None:
        once = typos(text)
        assert once != text
        assert once == typos(text)
        assert abs(len(once) - len(text)) <= 1
        assert set(once) <= set(text)
        assert typos(text, 0.5) != once

    def test_what_has_no_two_letters_has_no_typo(self) -> None:
        assert [typos(text, 0.5) for text in ("", "a", "12 + 3", "aaa")] == ["", "a", "12 + 3", "aaa"]

    def test_images_are_turned_cropped_and_compressed(self) -> None:
        pixels = image(1)
        assert np.array_equal(turned(turned(pixels, 90), 270), pixels)
        assert np.array_equal(turned(pixels, 180), pixels[::-1, ::-1])
        assert turned(pixels, 30).shape == pixels.shape
        assert np.array_equal(cropped(pixels, 0.5), pixels[5:15, 6:18])
        coarse, fine = (np.abs(load_pixels(compressed(pixels, q)).astype(int) - pixels).mean() for q in (10, 95))
        assert coarse > fine > 0

    def test_every_change_gives_an_item_of_its_kind(self) -> None:
        whole = {"text": Item(text="a red motorbike"), "image": Item(image=image(2))}
        for change in CHANGES:
            assert change.make(whole[change.kind]).modalities == {change.kind}


def test_the_same_texts_at_every_length() -> None:
    texts = [" ".join(f"{number}-{word}" for word in range(40)) for number in range(35)]
    found = cut_to([*texts, texts[0] + " once more", "short"], 50)
    assert list(found) == [4, 8, 16, 32]
    assert {len(some) for some in found.values()} == {35}, "of two that begin alike one is left"
    assert all(long.startswith(short) for short, long in zip(found[4], found[32], strict=True))
    assert cut_to(["too few words"] * 40, 50) == {}


def test_a_sample_is_even_over_groups() -> None:
    assert spread("abcdef", "xxxxyz", 4) == ["a", "b", "e", "f"]
    assert spread("abc", "xyz", 9) == ["a", "b", "c"]


def test_ties_and_items_themselves_are_found_by_nobody() -> None:
    x = torch.eye(3)
    assert found_first(x, torch.ones(3, 3), torch.eye(3).bool()).tolist() == [0, 0, 0]
    beside = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0]])
    right = torch.tensor([[False, True]])
    assert found_first(x[:1], beside, right).tolist() == [0]
    assert found_first(x[:1], beside, right, torch.tensor([[True, False]])).tolist() == [1]


class TestInspection:
    def test_its_figures_are_those_of_the_evaluation_of_pairs(self, inspected) -> None:
        model, pairs, found = inspected
        sides = [pair.query for pair in pairs], [pair.positive for pair in pairs], [pair.group for pair in pairs]
        scores = evaluate_pairs(model, *sides)
        assert found.value("alignment") == pytest.approx(scores.alignment, abs=1e-6)
        assert found.value("modality gap", way="text, image") == pytest.approx(scores.gap, abs=1e-6)
        both = [found.value("uniformity", part=kind) for kind in ("text", "image")]
        assert sum(both) / 2 == pytest.approx(scores.uniformity, abs=1e-5)
        for way, ranking in (("text → image", scores.forward), ("image → text", scores.backward)):
            unchanged = found.value("recall@1", part="unchanged", way=way)
            assert unchanged == pytest.approx(float((ranking.ranks == 1).mean()), abs=1e-6)

    def test_what_a_change_costs_is_the_difference_of_two_recalls(self, inspected) -> None:
        model, pairs, found = inspected
        images = [pair.positive for pair in pairs]
        upside_down = [Item(image=turned(item.image, 180)) for item in images]
        texts, *both = (model.encode(items) for items in ([pair.query for pair in pairs], images, upside_down))
        before, after = (found_first(vectors, texts, torch.eye(len(pairs)).bool()).mean() for vectors in both)
        way = {"part": "rotation, 180°", "way": "image → text"}
        assert found.value("recall@1", **way) == pytest.approx(after, abs=1e-6)
        assert found.value("recall@1 lost", **way) == pytest.approx(before - after, abs=1e-6)
        assert found.value("mean cosine", **way) == pytest.approx(
            float(torch.cosine_similarity(*both).mean()), abs=1e-5
        )

    def test_a_model_of_text_alone_says_what_it_does_not_read(self) -> None:
        found = inspect_model(zoo.build_model("text-test"), {"mine": sentences()}, progress=False)
        assert found.left_out["JPEG, rotation, crop"] == "text-test does not read images"
        assert "languages" in found.left_out
        assert {figure.direction for figure in found.of("robustness")} == {"query → document"}
        assert not any(figure.metric == "modality gap" for figure in found.figures)
        assert {figure.metric for figure in found.of("paraphrases")} == {"recall@1", "mean cosine"}, "of the package"

    def test_a_model_of_images_alone_finds_each_image_itself(self) -> None:
        found = inspect_model(zoo.build_model("image-test"), {"mine": captioned()}, progress=False)
        assert found.left_out["mine, text"] == "image-test does not read text"
        assert "typos" in " ".join(found.left_out)
        assert found.value("recall@1", part="unchanged", way="image → image") == 1
        assert not found.of("paraphrases") + found.of("languages") + found.of("similarity by length")

    def test_what_is_no_pair_and_no_pack_is_said(self) -> None:
        with pytest.raises(MissingPackError, match=r"text-test cannot be inspected: .*pairs of your own"):
            inspect_model(zoo.build_model("text-test"), progress=False)

    def test_a_model_that_reads_nothing_of_the_data_has_no_figures(self) -> None:
        with pytest.raises(NoResultError, match="ast-test does not read text"):
            inspect_model(zoo.build_model("ast-test"), {"mine": sentences()}, progress=False)

    def test_nan_is_refused_with_the_data_that_it_is_of(self) -> None:
        model = zoo.build_model("mini-test")
        for tower in model.towers:
            for weight in tower.parameters():
                weight.data.fill_(float("nan"))
        with pytest.raises(NonFiniteEmbeddingError, match="mine, text"):
            inspect_model(model, {"mine": captioned()}, progress=False)

    def test_a_vector_for_every_token_is_refused(self) -> None:
        with pytest.raises(TokenVectorsError, match="an inspection"):
            inspect_model(zoo.build_model("colpali-test"), {"mine": captioned()}, progress=False)

    def test_bad_items_are_left_out_and_counted(self) -> None:
        pairs = [*captioned(), Pair(Item(text="a broken one"), Item(image=b"\xff\xd8\xff\xe0 no image"))]
        found = inspect_model(zoo.build_model("mini-test"), {"mine": pairs}, progress=False)
        assert found.left_out["mine, image"].startswith("1 of 15 could not be embedded")
        assert next(f.notes for f in found.figures if f.part == "text") == "14 items", "nor the text of it"


HOSTILE = '<script>alert(1)</script>\u202e & "x"'


def made() -> Inspection:
    facts = {"dataset": HOSTILE, "split": "", "notes": "24 items", "source": "zoo inspect mine", "date": "2026-12-01"}
    shares = {"task": "robustness", "direction": "text → image", "metric": "recall@1", "low": 0.1, "high": 0.9, **facts}
    figures = (
        Result(task="space", metric="isoscore", value=0.25, part="text", **facts),
        Result(task="space", metric="modality gap", value=0.5, direction="text, image", unit="distance", **facts),
        Result(value=0.8, part="unchanged", **shares),
        Result(value=0.5, part="typos, one", **shares),
        Result(value=0.3, part="typos, one", **{**shares, "metric": "recall@1 lost"}),
        Result(task="languages", metric="recall@1", value=0.2, part="German", **facts),
        Result(task="similarity by length", metric="mean cosine", value=0.2, part="8 words", unit="cosine", **facts),
        Result(task="paraphrases", metric="recall@1", value=0.4, direction="query → label", **facts),
    )
    return Inspection(HOSTILE, ("image", "text"), 8, figures, {"crop | turn": "why\nnot"})


class TestForms:
    def test_json_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        found = made()
        again = Inspection.from_dict(json.loads(json.dumps(found.to_dict())))
        assert again == found
        path = tmp_path / "inspection.json"
        assert read_inspection(path) is None
        for text in ("{", "[]", '{"model": "x"}', json.dumps({**found.to_dict(), "more": 1})):
            path.write_text(text, encoding="utf-8")
            with pytest.raises(ResultsError, match=r"inspection\.json holds no inspection"):
                read_inspection(path)

    def test_a_page_escapes_and_loads_nothing(self) -> None:
        page = made().html
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert "\u202e" not in page
        assert "default-src 'none'" in page
        assert "http" not in page.replace("http-equiv", "")
        assert "prefers-color-scheme: dark" in page
        assert page.count("<svg") == page.count("</svg>") == 3, "typos, languages, length"

    def test_what_is_lost_is_told_with_its_interval(self) -> None:
        figures = made().of("robustness")
        lost = replace(figures[-1], low=-0.05, high=0.65)
        assert rows_of([*figures[:-1], lost])[1][3:] == ("50.0 %", "30.0 (-5.0 to 65.0)", "-")

    def test_what_a_page_draws_comes_of_a_model(self, inspected) -> None:
        found = inspected[2]
        assert [one.name for one in found.planes] == [one.name for one in found.spreads] == ["mine"]
        assert all(shares.sum() == pytest.approx(1) for shares in (found.spreads[0].right, found.spreads[0].wrong))
        assert found.html.count("<circle") > 14

    def test_the_block_of_a_card_has_its_figures_and_its_command(self) -> None:
        block = made().markdown
        for part in (
            "0.500",
            "25.0 %",
            "50.0 % / 30.0",
            "German 20.0 %",
            "8: 0.200",
            "`zoo inspect mine`",
            "2026-12-01",
        ):
            assert part in block
        rows = [line for line in block.splitlines() if line.startswith("| ")]
        assert all(line.endswith(" |") for line in rows)

    def test_a_value_that_is_not_there_says_why(self) -> None:
        assert made().value("recall@1", part="typos, one") == 0.5
        with pytest.raises(ResultsError, match=r"hubness \(left out: crop"):
            made().value("hubness")

    def test_a_card_keeps_its_block_and_its_file(self, tmp_path: Path) -> None:
        card = tmp_path / "mine.md"
        card.write_text(
            "---\nlicense: mit\n---\n# mine\n\n<!-- notes:start -->\nby hand\n<!-- notes:end -->\n", "utf-8"
        )
        file = keep(card, replace(made(), model="mine"))
        assert file == tmp_path / "inspected" / "mine.json"
        text = card.read_text("utf-8")
        assert text.index("## What it is like") < text.index("by hand")
        assert with_block(text, card) == text, "it is not stale"
        file.unlink()
        assert "What it is like" not in with_block(text, card), "without figures no block"
        readme = tmp_path / "README.md"
        readme.write_text("# mine\n", encoding="utf-8")
        assert keep(readme, made()).name == "inspection.json"
