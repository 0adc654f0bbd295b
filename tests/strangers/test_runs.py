"""A run's folder from a stranger: its report is made and it is gone on with, and nothing of the user's is touched for it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.strangers import runs
from tests.strangers.harness import Answer, Sandbox

UNDRAWN = (
    "import zoo.training.report as r, zoo.training.report.sections as s\nr.can_draw = s.can_draw = lambda: False\n"
)
REPORT = "import sys\nfrom zoo.training.report import main\nraise SystemExit(main(sys.argv[1:]))"
slow = pytest.mark.slow


def report(sandbox: Sandbox, folder: Path, fonts: Path | None = None) -> Answer:
    """Makes the report; without `fonts`, matplotlib's notes of what fonts there are, nothing is drawn."""
    if fonts is None:
        return sandbox.python(UNDRAWN + REPORT, folder, writes=[folder])
    return sandbox.python(REPORT, folder, writes=[folder, fonts], environment={"MPLCONFIGDIR": str(fonts)})


@pytest.fixture(scope="session")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fonts")
    code = "import matplotlib.font_manager"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "MPLCONFIGDIR": str(folder)})
    return folder


def resume(sandbox: Sandbox, *words: Any, fonts: Path | None = None, **options: Any) -> Answer:
    """Goes on with a run; where that ends in a report, `fonts` are needed."""
    own = {"environment": {"MPLCONFIGDIR": str(fonts)}} if fonts else {}
    writes = [sandbox.gift, *([fonts] if fonts else [])]
    return sandbox.zoo("train", "--resume", *words, "--log", "none", writes=writes, **own, **options)


@pytest.fixture
def run(sandbox: Sandbox) -> Path:
    return runs.a_run(sandbox.gift / "run")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@slow
def test_an_honest_run_has_its_report(sandbox: Sandbox, run: Path, fonts: Path) -> None:
    report(sandbox, run, fonts).harmless()
    assert (run / "report.html").is_file()


LINKED = [
    ("recipe.json", "file"),
    ("metrics.jsonl", "fifo"),
    ("scores.json", "nothing"),
    ("report", "folder"),
    ("report/images", "folder"),
    ("report/examples.json", "file"),
    ("report/versions.json", "nothing"),
    ("report/" + "x" * 40, "file"),
    ("report.html", "file"),
    ("README.md", "file"),
    ("skipped-1.jsonl", "fifo"),
    ("stage-1-a", "folder"),
    ("stage-1-a/metrics.jsonl", "file"),
    ("checkpoints/step-00000001", "folder"),
    ("best", "folder"),
    ("logs/zoo", "folder"),
    ("vectors/tower0/cache.json", "file"),
    ("adapter/adapter_config.json", "file"),
    (".running", "nothing"),
]


@pytest.mark.parametrize(
    ("name", "what"), [case if case[0] == "report/images" else pytest.param(*case, marks=slow) for case in LINKED]
)
def test_what_is_a_link_or_a_fifo_is_named_by_the_report(sandbox: Sandbox, run: Path, name: str, what: str) -> None:
    runs.put(run / name, what, sandbox.home)
    report(sandbox, run).refused(f"{name} is a (link|FIFO)")
    assert not (sandbox.home / "new").exists()


@pytest.mark.parametrize(
    ("name", "what"),
    [case if case[0] == ".running" else pytest.param(*case, marks=slow) for case in LINKED if case[0] != "README.md"],
)
def test_and_by_going_on_with_the_run(sandbox: Sandbox, run: Path, name: str, what: str) -> None:
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    runs.put(run / name, what, sandbox.home)
    resume(sandbox, run).refused(f"{name} is a (link|FIFO)")
    assert not (sandbox.home / "new").exists()


@slow
@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "report.md", "bad_batch", "data.json"])
def test_a_new_run_in_such_a_folder_stops_first(sandbox: Sandbox, name: str) -> None:
    (sandbox.gift / "pairs.csv").write_text("query,positive\n" + "".join(f"what {i},it {i}\n" for i in range(16)))
    runs.put(sandbox.gift / "run" / name, "file" if "." in name else "folder", sandbox.home)
    words = ["train", sandbox.gift / "pairs.csv", "--model", "text-test", "--from-scratch", "--steps", "2"]
    answer = sandbox.zoo(*words, "--out", sandbox.gift / "run", "--log", "none", writes=[sandbox.gift])
    answer.refused(f"{name} is a link")


@slow
def test_a_socket_is_named(sandbox: Sandbox, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)  # names of sockets are short
    socket.socket(socket.AF_UNIX).bind("metrics.jsonl") if not os.unlink("metrics.jsonl") else None
    report(sandbox, run).refused("metrics.jsonl is a socket")


@pytest.mark.parametrize(
    "image",
    [
        "../../home/photos/cat.png",
        pytest.param("/etc/passwd", marks=slow),
        pytest.param("report/images/../../../../home/photos/cat.png", marks=slow),
        pytest.param("recipe.json", marks=slow),
        pytest.param("report/images/0123456789abcdef.jpg\n", marks=slow),
    ],
)
def test_an_image_that_lies_elsewhere_is_in_no_report(sandbox: Sandbox, run: Path, image: str) -> None:
    runs.write(run / "report" / "examples.json", runs.examples(image))
    report(sandbox, run).refused("examples.json: .*image")


@slow
@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_an_image_that_is_a_link(sandbox: Sandbox, run: Path, kind: str) -> None:
    runs.put(run / runs.IMAGE, kind, sandbox.home)
    report(sandbox, run).refused("0123456789abcdef.jpg is a")


@slow
@pytest.mark.parametrize("name", ["recipe.json", "scores.json", "metrics.jsonl", "report/examples.json", runs.IMAGE])
def test_a_file_of_three_gigabytes_is_not_read(sandbox: Sandbox, run: Path, name: str) -> None:
    runs.put(run / name, "sparse", sandbox.home)
    report(sandbox, run).refused(f"{Path(name).name} has 3,221,225,472 bytes")


DEEP = b'{"stages": ' + b"[" * 90_000 + b"]" * 90_000 + b"}"


@slow
@pytest.mark.parametrize(
    "content", [DEEP, b'{"a": ' + b'{"a": ' * 300 + b"1" + b"}" * 301, b"\xff\xfe", b"[]", b"{", b"1e999"]
)
@pytest.mark.parametrize(
    "name", ["recipe.json", "scores.json", "data.json", "report/examples.json", "report/versions.json"]
)
def test_what_is_no_json_of_a_run_is_named(sandbox: Sandbox, run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    report(sandbox, run).refused(name)
    resume(sandbox, run).safe()


LINES = (
    b'{"step": 1e999}\n{"step": -1}\n{"step": true}\n{"step": "1"}\n{"step": 99999999999999999999999}\n[]\nnull\n\xff\n'
    b'{"step": 5, "loss": NaN}\n{"step": 6, "loss": 1e308, "lr": -1e308, "grad_norm": Infinity}\n{"step": 7, "loss": '
    + b"9" * 400
    + b"}\n"
    + b"[" * 50_000
    + b'\n{"step": 8, "loss": {"a": []}, "measure": 3, "figure": "x"}\n{"pair": [], "reason": {}}\n{"step": 9'
)


@slow
@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl", "skipped.jsonl"])
def test_lines_of_any_kind_are_passed_over(sandbox: Sandbox, run: Path, name: str, fonts: Path) -> None:
    (run / name).write_bytes(LINES)
    report(sandbox, run, fonts).harmless()


def _each(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in facts of JSON."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, inner in inside for place in _each(inner, (*at, key)))] if at or inside else []


def _with(value: Any, at: tuple[Any, ...], other: Any) -> Any:
    if not at:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = _with(value[at[0]], at[1:], other)
    return copy


@slow
@pytest.mark.parametrize(
    "name", ["recipe.json", "scores.json", "data.json", "report/examples.json", "report/versions.json"]
)
def test_every_fact_of_another_type_is_named_or_shown(sandbox: Sandbox, run: Path, name: str) -> None:
    """Figures are drawn for none of these: that is slow, and what is drawn is held to the same ranges."""
    facts = json.loads((run / name).read_text()) if (run / name).exists() else {"torch": "1"}
    cases = [json.dumps(_with(facts, at, wrong)) for at in _each(facts) for wrong in runs.WRONG]
    (sandbox.gift / "cases").write_text("\n".join(cases))
    code = (
        "import zoo.training.report as r, zoo.training.report.sections as s\nr.can_draw = s.can_draw = lambda: False\n"
    )
    answer = sandbox.python(code + runs.MANY, run, name, sandbox.gift / "cases", writes=[run]).harmless()
    assert int(answer.out) > 0 or name == "data.json"


@slow
@pytest.mark.parametrize(
    ("way", "facts"),
    [
        ("ks", {"ks": list(range(1, 100_001)), "recall": [[0.5] * 100_000] * 2}),
        ("plane", {"plane": [[[1e300, -1e300]], [[0, 1]]]}),
        ("plane", {"plane": [[[0.0, 0.0]] * 300_000] * 2}),
        ("sides", {"sides": ["$\\frac{$", "text"]}),
        ("candidates", {"candidates": 10**30}),
        ("ranks", {"ranks": [0, 0]}),
        ("recall", {"recall": [[1.0], [0.0, 1.0]]}),
        ("ndcg", {"ndcg": ["1", "2"]}),
    ],
)
def test_scores_that_no_run_has_are_not_drawn(sandbox: Sandbox, run: Path, way: str, facts: dict[str, Any]) -> None:
    found = runs.scores()
    of_way = not facts.keys() & found["before"].keys()
    found["before"] = {**found["before"], **({"forward": {**found["before"]["forward"], **facts}} if of_way else facts)}
    runs.write(run / "scores.json", found)
    report(sandbox, run).refused(f"scores.json.*{way}")


@slow
def test_a_stage_is_called_like_no_folder_outside(sandbox: Sandbox, run: Path) -> None:
    (sandbox.home / "evaluations.jsonl").write_text('{"step": 1, "measure": "x", "figure": 0.5, "figures": {}}\n')
    stages = json.loads((run / "recipe.json").read_text())["stages"]
    (run / "stage-1-..").mkdir()
    for name in ("../../../home", "a/b", "..\\x", "\0"):
        runs.write(run / "recipe.json", {"stages": [{**stages[0], "name": name}] * 2})
        report(sandbox, run).refused("name")
        (run / "checkpoints" / "step-00000001").mkdir(parents=True, exist_ok=True)
        resume(sandbox, run).refused("no name of one")


# -------------------------------------------------------------------------------------------------------- going on with it


NAMED = [
    (["{home}/private.csv"], "private.csv"),
    (["pack:photos", "--root", "{home}"], "--root"),
    (["pack:photos", "--held-out", "{home}/private.csv"], "--held-out"),
    (["pack:photos", "--model", "{gift}/model"], "--model"),
    (["pack:photos", "--model", "hf:evil/model"], "--model hf:evil/model"),
    (["pack:photos", "--teacher", "{home}/photos"], "--teacher"),
    (["pack:photos", "--log", "wandb"], "--log wandb"),
    (["hf:evil/pairs"], "hf:evil/pairs"),
]


@pytest.mark.parametrize(("words", "said"), [NAMED[0], *(pytest.param(*case, marks=slow) for case in NAMED[1:])])
def test_what_the_folder_names_is_not_opened(sandbox: Sandbox, words: list[str], said: str) -> None:
    (sandbox.home / "private.csv").write_text(f"query,positive\n{sandbox.SECRET},a\nb,{sandbox.SECRET}\n")
    commands = [[word.format(home=sandbox.home, gift=sandbox.gift) for word in words]]
    run = runs.a_run(sandbox.gift / "run", started={"commands": commands, "folder": str(sandbox.home)})
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    for more in (["--resume"], ["--finish"]) if words == NAMED[0][0] else (["--resume"],):
        answer = sandbox.zoo("train", *more, run, writes=[sandbox.gift])
        answer.refused(f"was not made here.*{said}.*--allow-outside")


@slow
@pytest.mark.parametrize(
    "words", [["--help"], ["--nothing"], ["@/etc/passwd"], ["a", "--steps", "x"], ["--list", "--show"], []]
)
def test_a_command_that_is_none(sandbox: Sandbox, words: list[str]) -> None:
    run = runs.a_run(sandbox.gift / "run", started={"commands": [words], "folder": "/"})
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    resume(sandbox, run).safe()


@slow
def test_the_recipe_names_a_teacher(sandbox: Sandbox) -> None:
    run = runs.a_run(sandbox.gift / "run", started={"commands": [["pack:photos"]], "folder": "/"})
    stages = json.loads((run / "recipe.json").read_text())["stages"]
    runs.change(run / "recipe.json", stages=[{**stages[0], "teacher": str(sandbox.home)}])
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    resume(sandbox, run).refused("names? what to open: --teacher")


@slow
@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"steps": 10**15}, "steps"),
        ({"batch_size": 2**40}, "batch_size"),
        ({"seed": 2**62}, "seed"),
        ({"lora": {"rank": 2**40}}, "rank"),
        ({"lora": {"rank": 4, "alpha": 1e400}}, "alpha"),
        ({"combiner": 2**40}, "combiner"),
        ({"losses": [["a"]]}, "losses"),
        ({"distillation": {"teacher": "os.path"}}, "package"),
        ({"images": {"sizes": [{"size": "x", "share": 1.0}]}}, "sizes"),
        ({"name": 3}, "name"),
        ({"loss": "matryoshka(dims=[" + "1," * 100_000 + "]):infonce"}, ""),
        ({"nothing": 1}, "unknown fields"),
    ],
)
def test_a_recipe_that_no_run_has(sandbox: Sandbox, facts: dict[str, Any], said: str) -> None:
    run = runs.a_run(sandbox.gift / "run", started={"commands": [["pack:photos"]], "folder": "/"})
    text = (run / "recipe.json").read_text()
    stages = [{**json.loads(text)["stages"][0], **facts}]
    (run / "recipe.json").write_text(json.dumps({**json.loads(text), "stages": stages}))
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    resume(sandbox, run).refused(said)


def _go_on(sandbox: Sandbox, run: Path, fonts: Path) -> Answer:
    words = ["--out", run, "--model", "text-test", "--from-scratch", "--steps", "4"]
    return resume(sandbox, sandbox.gift / "pairs.csv", *words, fonts=fonts)


@slow
def test_an_honest_run_is_gone_on_with_where_its_data_are_named(sandbox: Sandbox, made: Path, fonts: Path) -> None:
    run = runs.a_stopped_run(sandbox.gift, made)
    _go_on(sandbox, run, fonts).harmless()
    assert (run / "checkpoints" / "step-00000004" / "DONE").is_file()
    # What it names may be opened where the user says so.
    again = resume(sandbox, run, "--steps", "5", "--allow-outside", reads=[made], fonts=fonts)
    again.harmless()


def _names(run: Path, home: Path) -> None:
    done = run / "checkpoints" / "step-00000002" / "DONE"
    runs.change(done, **{"../../../../home/secret.txt": {"bytes": 1, "sha256": ""}})


def _hard(run: Path, home: Path) -> None:
    for name in ("metrics.jsonl", "evaluations.jsonl", "skipped.jsonl"):
        (home / name).write_text((run / name).read_text() if (run / name).exists() else "")
        (run / name).unlink(missing_ok=True)
        os.link(home / name, run / name)


def _strange_steps(run: Path, home: Path) -> None:
    for name in ("step-99999999999999999999999", "step-x", "step-", "step--1", "step-00000009.old", ".writing-x"):
        (run / "checkpoints" / name).mkdir()
        (run / "checkpoints" / name / "mine").write_text("kept")


def _state(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Path], None]:
    """Changes the state of the newest checkpoint, whose DONE then says what is there."""

    def damage(run: Path, home: Path) -> None:
        import hashlib

        folder = run / "checkpoints" / "step-00000002"
        state = json.loads((folder / "state.json").read_text())
        changed = change(dict(state["dict"]))
        content = changed if isinstance(changed, bytes) else json.dumps({"dict": list(changed.items())}).encode()
        (folder / "state.json").write_bytes(content)
        fact = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        runs.change(folder / "DONE", **{"state.json": fact})

    return damage


GONE_ON = [
    (_names, None),
    (_hard, None),
    (_strange_steps, None),
    (_state(lambda state: {**state, "step": 10**30}), "step"),
    (_state(lambda state: {**state, "step": "2"}), "step"),
    (_state(lambda state: {**state, "micro_batch": 0}), "micro_batch"),
    (_state(lambda state: {**state, "model": {"tensor": "9999"}}), "no run writes"),
    (_state(lambda state: {**state, "model": 3}), "does not fit"),
    (
        _state(lambda state: {**state, "optimizer": {"dict": [["state", {"dict": [[0, {"dict": [["step", 1]]}]]}]]}}),
        "does not fit",
    ),
    (
        _state(lambda state: {**state, "optimizer": {"dict": [["state", {"dict": [[99999, {"dict": []}]]}]]}}),
        "does not fit",
    ),
    (_state(lambda state: {**state, "loss": {"list": []}}), "does not fit"),
    (_state(lambda state: {**state, "scaler": {"dict": [["scale", "x"]]}}), "scaler"),
    (_state(lambda state: {}), "step"),
    (_state(lambda state: b"[" * 100_000), "no run writes"),
    (_state(lambda state: b"3"), "no state"),
    (_state(lambda state: b'{"dict": 3}'), "no run writes"),
    (_state(lambda state: b'{"a": 1, "b": 2}'), "no run writes"),
]


def _vectors(run: Path, home: Path) -> None:
    """A cache of a locked tower that claims more rows than memory holds, in files of nothing."""
    folder = run / "vectors" / "tower0"
    folder.mkdir(parents=True)
    (folder / "cache.json").write_text("{}")
    for name in ("1-0123456789ab.keys", "1-0123456789ab.vectors"):
        with (folder / name).open("wb") as file:
            file.truncate(8 * 2**30)
    (folder / "mine").write_text("kept")


@slow
def test_vectors_of_others_are_not_used(sandbox: Sandbox, made: Path, fonts: Path) -> None:
    run = runs.a_stopped_run(sandbox.gift, made)
    _vectors(run, sandbox.home)
    _go_on(sandbox, run, fonts).harmless()
    assert [path.name for path in (run / "vectors" / "tower0").iterdir()] == ["mine"]


@slow
@pytest.mark.parametrize("what", ["file", "fifo", "nothing"])
@pytest.mark.parametrize("name", ["cache.json", "1-0123456789ab.keys", "1-0123456789ab.vectors"])
def test_a_cache_of_vectors_of_links(sandbox: Sandbox, name: str, what: str) -> None:
    code = "import sys; from zoo.training.vector_cache import VectorCache; VectorCache(sys.argv[1], {}, 4)"
    sandbox.python(code, sandbox.gift / "cache", writes=[sandbox.gift]).harmless()
    (sandbox.gift / "cache" / "1-0123456789ab.keys").touch()
    runs.put(sandbox.gift / "cache" / name, what, sandbox.home)
    sandbox.python(code, sandbox.gift / "cache", writes=[sandbox.gift]).refused(f"{name} is a (link|FIFO)")


@slow
@pytest.mark.parametrize(("damage", "said"), GONE_ON)
def test_a_checkpoint_of_strange_things(
    sandbox: Sandbox, made: Path, fonts: Path, damage: Callable[[Path, Path], None], said: str | None
) -> None:
    run = runs.a_stopped_run(sandbox.gift, made)
    damage(run, sandbox.home)
    answer = _go_on(sandbox, run, fonts)
    answer.refused(said) if said else answer.harmless()
    if damage is _strange_steps:
        assert len(list(run.glob("checkpoints/*/mine"))) == 6, "what is no checkpoint was removed"


@slow
def test_a_checkpoint_of_three_gigabytes(sandbox: Sandbox, made: Path, fonts: Path) -> None:
    run = runs.a_stopped_run(sandbox.gift, made)
    runs.put(run / "checkpoints" / "step-00000002" / "state.safetensors", "sparse", sandbox.home)
    _go_on(sandbox, run, fonts).refused("has 3,221,225,472 bytes, and a checkpoint of this run")


@slow
def test_what_another_tool_left_is_not_removed(sandbox: Sandbox, fonts: Path) -> None:
    (sandbox.gift / "pairs.csv").write_text("query,positive\n" + "".join(f"what {i},it {i}\n" for i in range(16)))
    out = sandbox.gift / "project"
    for name in ("checkpoints/epoch-1/model.bin", "best/mine.txt", "report/notes.txt", "report/images/cat.jpg"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    words = ["train", sandbox.gift / "pairs.csv", "--model", "text-test", "--from-scratch", "--steps", "2"]
    sandbox.zoo(
        *words,
        "--out",
        out,
        "--log",
        "none",
        "--keep-checkpoints",
        "none",
        writes=[sandbox.gift, fonts],
        environment={"MPLCONFIGDIR": str(fonts)},
    ).harmless()
    assert sorted(p.read_text() for p in (out / "checkpoints/epoch-1/model.bin", out / "best/mine.txt")) == ["mine"] * 2
    assert (out / "report/images/cat.jpg").read_text() == (out / "report/notes.txt").read_text() == "mine"
    (sandbox.gift / "other").mkdir()
    (sandbox.gift / "other" / "metrics.jsonl").write_text('{"step": 1}\n')
    other = sandbox.zoo(*words, "--out", sandbox.gift / "other", "--log", "none", writes=[sandbox.gift])
    other.refused("metrics.jsonl is there, and no recipe.json")
