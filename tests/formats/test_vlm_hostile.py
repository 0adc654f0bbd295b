"""Vision-language checkpoints of strangers: what does not fit, is damaged or reaches elsewhere is named on loading."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from tests.encoders.sequence_support import changed
from tests.formats.hostile_support import bomb, edit, put
from tests.reference.qwen2_vl import Published, make_image, write_adapter, write_qwen2_vl
from zoo import errors
from zoo.formats.adapters import read_settings
from zoo.formats.layout import Opening, open_with
from zoo.formats.vlm import VisionLanguage
from zoo.inputs.item import Item
from zoo.sequences import from_reading

LIKE = "gme-qwen2vl-2b"
CONFIG, IMAGES, TOKENS = "config.json", "preprocessor_config.json", "tokenizer_config.json"
BOTH = Item(text="a cat", image=make_image(0))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_qwen2_vl(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def copy(base: Published, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base.folder, tmp_path / "model"))


def refused(folder: Path, error: str, said: str, **options: Any) -> None:
    with pytest.raises(errors.ZooError, match=said) as caught:
        zoo.load_model(folder, like=LIKE, **options)
    assert error in [kind.__name__ for kind in type(caught.value).__mro__]
    assert str(folder.parent) in str(caught.value) or "qwen2_vl" in str(caught.value) or CONFIG in str(caught.value)


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


# ------------------------------------------------------------------------------------------------------------ weights


def new_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("model.layers.0", "model.language_model.layers.0"): t for name, t in tensors.items()}


LAYER = "model.layers.1.mlp.down_proj.weight"
LORA = "model.layers.0.self_attn.q_proj.lora_"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {n: x for n, x in t.items() if not n.startswith("model.layers")}, "lacks 24 tensors"),
        (lambda t: {n: x for n, x in t.items() if not n.startswith("visual.blocks.1")}, "lacks 12 tensors"),
        (lambda t: {**t, **{n: x + 1 for n, x in new_names(t).items() if n not in t}}, "under two names"),
        (lambda t: {**t, f"{LORA}A.weight": torch.ones(4, 32), f"{LORA}B.weight": torch.ones(32, 4)}, "not merged"),
        (lambda t: {**t, LAYER: t[LAYER] * torch.nan}, "NaN"),
        (lambda t: {**t, LAYER: (t[LAYER] * 100).to(torch.int8)}, "stored as I8"),
        (lambda t: {**t, LAYER: t[LAYER].to(torch.float8_e4m3fn)}, "F8_E4M3"),
        (lambda t: {**t, LAYER: t[LAYER][:8]}, "another shape"),
    ],
    ids=["no-text", "no-vision", "twice", "adapter", "nan", "int8", "float8", "shape"],
)
def test_tensors_that_are_not_the_models(copy: Path, change: Callable, said: str) -> None:
    change_tensors(copy, change)
    refused(copy, "MissingWeightsError", said)


def test_names_of_before_and_after_transformers_5_may_be_mixed(base: Published, copy: Path) -> None:
    change_tensors(copy, new_names)
    ours = zoo.load_model(copy, like=LIKE).encode(BOTH)
    assert torch.equal(ours, zoo.load_model(base.folder, like=LIKE).encode(BOTH))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 5e-3), (torch.bfloat16, 3e-2)])
def test_half_precision_is_read(base: Published, copy: Path, dtype: torch.dtype, bound: float) -> None:
    change_tensors(copy, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})
    ours = zoo.load_model(copy, like=LIKE).encode(BOTH)
    assert (ours - zoo.load_model(base.folder, like=LIKE).encode(BOTH)).abs().max() < bound


# ------------------------------------------------------------------------------------------------------ configurations


@pytest.mark.parametrize(
    ("file", "key", "value", "error", "said"),
    [
        (CONFIG, "num_hidden_layers", 1, "MissingWeightsError", "more layers than the configuration"),
        (CONFIG, "vision_config.depth", 1, "MissingWeightsError", "more layers than the configuration"),
        (CONFIG, "num_hidden_layers", 3, "MissingWeightsError", "lacks 12 tensors"),
        (CONFIG, "hidden_size", 8_000_000, "OversizedError", "its weights have"),
        (CONFIG, "vision_config.embed_dim", 60_000, "OversizedError", "its weights have"),
        (CONFIG, "attn_implementation", "evil/kernels", "UnsafeCheckpointError", "fetch code"),
        (CONFIG, "quantization_config", {"quant_method": "fp8"}, "UnrecognisedCheckpointError", "quantised"),
        (CONFIG, "vision_config.architecture", "hf-hub:evil/x", "UnsafeCheckpointError", "another place"),
        (CONFIG, "image_token_id", 5, "MissingWeightsError", "of two models"),
        (CONFIG, "model_type", "llava", "UnrecognisedCheckpointError", "weights do not fit"),
        (CONFIG, "model_type", "mllama", "UnrecognisedCheckpointError", "the zoo reads"),
        (IMAGES, "patch_size", 1, "MissingWeightsError", "patch_size = 1"),
        (IMAGES, "merge_size", 1, "MissingWeightsError", "merge_size = 1"),
        (IMAGES, "temporal_patch_size", 10**9, "MissingWeightsError", "temporal_patch_size"),
        (IMAGES, "image_mean", [0.5] * 5, "MissingWeightsError", "reads no image"),
        (IMAGES, "image_std", [0.0] * 3, "MissingWeightsError", "not finite"),
        (IMAGES, "do_resize", False, "MissingWeightsError", "reads no image"),
        (IMAGES, "image_processor_type", "CLIPImageProcessor", "MissingWeightsError", "cuts no patches"),
        (IMAGES, "processor_class", "LlavaProcessor", "MissingWeightsError", "of two models"),
        (IMAGES, "processor_class", "WhisperProcessor", "UnsafeCheckpointError", "has the parts feature_extractor"),
    ],
)
def test_configurations_that_do_not_fit(copy: Path, file: str, key: str, value: Any, error: str, said: str) -> None:
    edit(copy / file, lambda config: put(config, key, value))
    refused(copy, error, said)


@pytest.mark.parametrize(("key", "value"), [("min_pixels", 10**9), ("max_pixels", 10**12), ("max_pixels", 4)])
def test_sizes_of_the_processors_own(copy: Path, key: str, value: int) -> None:
    """Where the reading has no budget of pixels, that of the files holds."""
    spec = zoo.get_spec(LIKE)
    facts = changed(spec, pixels=[]).to_dict()
    edit(copy / IMAGES, lambda config: put(config, key, value))
    with pytest.raises(errors.ZooError, match=r"no processor has that|at least .* and at most"):
        open_with(VisionLanguage(), copy, Opening("x", like=zoo.ModelSpec.from_dict(facts)))


def test_code_beside_the_weights_is_never_run(copy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (copy / "x.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Y: pass\n")
    edit(copy / CONFIG, lambda c: put(c, "auto_map", {"AutoModel": "x.Y", "AutoConfig": "x.Y"}))
    edit(copy / IMAGES, lambda c: put(c, "auto_map", {"AutoProcessor": "x.Y", "AutoImageProcessor": "x.Y"}))
    edit(copy / TOKENS, lambda c: put(c, "auto_map", {"AutoTokenizer": ["x.Y", None]}))
    (copy / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os.mkdir('" + str(mark) + "') }}")
    edit(copy / TOKENS, lambda c: put(c, "chat_template", "{% for i in range(10**9) %}x{% endfor %}"))
    for trust in (False, True):
        with pytest.raises(errors.UnreadSettingError, match=r"code of its authors' own, x\.Y"):
            zoo.load_model(copy, like=LIKE, trust_remote_code=trust)
        model = zoo.load_model(copy, like=LIKE, trust_remote_code=trust, ignore=["auto_map"])
        assert model.encode(BOTH).isfinite().all()
        assert not mark.exists()


def test_links_and_shards_elsewhere(copy: Path, tmp_path: Path) -> None:
    shutil.copy(copy / "model.safetensors", tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {LAYER: "../elsewhere.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(copy, "UnsafeCheckpointError", "outside the folder")
    (copy / "model.safetensors.index.json").unlink()
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    refused(copy, "UnsafeCheckpointError", "a link to")


def test_a_pickle_runs_nothing(copy: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(bomb(tmp_path / "ran"))
    refused(copy, "UnsafeCheckpointError", "only as a pickle")
    refused(copy, "MissingWeightsError", "cannot be loaded", allow_pickle=True)
    assert not (tmp_path / "ran").exists()


# ------------------------------------------------------------------------------------------------------------ adapters


def test_an_adapter_of_the_hub_takes_no_base_from_this_machine(base: Published, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", base_name=str(base.folder)).folder
    assert zoo.load_model(adapter, like=LIKE).encode(BOTH).isfinite().all()  # one's own may
    spec = zoo.get_spec(LIKE)
    with pytest.raises(errors.HubError, match="Hub repository"):
        open_with(VisionLanguage(), adapter, Opening("x", like=spec, local=False))


def test_a_relative_folder_is_no_base_for_a_repository(
    base: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "org/name" in the working directory does not stand in for the repository of that name."""
    shutil.copytree(base.folder, tmp_path / "org" / "name")
    adapter = write_adapter(base, tmp_path / "adapter", base_name="org/name").folder
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.HubError, match="hf:org/name"):
        open_with(VisionLanguage(), adapter, Opening("x", like=zoo.get_spec(LIKE), local=False))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("base_model_name_or_path", None, "names no base model"),
        ("base_model_name_or_path", 5, "names no base model"),
        ("revision", {"a": 1}, "revision"),
        ("r", 10**9, "no model has over"),
    ],
)
def test_settings_of_an_adapter(base: Published, tmp_path: Path, key: str, value: Any, said: str) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", base_name="org/name").folder
    edit(adapter / "adapter_config.json", lambda config: put(config, key, value))
    if key == "r":
        edit(adapter / "adapter_config.json", lambda config: put(config, "base_model_name_or_path", str(base.folder)))
    refused(adapter, "ZooError", said)


def test_a_truncated_adapter(base: Published, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", base_name=str(base.folder)).folder
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    refused(adapter, "MissingWeightsError", "damaged or cut off")


@pytest.mark.parametrize(
    "pattern", ["[a-z_.0-9]?" * 40 + "!", "([a-z]|[a-z_.0-9])" * 40 + "!", ".*.*.*.*!", "(a*)*!", "(a|b)(c|d)(e|f)!"]
)
def test_patterns_that_go_back_too_often(tmp_path: Path, pattern: str) -> None:
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "rank_pattern": {pattern: 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    start = time.process_time()
    with pytest.raises(errors.UnrecognisedCheckpointError, match="too long to compare"):
        read_settings(tmp_path / "adapter_config.json")
    assert time.process_time() - start < 1
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "rank_pattern": {r".*\.(q|k)_proj": 2}}))
    assert read_settings(tmp_path / "adapter_config.json").of("layers.0.self_attn.q_proj") == (2, 4)


# ---------------------------------------------------------------------------------------------------- our own layout


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("spec.similarity", "maxsim", "contradict"),
        ("towers.0.pooler.kind", "pooling:EveryToken", "contradict"),
        ("towers.0.encoder.format.positions", "mrope", "not the one of its encoder"),
        ("towers.0.encoder.format.prompt", "{% for x in text %}{{ x }}{% endfor %}", "not the one|uses"),
        ("towers.0.encoder.max_tokens", 10**12, "no model has over"),
        ("towers.0.encoder.max_tokens", -3, "at least 1 token"),
        ("towers.0.encoder.media.video.frames", 10**9, "no model has over"),
        ("towers.0.encoder.media.video.frames", 10**6, "at most 4,096"),
        ("towers.0.encoder.media.image.square", 10**6, "from 0 to 4,096"),
        ("towers.0.encoder.media.video.total_pixels", 10**12, "no model has over"),
        ("towers.0.encoder.media.image.pixels", [10, 5], "fewest and the most"),
        ("towers.0.encoder.config.model_type", "bert", "no vision-language backbone"),
        ("towers.0.encoder.config.vision_config.architecture", "local-dir:/etc", "another place"),
        ("spec.format.attention", "sideways", "must be one of"),
        ("spec.format.colour", "red", "unknown"),
    ],
)
def test_a_saved_folder_that_was_changed(tmp_path: Path, key: str, value: Any, said: str) -> None:
    folder = zoo.build_model("gme-test").save_pretrained(tmp_path / "model")
    edit(folder / CONFIG, lambda config: put(config, key, value))
    with pytest.raises(
        errors.UnsafeCheckpointError if "another" in said else errors.UnrecognisedCheckpointError, match=said
    ):
        zoo.load_model(folder)


def test_every_registered_reading_can_be_saved() -> None:
    from zoo.formats.checks.config_schema import check_facts

    for name in zoo.list_models(tests=True):
        if (spec := zoo.get_spec(name)).format is not None:
            check_facts(json.loads(json.dumps({"format": 1, "spec": spec.to_dict()})), name)


@pytest.mark.parametrize("facts", [{"square": 10**5}, {"frames": 10**5}, {"fps": 10**9}, {"pixels": (1, 10**9)}])
def test_a_reading_has_bounds(facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"4,096|64,000,000"):
        from_reading({"prompt": "{{ text }}", **facts})


# --------------------------------------------------------------------------------------------------------------- like=


@pytest.mark.parametrize(
    ("like", "said"),
    [
        ("zoo-mini", "neither a vision-language model"),
        ("no-such-model", "no model is called"),
        ("", "no model is called"),
        ("e5-v-llava-next-8b", "do not fit each other"),
        (None, 'like="gme-qwen2vl-2b"'),
    ],
)
def test_like_names_a_model_of_this_family(base: Published, like: str | None, said: str) -> None:
    with pytest.raises(errors.ZooError, match=said):
        zoo.load_model(base.folder, like=like)


@pytest.mark.parametrize("name", ["zoo-mini", "open_clip:ViT-B-32/openai", "timm:vit_base_patch16_224"])
def test_like_is_refused_where_it_would_do_nothing(name: str) -> None:
    with pytest.raises(errors.UnknownModelError, match="its own way"):
        zoo.load_model(name, like=LIKE)


def test_like_is_refused_for_our_own_folders(tmp_path: Path) -> None:
    folder = zoo.build_model("gme-test").save_pretrained(tmp_path / "model")
    with pytest.raises(errors.UnrecognisedCheckpointError, match="says itself how it is read"):
        zoo.load_model(folder, like=LIKE)


def test_like_counts_before_the_facts_beside_a_checkpoint(copy: Path) -> None:
    other = zoo.get_spec("ops-mm-embedding-v1-2b")
    (copy / "zoo.json").write_text(json.dumps({"format": 1, "spec": {**other.to_dict(), "dim": 32}}))
    assert zoo.load_model(copy).spec.format == other.format
    model = zoo.load_model(copy, like=LIKE)
    assert model.spec.format == model.towers[0].encoder.format == zoo.get_spec(LIKE).format
