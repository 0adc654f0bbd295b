"""Fine-tuning on real data, and LoRA on the nearest thing to a vision-language model that the zoo holds so far."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from zoo.training import open_pairs, recipes, train, write_pairs
from zoo.training.adapters import Lora, backbone_of

from benchmarks import finetune
from tests.every import standing_for
from tests.training.train_support import fresh, shape_pairs, text_pairs
from zoo import Embedder, load_model
from zoo.embedder import Tower
from zoo.encoders.text import TransformersText
from zoo.evaluation.pairs import evaluate_pairs
from zoo.heads import Identity
from zoo.models.text import byte_tokenizer
from zoo.pooling import LastToken
from zoo.spec import ModelSpec

CALM = {"progress": False, "trackers": (), "report": False}
RANK = 4


def decoder() -> Embedder:
    """A tiny causal Qwen2 whose last token is the embedding: the language half of a VLM2Vec."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = {"model_type": "qwen2", "vocab_size": 260, "intermediate_size": 64, **shape}
    torch.manual_seed(3)
    text = TransformersText(config, 64, padding_side="left", tokenizer=byte_tokenizer())
    spec = ModelSpec("decoder-test", frozenset({"text"}), 32, "apache-2.0", max_tokens=64)
    return Embedder(spec, [Tower(text, LastToken(), Identity())]).eval()


BUILT = {"decoder": decoder, "clip-test": lambda: fresh("clip-test"), "siglip-test": lambda: fresh("siglip-test")}


def recall(model: Embedder, pairs) -> float:
    """Recall@1 of the positives."""
    scores = evaluate_pairs(model, [p.query for p in pairs], [p.positive for p in pairs])
    return float(scores.forward.values("recall@1").mean())


@pytest.fixture(scope="module", params=standing_for(BUILT, {"clip-test"}))
def adapted(request, tmp_path_factory):
    """(model before, pairs, model after, folder of the run) of the recipe `lora`."""
    out = tmp_path_factory.mktemp(request.param) / "run"
    before = BUILT[request.param]()
    pairs = text_pairs(12) if request.param == "decoder" else shape_pairs(("red", "blue"))
    recipe = recipes.lora(lora=Lora(rank=RANK), steps=80, batch_size=len(pairs), lr=1e-2, holdout=0.0, log_every=1)
    return before, pairs, train(copy.deepcopy(before), pairs, recipe, out, **CALM), out


class TestLora:
    def test_the_loss_falls_and_recall_rises(self, adapted):
        before, pairs, after, out = adapted
        curve = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").open()]
        assert sum(curve[-5:]) < 0.5 * sum(curve[:5])
        assert recall(after, pairs) >= recall(before, pairs) + 0.4

    def test_the_base_is_what_it_was_but_for_low_rank_changes(self, adapted):
        before, _, after, _ = adapted
        old, heads = before.state_dict(), (".head.", ".pooler.")
        changed = [
            (name, new - old[name])
            for name, new in after.state_dict().items()
            if not torch.equal(new, old[name]) and not any(part in name for part in heads)
        ]
        assert len(changed) >= 6
        for name, change in changed:
            # Torch's attention keeps queries, keys and values in one matrix; its update is of low rank as a whole.
            assert change.ndim == 2, name
            values = torch.linalg.svdvals(change.double())
            assert (values[RANK:] < 1e-4 * values[0]).all(), name

    def test_peft_opens_the_adapter_and_load_model_the_merged_model(self, adapted):
        before, pairs, after, out = adapted
        texts = [pair.positive for pair in pairs]
        wanted = after.encode(texts)
        torch.testing.assert_close(load_model(out).encode(texts), wanted, atol=1e-5, rtol=0)
        other, adapter = copy.deepcopy(before), out / "adapter"
        for part, position in json.loads((adapter / "zoo_adapter.json").read_text())["towers"].items():
            PeftModel.from_pretrained(backbone_of(other.towers[position]), adapter / part)
        for old, new in zip(
            other.towers, after.towers, strict=True
        ):  # heads learn in full, and lie beside peft's files
            old.pooler.load_state_dict(new.pooler.state_dict())
            old.head.load_state_dict(new.head.state_dict())
        torch.testing.assert_close(other.encode(texts), wanted, atol=1e-5, rtol=0)


def cells(split: str, count: int) -> list:
    """Blood cells out of the regions pack, as many of each of the three kinds."""
    pairs = finetune.region_pairs(split, ("bccd",))
    kinds = sorted({pair.positive.text for pair in pairs})
    return [pair for kind in kinds for pair in [p for p in pairs if p.positive.text == kind][:count]]


@pytest.mark.slow
def test_a_few_steps_teach_zoo_mini_blood_cells(pack, tmp_path):
    """Microscope photos are in no pack that zoo-mini learned from: from a file to a folder that loads and knows better."""
    pack("regions")
    path = write_pairs(cells("val", 12), tmp_path / "cells.parquet")
    recipe = recipes.finetune_locked_text(steps=8, batch_size=18, lr=1e-3, holdout=0.0)
    unseen = cells("test", 12)
    before = finetune.evaluated(load_model("zoo-mini"), unseen).forward.values("recall@1").mean()
    train(load_model("zoo-mini"), open_pairs(path), recipe, tmp_path / "run", **CALM)
    after = finetune.evaluated(load_model(tmp_path / "run"), unseen).forward.values("recall@1").mean()
    assert len(unseen) == 36
    assert after >= max(0.7, before + 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regions", "passages"])
def test_every_proof_runs_and_goes_on_where_it_stopped(name, pack, monkeypatch, tmp_path, capsys):
    """The benchmark's own path with a few pairs and the gentlest recipe: files, mining, training, both tables."""
    pack("regions" if name == "regions" else "text")
    proof = finetune.PROOFS[name]
    few = replace(
        proof,
        pairs=lambda split: proof.pairs(split)[:: 12 if split == "train" else 3],
        recipes=lambda: {title: replace(recipe, batch_size=8, epochs=1.0) for title, recipe in proof.recipes().items()},
        other=dict,
    )
    finetune.prove(name, few, tmp_path)
    first = capsys.readouterr().out
    assert first.count("(95 %)") == 1
    assert "| not at all |" in first
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    finetune.prove(name, few, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == written
    assert capsys.readouterr().out.splitlines()[-3:] == first.splitlines()[-3:]
