"""An exported folder: the zoo, transformers and sentence-transformers give equal vectors, and only the zoo's code runs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from tests import warm
from tests.hub import LoopbackHub
from tests.inputs.audio_files import tones
from tests.reference import write
from zoo import Embedder, Item
from zoo.embedder import Tower
from zoo.errors import (
    EmptyTextError,
    MissingFileError,
    NotExportableError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedInputError,
    UnsupportedModalityError,
)
from zoo.heads import DenseStack, Linear, Mlp
from zoo.inputs.waveform import Waveform
from zoo.pooling import Concat, LastToken, Max, MeanSqrtLength, WeightedMean
from zoo.publishing import exports

PROJECT = Path(__file__).resolve().parents[2]
BOUND = 1e-5
# Test models that are written in a layout that other libraries read without our code.
NATIVE = {
    f"{name}-test"
    for name in [
        "arctic",
        "bge-gemma2",
        "bge-m3",
        "embeddinggemma-300m",
        "granite",
        "gritlm",
        "gte",
        "gte-qwen2",
        "instructor",
        "jina-v5",
        "kalm",
        "llm-embedder",
        "mistral-embedding",
        "modernbert",
        "qwen3-embedding",
        "text",
        "text-encoders",
    ]
}
REFERENCES = (
    "transformers-clip-crop",
    "transformers-siglip",
    "transformers-siglip2-naflex",
    "transformers-roberta",
    "sentence-prompts",
    "sentence-dense",
    "sentence-lasttoken",
    "sentence-lower-case",
    "sentence-static-mapped",
)
OURS = ("zoo", "transformers", "sentence-transformers")
TEXTS = [
    "a red bicycle",
    "Hi",
    "A much longer text about MANY things, which goes on and on: 1234 words? Ünïcode, 漢字 and 😀 " * 4,
    "  Two Dogs!\n",
]


def make_images() -> list[Image.Image]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((64, 64), (200, 300), (333, 50))
    return [
        Image.fromarray(torch.randint(0, 255, (*size, 3), generator=generator, dtype=torch.uint8).numpy())
        for size in sizes
    ]


def items_of(model: Embedder) -> list[Item]:
    """Texts and images in turn, as far as the model reads them; videos of a model that reads no images."""
    texts = [Item(text=text) for text in TEXTS if "text" in model.spec.modalities]
    images = [Item(image=image) for image in make_images() if "image" in model.spec.modalities]
    if "video" in model.spec.modalities and not images:
        images = [Item(video=np.stack([image, image.rotate(180)])) for image in make_images()]
    if "audio" in model.spec.modalities and not images:
        images = [
            Item(audio=Waveform(tones(0.3 + seed / 3, 16_000, seed), 16_000)) for seed in range(len(make_images()))
        ]
    return [item for pair in zip(texts, [*images, None], strict=False) for item in pair if item] or images


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Embedder, Path, exports.Exported]]:
    """A model by name, or as a reference library wrote it, and its export; each made once."""
    root, made = tmp_path_factory.mktemp("exports"), {}

    def make(name: str) -> tuple[Embedder, Path, exports.Exported]:
        if name not in made:
            if name in REFERENCES:
                model = zoo.load_model(write(name, root / f"{name}-source").folder, device="cpu")
            else:
                model = zoo.load_model(name, device="cpu") if name == "zoo-mini" else zoo.build_model(name)
            made[name] = (model, root / name, exports.export(model, root / name))
        return made[name]

    return make


def some(name: str) -> Any:
    """A case of its own kind in the default run, one that another stands for under `slow`."""
    alike = {"transformers-siglip", "sentence-prompts", "sentence-lasttoken", "sentence-lower-case"}
    return pytest.param(name, marks=pytest.mark.slow) if name in alike else name


@pytest.mark.parametrize("name", [*zoo.list_models("*-test"), "zoo-mini", *map(some, REFERENCES)])
def test_every_loader_gives_the_models_vectors(name: str, open_: Any) -> None:
    model, folder, exported = open_(name)
    items = items_of(model)
    loaders = [loader for loader in OURS if not exported.loaders[loader]]
    late = model.spec.similarity == "maxsim"
    assert set(loaders) >= {"zoo"} if late else set(loaders) >= {"zoo", "sentence-transformers"}
    assert not late or "one vector per token" in exported.loaders["sentence-transformers"]
    assert exports.loaders_of(folder) == [loader for loader, reason in exported.loaders.items() if not reason]
    for prompt in (None, *model.spec.prompts):
        expected = model.encode(items, prompt_name=prompt)
        assert len({str(row.tolist()) for row in expected}) == len(items)
        for loader in loaders:
            vectors = exports.encode_with(loader, folder, items, prompt_name=prompt, batch_size=3)
            furthest = max((a - b).abs().max() for a, b in zip(vectors, expected, strict=True))
            assert furthest < BOUND, (loader, prompt)


@pytest.mark.parametrize("name", [*zoo.list_models("*-test"), "zoo-mini", *REFERENCES])
def test_the_folder_keeps_the_facts_and_holds_no_pickle(name: str, open_: Any) -> None:
    model, folder, exported = open_(name)
    assert zoo.load_model(folder, device="cpu").spec == model.spec
    assert sorted(exported.files) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    assert not [file for file in exported.files if file.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))]
    native = name in NATIVE or (name.startswith(("transformers-", "sentence-")) and name != "sentence-static-mapped")
    late = model.spec.similarity == "maxsim"  # the zoo's own loader alone
    assert any(file.endswith(".py") for file in exported.files) is not (native or late)
    assert ("zoo.json" in exported.files) is native


POOLERS = {
    "max": Max(),
    "weighted mean, filled on the left": WeightedMean(),
    "root of the length": MeanSqrtLength(),
    "last token": LastToken(),
    "three side by side": Concat(["Cls", "Mean", "Max"]),
}
STACK = [
    {"kind": "dense", "width": 32, "dim": 20, "bias": True, "activation": "Tanh"},
    {"kind": "layer_norm", "width": 20},
    {"kind": "normalize"},
    {"kind": "dense", "width": 20, "dim": 12, "bias": False, "activation": "Identity"},
]
HEADS = {"linear": Linear(32, 12), "linear with bias": Linear(32, 12, bias=True), "stack": DenseStack(STACK)}


def text_model(pooler: nn.Module | None = None, head: nn.Module | None = None, side: str = "right") -> Embedder:
    """A small text backbone with another pooler or head; the norm of the stack has weights unlike its start."""
    base = zoo.build_model("text-test")
    tower = base.towers[0]
    tower.encoder.padding_side = side
    tower = Tower(tower.encoder, pooler or tower.pooler, head or tower.head)
    for name, weight in tower.head.named_parameters():
        nn.init.normal_(weight, mean=0.5 if "norm" in name else 0.0)
    dim = tower(tower.encoder.prepare([Item(text="a")])).shape[1]
    return Embedder(zoo.ModelSpec(name="mine", modalities={"text"}, dim=dim, license="mit"), [tower]).eval()


@pytest.mark.parametrize("kind", [*POOLERS, *HEADS])
def test_poolers_and_heads_that_sentence_transformers_has_need_no_code(kind: str, tmp_path: Path) -> None:
    side = "left" if "left" in kind else "right"
    model = text_model(POOLERS.get(kind), HEADS.get(kind), side)
    exported = exports.export(model, tmp_path / "out")
    assert not [file for file in exported.files if file.endswith(".py")]
    assert bool(exported.loaders["transformers"]) is (kind in HEADS)  # a head, transformers alone cannot apply
    expected = model.encode(TEXTS)
    for loader in set(OURS) & set(exports.loaders_of(tmp_path / "out")):
        vectors = exports.encode_with(loader, tmp_path / "out", [Item(text=text) for text in TEXTS])
        assert (vectors - expected).abs().max() < BOUND, loader


def test_a_head_that_no_library_has_goes_with_the_zoos_code(tmp_path: Path) -> None:
    model = text_model(head=Mlp(32, 12))
    exported = exports.export(model, tmp_path / "out")
    assert "zoo_module.py" in exported.files
    for loader in OURS:
        vectors = exports.encode_with(loader, tmp_path / "out", [Item(text=text) for text in TEXTS])
        assert (vectors - model.encode(TEXTS)).abs().max() < BOUND, loader


@pytest.mark.parametrize("name", ["text-test", "mini-test", "transformers-clip-crop"])
def test_half_precision_stays_near(name: str, open_: Any) -> None:
    model, folder, _ = open_(name)
    items = items_of(model)
    expected = model.encode(items)
    for loader in OURS:
        vectors = exports.encode_with(loader, folder, items, dtype=torch.bfloat16)
        similar = (vectors * expected).sum(1)
        assert vectors.dtype == torch.float32
        assert similar.min() > 0.99, loader
        assert (vectors - expected).abs().max() > 0, loader  # it was another precision


# ------------------------------------------------------------------------------------- in a process of their own, as users


def run(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python program in a clean process, with its own cache for the code that transformers copies."""
    environment = {**os.environ, "HF_HOME": str(home), "PYTHONPATH": str(PROJECT), **environment}
    return warm.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=home, env=environment)


REMOTE = """
import json, zoo
from pathlib import Path
facts = zoo.load_model("hf:org/text", device="cpu")
ours = zoo.load_model("hf:{folder}", device="cpu").encode("Hi")
assert list(Path("hub").rglob("zoo.json")) and not list(Path("hub").rglob("*.py"))
from transformers import AutoConfig, AutoModel, AutoProcessor
from PIL import Image
assert AutoConfig.from_pretrained({folder!r}, trust_remote_code=True).model_type == "zoo"
model = AutoModel.from_pretrained({folder!r}, trust_remote_code=True)
processor = AutoProcessor.from_pretrained({folder!r}, trust_remote_code=True)
batch = processor(text=["a red bicycle", "Hi"], images=Image.new("RGB", (40, 30), "red"), return_tensors="pt")
assert {{"input_ids", "attention_mask", "pixel_values"}} == set(batch)
out = model(**batch)
texts = model.get_text_features(batch.input_ids, batch.attention_mask).pooler_output
assert (texts == out.text_embeds).all() and out.similarity.shape == (1, 2)
model.save_pretrained("again")
from sentence_transformers import SentenceTransformer
sentence = SentenceTransformer({folder!r}, trust_remote_code=True, device="cpu")
vectors = [texts, out.image_embeds, sentence.encode(["a red bicycle", "Hi"]), [ours], [facts.encode("Hi", prompt_name="query")]]
print(json.dumps([[row.tolist() for row in rows] for rows in vectors] + [facts.spec.to_json()]))
"""


@pytest.mark.slow
def test_a_clean_process_loads_them_from_the_hub(open_: Any, hub: LoopbackHub, tmp_path: Path) -> None:
    model, folder, _ = open_("mini-test")
    text, text_folder, _ = open_("text-test")
    hub.add(folder, "org/mini")
    hub.add(text_folder, "org/text")
    out = run(REMOTE.format(folder="org/mini"), tmp_path, **hub.environment(tmp_path))
    assert out.returncode == 0, out.stderr
    *vectors, facts = json.loads(out.stdout.splitlines()[-1])
    texts, images, sentence, ours, prompted = (torch.tensor(rows) for rows in vectors)
    spec = zoo.ModelSpec.from_json(facts)
    assert spec == replace(text.spec, hub_id="org/text", revision=spec.revision)
    assert (prompted[0] - text.encode("Hi", prompt_name="query")).abs().max() < BOUND
    expected = model.encode(["a red bicycle", "Hi"])
    assert (texts - expected).abs().max() < BOUND
    assert (ours[0] - expected[1]).abs().max() < BOUND
    assert (sentence - expected).abs().max() < BOUND
    assert (images[0] - model.encode(Image.new("RGB", (40, 30), "red"))).abs().max() < BOUND
    assert (zoo.load_model(tmp_path / "again", device="cpu").encode("Hi") - expected[1]).abs().max() < BOUND


WITHOUT = """
import sys
sys.modules["zoo"] = None
from sentence_transformers import SentenceTransformer
from transformers import AutoModel
for load in (AutoModel.from_pretrained, SentenceTransformer):
    try:
        load({folder!r}, trust_remote_code=True)
    except ImportError as error:
        print(error)
"""


@pytest.mark.slow
def test_without_the_zoo_the_error_says_what_to_install(open_: Any, tmp_path: Path) -> None:
    out = run(WITHOUT.format(folder=str(open_("mini-test")[1])), tmp_path)
    assert out.returncode == 0, out.stderr
    said = out.stdout.splitlines()
    assert len(said) == 2
    assert all("pip install embedding-zoo" in line for line in said)


# ------------------------------------------------------------------------------------------------------- whom to trust


# As they lie in published repositories: sha256 of the files of any version of the zoo so far.
PUBLISHED = {
    "configuration_zoo.py": "bd67acd4686a506ab18360098e5de632ed6c4b79146bdb515eb9b3802eb19ca4",
    "modeling_zoo.py": "5cb1f2b20b054578347d44335876e00a93f8b56217c99124a6c9e5374d2000b2",
    "zoo_module.py": "f6223e894acbcf5250cad10a743386908a1100c786ccffafed8f7f33789f5e44",
}


def test_the_files_in_published_repositories_are_still_ours_and_still_find_their_classes() -> None:
    """What they import may move inside the zoo, not away from the address that they name."""
    from zoo.exports.automodel import ZooConfig, ZooModel, ZooProcessor
    from zoo.exports.module import ZooModule
    from zoo.publishing.exports import automodel, code, module

    assert {name: hashlib.sha256(text.encode()).hexdigest() for name, text in code.FILES.items()} == PUBLISHED
    assert (ZooConfig, ZooModel, ZooProcessor) == (automodel.ZooConfig, automodel.ZooModel, automodel.ZooProcessor)
    assert ZooModule is module.ZooModule


def test_other_code_in_the_folder_is_not_run(tmp_path: Path) -> None:
    folder, mark = tmp_path / "out", tmp_path / "mark"
    exports.export(zoo.build_model("mini-test"), folder)
    with (folder / "zoo_module.py").open("a") as file:
        file.write(f"\nopen({str(mark)!r}, 'w').close()\n")
    with pytest.raises(UnsafeCheckpointError, match="trust_remote_code"):
        exports.encode_with("sentence-transformers", folder, [Item(text="a")])
    assert not mark.exists()
    exports.encode_with("zoo", folder, [Item(text="a")])
    exports.encode_with("transformers", folder, [Item(text="a")])
    assert not mark.exists()


@pytest.mark.parametrize(
    "value", [{"AutoModel": "evil.Model"}, {"AutoModel": "org/other--modeling_zoo.ZooModel"}, ["AutoModel"]]
)
def test_our_configuration_names_no_other_code(value: Any, tmp_path: Path) -> None:
    exports.export(zoo.build_model("mini-test"), tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": value}))
    with pytest.raises((UnsafeCheckpointError, UnrecognisedCheckpointError), match="auto_map"):
        zoo.load_model(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "new"),
        ({"spec": {"name": "x"}}, "missing facts|lacks"),
        ({"other": 1}, "new enough"),
        ({"spec": {"name": "x", "modalities": ["text"], "dim": 7, "license": "mit"}}, "7 columns"),
        ({"spec": {"name": "x", "modalities": ["image"], "dim": 32, "license": "mit"}}, "image"),
    ],
)
def test_facts_that_do_not_fit_are_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    exports.export(zoo.build_model("text-test"), tmp_path / "out")
    path = tmp_path / "out" / "zoo.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UnrecognisedCheckpointError, match=said):
        zoo.load_model(tmp_path / "out")


# ---------------------------------------------------------------------------------------- what sentence-transformers reads


@pytest.fixture(scope="module")
def sentence(open_: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    from zoo.publishing.exports.module import ZooModule

    model, folder, _ = open_("mini-test")
    return model, SentenceTransformer(modules=[ZooModule.load(str(folder))], device="cpu")


def test_one_list_may_mix_texts_and_images(sentence: Any, tmp_path: Path) -> None:
    model, other = sentence
    image, file = make_images()[1], tmp_path / "a.png"
    image.save(file)
    turn = {"role": "user", "content": [{"type": "image", "image": image}]}
    mixed = ["a red bicycle", image, {"image": str(file)}, {"text": "Hi"}, [turn]]
    expected = model.encode(["a red bicycle", image, image, "Hi", image])
    assert (torch.tensor(other.encode(mixed, batch_size=2)) - expected).abs().max() < BOUND


def test_a_string_is_a_text_even_where_such_a_file_lies(sentence: Any, tmp_path: Path) -> None:
    model, other = sentence
    file = tmp_path / "a.png"
    make_images()[0].save(file)
    for text in (str(file), "https://example.org/a.jpg", "/nope/a.jpg"):
        assert (torch.tensor(other.encode(text)) - model.encode(text)).abs().max() < BOUND


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"image": "/nope/a.jpg"}, MissingFileError),
        ("  ", EmptyTextError),
        ({"photo": "a"}, UnsupportedInputError),
        ({"text": "a", "audio": [0.0]}, UnsupportedModalityError),
    ],
)
def test_what_cannot_be_embedded_is_an_error_by_name(value: Any, error: type[Exception], sentence: Any) -> None:
    with pytest.raises(error):
        sentence[1].encode(["a red bicycle much longer", value], batch_size=2)


def test_it_trains_and_saves_through_sentence_transformers(open_: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from zoo.publishing.exports.module import ZooModule

    other = SentenceTransformer(modules=[ZooModule.load(str(open_("mini-test")[1]))], device="cpu")
    optimiser = torch.optim.SGD(other.parameters(), lr=1.0)
    vectors = other(other.preprocess(["red", "blue"]))["sentence_embedding"]
    before = (vectors[0] @ vectors[1]).item()
    (vectors[0] @ vectors[1]).backward()
    optimiser.step()
    after = other.encode(["red", "blue"], convert_to_tensor=True)
    assert float(after[0] @ after[1]) < before - 1e-4
    other.save_pretrained(str(tmp_path / "tuned"), create_model_card=False)
    assert not list((tmp_path / "tuned").rglob("*.bin"))
    again = zoo.load_model(tmp_path / "tuned", device="cpu").encode(["red", "blue"])
    assert (again - after).abs().max() < BOUND


# ---------------------------------------------------------------------------------------------------------- the rest


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotExportableError, match="not empty"):
        exports.export(zoo.build_model("mini-test"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_model_without_its_tokenizer_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(NotExportableError, match="load_model"):
        exports.export(zoo.build_model("e5-small-v2"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_folder_does_not_serve_is_said(open_: Any) -> None:
    _, folder, _ = open_("text-test")
    with pytest.raises(UnrecognisedCheckpointError, match="sentence-transformers"):
        exports.encode_with("open_clip", folder, [Item(text="a")])
    with pytest.raises(ValueError, match="timm"):
        exports.encode_with("keras", folder, [Item(text="a")])


@pytest.mark.parametrize("name", ["text-test", "modernbert-test", "mini-test", "transformers-siglip"])
def test_the_programs_for_the_card_run_and_give_the_vectors(name: str, open_: Any) -> None:
    model, folder, _ = open_(name)
    expected = model.encode(["a red bicycle"])
    exports.register()
    for loader in OURS:
        program = exports.snippet(loader, "org/name", model.spec, folder)
        # The repository is this folder; the zoo's own program names one on the Hub.
        program = program.replace("hf:org/name", str(folder)).replace("org/name", str(folder))
        names: dict[str, Any] = {}
        exec(program, names)
        vectors = torch.nn.functional.normalize(torch.as_tensor(names["vectors"]).detach(), dim=-1)
        assert (vectors - expected).abs().max() < BOUND, loader
