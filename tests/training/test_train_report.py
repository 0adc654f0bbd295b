"""The report of a run: what it says, what it leaves out when parts are missing, and that nobody's text gets through."""

import json
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from zoo.training.errors import NoRunError
from zoo.training.report import keep_examples, main, plots, read_metrics, sections, write_report
from zoo.training.report.examples import choose, kept_examples
from zoo.training.report.page import _STYLE

from zoo import build_model, load_model
from zoo.evaluation.pairs import evaluate_pairs
from zoo.html_page import STYLE
from zoo.inputs.item import Item
from zoo.tables.pack_files import read_pack
from zoo.tables.pairs import Pair

EVIL = '<script>alert("x")</script>\n|"><img src=x onerror=alert(1)> [a](javascript:b) \u202e'


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "path", "use", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in ("path", "use", "rect"):
            return
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.words += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def scores_of(model, pairs):
    groups = [pair.group for pair in pairs]
    return evaluate_pairs(model, [p.query for p in pairs], [p.positive for p in pairs], groups)


def write_scores(out, before, after):
    facts = {name: scores.to_dict() for name, scores in (("before", before), ("after", after)) if scores is not None}
    (out / "scores.json").write_text(json.dumps(facts))


def write_metrics(out, steps=range(1, 41)):
    out.mkdir(exist_ok=True)
    lines = [
        {
            "step": s,
            "loss": 5 / s,
            "temperature": None,
            "lr": 1e-3,
            "grad_norm": 1.0,
            "items_per_s": 50,
            "wait_share": 0.02,
        }
        for s in steps
    ]
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def mini():
    torch.set_num_threads(1)
    return load_model("zoo-mini")


@pytest.fixture(scope="module")
def measured(mini):
    """Pairs of real drawings and names, and two real models' scores: random weights, then zoo-mini."""
    from tests.conftest import data_pack

    data_pack("emoji")
    torch.manual_seed(0)
    rows = read_pack("emoji", "val")[:48:2]
    pairs = [Pair(Item(image=r["image"]), Item(text=r["names"]["en"]), group=r["group"]) for r in rows]
    return pairs, scores_of(build_model("mini-test").eval(), pairs), scores_of(mini, pairs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, measured):
    """A whole run's folder, without a report."""
    pairs, before, after = measured
    out = tmp_path_factory.mktemp("run")
    write_metrics(out)
    write_scores(out, before, after)
    (out / "recipe.json").write_text(json.dumps({"stages": [{"model": "zoo-mini", "loss": "infonce", "lr": 0.1}]}))
    (out / "data.json").write_text(json.dumps({"pairs": 1234, "schema": ["image, text"], "command": "zoo train x"}))
    (out / "skipped.jsonl").write_text(json.dumps({"pair": "x.csv, line 7", "reason": "no image"}) + "\n")
    keep_examples(out, pairs, before, after)
    return out


@pytest.fixture
def run(tmp_path, folder):
    """A copy to write into."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def written(tmp_path_factory, folder):
    """A copy with its report, to be read only."""
    out = tmp_path_factory.mktemp("written")
    shutil.copytree(folder, out, dirs_exist_ok=True)
    write_report(out)
    return out


def test_a_whole_report(written, measured):
    _, before, after = measured
    page = Page((written / "report.html").read_text())
    assert page.open == []
    headings = re.findall(r"<h2>(.*?)</h2>", (written / "report.html").read_text())
    assert headings == [
        "Retrieval on held-out pairs",
        "Training",
        "The space of the vectors",
        "Examples",
        "Recipe",
        "Data",
        "Versions",
        "Run it again",
    ]
    markdown = (written / "report.md").read_text()
    old, new = (scores.forward.intervals()["mrr"] for scores in (before, after))
    for text in (page.words, markdown):
        assert f"{100 * old.value:.1f} ({100 * old.low:.1f} to {100 * old.high:.1f})" in text
        assert f"{100 * new.value:.1f} ({100 * new.low:.1f} to {100 * new.high:.1f})" in text
        assert f"{after.gap:.3f}" in text
        assert f"{before.uniformity:.3f}" in text
        for told in (
            "zoo train x",
            "1234",
            "x.csv, line 7: no image",
            f"torch {torch.__version__.split('+')[0]}",
            "40 steps",
        ):
            assert told in text
    for name in re.findall(r"\]\((report/[^)]*)\)", markdown):
        assert (written / name).stat().st_size > 300, name


def test_the_page_stands_alone_and_says_what_its_images_show(written):
    page = Page((written / "report.html").read_text())
    images, drawings = page.all("img"), page.all("svg")
    assert len(images) >= 12
    assert all(image["alt"].startswith("image of pair ") for image in images)
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert [drawing["role"] for drawing in drawings] == [
        "img"
    ] * 8  # recall, loss, four dials (this loss has no temperature), space, gap
    assert all(len(drawing["aria-label"]) > 20 for drawing in drawings)
    assert not page.all("script") + page.all("link")
    links = [a[name] for _, a in page.tags for name in ("href", "xlink:href") if name in a]
    assert links
    assert all(link.startswith("#") for link in links)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert {link[1:] for link in links} <= set(ids)
    assert len(ids) == len(set(ids)), "drawings of one page must not share names"


def test_drawings_take_the_colours_of_the_page(written):
    text = (written / "report.html").read_text()
    drawings = text[text.index("<svg") :]
    assert not [value for value in plots.COLOURS.values() if value in drawings]
    parts = [style.split("@media (prefers-color-scheme: dark)")[:2] for style in (STYLE, _STYLE)]
    light = " ".join(part[0] for part in parts)
    dark = " ".join(part[1].split("} }")[0] for part in parts)
    for name, value in plots.COLOURS.items():
        assert f"var(--{name})" in drawings or name == "card"
        assert f"--{name}: {value}" in light
        assert f"--{name}: #" in dark


def test_the_report_is_made_again_from_the_folder_alone(run, written, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    for name in ("report.html", "report.md", "report/loss.png"):
        assert (run / name).read_bytes() == (written / name).read_bytes()
    assert main([str(run / "report")]) == 1
    assert "name the folder given to --out" in capsys.readouterr().err


def test_nobodys_text_gets_through(tmp_path, mini):
    words = [EVIL, "a cat", "*bold* `code`"]
    pairs = [
        Pair(Item(text=word), Item(text=answer)) for word, answer in zip(words, [words[1], EVIL, "x"], strict=True)
    ]
    scores = scores_of(mini, pairs)
    write_scores(tmp_path, scores, replace(scores, skipped=(EVIL,)))
    write_metrics(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps({"stages": [{"model": EVIL, "loss": EVIL, EVIL: EVIL}]}))
    (tmp_path / "data.json").write_text(json.dumps({EVIL: [EVIL], "command": EVIL}))
    (tmp_path / "skipped.jsonl").write_text(json.dumps({"pair": EVIL, "reason": "\ud800"}) + "\n")
    keep_examples(tmp_path, pairs, scores, scores)
    page = Page(write_report(tmp_path).read_text())
    assert not page.all("script") + page.all("img")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.words.count('<script>alert("x")</script>') >= 6
    assert "\u202e" not in page.words  # turns the reading direction round
    markdown = (tmp_path / "report.md").read_text()
    code = [line for line in markdown.splitlines() if line.startswith("    ")]
    rest = "\n".join(line for line in markdown.splitlines() if line not in code)
    assert "<script" not in rest
    assert "<img" not in rest
    assert "[a](" not in rest
    assert r"\*bold\* \`code\`" in rest
    # No cell breaks its table: every line of one has as many bars that are not escaped.
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


# --- missing parts -------------------------------------------------------------------------------------------------


def test_without_held_out_pairs_there_is_the_loss(tmp_path):
    write_metrics(tmp_path)
    text = write_report(tmp_path).read_text()
    assert "No pairs were held out" in text
    assert "<h2>Examples</h2>" not in text
    assert len(Page(text).all("svg")) == 5


def test_without_metrics_there_are_the_scores(tmp_path, measured):
    write_scores(tmp_path, *measured[1:])
    text = write_report(tmp_path).read_text()
    assert "No step was logged." in text
    assert "Modality gap" in text


def test_texts_alone_have_no_gap(tmp_path, mini):
    pairs = [Pair(Item(text=a), Item(text=b)) for a, b in (("cat", "kitten"), ("dog", "puppy"), ("car", "lorry"))]
    scores = scores_of(mini, pairs)
    write_scores(tmp_path, scores, scores)
    keep_examples(tmp_path, pairs, scores, scores)
    text = write_report(tmp_path).read_text()
    assert 'aria-label="Modality gap' not in text
    assert "<td>Modality gap" not in text
    assert "Nothing can be said: 3 held-out queries are too few (30 at least)" in text
    assert "did not clearly change" not in text


def test_only_one_of_before_and_after(tmp_path, measured):
    pairs, before, after = measured
    for out, scores in ((tmp_path / "b", (before, None)), (tmp_path / "a", (None, after))):
        out.mkdir()
        write_scores(out, *scores)
        keep_examples(out, pairs, *scores)
        text = write_report(out).read_text()
        assert "image → text: furthest from right" in text
        assert "difference, points" not in text


def test_scores_over_other_pairs_are_not_subtracted(tmp_path, measured):
    _, before, after = measured
    write_scores(tmp_path, replace(before, forward=replace(before.forward, rows=before.forward.rows + 1)), after)
    text = write_report(tmp_path).read_text()
    assert "Before and after are not over the same pairs" in text


def test_without_matplotlib_it_says_so(run, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = write_report(run).read_text()
    assert "There are no plots: install matplotlib" in text
    assert not Page(text).all("svg")
    assert "<td>Gradient norm before clipping</td><td class=n>1</td>" in text
    assert not list((run / "report").glob("*.png"))


def test_what_is_no_run(tmp_path):
    with pytest.raises(NoRunError, match=r"no recipe.json, scores.json or metrics.jsonl"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "scores.json").write_text('{"before": {"pairs"')
    with pytest.raises(NoRunError, match="no whole JSON file"):
        write_report(tmp_path)
    (tmp_path / "scores.json").write_text('{"before": {"pairs": 3}}')
    with pytest.raises(NoRunError, match="holds no scores"):
        write_report(tmp_path)


# --- parts ---------------------------------------------------------------------------------------------------------


def test_metrics_of_a_resumed_run_with_a_half_line(tmp_path):
    lines = [{"step": 1, "loss": 9}, {"step": 2, "loss": 8}, {"step": 1, "loss": 7}, {"step": 3, "loss": float("nan")}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 4, "lo')
    metrics = read_metrics(tmp_path)
    assert metrics["step"] == [1, 2, 3]
    assert metrics["loss"][:2] == [7, 8]
    assert np.isnan(metrics["loss"][2])
    assert np.isnan(metrics["lr"]).all()


def test_steps_go_on_from_stage_to_stage(tmp_path):
    for number, steps in ((1, (10, 20)), (2, (10, 30)), (10, (5,))):
        write_metrics(tmp_path / f"stage-{number}-x", steps)
    assert read_metrics(tmp_path)["step"] == [10, 20, 30, 50, 55]


def test_smoothing_by_hand():
    assert plots.smooth(np.full(50, 3.0)) == pytest.approx(np.full(50, 3.0))
    assert plots.smooth(np.array([1.0, 4.0])) == pytest.approx([1.0, (1 * 2 / 3 + 4) / (2 / 3 + 1)])
    assert len(plots.smooth(np.array([]))) == 0


def test_long_runs_are_thinned():
    steps = list(range(1, 50_001))
    plot = plots.curve("loss", "Loss", steps, [1 / step for step in steps])
    assert len(plot.svg) < 100_000
    assert "lowest 2e-05, highest 1" in plot.alt


def test_examples_are_the_right_ones(measured):
    ranking = measured[2].forward
    before = replace(ranking, rows=np.arange(6), ranks=np.array([100, 2, 1, 9, 8, 5]))
    after = replace(before, ranks=np.array([1, 1, 30, 9, 90, 5]))
    answers = ["a", "b", "c", "d", "e", "f"]
    assert choose(before, after, answers, 2) == {"helped": [0, 1], "hurt": [2, 4], "worst": [3, 5]}
    assert choose(before, after, ["a", "a", "c", "d", "d", "f"], 2) == {"helped": [0], "hurt": [2, 4], "worst": [5]}
    assert choose(None, after, answers, 3) == {"best": [0, 1], "worst": [4, 2, 3]}


def test_examples_hold_what_was_ranked(run, measured):
    pairs = measured[0]
    names = {pair.positive.text: pair.group for pair in pairs}
    kinds = kept_examples(run)["forward"]
    assert any(kinds.values())
    for case in (case for cases in kinds.values() for case in cases):
        assert (run / case.asked.image).is_file()
        assert case.asked.alt.endswith(f": {case.right.text}")
        # First place is right exactly where another answer of the same group, or the answer itself, came first.
        for shown, place in ((case.before, case.place_before), (case.after, case.place_after)):
            assert (names[shown.text] == names[case.right.text]) == (place == 1)


def test_broken_images_and_audio_are_named(tmp_path, mini):
    pairs = [Pair(Item(text="cat"), Item(text="kitten")), Pair(Item(text="dog"), Item(text="puppy"))]
    scores = scores_of(mini, pairs)
    shown = [replace(p, positive=Item(image=tmp_path / "gone.jpg", audio=tmp_path / "bark.wav")) for p in pairs]
    keep_examples(tmp_path, shown, None, scores)
    notes = [c.right.note for cases in kept_examples(tmp_path)["forward"].values() for c in cases]
    assert notes
    assert all("gone.jpg does not exist" in note and "audio: bark.wav" in note for note in notes)


def test_the_verdict_follows_the_interval():
    made = sections.Difference
    changes = {"forward": {"mrr": made(0.1, 0.05, 0.2, 0.01)}, "backward": {"mrr": made(-0.1, -0.2, -0.05, 0.01)}}
    up, down = sections._verdicts(changes, None)
    assert up == "query → target: mrr rose (+10.0 points, 95 % interval +5.0 to +20.0)."
    assert "mrr fell (-10.0" in down


@pytest.mark.slow
def test_a_browser_shows_it_without_a_request_or_an_overflow(run):
    driver = pytest.importorskip("playwright.sync_api")
    from zoo.demos.screenshot import CHROMIUM_FLAGS, find_chromium

    if find_chromium() is None:
        pytest.skip("no Chromium here")
    page = write_report(run)
    said = []
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        for scheme, width in (("light", 1100), ("dark", 1100), ("light", 390)):
            tab = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
            tab.on("console", lambda message: said.append(message.text))
            tab.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
            tab.goto(page.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        browser.close()
    assert said == []
