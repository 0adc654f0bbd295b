"""Plug-ins: what an installed package registers by an entry point is known; one that fails is reported, and hides no other.

Parts of models are registered under names, and nothing else is saved.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.pooling import LastToken, Mean
from zoo.registry import parts
from zoo.registry.parts import register_part
from zoo.registry.plugins import GROUPS, discover

GOOD = '''
"""A model of another package."""
import zoo
from zoo.registry import register_model

@register_model(name="outside-test", modalities={"text"}, dim=4, params=8, license="mit")
def outside_test(spec):
    raise AssertionError("only its facts are asked for")

assert "clip-test" in zoo.list_models(tests=True)  # a plug-in may ask for what there is as it is imported
'''
CODE = """
import warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import zoo
    assert not said, "import zoo looks for no plug-ins"
    print("outside-test" in zoo.list_models(tests=True), zoo.get_spec("outside-test").family, "clip-test" in zoo.list_models(tests=True))
    zoo.list_models()
for one in said:
    print(one.message)
"""


def test_an_entry_point_is_imported_and_one_that_fails_is_named(tmp_path: Path):
    (tmp_path / "outside_good.py").write_text(GOOD, encoding="utf-8")
    (tmp_path / "outside_bad.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    (tmp_path / "outside_taken.py").write_text(GOOD.replace("outside-test", "clip-test"), encoding="utf-8")
    (tmp_path / "outside_leaves.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    facts = tmp_path / "outside_package-1.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-package\nVersion: 1.2\n", encoding="utf-8")
    names = ("bad", "good", "leaves", "taken")
    (facts / "entry_points.txt").write_text(
        "[zoo.models]\n" + "".join(f"{name} = outside_{name}\n" for name in names), encoding="utf-8"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    found = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert found.returncode == 0, found.stderr
    first, *said = found.stdout.splitlines()
    assert first == "True outside_good True"
    # Each once, however often the registry is asked.
    for line, (name, error) in zip(
        said, [("bad", "nothing_of_this_name"), ("leaves", "SystemExit: 3"), ("taken", "twice")], strict=True
    ):
        assert all(part in line for part in (f"'{name}' of outside-package 1.2", f"outside_{name}", error))


TAKES = """
import pytest
from zoo.formats.layout import Layout, layout_named, register_layout
from zoo.registry import get_spec, register_model
from zoo.training.losses.base import list_losses, register_loss

class Mine(Layout):
    name, looked_for = "timm", "mine: x"
    recognise = files = load = lambda *_: None

with pytest.raises(ValueError, match="clip-test is registered twice, by zoo.models.clip and by __main__"):
    register_model(name="clip-test", modalities={"text"}, dim=4, license="mit")(lambda spec: None)
with pytest.raises(ValueError, match="two layouts are called 'timm'"):
    register_layout(Mine)
with pytest.raises(ValueError, match="two losses are called 'angle'"):
    register_loss("angle")(Mine)
assert get_spec("clip-test").family == "clip" and "angle" in list_losses()
assert type(layout_named("timm")).__module__ == "zoo.formats.timm"
"""


def test_a_name_of_the_zoo_stays_its_own_whoever_is_imported_first():
    done = subprocess.run([sys.executable, "-c", TAKES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_group_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no plug-ins of the group 'model'"):
        discover("model")


def test_the_page_for_authors_names_every_group_and_shows_files_that_are_there():
    page = Path(__file__).parents[1] / "docs" / "add-a-model.md"
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `zoo\.(\w+)`", text, re.MULTILINE)) == set(GROUPS)
    shown = re.findall(r"\]\((\.\./[^)]+)\)", text)
    assert len(shown) >= len(GROUPS)
    assert not [place for place in shown if not (page.parent / place).exists()]


def test_threads_that_ask_at_once_all_see_every_model():
    code = (
        "from concurrent.futures import ThreadPoolExecutor as Pool\nimport zoo\n"
        "with Pool(8) as pool:\n    found = list(pool.map(lambda _: len(zoo.list_models(tests=True)), range(8)))\n"
        "print(set(found) == {len(zoo.list_models(tests=True))})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_threads_run_a_plug_in_that_fails_once_and_say_why(tmp_path: Path):
    content = GOOD + '\nimport time\ntime.sleep(0.2)\nraise RuntimeError("then it failed")\n'
    (tmp_path / "outside_half.py").write_text(content, encoding="utf-8")
    facts = tmp_path / "outside_package-1.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-package\nVersion: 1.2\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text("[zoo.models]\nhalf = outside_half\n", encoding="utf-8")
    code = (
        "import sys, warnings\nfrom concurrent.futures import ThreadPoolExecutor as Pool\n"
        "sys.path.insert(0, sys.argv[1])\nwarnings.simplefilter('always')\nimport zoo\n"
        "with Pool(6) as pool:\n    list(pool.map(lambda _: zoo.list_models(), range(6)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stderr.count("UserWarning") == done.stderr.count("then it failed") == 1, done.stderr


def test_a_part_that_nobody_registered_is_not_saved_and_the_message_says_what_to_do(tmp_path: Path):
    class Middle(Mean):
        """A pooler of nobody's package."""

    model = zoo.build_model("text-test")
    model.towers[0].pooler = Middle()
    with pytest.raises(TypeError, match=r"Middle cannot be saved.*@zoo\.registry\.parts\.register_part.*zoo\.encoders"):
        model.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("role", "name", "said"),
    [
        ("tower", "acme:Part", "no role"),
        ("pooler", "pooling:Mean", "no name of a part"),  # the zoo's own rooms
        ("encoder", "encoders:Text", "no name of a part"),
        ("pooler", "acme", "no name of a part"),
        ("pooler", "acme.inner:Part", "no name of a part"),
    ],
)
def test_names_of_parts_that_are_none(role: str, name: str, said: str):
    with pytest.raises(ValueError, match=said):
        register_part(role, name)


def test_a_part_is_known_by_one_name_and_in_its_role_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "_PARTS", {})
    monkeypatch.setattr(parts, "_NAMES", {})
    register_part("pooler", "acme:Middle")(Mean)
    assert (parts.part_named("pooler", "acme:Middle"), parts.name_of(Mean)) == (Mean, "acme:Middle")
    assert parts.part_named("head", "acme:Middle") is None
    assert parts.part_named("pooler", "os:System") is None
    with pytest.raises(ValueError, match="two parts are called 'acme:Middle'"):
        register_part("pooler", "acme:Middle")(LastToken)
    with pytest.raises(ValueError, match="Mean is registered already, as 'acme:Middle'"):
        register_part("pooler", "acme:Other")(Mean)


def test_decorators_name_what_they_are_given():
    from zoo.training.losses.base import register_loss
    from zoo.training.samplers.base import register_sampler

    from zoo.encoders.sequence.media import register_media_reader

    for decorator in (register_loss, register_sampler):  # without its name, the class would be lost in silence
        with pytest.raises(ValueError, match="name must be"):
            decorator(Mean)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a part is a class"):
        register_part("pooler", "acme:Middle")(len)  # type: ignore[type-var]
    for kind in ("text", "smell", Mean):
        with pytest.raises(ValueError, match="is no medium"):
            register_media_reader(kind)  # type: ignore[arg-type]
