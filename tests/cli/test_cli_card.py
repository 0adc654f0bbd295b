"""`zoo card` as people type it."""

import os
import subprocess
import sys

import zoo
from tests import warm
from tests.every import every
from zoo.cli import main
from zoo.publishing import cards


def test_a_registered_name(capsys):
    assert main(["card", "zoo-mini"]) == 0
    shown = capsys.readouterr().out
    assert f"{zoo.get_spec('zoo-mini').params:,}" in shown
    assert f"{100 * next(result.value for result in cards.measured('zoo-mini')):.1f}" in shown
    assert "<!--" not in shown
    assert "library_name" not in shown


@every("name", zoo.list_models(tests=True))
def test_raw_is_the_file(name, capsys):
    assert main(["card", name, "--raw"]) == 0
    assert capsys.readouterr().out == (cards.CARDS / f"{name}.md").read_text(encoding="utf-8")


def test_show_says_how_a_vision_language_model_reads(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    shown = {}
    for name in ("jina-embeddings-v4-multivector", "qwen3vl-embedding-8b", "gme-test", "clip-test"):
        assert main(["show", name]) == 0
        shown[name] = capsys.readouterr().out
    assert "128 for every token" in shown["jina-embeddings-v4-multivector"]
    assert "cc-by-nc-4.0 (non-commercial only)" in shown["jina-embeddings-v4-multivector"]
    assert "text or images" in shown["jina-embeddings-v4-multivector"]
    assert "1 frame a second, at most 64" in shown["qwen3vl-embedding-8b"]
    assert "4096 (also 2048, 1024" in shown["qwen3vl-embedding-8b"]
    assert "those of images too" in shown["gme-test"]
    assert 'zoo.build_model("gme-test")' in shown["gme-test"]
    assert "load_model" not in shown["gme-test"], "there is nothing to load"
    assert "positions" not in shown["clip-test"]


def test_written_once(tmp_path, capsys):
    file = tmp_path / "card.md"
    assert main(["card", "clip-test", "--write", str(file)]) == 0
    assert file.read_text(encoding="utf-8") == (cards.CARDS / "clip-test.md").read_text(encoding="utf-8")
    file.write_text("mine")
    assert main(["card", "clip-test", "--write", str(file)]) == 2
    assert "File exists; name a new file" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert main(["card", "clip-test", "--write", str(tmp_path / "no" / "card.md")]) == 2
    assert "No such file or directory; name a new file in a folder that exists" in capsys.readouterr().err


def test_a_folder(tmp_path, capsys):
    folder = tmp_path / "mine"
    zoo.build_model("text-test").save_pretrained(folder)
    assert main(["card", str(folder)]) == 2
    assert "holds no README.md; `zoo show" in capsys.readouterr().err
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n\nWords [red]of[/red] mine.\n")
    assert main(["card", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "Words [red]of[/red] mine." in shown
    assert "license" not in shown


def test_an_unknown_name_gives_the_nearest(capsys):
    assert main(["card", "zoo-min"]) == 2
    assert "zoo-mini" in capsys.readouterr().err


def test_a_card_that_is_no_yaml_is_named(tmp_path, capsys):
    (tmp_path / "README.md").write_text("---\nlicense: [mit\n---\n# Mine\n")
    assert main(["card", str(tmp_path)]) == 2
    assert "the front matter is no YAML" in capsys.readouterr().err


def test_a_repository_of_the_hub(hub, tmp_path):
    hub.add({"README.md": b"---\nlicense: mit\n---\n# Theirs\n"}, "org/theirs", tag="v1")
    hub.add({"README.md": b"---\nlicense: mit\n---\n# Newer\n"}, "org/theirs")
    hub.add({"config.json": b"{}"}, "org/bare")
    environment = {**os.environ, **hub.environment(tmp_path)}

    def card(name: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "zoo", "card", name, "--raw"]
        return warm.run(command, capture_output=True, text=True, env=environment)

    assert card("hf:org/theirs@v1").stdout == "---\nlicense: mit\n---\n# Theirs\n"
    assert card("hf:org/theirs").stdout.endswith("# Newer\n")
    bare = card("hf:org/bare")
    assert bare.returncode == 2
    assert "hf:org/bare/README.md" in bare.stderr


def test_no_repository_name(capsys):
    assert main(["card", "hf:theirs"]) == 2
    assert "write hf:<org>/<name>[@revision]" in capsys.readouterr().err


def test_it_loads_no_model():
    """A clean process: neither torch nor the Hub's client is needed to show a card."""
    code = "import sys; from zoo.cli import main; main(['card', 'clip-test']); print({'torch', 'huggingface_hub'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip().endswith("set()")


def test_without_cards_it_is_rendered_from_the_spec(tmp_path, monkeypatch, capsys):
    """A package that was installed without its cards."""
    from zoo.publishing.cards import pages

    monkeypatch.setattr(pages, "CARDS", tmp_path)
    assert main(["card", "all-minilm-l6-v2", "--raw"]) == 0
    text = capsys.readouterr().out
    assert cards.read_facts(text) == cards.fact_rows(zoo.get_spec("all-minilm-l6-v2"))
    assert cards.check(text) == []


def test_a_model_in_memory_has_no_card():
    model = zoo.build_model("clip-test")
    assert cards.measured(model) == []
    assert cards.notes_of(model) == ""
