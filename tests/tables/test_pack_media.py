"""The packs of audio, videos and documents as tables of pairs, for training and for `zoo embed`."""

import pytest
from zoo.training import open_pairs

from zoo.errors import TableError
from zoo.inputs.kinds import kind_of
from zoo.tables.packs import find_pack


@pytest.mark.parametrize(("pack", "rows"), [("audio", 240), ("video", 60)])
def test_recordings_and_clips_with_their_texts(pack, rows):
    table = open_pairs(f"pack:{pack}", split="val")
    assert len(table) == rows
    pairs = [table[row] for row in range(0, rows, 37)]
    for pair in pairs:
        assert pair.query.modalities == {pack}
        assert kind_of(getattr(pair.query, pack)) == pack
        assert pair.positive.modalities == {"text"}
        assert len(pair.extra_positives) == 1  # two captions a row
        assert pair.name
    assert table.schemas[0].query[0].modality == pack


def test_recordings_of_a_class_are_a_group():
    table = open_pairs("pack:audio", split="val")
    groups: dict[str, set[str]] = {}
    for pair in table:
        groups.setdefault(pair.group, set()).add(pair.positive.text)
    assert len(groups) == 20  # ten classes of sound, ten digits
    assert all(len(texts) == 1 for texts in groups.values())


def test_texts_of_pages():
    table = open_pairs("pack:documents", split="val")
    assert len(table) == 54
    assert table.names == ["documents-figure-caption", "documents-sentence-on-the-page", "documents-title"]
    pair = table[0]
    assert pair.query.modalities == {"text"}
    assert pair.positive.modalities == {"image"}
    assert kind_of(pair.positive.image) == "image"


def test_what_is_embedded_of_a_pack():
    assert find_pack("pack:audio", "val").files[0].name == "val.parquet"
    with pytest.raises(TableError, match="a text and the image of a page"):
        find_pack("pack:documents", None)
    with pytest.raises(
        TableError, match="there are photos, emoji, symbols, audio, video, composed, documents, regions"
    ):
        open_pairs("pack:recordings")
