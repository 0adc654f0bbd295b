"""Wrote everything beside it. Run once, at commit f558a39 (`python -m tests.stored.make`), and never again.

What lies here stands for what people had made with that code: it is not remade when the code changes, and the script may
stop working. It is kept to say where the files came from. Weights of float16 are half as large, and open as float32.

One step is run again, by its name, when other weights are packaged: `python -m tests.stored.make packaged`. What
packaged.json says of earlier ones stays under the name that they have since ("zoo-mini-v1").
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from zoo.training import train
from zoo.training.run import Run
from zoo.training.vector_cache import VectorCache, fill_cache

import zoo
import zoo.bulk.run as bulk_run
from tests import reference
from tests.stored import inputs
from tests.stored.inputs import PROMPT, STORED, make_image
from zoo import Embedder
from zoo.cli import main
from zoo.embedder import Tower
from zoo.errors import InputError
from zoo.fusion import Combiner
from zoo.heads import Blend, DenseStack, Identity, Linear, Mlp
from zoo.pooling import Cls, Concat, EveryToken, Mean, MeanSqrtLength, WeightedMean
from zoo.spec import Calibration

WHOLE = ("colmodernvbert", "jina-v4", "mini", "qwen3vl", "text", "vlm2vec")  # unime is among the published
NOWHERE = "/elsewhere"  # in place of the folder where this ran
FINGERPRINTS: dict[str, dict[str, Any]] = {}


def golden(model: Embedder) -> dict[str, torch.Tensor]:
    """The model's vectors of all that it reads; what it leaves unread of a prompt is no promise and not kept."""
    found: dict[str, torch.Tensor] = {}
    for name, ask in inputs.cases(model.spec).items():
        try:
            found[name] = ask(model)
        except InputError:
            continue
        if name.startswith("image, ") and torch.equal(found[name], found["image"]):
            del found[name]
    return found


def specs() -> None:
    inputs.write("specs.json", {name: zoo.get_spec(name).to_dict() for name in zoo.list_models(tests=True)})


def shapes() -> None:
    """Of every real model what decides a fingerprint and is known without weights."""
    found = {}
    for name in zoo.list_models():
        found[name] = inputs.shape_facts(name)
    inputs.write("shapes.json", found)


def families() -> None:
    found = {}
    for name in zoo.list_models("*-test"):
        model = inputs.seeded(name)
        with tempfile.TemporaryDirectory() as room:
            config = json.loads((model.save_pretrained(Path(room) / "x") / "config.json").read_text())
        vectors = {case: inputs.shortened(vector) for case, vector in golden(model).items()}
        facts = {"config": config, "tensors": inputs.shapes(model), "vectors": vectors}
        found[name] = facts | {"fingerprints": inputs.fingerprints(inputs.filled(model))}
    inputs.write("families.json", found)


def models() -> None:
    for kind in WHOLE:
        keep(inputs.seeded(f"{kind}-test"), f"{kind}-test")
    inputs.write("fingerprints.json", FINGERPRINTS)


def others() -> None:
    """Encoders, poolers, heads and rules of fusion that no test model is made of."""
    with tempfile.TemporaryDirectory() as room:
        loaded = {}
        for name in ("transformers-siglip2-naflex", "sentence-clip", "sentence-static"):
            loaded[name] = zoo.load_model(reference.write(name, Path(room) / name).folder, device="cpu")
        torch.manual_seed(0)
        naflex = loaded["transformers-siglip2-naflex"]
        naflex.fusion = Combiner(naflex.spec.dim, 16)
        for parameter in naflex.fusion.parameters():
            torch.nn.init.uniform_(parameter, -0.3, 0.3)
        naflex.calibration = {"text>image": Calibration(0.1, 0.05, 0.2)}
        keep(naflex, "naflex")
        clip = loaded["sentence-clip"]
        keep(Embedder(replace(clip.spec, modalities={"image"}), [clip.towers[0]]), "hf-image")
        static = loaded["sentence-static"]
        encoder, width = static.towers[0].encoder, static.spec.dim
        stack = [
            {"kind": "dense", "width": 2 * width, "dim": 12, "bias": True, "activation": "Tanh"},
            {"kind": "layer_norm", "width": 12},
            {"kind": "cut", "dim": 8},
            {"kind": "normalize"},
        ]
        parts = {
            "linear": (WeightedMean(), Linear(width, 8, bias=True), 8, "cosine"),
            "mlp": (MeanSqrtLength(), Mlp(width, 8, 12), 8, "cosine"),
            "stack": (Concat(["Max", "LastToken"]), DenseStack(stack), 8, "cosine"),
            "blend": (Mean(), Blend(width, 8, 0.3), 8, "cosine"),
            "dot": (Cls(), Identity(), width, "dot"),
            "late": (EveryToken(), Linear(width, 8), 8, "maxsim"),
        }
        for name, (pooler, head, dim, similarity) in parts.items():
            spec = replace(static.spec, name=f"stored-{name}", dim=dim, similarity=similarity)
            keep(Embedder(spec, [Tower(encoder, pooler, head)]), name)
    inputs.write("fingerprints.json", FINGERPRINTS)


def keep(model: Embedder, name: str) -> None:
    """Saves a model as float16, and what it gives when it is opened again."""
    folder = STORED / "models" / name
    model.save_pretrained(folder, torch.float16)
    note(zoo.load_model(folder, device="cpu"), name)


def note(model: Embedder, name: str) -> None:
    """Keeps vectors and fingerprints of an opened model."""
    vectors = golden(model)
    if "text" in model.spec.modalities:
        vectors["text, padded"] = inputs.padded(model)
    vectors = {case: inputs.some(vector).contiguous() for case, vector in vectors.items()}
    save_file(vectors, STORED / "golden" / f"{name}.safetensors")
    FINGERPRINTS[name] = inputs.fingerprints(model)


def bulk() -> None:
    """Folders of `zoo embed`: texts with attributes, images, and images with texts; each with its exact index."""
    room = STORED / "bulk"
    room.mkdir()
    (room / "photos").mkdir()
    rows = ["image,caption,year"]
    for number in range(12):
        Image.fromarray(make_image(number, 12, 16)).save(room / "photos" / f"{number}.png")
        rows.append(f"photos/{number}.png,picture number {number},{2000 + number}")
    (room / "pairs.csv").write_text("\n".join(rows) + "\n")
    texts = [{"text": f"the animal of line {number}", "label": "odd" if number % 2 else "even"} for number in range(12)]
    (room / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    os.chdir(room)
    commands = {
        "texts": ["texts.jsonl", "--model", "../models/text-test"],
        "photos": ["photos", "--model", "../models/mini-test"],
        "pairs": ["pairs.csv", "--model", "../models/mini-test", "--column", "image+caption"],
        "described": [
            "pairs.csv",
            "--model",
            "../models/vlm2vec-test",
            "--column",
            "image+caption",
            "--prompt",
            PROMPT,
        ],
    }
    found = {}
    for name, words in commands.items():
        assert main(["embed", *words, "--out", f"vectors/{name}", "--quiet"]) == 0
        # Made here, so that the index lies in the folder.
        for backend in ("exact", "lancedb") if name == "texts" else ("exact",):
            with contextlib.redirect_stdout(io.StringIO()) as said:
                assert main(["search", f"vectors/{name}", "picture 3", "--backend", backend, "--k", "5", "--json"]) == 0
            hits = [[match["id"], round(match["score"], 7)] for match in json.loads(said.getvalue())]
            found.setdefault(name, hits)
    stop_after_five()
    commands["stopped"] = commands["texts"]
    inputs.write("bulk/commands.json", commands)
    inputs.write("bulk/found.json", found)


def stop_after_five() -> None:
    """The folder of a `zoo embed` that was stopped with Ctrl-C after five of twelve inputs."""

    def press(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    bulk_run.REPORT_EVERY = 0
    with contextlib.suppress(KeyboardInterrupt):
        zoo.embed_dataset(Path("../models/text-test"), "texts.jsonl", Path("vectors/stopped"), progress=press)
    assert not json.loads(Path("vectors/stopped/manifest.json").read_text())["finished"]


def variants() -> None:
    """Readings of vision-language checkpoints that no test model has, and the packaged model."""
    found = {}
    for name in inputs.VARIANTS:
        with tempfile.TemporaryDirectory() as room:
            model = inputs.variant(name, Path(room))
        vectors = {}
        for case, ask in inputs.VARIANT_CASES.items():
            with contextlib.suppress(InputError):
                vectors[case] = inputs.shortened(ask(model))
        found[name] = {"fingerprint": model.fingerprint(), "spec": model.spec.to_dict(), "vectors": vectors}
    inputs.write("variants.json", found)


def packaged() -> None:
    """The models that the package brings, whose fingerprints stand in folders of vectors everywhere."""
    for name in zoo.list_models():
        if zoo.get_spec(name).packaged:
            note(zoo.load_model(name, device="cpu"), name)
            inputs.write("packaged.json", {**inputs.read("packaged.json"), name: FINGERPRINTS[name]})


def first_mini() -> None:
    """A folder of vectors, with its index, of the zoo-mini that is called zoo-mini-v1 since; made when it was still packaged."""
    os.chdir(STORED / "bulk")
    assert zoo.load_model("zoo-mini").fingerprint() == inputs.read("packaged.json")["zoo-mini-v1"]["plain"]
    assert main(["embed", "photos", "--model", "zoo-mini", "--out", "vectors/zoo-mini-v1", "--quiet"]) == 0
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["search", "vectors/zoo-mini-v1", "picture 3", "--backend", "exact"]) == 0


def cache() -> None:
    """What training keeps of towers that do not learn."""
    for name in ("mini-test", "vlm2vec-test"):
        model = zoo.load_model(STORED / "models" / name, device="cpu")
        for part, towers in (("whole", None), ("text", [len(model.towers) - 1])):
            with_media = part == "whole"
            kept = VectorCache.for_towers(STORED / "caches" / f"{name}-{part}", model, towers)
            assert not fill_cache(model, inputs.kept(name, with_media), kept, prompt="")
            assert not fill_cache(model, inputs.kept(name, False), kept, prompt=PROMPT)


def stopping(at: int, go: Callable[[], Any]) -> None:
    """A run that is interrupted before the step after `at`."""
    advance = Run.advance

    def stopped(self: Run, batch: Any) -> Any:
        if self.step == at:
            raise KeyboardInterrupt
        return advance(self, batch)

    Run.advance = stopped
    try:
        go()
    except KeyboardInterrupt:
        pass
    finally:
        Run.advance = advance


def runs() -> None:
    """Two runs stopped after four of eight steps, and the vectors of what they would have become."""
    room = STORED / "trained"
    room.mkdir()
    rows = [{"query": f"what is line {n}", "positive": f"it is the line of number {n}"} for n in range(24)]
    (room / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.chdir(room)
    words = [
        "train",
        "pairs.jsonl",
        "--model",
        "../models/text-test",
        "--log",
        "none",
        "--holdout",
        "4",
        "--batch-size",
        "5",
    ]
    words += ["--steps", "8", "--lr", "1e-3", "--checkpoint-every", "4", "--device", "cpu"]
    stopping(4, lambda: main([*words, "--out", "whole"]))
    done = Path(tempfile.mkdtemp()) / "done"
    assert main([*words, "--out", str(done)]) == 0
    vectors = {"whole": zoo.load_model(done, device="cpu").encode([inputs.TEXT, inputs.OTHER])}

    recipe = inputs.lora_recipe()
    options = {"progress": False, "trackers": (), "report": False, "device": "cpu", "name": "adapted"}
    base = STORED / "models" / "vlm2vec-test"
    stopping(4, lambda: train(zoo.load_model(base, device="cpu"), inputs.pairs(), recipe, Path("lora"), **options))
    done = Path(tempfile.mkdtemp()) / "done"
    model = train(zoo.load_model(base, device="cpu"), inputs.pairs(), recipe, done, **options)
    model.eval()
    vectors["lora"] = zoo.load_model(done, device="cpu").encode([inputs.TEXT, make_image(1)])
    shutil.copytree(done / "adapter", room / "adapter")
    save_file(vectors, room / "golden.safetensors")


def published() -> None:
    """A repository as `zoo publish` stages it: for the zoo, transformers and sentence-transformers."""
    os.chdir(STORED)
    unsaved = Path(tempfile.mkdtemp())
    inputs.seeded("unime-test").save_pretrained(unsaved / "unime-test", torch.float16)
    for name, source in (("text-test", "./models/text-test"), ("unime-test", str(unsaved / "unime-test"))):
        words = [
            "publish",
            source,
            "--to",
            f"me/{name}-published",
            "--dry-run",
            "--keep",
            f"published/{name}",
        ]
        assert main(words) == 0
    note(zoo.load_model(STORED / "published/unime-test/model", device="cpu"), "unime-test")
    inputs.write("fingerprints.json", FINGERPRINTS)


def without_this_machine() -> None:
    """Takes the folder where this ran out of what notes it, and what the machine's user alone could vouch for."""
    for path in STORED.rglob("*"):
        if path.name in (".zoo-made", ".running") or path.name == "report":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in STORED.rglob("*.json*"):
        if str(STORED.parent.parent) in (text := path.read_text("utf-8")):
            path.write_text(text.replace(str(STORED.parent.parent), NOWHERE), "utf-8")


STEPS = (
    specs,
    shapes,
    families,
    models,
    others,
    bulk,
    variants,
    cache,
    runs,
    published,
    packaged,
    first_mini,
    without_this_machine,
)

if __name__ == "__main__":
    (STORED / "golden").mkdir(exist_ok=True)
    for step in STEPS:
        if step.__name__ in (sys.argv[1:] or [step.__name__]):
            print(step.__name__, flush=True)
            step()
