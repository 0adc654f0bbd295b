"""Options of tables in every command: followed, or refused by name where nothing is read by them."""

import argparse
from pathlib import Path

import pytest

import zoo
from tests.tables.train_tables import as_csv, as_jsonl, as_parquet, as_shard, as_tsv, png
from zoo.bulk import embed_dataset
from zoo.bulk.opening import prepare
from zoo.cli import build_parser, main
from zoo.cli._pairs import command_of, read_all, read_pairs
from zoo.cli._shared import reading
from zoo.errors import TableError
from zoo.tables import open_all, open_held_out, open_pairs, open_sources
from zoo.tables.ignoring import settings_to_ignore
from zoo.tables.options import Options, check_format

pytestmark = pytest.mark.usefixtures("cache_home")


def arguments_of(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(list(words))


UNREAD = {  # what each kind of file is not read by
    ".csv": (),
    ".tsv": (),
    ".jsonl": ("separator",),
    ".tar": ("separator",),
    ".parquet": ("separator", "encoding"),
}


@pytest.mark.parametrize("suffix", UNREAD)
@pytest.mark.parametrize(("option", "value"), [("encoding", "utf-8"), ("separator", None)])
def test_how_a_file_of_text_is_written_is_not_said_of_others(suffix, option, value, tmp_path, capsys):
    pairs = [{"query": f"q {i}", "positive": f"p {i}", "split": ("train", "test")[i % 2]} for i in range(6)]
    path = {".tsv": as_tsv, ".csv": as_csv, ".jsonl": as_jsonl, ".tar": as_shard, ".parquet": as_parquet}[suffix](
        pairs, tmp_path / f"t{suffix}"
    )
    value = value or ("\t" if suffix == ".tsv" else ",")
    told = {option: value}
    if option not in UNREAD[suffix]:
        assert len(open_pairs(path, **told)) == len(open_all([path], **told)) == 3
        check_format(Options(**told), prepare(path, Options(**told)))
        return
    with pytest.raises(TableError, match=f"^--{option} '' "):  # said, though it says nothing
        open_pairs(path, **{option: ""})
    for read in (open_pairs, lambda source, **told: open_all([source], **told)):
        with pytest.raises(TableError, match=rf"^--{option} '{value}' \({option}='{value}'\) is of .*; leave it out"):
            read(path, **told)
    name, out = str(path), str(tmp_path / "out")
    for command in (
        ["train", name, "--model", "text-test", "--from-scratch", "--out", out],
        ["mine", name, "--out", f"{out}.csv"],
        ["embed", name, "--out", out],
        ["eval", "zoo-mini", "--pairs", name],
        ["merge", "zoo-mini", "text-test", "--probe", name, "--out", out],
    ):
        assert main([*command, f"--{option}", value]) == 2
        assert f"--{option} '{value}'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_file_that_is_read_by_it_is_enough(tmp_path, capsys):
    """A table to hold out, more candidates: what reads an option stands anywhere in a command."""
    pairs = [{"query": f"q {i}", "positive": f"p {i}"} for i in range(4)]
    source = str(as_parquet(pairs, tmp_path / "t.parquet"))
    held_out = as_csv([{"query": f"r {i}", "positive": f"s {i}"} for i in range(4)], tmp_path / "h.csv", ";")
    train = ["train", source, "--model", "text-test", "--from-scratch", "--dry-run", "--separator", ";"]
    assert main(train) == 2
    assert main([*train, "--held-out", str(held_out)]) == 0
    (tmp_path / "corpus.txt").write_bytes("é".encode("cp1252"))
    assert len(open_all([source, held_out], separator=";")) == 8
    command = ["mine", source, "--out", str(tmp_path / "m.csv"), "--teacher", "nobody", "--encoding", "cp1252"]
    capsys.readouterr()
    assert main([*command, "--corpus", str(tmp_path / "corpus.txt")]) == 2
    assert "nobody" in capsys.readouterr().err


@pytest.mark.parametrize("beside", [True, False])
def test_texts_beside_images_are_files_of_text(tmp_path, beside):
    for number, image in enumerate([png(40 * i, 20, 200) for i in range(3)]):
        (tmp_path / "class").mkdir(exist_ok=True)
        (tmp_path / "class" / f"{number}.png").write_bytes(image)
        if beside:
            (tmp_path / "class" / f"{number}.txt").write_bytes("é".encode("cp1252"))
    if beside:
        assert open_pairs(tmp_path, encoding="cp1252")[0].positive.text == "é"
    else:
        with pytest.raises(TableError, match="--encoding 'cp1252'"):
            open_pairs(tmp_path, encoding="cp1252")
    with pytest.raises(TableError, match="--encoding 'cp1252'"):  # the images alone are embedded
        check_format(Options(encoding="cp1252"), prepare(tmp_path, Options()))


def test_data_sets_have_names_wherever_pairs_are_named(tmp_path, monkeypatch):
    """Also where the best checkpoint is chosen by them, and what is said of one data set is of that alone."""
    monkeypatch.chdir(tmp_path)
    pairs = [{"query": f"q {i}", "positive": f"p {i}", "kind": "k"} for i in range(3)]
    as_csv([{"query": pair["query"], "positive": pair["positive"]} for pair in pairs], tmp_path / "t.csv")
    as_csv(pairs, tmp_path / "k.csv")
    told = reading(arguments_of("train", "own=k.csv", "t.csv", "--column", "own:group=kind"))
    assert open_sources(["own=k.csv", "t.csv"], told).names == ["own", "t"]
    assert open_held_out("t.csv", told).schemas[0].group is None
    held_out = open_held_out("own=k.csv", told)
    assert (held_out.names, held_out.schemas[0].group) == (["own"], "kind")
    measured = arguments_of("eval", "m", "--pairs", f"own={tmp_path / 'k.csv'}", "--column", "own:group=kind")
    sides = read_pairs(measured, f"own={tmp_path / 'k.csv'}")
    assert (sides.name, set(sides.groups)) == ("own", {"k"})
    assert (
        command_of(measured, "m", [f"own={tmp_path / 'k.csv'}"])
        == "zoo eval m --pairs own=k.csv --column own:group=kind"
    )
    with pytest.raises(TableError, match="no data set is called 'other'; there are own"):
        read_all(arguments_of("eval", "m", "--pairs", "own=k.csv", "--column", "other:group=kind"), ["own=k.csv"])


@pytest.mark.parametrize("option", ["--max-bad", "--column", "--root", "--as-text", "--encoding", "--separator"])
def test_options_of_pairs_that_are_not_named(option, tmp_path, capsys):
    assert main(["eval", "zoo-mini", "--tasks", "photos", option, "a=b" if option != "--root" else str(tmp_path)]) == 2
    assert f"{option} is of the pairs, and there are none: say --pairs" in capsys.readouterr().err


def test_where_no_checkpoint_is_opened_nobody_knows_its_settings():
    with settings_to_ignore(["a_setting"]) as settings:
        assert settings == ["a_setting"]


def test_a_name_to_ignore_that_is_neither_a_column_nor_a_setting_is_an_error(tmp_path, capsys):
    pairs = [{"query": f"q {i}", "positive": f"p {i}", "more": "x"} for i in range(4)]
    name, out = str(as_csv(pairs, tmp_path / "t.csv")), str(tmp_path / "out")
    one, two = (str(zoo.build_model("text-test").save_pretrained(tmp_path / model)) for model in ("a", "b"))
    for command in (
        ["train", name, "--model", one, "--out", out],
        ["mine", name, "--teacher", one, "--out", f"{out}.csv"],
        ["embed", name, "--column", "query", "--model", one, "--out", out],
        ["eval", one, "--pairs", name, "--out", f"{out}.json"],
        ["merge", one, two, "--out", out],
        ["merge", one, two, "--probe", name, "--out", out],
    ):
        of_a_table = ["--ignore", "more"] if "merge" not in command or "--probe" in command else []
        assert main([*command, *of_a_table, "--ignore", "moer"]) == 2
        said = capsys.readouterr().err
        assert "--ignore moer (ignore=['moer']): there is no such column, and no setting of this name" in said
        assert ("columns: query, positive, more" in said) == bool(of_a_table)
    assert not list(tmp_path.glob("out*"))
    with pytest.raises(TableError, match="--ignore moer"):
        embed_dataset(Path(one), name, out, column="query", ignore=["moer", "more"])
