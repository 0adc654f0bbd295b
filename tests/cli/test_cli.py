"""The `zoo` command: each sub-command in-process and as a process, output for people and for machines, clean failures."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
import zoo.cli
from tests import warm
from tests.bulk.bulk_support import make_images, make_table, stored
from zoo.cli import _shared, build_parser, main


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Saved test models by name, as `--model` takes them."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    return {name: str(zoo.build_model(name).save_pretrained(folder / name)) for name in ("clip-test", "text-test")}


@pytest.fixture
def terminal(capsys, monkeypatch):
    """A function after which stdout is a terminal of 80 columns."""

    def become(columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "dumb")  # no colour codes, whose letters would be counted
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    return become


def process(*arguments, **options):
    options = {"capture_output": True, "text": True, "timeout": 600, **options}
    return warm.run([sys.executable, "-m", "zoo", *map(str, arguments)], **options)


def widest(text):
    return max(len(line) for line in text.splitlines())


# -- the command as a whole -----------------------------------------------------------------------------------------


def test_every_module_is_a_command_and_help_teaches_by_example(capsys):
    files = {path.stem for path in Path(zoo.cli.__file__).parent.glob("[!_]*.py")}
    assert files >= {"list", "show", "encode", "embed", "search", "demo"}
    for name in files:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert re.search(rf"examples:\n  zoo {name}", text), name
        assert "metavar" not in text


def test_help_lists_every_command_once_on_one_line_under_its_purpose(capsys):
    files = {path.stem for path in Path(zoo.cli.__file__).parent.glob("[!_]*.py")}
    assert sorted(name for names in zoo.cli.GROUPS.values() for name in names) == sorted(files)
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert widest(text) <= 80
    listed = text.partition("options:")[0]
    assert re.findall(r"^(\w.*):$", listed, re.MULTILINE) == list(zoo.cli.GROUPS)
    for title, names in zoo.cli.GROUPS.items():
        under = re.search(rf"^{title}:\n((?:  .*\n)+)", listed, re.MULTILINE).group(1)
        assert [line.split()[0] for line in under.splitlines()] == list(names)
        assert all(len(line.split()) > 4 for line in under.splitlines()), "a command without a summary"


def test_the_examples_of_the_help_are_accepted():
    parser = build_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    import shlex

    for name, command in commands.items():
        examples = [line.strip() for line in command.epilog.replace("\\\n", " ").splitlines()[1:]]
        assert any(line.startswith("zoo ") for line in examples), name
        for line in examples:
            words = shlex.split(line, comments=True)
            while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]  # a variable of the environment before the command
            assert words[0] in ("zoo", "curl"), line
            if words[0] == "zoo":
                assert parser.parse_args(words[1:]).run, line


def test_help_and_version_load_nothing_heavy():
    script = (
        "import sys; from zoo.cli import build_parser; build_parser().format_help();"
        "heavy = {'torch', 'transformers', 'timm', 'open_clip', 'gradio', 'lancedb', 'pandas', 'pyarrow', 'numpy', 'rich'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


def test_no_command_prints_the_help_and_a_wrong_one_is_refused(run, capsys):
    status, out, _ = run()
    assert status == 0
    assert "zoo search vectors/" in out
    with pytest.raises(SystemExit) as stop:
        main(["serch"])
    assert stop.value.code == 2
    assert "'serch'" in capsys.readouterr().err


def test_the_default_model_is_zoo_mini():
    parser = build_parser()
    assert parser.parse_args(["encode", "a"]).model == "zoo-mini"
    assert parser.parse_args(["embed", "a", "--out", "b"]).model == "zoo-mini"
    assert parser.parse_args(["demo"]).name is None  # the one that made --vectors, else zoo-mini
    assert parser.parse_args(["search", "a", "b"]).model is None  # the one that made the vectors


def test_numbers_for_people():
    assert [_shared.short(n) for n in (0, 950, 36_000, 2_500_000, 151_277_313, 1_130_000_000)] == [
        "-",
        "950",
        "36k",
        "2.5M",
        "151M",
        "1.1B",
    ]
    assert [_shared.number_of_weights(t) for t in ("30M", "1.5b", "800k", "12")] == [
        30_000_000,
        1_500_000_000,
        800_000,
        12,
    ]
    for wrong in ("", "M", "many"):
        with pytest.raises(argparse.ArgumentTypeError):
            _shared.number_of_weights(wrong)


def test_a_table_on_a_terminal_cuts_no_number_and_elsewhere_nothing(capsys, terminal):
    rows = [("0.123456789", "a" * 30, "b" * 60), ("1", "x", "y")]
    _shared.print_table(("score", "name", "path"), rows, numbers=("score",))
    out = capsys.readouterr().out.splitlines()
    assert out[2].split() == list(rows[0])
    assert out[3].index("x") == out[2].index("a")
    for columns in (80, 40):
        terminal(columns)
        _shared.print_table(("score", "name", "path"), rows, numbers=("score",))
        out = capsys.readouterr().out
        assert "0.123456789  " + "a" * 30 in out, "lines get longer sooner than that a figure is cut"
        assert "b…" in out
        assert widest(out) == (80 if columns == 80 else 57)
        _shared.print_table(("name", "score"), [("n" * 60, "0.123456789")], numbers=("score",))
        assert "0.123456789" in capsys.readouterr().out


def test_an_error_is_one_line_without_a_traceback(models, tmp_path):
    result = process("embed", tmp_path / "nowhere", "--out", tmp_path / "out", "--model", models["text-test"])
    assert result.returncode == 2
    assert result.stdout == ""
    assert re.fullmatch(r"error: .*nowhere does not exist.*\n", result.stderr)


def test_a_reader_that_goes_away_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    result = process("list", "--json", stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    os.close(writer)
    assert result.stderr == ""
    assert result.returncode == 141


# -- list, show, encode ---------------------------------------------------------------------------------------------


def test_list(run):
    status, out, _ = run("list")
    assert status == 0
    names = [line.split()[0] for line in out.splitlines()[2:]]
    assert names == zoo.list_models()
    assert not [name for name in names if name.endswith("-test")], "nobody looks for those"
    every = [line.split()[0] for line in run("list", "--all")[1].splitlines()[2:]]
    assert every == zoo.list_models(tests=True)
    assert set(every) > set(names)
    status, out, _ = run("list", "*-test", "--modality", "text", "--max-params", "500k", "--json")
    specs = json.loads(out)
    assert "text-test" in [spec["name"] for spec in specs]
    assert all("text" in spec["modalities"] and spec["params"] <= 500_000 for spec in specs)
    status, out, _ = run("list", "--license", "apache*")
    assert all("apache" in line for line in out.splitlines()[2:])


def test_list_finds_nothing(run):
    status, out, err = run("list", "nothing-*")
    assert (status, out) == (1, "")
    assert "no model matches" in err
    assert json.loads(run("list", "nothing-*", "--json")[1]) == []


def test_show(run):
    status, out, _ = run("show", "text-test")
    assert status == 0
    assert widest(out) <= 80
    assert 'zoo.build_model("text-test")' in out
    assert "zoo encode" not in out, "it has no weights to load"
    assert 'zoo encode "a red motorbike" --model zoo-mini' in run("show", "zoo-mini")[1]
    images = run("show", "dinov2-vit-s14")[1]
    assert "zoo encode --image photo.jpg --model dinov2-vit-s14" in images
    assert 'encode([Path("photo.jpg")])' in images
    assert "red motorbike" not in images + run("show", "whisper-tiny")[1], "they read no text"
    spec = json.loads(run("show", "text-test", "--json")[1])
    assert spec == zoo.get_spec("text-test").to_dict()
    status, out, err = run("show", "txt-test")
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert "text-test" in err


def test_encode(run, models, tmp_path, terminal):
    make_images(tmp_path, 1)
    image = tmp_path / "00000.png"
    common = ["a cat", "a dog", "--image", image, "--model", models["clip-test"]]
    model = zoo.load_model(models["clip-test"])
    expected = model.encode(["a cat", "a dog", image])
    status, out, _ = run("encode", *common, "--json")
    found = json.loads(out)
    assert status == 0
    assert [one["kind"] for one in found["vectors"]] == ["text", "text", "image"]
    np.testing.assert_allclose([one["vector"] for one in found["vectors"]], expected.numpy(), atol=1e-6)
    status, out, _ = run("encode", *common, "--out", tmp_path / "v.npy")
    assert "3 x 16 float32" in out
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected.numpy(), atol=1e-6)
    status, out, _ = run("encode", *common)
    assert f"{float(expected[0] @ expected[1]):.3f}" in out
    assert str(image) in out
    assert "…" not in out
    assert ", ".join(f"{x:+.3f}" for x in expected[2].tolist()) in out, "whole vectors where nobody reads them by eye"
    terminal()
    out = run("encode", *common)[1]
    assert widest(out) <= 80
    assert ", …" in out
    assert run("encode", *common, "--precision", "int8", "--out", tmp_path / "v.npy")[0] == 0
    assert np.load(tmp_path / "v.npy").dtype == np.int8


def test_encode_refuses_and_advises(run, models, tmp_path, monkeypatch):
    make_images(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    model = ["--model", models["clip-test"]]
    status, _, err = run("encode", "00000.png", *model)
    assert status == 0
    assert "embedded as text; for the file, write --image 00000.png" in err
    for arguments, message in [
        ([], "nothing to embed"),
        (["a", "--out", "x.json"], "ends in .npy"),
        (["a", "--out", "no/where.npy"], "cannot write"),
        (["a", "--dim", "99"], "vectors of 16 columns"),
        ([" "], "item 0"),
        (["--image", "gone.jpg"], "gone.jpg does not exist"),
    ]:
        status, out, err = run("encode", *arguments, *model)
        assert (status, out) == (2, ""), arguments
        assert re.search(rf"^error: .*{re.escape(message)}", err, re.MULTILINE), err
    with pytest.raises(SystemExit):
        main(["encode", "a", "--dim", "0"])


# -- embed and search -----------------------------------------------------------------------------------------------


@pytest.fixture
def texts(run, models, tmp_path):
    """A folder of 60 embedded texts."""
    source = make_table(tmp_path / "t.csv", 60)
    with source.open("a") as file:
        file.write(",cat,1,1,true,\n")
    assert run("embed", source, "--out", tmp_path / "out", "--model", models["text-test"], "--quiet")[0] == 0
    return tmp_path / "out"


def test_embed_reports_and_goes_on(run, models, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 60), tmp_path / "out"
    with source.open("a") as file:
        file.write(",cat,1,1,true,\n")
    command = ("embed", source, "--out", out, "--model", models["text-test"], "--shard-size", 25)
    status, printed, _ = run(*command)
    assert status == 0
    assert "60 vectors in" in printed
    assert "1 inputs could not be embedded (1 empty-text): see" in printed
    assert f"next: zoo search {out}" in printed
    report = json.loads(run(*command, "--json", "--quiet")[1])
    assert (report["new"], report["vectors"], report["reasons"]) == (0, 60, {"empty-text": 1})
    assert (report["unchanged"], report["added"], report["kept"]) == (60, 0, 0)
    manifest = json.loads((out / "manifest.json").read_text())
    made = (out / "manifest.json").read_text()
    counts = {**manifest["counts"], "inputs": 50}
    (out / "manifest.json").write_text(json.dumps({**manifest, "counts": counts, "finished": False}))
    assert f"{out}: 50 of 61 inputs are embedded; the same `zoo embed`" in run("search", out, "text 3")[2]
    building = {"generation": 1, "inputs": 20, "total": 61}
    (out / "manifest.json").write_text(json.dumps({**manifest, "building": building}))
    assert "an update is not finished (20 of 61 inputs); the answers are those of before" in run("search", out, "a")[2]
    (out / "manifest.json").write_text(made)
    assert "finished" not in run("search", out, "text 3")[2]
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([lines[0], "more,cat,1,1,true,\n", *lines[1:50]]))
    printed = run(*command)[1]
    told = (
        "1 added, 49 moved or touched, not embedded again, 10 kept of inputs that have vanished (--update lets them go)"
    )
    assert "60 vectors in" in printed
    assert told in printed
    source.write_text("".join(lines))
    status, printed, err = run(*command, "--max-bad", "0")
    assert (status, printed) == (2, "")
    assert "allowed are 0" in err
    status, _, err = run(*command, "--prompt", "another: ")
    assert status == 2
    assert "prompt:" in err
    assert run(*command, "--max-bad", "lots")[0] == 2


def test_search_prints_a_table_and_json(run, texts, models, terminal):
    status, out, _ = run("search", texts, "text 33", "--k", 5)
    assert status == 0
    assert len(out.splitlines()) == 7
    assert re.search(r"^1\s+\d\.\d{3}\s+\S+\s+\d{4}\s+.* text \d+$", out, re.MULTILINE)
    status, out, _ = run("search", texts, "text 33", "--where", "label = 'dog' and year > 2000", "--json")
    found = json.loads(out)
    assert found
    assert all(one["attributes"]["label"] == "dog" and one["attributes"]["year"] > 2000 for one in found)
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    exact = json.loads(run("search", texts, "text 33", "--backend", "exact", "--json")[1])
    assert [one["id"] for one in exact] == [
        one["id"] for one in json.loads(run("search", texts, "text 33", "--json")[1])
    ]
    status, out, err = run("search", texts, "a", "--where", "label = 'zebra'")
    assert (status, out) == (1, "")
    assert "nothing was found where label = 'zebra'" in err
    terminal()
    assert widest(run("search", texts, "text 33", "--k", 5)[1]) <= 80


def test_search_refuses_what_makes_no_sense(run, texts, models, tmp_path):
    make_images(tmp_path, 1)
    image = tmp_path / "00000.png"
    for arguments, message in [
        ((texts, "--html", tmp_path / "x.html"), "--html is a page of one search"),
        ((texts, "--image", tmp_path / "gone.jpg"), "gone.jpg does not exist"),
        ((texts, "a", "--image", image), "text-test reads text, not image\\+text in one item"),
        ((texts, "a", "--image-weight", "0.5"), "--image-weight is of an image and a text together"),
        ((texts, "a", "--image", image, "--image-weight", "0.5"), "--image-weight is for models that do not"),
        ((tmp_path / "nowhere", "a"), "no manifest.json"),
        ((texts, "a", "--where", "labl = 'x'"), "did you mean 'label'"),
        ((texts, "a", "--model", models["clip-test"]), "model: 'text-test' there, 'clip-test' here"),
        ((texts, "--image", tmp_path / "t.csv"), "t.csv"),
    ]:
        status, out, err = run("search", *arguments)
        assert (status, out) == (2, ""), arguments
        assert re.search(rf"^error: .*{message}", err), err
    manifest = json.loads((texts / "manifest.json").read_text())
    (texts / "manifest.json").write_text(json.dumps({**manifest, "model": "./moved"}))
    status, _, err = run("search", texts, "a")
    assert status == 2
    assert "if it lies elsewhere now, name it with --model" in err
    assert run("search", texts, "a", "--model", models["text-test"])[0] == 0


def test_search_among_images_writes_a_page(run, models, tmp_path, terminal):
    photos, page = tmp_path / "photos", tmp_path / "found.html"
    make_images(photos, 12)
    nasty = "<script>alert(1)<b> & [red]'\".png"
    if os.name == "posix":
        (photos / "b" / nasty).write_bytes((photos / "00000.png").read_bytes())
    run("embed", photos, "--out", tmp_path / "out", "--model", models["clip-test"], "--quiet")
    image = photos / "b" / "00001.png"
    found = json.loads(run("search", tmp_path / "out", "--image", image, "--json")[1])
    assert (found[0]["id"], found[0]["score"]) == ("b/00001.png", pytest.approx(1, abs=1e-5))
    deep = photos / ("a-long-name-" * 12)
    deep.mkdir()
    (deep / "p.png").write_bytes(image.read_bytes())
    run("embed", photos, "--out", tmp_path / "out", "--model", models["clip-test"], "--quiet")
    out = run("search", tmp_path / "out", "--image", image)[1]
    assert f"{deep.name}/p.png" in out, "whole where nobody reads it by eye"
    assert "…" not in out
    terminal()
    assert widest(run("search", tmp_path / "out", "--image", image)[1]) <= 80
    (deep / "p.png").unlink()
    run("embed", photos, "--out", tmp_path / "out", "--model", models["clip-test"], "--quiet", "--update")
    (photos / "b" / "00004.png").unlink()
    query = "<img src=x onerror=alert(1)>"
    status, out, err = run("search", tmp_path / "out", query, "--k", 100, "--html", page)
    assert (status, out) == (0, "")
    assert "found.html: 13 results" in err
    html = page.read_text()
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror" in html
    assert html.count('src="data:image/jpeg;base64,') == 12
    assert "does not exist" in html
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", html)
    run("search", tmp_path / "out", "--image", image, "--k", 100, "--html", page)
    assert page.read_text().count('src="data:image/jpeg;base64,') == 13
    status, _, err = run("search", tmp_path / "out", query, "--html", tmp_path / "no" / "page.html")
    assert status == 2
    assert "cannot write" in err


def test_a_page_shows_images_from_inside_a_table_and_texts_escaped(run, models, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    make_images(tmp_path, 4)
    cells = [path.read_bytes() for path in sorted(tmp_path.rglob("*.png"))]
    pq.write_table(pa.table({"image": cells, "label": ["<b>x</b>"] * 4}), tmp_path / "t.parquet", row_group_size=3)
    run("embed", tmp_path / "t.parquet", "--out", tmp_path / "out", "--model", models["clip-test"], "--quiet")
    run("search", tmp_path / "out", "a", "--html", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert html.count('src="data:image/jpeg;base64,') == 4
    assert "label: &lt;b&gt;x&lt;/b&gt;" in html
    (tmp_path / "t.parquet").unlink()
    run("search", tmp_path / "out", "a", "--html", tmp_path / "page.html")
    assert "is not there any more" in (tmp_path / "page.html").read_text()
    (tmp_path / "t.txt").write_text("<i>one</i>\ntwo\n")
    run("embed", tmp_path / "t.txt", "--out", tmp_path / "out2", "--model", models["text-test"], "--quiet")
    run("search", tmp_path / "out2", "one", "--html", tmp_path / "page.html")
    assert "<p>&lt;i&gt;one&lt;/i&gt;</p>" in (tmp_path / "page.html").read_text()


def test_control_characters_and_markup_do_not_reach_the_terminal(run, models, tmp_path):
    (tmp_path / "t.txt").write_bytes(b"[red]bad[/red] \x1b[31mtext\x1b]0;title\x07\n")
    run("embed", tmp_path / "t.txt", "--out", tmp_path / "out", "--model", models["text-test"], "--quiet")
    out = run("search", tmp_path / "out", "bad")[1]
    assert "[red]bad[/red]" in out
    assert "\x1b" not in out
    assert "\x07" not in out


INTERRUPTED = """
import sys
import zoo.bulk.run
import zoo.cli.embed
from zoo.cli import main
zoo.bulk.run.REPORT_EVERY = 0
def told(quiet):
    return lambda done, total: print("done", done, flush=True)
zoo.cli.embed._progress = told
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_ctrl_c_says_what_is_saved_and_exits_130(models, tmp_path):
    source, out = make_table(tmp_path / "t.csv", 5000), tmp_path / "out"
    command = [sys.executable, "-c", INTERRUPTED, "embed", source, "--out", out, "--model", models["text-test"]]
    running = warm.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in running.stdout:
        if int(line.split()[1]) >= 200:
            running.send_signal(signal.SIGINT)
            break
    _, err = running.communicate(timeout=600)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    saved = int(re.search(r"([\d,]+) inputs are saved in .*; the same command goes on", err).group(1).replace(",", ""))
    ids = stored(out)[0]
    assert 200 <= saved == len(ids) < 5000
    assert ids == [str(i) for i in range(saved)]


def test_demo_passes_its_options_on(run, monkeypatch, tmp_path):
    pytest.importorskip("gradio")
    import zoo.demos

    calls = []
    monkeypatch.setattr(zoo.demos, "launch", lambda *arguments, **options: calls.append((arguments, options)))
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert run("demo", "clip-test", "--photos", "a", "--photos", "b", "--port", 7999, "--no-samples")[0] == 0
    (name, photos), options = calls[0]
    assert (name, photos) == ("clip-test", [Path("a"), Path("b")])
    assert (options["port"], options["samples"], options["share"]) == (7999, False, False)


def test_an_image_that_cannot_be_read_stands_as_its_reason_on_the_page(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff nothing")
    assert "x.jpg" in viewed(tmp_path / "x.jpg")
    assert "<img" not in viewed(tmp_path / "x.jpg")
    Image.new("RGB", (900, 30)).save(tmp_path / "wide.png")
    assert viewed(tmp_path / "wide.png").startswith('<img alt=""')


def viewed(whole: Path | bytes) -> str:
    """What a page shows of an input."""
    from zoo.cli._media import Found, Media

    return Media().view(lambda: Found(whole, whole))


def test_a_video_stands_as_one_of_its_frames_on_the_page(tmp_path):
    pytest.importorskip("av")
    from tests.inputs.test_videos import avi, numbered

    (tmp_path / "a.avi").write_bytes(avi(numbered(5)))
    image = viewed((tmp_path / "a.avi").read_bytes())
    assert image.startswith('<img alt=""')
    # No browser plays AVI: another program may.
    assert viewed(tmp_path / "a.avi") == f'<a href="{(tmp_path / "a.avi").as_uri()}">{image}</a>'
