"""Fine-tuning on a CSV, as the README shows it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zoo.training import read_csv, recipes, train
from zoo.training.data import TableError

import zoo

COLOURS = {"red": (220, 20, 20), "green": (20, 180, 40), "blue": (20, 40, 220), "yellow": (240, 220, 20)}


@pytest.fixture
def table(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["image,text"]
    for name, colour in COLOURS.items():
        for i in range(6):
            pixels = np.clip(np.array(colour) + rng.normal(0, 25, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{name}{i}.png")
            lines.append(f"{name}{i}.png,a {name} tile")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def accuracy(model, pairs) -> float:
    labels = sorted({pair.positive.text for pair in pairs})
    scores = model.similarity(model.encode([pair.query for pair in pairs]), model.encode(labels))
    return np.mean([labels[best] == pair.positive.text for best, pair in zip(scores.argmax(1), pairs, strict=True)])


def test_a_csv_teaches_the_model_and_the_folder_loads_by_name(table, tmp_path):
    pairs = read_csv(table)
    model = zoo.build_model("mini-test")
    before = accuracy(model, pairs)
    recipe = recipes.finetune(pairs=len(pairs), epochs=40, batch_size=12, lr=3e-3, model="mini-test")
    train(model, pairs, recipe, tmp_path / "run", progress=False)
    again = zoo.load_model(tmp_path / "run")
    assert accuracy(again, pairs) > max(0.9, before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column image, text"),
        ("image,text\n", "a header and no pairs"),
        ("image,caption\na.png,x\n", "no column text"),
        ("image,text\nred0.png,\n", "line 2: the text is empty"),
        ("image,text\nred0.png,x\n,x\n", "line 3: the image is empty"),
        ("image,text\nred0.png,x\ngone.png,x\n", "line 3: no picture .*gone.png"),
    ],
)
def test_bad_tables_name_the_line(table, content, message):
    table.write_text(content)
    with pytest.raises(TableError, match=message):
        read_csv(table)
