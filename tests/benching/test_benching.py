"""`zoo bench`: operations against closed forms, shares, the table and its JSON, what is refused, and what is left out with a reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.backends.script import TorchScript
from zoo.backends import base
from zoo.benching import Bench, Row, bench
from zoo.benching.beside import candidates_of, opened, pooling_of, where
from zoo.benching.job import BESIDE, Alone, Candidate, Job
from zoo.benching.material import inputs_of, kinds_of
from zoo.benching.measuring import announced, measure, remember
from zoo.benching.opening import Open, keep_the_same, open_all
from zoo.benching.results import HEADERS, shares
from zoo.benching.timing import percentile, rounds, singles, speed
from zoo.benching.work import Work, passes_of, tokens_of, work_of
from zoo.cli import main
from zoo.embedder import Embedder
from zoo.embedder.tower import Tower
from zoo.encoders.base import Batch, Encoder, one_token
from zoo.errors import ArgumentError, MissingPackageError, NothingFitsError, NotOfferedError, UnsupportedModalityError
from zoo.heads import Identity
from zoo.inputs.item import Item, Tokens
from zoo.machine import Others, told
from zoo.pooling import Cls
from zoo.spec import ModelSpec


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build_model("clip-test").save_pretrained(tmp_path_factory.mktemp("models") / "clip")


class Letters(Encoder):
    """Eight numbers of a text, through one linear layer."""

    modalities = frozenset({"text"})
    width = 16

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(100, 8), nn.Linear(8, 16, bias=False)

    def prepare_item(self, item: Item) -> Tensor:
        return torch.tensor([len(item.text or "") % 100])

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        return {"ids": torch.cat(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        return one_token(self.linear(self.table(batch["ids"])))


def test_operations_of_a_linear_layer_and_its_weights() -> None:
    spec = ModelSpec("letters", frozenset({"text"}), 16, "mit")
    model = Embedder(spec, [Tower(Letters(), Cls(), Identity())])
    passes = passes_of(model, ["a", "bb", "ccc"])
    assert work_of(model, passes) == Work(3 * 2 * 8 * 16, 8 * 16 * 4), "the table is looked up, and not read"
    assert tokens_of(passes) == 3


def test_operations_of_a_vision_transformer(tmp_path: Path) -> None:
    model = zoo.build_model("clip-test")
    tower = model.towers[0].encoder.tower
    width, patch, hidden, blocks, size = 32, 16, 128, 2, model.spec.image_size
    patches = (size // patch) ** 2
    tokens = patches + 1
    block = tokens * 2 * (4 * width**2 + 2 * width * hidden) + 4 * tokens**2 * width
    one = patches * 2 * 3 * patch**2 * width + blocks * block + 2 * width * model.spec.dim
    assert len(tower.transformer.resblocks) == blocks
    passes = passes_of(model, inputs_of("images", 3, Job("clip-test"), None, tmp_path))
    assert work_of(model, passes).flop == 3 * one


def test_shares_and_what_limits() -> None:
    found = shares(seconds=2.0, reading=0.5, forward=1.0, work=(60e9, 2e9), rates=(100e9, 10e9))
    assert found == {"reading": 0.25, "products": 0.6, "weights": 0.2}
    row = Row("images", "zoo torch", rate=1, ratio=1, p50=1, p95=1)
    assert row.limit == ""
    limits = {
        (0.25, 0.6, 0.2): "products",
        (0.5, 0.9, 0.2): "reading",
        (0.1, 0.5, 0.7): "weights",
        (0.1, 0.4, 0.2): "overhead",
    }
    for (reading, products, weights), limit in limits.items():
        assert replace(row, reading=reading, products=products, weights=weights).limit == limit


def test_rounds_are_in_turn_and_ratios_of_the_same_round() -> None:
    order, clock, ticks = [], iter([0, 4, 4, 5, 5, 7, 7, 8]), []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    times = rounds(runs, 2, clock=lambda: next(clock), tick=lambda: ticks.append(1))
    assert "".join(order) == "ab" * 3, "one round warms up"
    assert times == {"a": [4, 2], "b": [1, 1]}
    assert len(ticks) == 3
    assert speed(times, "b", "a") == 3
    asked = []
    found = singles({"a": lambda one: asked.append(one)}, [1, 2], 3)
    assert (asked, len(found["a"])) == ([[1], [2], [1]], 3)
    assert [percentile(range(1, 41), share) for share in (0.5, 0.95, 1)] == [20, 38, 40]


def test_others_at_work_are_told_and_a_quiet_machine_is_not() -> None:
    quiet = {"user": 90, "nice": 0, "system": 10, "idle": 100, "iowait": 0, "irq": 0, "softirq": 0, "steal": 0}
    assert told(quiet, own=1.0) == ""
    assert "others took 50% of the processor" in told(quiet, own=0.0)
    assert "other virtual machines 5%" in told({**quiet, "steal": 10}, own=1.0)
    others = Others()
    others.load = 0.1
    assert others.at_first() == ""
    others.load = 3.2
    assert "load average 3.2" in others.at_first()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TorchScript as the only other backend, with an empty cache, and one that is not installed."""
    monkeypatch.setattr(base, "_BACKENDS", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    base.register_backend("script")(TorchScript)

    @base.register_backend("absent")
    class Absent(TorchScript):
        packages: ClassVar[tuple[str, ...]] = ("no-such-package",)
        extra = "absent"


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_the_table_of_a_small_model(saved: Path, script: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("_SECONDS", 0.0), ("_SIDE", 128), ("_READ", 2**20)):
        monkeypatch.setattr(f"zoo.machine.{name}", small)
    monkeypatch.setattr("zoo.benching.measuring._SINGLES", 5)
    said, ticks = [], []
    job = Job(str(saved), count=3, rounds=2, dtypes=("float32", "bfloat16"), beside=("open_clip",))
    found = measure(job, tmp_path, said.append, lambda total: lambda: ticks.append(total))
    assert [(row.of, row.by) for row in found.bench.rows] == [
        (kind, by) for kind in ("images", "texts") for by in ("zoo torch", "zoo torch bfloat16", "zoo script")
    ]
    assert ticks == [6] * 6, "a warm-up and two rounds of images and of texts"
    assert "3 candidates, 2 rounds of 3 images and 3 texts" in said[-1]
    for row in found.bench.rows:
        assert row.rate > 0
        assert 0 < row.p50 <= row.p95
        assert min(row.reading, row.products, row.weights) > 0
        assert (row.tokens is None) == (row.of == "images")
    assert found.bench.rows[0].ratio == found.bench.rows[3].ratio == 1
    left = found.bench.left_out
    assert "pip install 'embedding-zoo[absent]'" in left["zoo absent"]
    assert "computes in float32, not in torch.bfloat16" in left["zoo script bfloat16"]
    assert "in the zoo's own layout" in left["open_clip torch"]
    again = Bench.from_dict(json.loads(json.dumps(found.bench.to_dict())))
    assert again == found.bench
    assert {len(line) for line in again.table} == {len(HEADERS)}
    assert any(line.startswith("left out: open_clip torch: ") for line in again.notes)
    alone = Alone.from_dict(json.loads(json.dumps(found.alone[0].to_dict())))
    assert alone == found.alone[0]
    mb = remember(alone, tmp_path)
    assert mb is None or mb > 50, "Python with torch takes more"


def test_backends_that_are_asked_for_are_there_or_the_extra_is_named(saved: Path, script: None) -> None:
    with pytest.raises(MissingPackageError, match=r"pip install 'embedding-zoo\[absent\]'"):
        bench(saved, backends=["absent"])
    with pytest.raises(ArgumentError, match="no such backend; write one of auto, torch, absent, script"):
        bench(saved, backends=["no-such"])
    with pytest.raises(NothingFitsError, match=r"zoo script bfloat16: .*computes in float32"):
        open_all(Job(str(saved), backends=("script",), dtypes=("bfloat16",), beside=()))


def test_what_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="write one of open_clip, transformers"):
        bench(saved, beside=["timm"])
    with pytest.raises(ArgumentError, match="threads=100000: this machine has"):
        bench(saved, threads=100_000)
    with pytest.raises(UnsupportedModalityError, match="reads text: leave --images out"):
        kinds_of(zoo.build_model("text-test"), Job("text-test", images=("a.jpg",)))
    model = zoo.build_model("clip-test")
    assert kinds_of(model, Job("clip-test")) == ["images", "texts"]
    assert kinds_of(model, Job("clip-test", texts=("a",))) == ["texts"]
    assert inputs_of("texts", 3, Job("x", texts=("a", "b")), None, tmp_path) == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--images gone", "gone: it does not exist"),
        ("--images empty", "holds no images"),
        ("--texts blank.txt", "holds no text; write one on each line"),
        ("--json no/x.json", "there is no folder"),
        ("--beside timm", "no such library is known here"),
    ],
)
def test_the_command_refuses_before_it_opens_a_model(
    line: str, said: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n \n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a process is started"))
    assert main(["bench", str(saved), *line.split()]) == 2
    assert said in capsys.readouterr().err


def test_other_libraries_open_the_same_weights_or_say_why_not(saved: Path, tmp_path: Path) -> None:
    assert [str(one) for one in candidates_of(BESIDE)] == [
        "open_clip torch",
        "transformers torch",
        "sentence-transformers torch",
        "sentence-transformers onnx",
        "sentence-transformers openvino",
        "fastembed onnx",
    ]
    for by in ("transformers", "sentence-transformers"):
        with pytest.raises(NotOfferedError, match="the zoo's own layout"):
            opened(Candidate(by), where(Job(str(saved))), "cpu")
    with pytest.raises(NotOfferedError, match="computes on the CPU, not on cuda"):
        opened(Candidate("sentence-transformers", "onnx"), where(Job(str(saved))), "cuda")
    found = open_all(Job(str(saved), backends=("torch",), beside=()))
    zeros = Open(Candidate("other"), {"texts": lambda texts: torch.eye(16)[: len(texts)]})
    broken = Open(Candidate("broken"), {"texts": lambda texts: 1 / 0})
    same = Open(Candidate("same"), {"texts": lambda texts: 2 * found.reference.encode(texts)})
    found.ready += [zeros, broken, same]
    keep_the_same(found, "texts", ["a cat", "two dogs"])
    assert found.left_out["broken torch, texts"] == "division by zero"
    assert "gives other vectors of the same files" in found.left_out["other torch, texts"]
    assert [bool(one.calls) for one in (zeros, broken, same)] == [False, False, True]
    assert "4 candidates" in announced({"texts": 2}, 5, found.ready)


@pytest.mark.slow
def test_the_command_measures_in_processes_of_its_own(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "texts.txt").write_text("a cat\n\ntwo dogs\n")
    options = ["--count", "4", "--rounds", "1", "--threads", "1", "--backend", "torch", "--beside", "none"]
    command = ["bench", str(saved), *options, "--texts", str(tmp_path / "texts.txt")]
    assert main([*command, "--json"]) == 0
    found = Bench.from_dict(json.loads(capsys.readouterr().out))
    assert [(row.of, row.by) for row in found.rows] == [("texts", "zoo torch")]
    assert found.rows[0].mb is None or found.rows[0].mb > 50
    assert "1 thread, torch" in found.machine
    assert main([*command, "--json", str(tmp_path / "out.json")]) == 0
    assert "4 of yours" in capsys.readouterr().out
    assert Bench.from_dict(json.loads((tmp_path / "out.json").read_text())).model == found.model
    assert main([*command, "--images", str(tmp_path)]) == 2
    with pytest.raises(zoo.ZooError, match="reads"):
        bench(zoo.build_model("text-test").save_pretrained(tmp_path / "text"), images=[__file__])


@pytest.mark.slow
def test_transformers_and_sentence_transformers_give_minilms_vectors(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    found = open_all(Job("all-minilm-l6-v2", backends=("torch",)))
    keep_the_same(found, "texts", ["a cat", "two dogs in the snow"])
    assert pooling_of(found.reference) == "mean"
    kept = {str(one.candidate) for one in found.ready if "texts" in one.calls}
    assert {"zoo torch", "transformers torch", "sentence-transformers torch"} <= kept
    assert "open_clip_config.json" in found.left_out["open_clip torch"]
