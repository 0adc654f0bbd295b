"""LoRA and DoRA adapters: which layers, what learns, peft's files, strict loading, merging."""

import copy
import json
import re

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from zoo.training.adapters import (
    Lora,
    add_lora,
    backbone_of,
    is_adapted,
    load_adapter,
    merge_lora,
    save_adapter,
    trainable,
)
from zoo.training.errors import AdapterError
from zoo.training.losses.infonce import InfoNCE
from zoo.training.optim import adamw, parameter_groups

from zoo import Embedder, build_model, load_model
from zoo.embedder import Tower
from zoo.encoders.text import TransformersText
from zoo.errors import AdapterMismatchError
from zoo.heads import Linear
from zoo.pooling import LastToken

WEIGHTS = "adapter_model.safetensors"
TESTS = ["text-test", "modernbert-test", "image-test", "clip-test", "siglip-test"]
_BUILT: dict[str, Embedder] = {}


def built(name: str) -> Embedder:
    """A fresh copy of a test model, always with the same weights."""
    if name not in _BUILT:
        torch.manual_seed(7)
        _BUILT[name] = build_model(name).eval()
    return copy.deepcopy(_BUILT[name])


def decoder_model() -> Embedder:
    """A tiny Qwen3 text embedder with a head."""
    config = {
        "model_type": "qwen3",
        "vocab_size": 100,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 48,
    }
    text = built("text-test")
    return Embedder(text.spec, [Tower(TransformersText(config, max_tokens=32), LastToken(), Linear(32, 32))]).eval()


def batches(model: Embedder, count: int = 2) -> list[dict[str, torch.Tensor]]:
    """Random inputs, one batch per tower."""
    generator = torch.Generator().manual_seed(5)
    out = []
    for tower in model.towers:
        if "image" in tower.encoder.modalities:
            size = tower.encoder.transform.size
            side = size if isinstance(size, int) else size[0]
            # plain colours with noise: to a random network, images of noise alone are all the same
            colour, noise = (torch.rand(count, 3, n, n, generator=generator) for n in (1, side))
            out.append({"pixels": 0.8 * colour + 0.2 * noise})
        else:
            length = getattr(tower.encoder, "model_cfg", {}).get("text_cfg", {}).get("context_length", 9)
            ids = torch.randint(5, 90, (count, length), generator=generator)
            out.append({"ids": ids, "mask": torch.ones(count, length, dtype=torch.bool)})
    return out


def embed(model: Embedder) -> torch.Tensor:
    """Embeddings of all towers, one below the other."""
    model.eval()
    with torch.no_grad():
        return torch.cat([tower(batch) for tower, batch in zip(model.towers, batches(model), strict=True)])


def shaken(name: str, **options) -> Embedder:
    """A model with adapters that are far from where they began: B is not zero, magnitudes are not norms."""
    model = add_lora(built(name), Lora(rank=4, alpha=8, **options))
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    assert not torch.allclose(embed(model), embed(built(name)), atol=1e-3)
    return model


def adapted(model: Embedder) -> set[str]:
    """Last names of the layers with adapters."""
    return {
        m[1] for name, _ in model.named_parameters() if (m := re.search(r"([\w]+)\.lora_A\.default\.weight$", name))
    }


class TestTargets:
    @pytest.mark.parametrize(
        ("name", "layers"),
        [
            ("text-test", {"query", "key", "value", "dense"}),
            ("modernbert-test", {"Wqkv", "Wo", "Wi"}),
            ("image-test", {"qkv", "proj", "fc1", "fc2"}),
            ("clip-test", {"attn", "c_fc", "c_proj", "out_proj"}),
            ("siglip-test", {"qkv", "proj", "fc1", "fc2", "attn", "c_fc", "c_proj", "out_proj"}),
        ],
    )
    def test_auto_finds_attention_and_mlp_of_every_family(self, name, layers):
        model = add_lora(built(name), Lora(rank=2))
        assert adapted(model) == layers
        assert not any("attn_pool" in n or "patch_embed" in n for n, _ in model.named_parameters() if "lora_" in n)

    def test_auto_on_a_decoder(self):
        model = add_lora(decoder_model(), Lora(rank=2))
        assert adapted(model) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

    def test_names_towers_and_numbers(self):
        assert adapted(add_lora(built("text-test"), Lora(targets="query"))) == {"query"}
        one = add_lora(built("siglip-test"), Lora(targets=("image.*.blocks.2-3.attn", "qkv")))
        hit = {n for n, _ in one.named_parameters() if "lora_A" in n}
        assert {n.split("blocks.")[1].split(".")[0] for n in hit if ".proj." in n} == {"2", "3"}
        assert len([n for n in hit if ".qkv." in n]) == 6
        assert not any(n.startswith("towers.1") for n in hit)

    def test_what_is_not_there_is_named(self):
        with pytest.raises(AdapterError, match=r"text-test has no layer 'q_proj'.*dense, key, query, value"):
            add_lora(built("text-test"), Lora(targets=("query", "q_proj")))
        with pytest.raises(AdapterError, match=r"mini-test has no layer 'q_proj'.*conv_exp, conv_expand, conv_head"):
            add_lora(built("mini-test"), Lora(targets="q_proj"))
        # torch's attention never calls its own output layer: an adapter there would do nothing
        with pytest.raises(AdapterError, match="attn"):
            add_lora(built("clip-test"), Lora(targets="out_proj"))

    def test_a_refusal_leaves_the_model_alone(self):
        model = built("text-test")
        with pytest.raises(ValueError, match="text-test"):
            add_lora(model, Lora(also=("no.such",)))
        assert not is_adapted(model)
        assert all(p.requires_grad for p in model.parameters())
        add_lora(model, Lora())
        with pytest.raises(AdapterError, match="already"):
            add_lora(model, Lora())

    def test_numbers_out_of_range(self):
        with pytest.raises(ValueError, match="rank"):
            Lora(rank=0)
        assert Lora(targets=["a"], also="b") == Lora(targets=("a",), also=("b",))


class TestLearning:
    @pytest.mark.parametrize("name", TESTS)
    def test_nothing_changes_before_the_first_step(self, name):
        assert torch.allclose(embed(add_lora(built(name), Lora(rank=2))), embed(built(name)), atol=1e-6)

    def test_the_count_by_hand(self):
        model = add_lora(built("text-test"), Lora(rank=4))
        # two layers: q, k, v, output 32 → 32; up 32 → 128; down 128 → 32
        mine = 2 * 4 * (4 * (32 + 32) + (32 + 128) + (128 + 32))
        whole = sum(p.numel() for p in built("text-test").parameters()) + mine
        assert trainable(model) == f"{mine:,} of {whole:,} weights learn ({100 * mine / whole:.3g} %)"
        groups = parameter_groups(model, None, lr=1e-3, weight_decay=0.0)
        assert sum(p.numel() for g in groups for p in g["params"]) == mine

    @pytest.mark.parametrize(("name", "dora"), [("text-test", True), ("clip-test", False), ("siglip-test", False)])
    def test_training_lowers_the_loss_and_leaves_the_base_bit_by_bit(self, name, dora):
        base = built(name)
        before = {n: t.clone() for n, t in base.state_dict().items()}
        model, loss = add_lora(base, Lora(rank=4, dora=dora)).train(), InfoNCE(temperature=0.1)
        optimizer = adamw(parameter_groups(model, loss, lr=4e-3, weight_decay=0.0))
        inputs = batches(model, 4)
        fixed = F.normalize(torch.randn(4, model.spec.dim), dim=-1)
        values = []
        for _ in range(12):
            vectors = [tower(batch) for tower, batch in zip(model.towers, inputs, strict=True)]
            value = loss(vectors[0], vectors[1] if len(vectors) > 1 else fixed)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value.item())
        assert values[-1] < 0.6 * values[0]
        after = {n.replace(".base_layer.", "."): t for n, t in model.state_dict().items() if "lora_" not in n}
        assert after.keys() == before.keys()
        assert all(torch.equal(before[n], after[n]) for n in before)

    def test_heads_and_what_also_names_train_in_full(self):
        model = add_lora(decoder_model(), Lora(rank=2, also=("text.*.norm",)))
        full = {n for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n}
        assert full == {"towers.0.head.project.weight", "towers.0.encoder.backbone.norm.weight"}
        model = add_lora(decoder_model(), Lora(rank=2, train_heads=False))
        assert all("lora_" in n for n, p in model.named_parameters() if p.requires_grad)

    def test_torchs_attention_is_that_of_the_summed_weight(self):
        model = shaken("clip-test", targets="image.*.resblocks.0.attn")
        layer = backbone_of(model.towers[0]).transformer.resblocks[0].attn
        plain = copy.deepcopy(layer.get_base_layer())
        plain.out_proj = plain.out_proj.get_base_layer()
        summed = layer.in_proj_weight + 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        plain.in_proj_weight = nn.Parameter(summed.detach())
        x = torch.randn(2, 5, 32)
        ours, theirs = layer(x, x, x)[0], plain(x, x, x)[0]
        assert torch.allclose(ours, theirs, atol=1e-6)
        ours.square().sum().backward()
        theirs.square().sum().backward()
        chained = 2 * plain.in_proj_weight.grad @ layer.lora_A["default"].weight.T
        assert torch.allclose(layer.lora_B["default"].weight.grad, chained, atol=1e-4)

    def test_adapters_beside_half_precision_weights_are_float32(self):
        model = add_lora(built("text-test").to(torch.bfloat16), Lora(rank=2, dora=True))
        kinds = {p.dtype for n, p in model.named_parameters() if "lora_" in n}
        assert kinds == {torch.float32}
        model.towers[0](batches(model)[0]).sum().backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


class TestFiles:
    @pytest.mark.parametrize(("name", "dora"), [(n, d) for n in TESTS for d in (False, True)])
    def test_peft_reads_them_and_gives_the_same_embeddings(self, name, dora, tmp_path):
        model = shaken(name, dora=dora)
        save_adapter(model, tmp_path, "our-org/base", "0123abc")
        parts = json.loads((tmp_path / "zoo_adapter.json").read_text())["towers"]
        assert sorted(parts) == (["image", "text"] if len(model.towers) == 2 else ["."])
        other = built(name)
        for part, position in parts.items():
            config = json.loads((tmp_path / part / "adapter_config.json").read_text())
            assert (config["base_model_name_or_path"], config["revision"]) == ("our-org/base", "0123abc")
            assert config["use_dora"] is dora
            PeftModel.from_pretrained(backbone_of(other.towers[position]), tmp_path / part)
        assert torch.allclose(embed(other), embed(model), atol=1e-6)

    @pytest.mark.parametrize(("name", "dora"), [("text-test", True), ("siglip-test", False)])
    def test_they_come_back_by_name_and_can_be_trained_on(self, name, dora, tmp_path):
        model = shaken(name, dora=dora)
        save_adapter(model, tmp_path)
        other = load_adapter(built(name), tmp_path)
        assert torch.equal(embed(other), embed(model))
        learning = {n for n, p in model.named_parameters() if p.requires_grad}
        assert {n for n, p in other.named_parameters() if p.requires_grad} == learning
        save_adapter(other, tmp_path / "again")
        files = [p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()]
        assert len(files) >= 3
        assert all((tmp_path / "again" / f).read_bytes() == (tmp_path / f).read_bytes() for f in files)

    def test_heads_lie_beside_them(self, tmp_path):
        torch.manual_seed(0)
        base = decoder_model()
        model = add_lora(copy.deepcopy(base), Lora(rank=2))
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(0.1 * torch.randn_like(p))
        save_adapter(model, tmp_path)
        assert torch.equal(embed(load_adapter(copy.deepcopy(base), tmp_path)), embed(model))
        (tmp_path / "trained.safetensors").unlink()
        with pytest.raises(AdapterMismatchError, match=r"head\.project\.weight"):
            load_adapter(base, tmp_path)

    @pytest.mark.parametrize("damage", ["missing", "unexpected", "magnitude", "shape", "renamed"])
    def test_what_peft_only_warns_of_is_an_error(self, damage, tmp_path):
        save_adapter(shaken("text-test", dora=True), tmp_path)
        tensors = load_file(tmp_path / WEIGHTS)
        first = next(n for n in tensors if n.endswith("lora_B.weight"))
        if damage == "missing":
            del tensors[first]
        elif damage == "unexpected":
            tensors[first.replace("layer.0", "layer.7")] = tensors[first].clone()
        elif damage == "magnitude":
            tensors = {n: t for n, t in tensors.items() if "magnitude" not in n}
        elif damage == "shape":
            tensors[first] = torch.zeros(3, 4)
        else:
            tensors = {n.replace("encoder.layer", "bert.layer"): t for n, t in tensors.items()}
        save_file(tensors, tmp_path / WEIGHTS)
        model = built("text-test")
        before = embed(model)
        with pytest.raises(AdapterMismatchError):
            load_adapter(model, tmp_path)
        assert not is_adapted(model)
        assert list(model.state_dict()) == list(built("text-test").state_dict())
        assert torch.equal(embed(model), before)
        assert all(p.requires_grad for p in model.parameters())

    def test_renamed_layers_fit_with_a_key_mapping(self, tmp_path):
        model = shaken("text-test")
        save_adapter(model, tmp_path)
        tensors = load_file(tmp_path / WEIGHTS)
        save_file(
            {n.replace("model.encoder.layer", "model.bert.layer"): t for n, t in tensors.items()}, tmp_path / WEIGHTS
        )
        (tmp_path / "zoo_adapter.json").unlink()  # as a repository of peft has none
        other = load_adapter(built("text-test"), tmp_path, key_mapping={r"^bert\.layer": "encoder.layer"})
        assert torch.equal(embed(other), embed(model))

    def test_an_adapter_that_does_not_say_its_tower(self, tmp_path):
        save_adapter(shaken("text-test"), tmp_path)
        (tmp_path / "zoo_adapter.json").unlink()
        with pytest.raises(AdapterMismatchError, match="which of the 2 backbones of clip-test"):
            load_adapter(built("clip-test"), tmp_path)
        with pytest.raises(AdapterMismatchError, match=r"has no adapter_config\.json"):
            load_adapter(built("text-test"), tmp_path / "nowhere")
        with pytest.raises(AdapterMismatchError, match="add_lora"):
            save_adapter(built("text-test"), tmp_path)


class TestMerging:
    @pytest.mark.parametrize(("name", "dora"), [(n, d) for n in TESTS for d in (False, True)])
    def test_merged_is_unmerged_and_the_structure_is_plain_again(self, name, dora):
        model, plain = shaken(name, dora=dora), built(name)
        vectors = embed(model)
        assert merge_lora(model) is model
        assert torch.allclose(embed(model), vectors, atol=1e-6)
        assert not is_adapted(model)
        assert [(n, p.shape, p.requires_grad) for n, p in model.named_parameters()] == [
            (n, p.shape, p.requires_grad) for n, p in plain.named_parameters()
        ]
        assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]

    def test_a_merged_model_is_saved_and_loaded_by_name(self, tmp_path):
        model = merge_lora(shaken("text-test", dora=True))
        model.save_pretrained(tmp_path / "model")
        loaded = load_model(tmp_path / "model")
        texts = ["a red bicycle", "two dogs"]
        assert torch.allclose(loaded.encode(texts), model.encode(texts), atol=1e-6)
        assert not torch.allclose(loaded.encode(texts), built("text-test").encode(texts), atol=1e-3)

    def test_a_model_without_adapters_stays(self):
        model = built("text-test")
        assert torch.equal(embed(merge_lora(model)), embed(built("text-test")))


def test_layers_without_a_gradient_are_refused():
    model = built("text-test")
    quantized = torch.ao.quantization.quantize_dynamic(backbone_of(model.towers[0]), {nn.Linear}, torch.qint8)
    model.towers[0].encoder.backbone = quantized
    with pytest.raises(AdapterError, match=r"torch\.ao.*bitsandbytes"):
        add_lora(model, Lora())
