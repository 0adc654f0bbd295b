"""The registry: names, facts and shapes of every registered model, and the `*-test` models from forward to reload."""

import ast
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from PIL import Image
from zoo.training.recipes import get_recipe

import zoo
from tests.every import every, standing_for
from zoo import registry
from zoo.errors import MissingWeightsError, UnknownModelError, UnrecognisedCheckpointError
from zoo.formats.checks.safetensors_checks import no_memory
from zoo.registry.absent import ABSENT
from zoo.spec import NAME, ModelSpec

NAMES = zoo.list_models(tests=True)
TINY = zoo.list_models("*-test")
PUBLISHED = [name for name in NAMES if zoo.get_spec(name).hub_id]
LARGE = 200_000_000
MANY_LAYERS = {"mobileclip-s1", "mobileclip-s2", "mobileclip2-s2"}  # for which mobileclip2-s0 stands
TEXTS = ["a", "a red motorbike", "Ein Hündchen schläft auf dem Sofa; 犬がソファで眠る。", "word " * 40]


def make_image(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def make_audio(seed: int, seconds: float, rate: int = 16_000) -> zoo.Waveform:
    """Noise that is louder in some bands than in others."""
    rng = np.random.default_rng(seed)
    bands = np.repeat(rng.random(8), round(seconds * rate / 16) + 1)[: round(seconds * rate) // 2 + 1]
    spectrum = np.fft.rfft(rng.standard_normal(round(seconds * rate)))
    return zoo.Waveform((0.1 * np.fft.irfft(spectrum * bands[: len(spectrum)])).astype(np.float32), rate)


def inputs(model: zoo.Embedder) -> list[list]:
    """Lists of inputs, one for each modality that the model reads, of different lengths and sizes."""
    images = [make_image(0), make_image(1, 200, 50), make_image(2, 30, 170)]
    found = [some for modality, some in (("text", TEXTS), ("image", images)) if modality in model.spec.modalities]
    video = np.stack([np.asarray(make_image(seed)) for seed in range(4)])
    if any(tower.encoder.modalities == {"video"} for tower in model.towers):
        found += [[zoo.Item(video=video), zoo.Item(video=video[:1]), zoo.Item(video=video[::-1])]]
    if any(tower.encoder.modalities == {"audio"} for tower in model.towers):
        found += [[make_audio(0, 0.4), make_audio(1, 1.3), make_audio(2, 3.1)]]
    if any(tower.encoder.modalities >= {"audio", "video"} for tower in model.towers) and model.spec.format is None:
        waves = [zoo.Waveform(np.sin(np.arange(n) / 9).astype(np.float32), 16_000) for n in (9_000, 4_321)]
        kinds = {"audio": waves[0]}, {"video": video[:3]}, {"audio": waves[1], "video": video}
        fused = {"audio": waves[0], "text": TEXTS[0]}, {"video": video, "text": TEXTS[0]}
        found += [[zoo.Item(**parts) for parts in (*kinds, *fused) if model.towers[0].encoder.takes(frozenset(parts))]]
    if model.spec.format is not None:
        both = [zoo.Item(text=text, image=image) for text, image in zip(TEXTS, images, strict=False)]
        mixed = model.spec.format.mixed and {"text", "image"} <= model.towers[0].encoder.modalities
        found += [both] if mixed else []
        found += [[zoo.Item(video=video), zoo.Item(video=video[:1])]] if "video" in model.spec.modalities else []
        waves = [zoo.Waveform(np.sin(np.arange(n) / 9).astype(np.float32), 16_000) for n in (9_000, 16_000, 4_321)]
        found += [[zoo.Item(audio=wave) for wave in waves]] if "audio" in model.spec.modalities else []
    return found


def same(a, b, atol: float = 1e-5) -> bool:
    """Whether two results of `encode` agree; those of late interaction are lists of matrices."""
    return len(a) == len(b) and all(
        x.shape == y.shape and torch.allclose(x, y, atol=atol) for x, y in zip(a, b, strict=True)
    )


@pytest.fixture(scope="module")
def models() -> dict[str, "zoo.Embedder"]:
    return {name: zoo.build_model(name) for name in TINY}


# ------------------------------------------------------------------------------------------------------------- names


def test_enough_is_registered():
    dual = [n for n in PUBLISHED if zoo.get_spec(n).modalities == {"image", "text"}]
    texts = [n for n in PUBLISHED if zoo.get_spec(n).modalities == {"text"}]
    images = [n for n in PUBLISHED if zoo.get_spec(n).modalities == {"image"}]
    assert len(dual) >= 12
    assert len(texts) >= 6
    assert len(images) >= 4


def test_every_family_has_a_test_model():
    families = {zoo.get_spec(name).family for name in NAMES if not zoo.get_spec(name).packaged}
    assert families == {zoo.get_spec(name).family for name in TINY}


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("clip-vit-b32-openia", "clip-vit-b32-openai"),
        ("CLIP-ViT-B32-OpenAI", "clip-vit-b32-openai"),
        ("bge-smal-en-v1.5", "bge-small-en-v1.5"),
        ("dinov2-vits14", "dinov2-vit-s14"),
        ("siglip2", "siglip2-vit-"),
    ],
)
def test_an_unknown_name_gives_the_nearest(typo, meant):
    with pytest.raises(UnknownModelError) as error:
        zoo.get_spec(typo)
    assert repr(typo) in str(error.value)
    assert meant in str(error.value)


def test_an_unknown_name_says_how_to_open_others():
    with pytest.raises(UnknownModelError, match="open_clip:") as error:
        zoo.load_model("zzzz")
    assert "hf:" in str(error.value)


@pytest.mark.parametrize("call", [zoo.get_spec, zoo.build_model, zoo.load_model])
def test_a_name_that_looks_like_a_path_is_refused_with_both_spellings(call):
    with pytest.raises(UnknownModelError) as error:
        call("openai/clip-vit-base-patch32")
    assert '"hf:openai/clip-vit-base-patch32"' in str(error.value)
    assert '"./openai/clip-vit-base-patch32"' in str(error.value)


def test_filters():
    assert zoo.list_models("siglip2-*") == sorted(n for n in NAMES if n.startswith("siglip2-"))
    assert zoo.list_models("no-such-*") == []
    assert {zoo.get_spec(n).modalities for n in zoo.list_models(modality="image")} >= {frozenset({"image"})}
    assert "all-minilm-l6-v2" not in zoo.list_models(modality="image")
    small = zoo.list_models(max_params=30_000_000)
    assert "all-minilm-l6-v2" in small
    assert "clip-vit-b32-openai" not in small
    assert zoo.list_models(license="apple*") == sorted(n for n in NAMES if "apple" in zoo.get_spec(n).license)
    both = zoo.list_models("*-test", modality="text", license="Apache-2.0")
    free = [n for n in TINY if zoo.get_spec(n).license == "apache-2.0"]
    assert both == sorted(n for n in free if "text" in zoo.get_spec(n).modalities)
    assert zoo.list_models(tests=True) == sorted(NAMES)


def test_a_name_is_registered_once_and_spelled_well(monkeypatch):
    monkeypatch.setattr(registry.MODELS, "_found", dict(registry.MODELS._found))
    facts = {"modalities": {"text"}, "dim": 4, "license": "mit"}
    with pytest.raises(ValueError, match="clip-test is registered twice"):
        zoo.register_model(name="clip-test", **facts)(lambda spec: None)
    for name in ("Clip", "clip_test", "clip test", "clip/test", "-clip", ""):
        with pytest.raises(ValueError, match="no model name"):
            zoo.register_model(name=name, **facts)(lambda spec: None)
    zoo.register_model(name="fresh-test", **facts)(lambda spec: None)
    assert "fresh-test" in zoo.list_models(tests=True)
    assert zoo.get_spec("fresh-test").family == "test_registry"


@pytest.fixture
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten with it."""
    zoo.list_models(tests=True)
    monkeypatch.setattr(registry.MODELS, "_found", dict(registry.MODELS._found))


@pytest.mark.usefixtures("_own_registry")
def test_a_function_gives_its_model_its_name():
    facts = {"modalities": {"text"}, "dim": 4, "license": "mit"}

    @zoo.register_model(**facts)
    def mine_vit_s16(spec: ModelSpec) -> None: ...

    @zoo.register_model(name="mine-v1.5", **facts)
    def mine_v1_5(spec: ModelSpec) -> None: ...

    assert zoo.list_models("mine-*") == ["mine-v1.5", "mine-vit-s16"]
    with pytest.raises(ValueError, match="mine-vit-s16 is registered twice"):
        zoo.register_model(**facts)(mine_vit_s16)
    with pytest.raises(ValueError, match="no model name"):
        zoo.register_model(**facts)(lambda spec: None)


@pytest.mark.usefixtures("_own_registry")
def test_the_documents_own_model_keeps_its_facts():
    """The program of docs/add-a-model.md, as it stands there."""
    section = (Path(__file__).resolve().parents[1] / "docs" / "add-a-model.md").read_text()
    exec(section.partition("```python\n")[2].partition("```")[0], {"__name__": "zoo.models.mine"})
    spec = zoo.get_spec("mine-vit-s16")
    model = zoo.build_model("mine-vit-s16")
    assert model.spec == spec
    assert model.spec.to_dict() == spec.to_dict(), "equal, and every fact of it"
    assert (spec.license, spec.hub_id, spec.family) == ("apache-2.0", "me/mine-vit-s16", "mine")
    assert sum(p.numel() for p in model.parameters()) == spec.params


@pytest.mark.usefixtures("_own_registry")
def test_a_builder_that_breaks_its_promise_is_named():
    def build(spec: ModelSpec) -> "zoo.Embedder":
        return zoo.build_model("clip-test")

    facts = {"license": "mit", "hub_id": "me/x"}
    zoo.register_model(name="mine-wide", dim=77, modalities={"text"}, **facts)(build)
    zoo.register_model(name="mine-deaf", dim=16, modalities={"audio"}, **facts)(build)
    with pytest.raises(
        UnrecognisedCheckpointError, match=r"mine-wide should give 77 .* the builder of mine-wide gives 16"
    ):
        zoo.build_model("mine-wide")
    with pytest.raises(UnrecognisedCheckpointError, match="audio"):
        zoo.build_model("mine-deaf")


def test_listing_loads_no_heavy_package():
    code = (
        "import sys, zoo; zoo.list_models(tests=True); zoo.get_spec('clip-test'); "
        "print([m for m in ('torch', 'transformers', 'timm', 'open_clip', 'gradio') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_variant_holds_what_differs_from_its_family():
    """From the decorator to the last line; timm's median is six. What models share stands once, above them."""
    lines = []
    for file in (Path(zoo.__file__).parent / "models").glob("*.py"):
        for made in ast.walk(ast.parse(file.read_text("utf-8"))):
            decorators = made.decorator_list if isinstance(made, ast.FunctionDef) else []
            if any(isinstance(d, ast.Call) and ast.unparse(d.func) == "register_model" for d in decorators):
                lines.append(made.end_lineno - decorators[0].lineno + 1)
    assert len(lines) == len(NAMES)
    assert median(lines) <= 6, sorted(lines)


# ------------------------------------------------------------------------------------------------------------- facts


@every("name", NAMES)
def test_facts_are_valid(name):
    spec = zoo.get_spec(name)
    assert spec.name == name
    assert NAME.fullmatch(name)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert spec.license == spec.license.strip().lower()
    assert spec.license
    assert not spec.hub_id or re.fullmatch(r"[\w.-]+/[\w.-]+", spec.hub_id)
    assert spec.revision is None or re.fullmatch(r"[0-9a-f]{40}", spec.revision)
    assert spec.paper is None or re.fullmatch(r"arxiv:\d{4}\.\d{5}", spec.paper)
    assert spec.source == "" or spec.source.startswith(("open_clip:", "timm:", "hf:"))
    keeps_proportions = spec.format is not None or spec.family == "fgclip2"  # then there is no one size
    assert (spec.image_size is not None) == (bool({"image", "video"} & spec.modalities) and not keeps_proportions)
    endless = spec.packaged or name.startswith("static-")  # tables of tokens, which are averaged however many there are
    assert endless or (spec.max_tokens is not None) == ("text" in spec.modalities)
    assert list(spec.dims) == sorted(spec.dims, reverse=True)
    assert all(0 < cut <= spec.dim for cut in spec.dims)
    assert not spec.prompts or "text" in spec.modalities
    assert spec.params > 0
    assert sum(map(bool, (spec.packaged, spec.recipe, spec.hub_id, name.endswith("-test")))) == 1, (
        "weights from one place"
    )
    assert (Path(zoo.__file__).parent / "models" / f"{spec.family}.py").is_file()


@every("name", [n for n in PUBLISHED if zoo.get_spec(n).source.startswith("open_clip:")])
def test_open_clip_agrees(name):
    import open_clip

    spec = zoo.get_spec(name)
    arch, tag = spec.source.removeprefix("open_clip:").split("/")
    config, settings = open_clip.get_model_config(arch), open_clip.get_pretrained_cfg(arch, tag)
    assert spec.hub_id == settings["hf_hub"].rstrip("/")
    assert spec.dim == config["embed_dim"]
    assert spec.image_size == config["vision_cfg"]["image_size"]
    assert spec.max_tokens == config["text_cfg"]["context_length"]
    # open_clip only warns when an architecture and its weights disagree on the activation.
    assert bool(settings.get("quick_gelu")) == bool(config.get("quick_gelu")) == arch.endswith("-quickgelu")


@every("name", [n for n in PUBLISHED if zoo.get_spec(n).source.startswith("timm:")])
def test_timm_agrees(name):
    import timm

    spec = zoo.get_spec(name)
    settings = timm.get_pretrained_cfg(spec.source.removeprefix("timm:"))
    assert spec.hub_id == settings.hf_hub_id
    assert spec.license.removeprefix("other: ") == settings.license
    assert spec.image_size == settings.input_size[1]


@pytest.mark.parametrize(
    "name", standing_for(NAMES, {n for n in NAMES if zoo.get_spec(n).params <= LARGE and n not in MANY_LAYERS})
)
def test_shape_is_as_stated(name):
    """On the meta device: the true architecture, without memory or time for its weights."""
    spec = zoo.get_spec(name)
    with no_memory(name):
        model = zoo.build_model(name)
    with torch.device("meta"), torch.no_grad():
        assert model.spec.to_dict() == spec.to_dict()
        assert frozenset().union(*(tower.encoder.modalities for tower in model.towers)) == spec.modalities
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(spec.params, rel=0.01)
        for tower in model.towers:
            encoder = tower.encoder
            if encoder.modalities == {"image"}:
                assert encoder.transform.size == (spec.image_size, spec.image_size)
                pixels = torch.zeros(2, 3, *encoder.transform.size, dtype=torch.uint8)
                assert tower({"pixels": pixels}).shape == (2, spec.dim)
            elif encoder.modalities == {"video"}:
                assert encoder.transform.size == (spec.image_size, spec.image_size)
                frames = torch.zeros(1, encoder.frames, 3, *encoder.transform.size, dtype=torch.uint8)
                assert tower({"frames": frames}).shape == (1, spec.dim)
            else:
                tokens = zoo.inputs.item.Tokens(torch.zeros(2, 3, encoder.width), torch.ones(2, 3, dtype=torch.bool))
                one = (2, spec.dim) if spec.similarity == "cosine" else (2, 3, spec.dim)
                assert tower.head(tower.pooler(tokens)).shape == one


def test_prompts_are_the_authors():
    assert dict(zoo.get_spec("e5-base-v2").prompts) == {"query": "query: ", "document": "passage: "}
    assert dict(zoo.get_spec("bge-base-en-v1.5").prompts) == {
        "query": "Represent this sentence for searching relevant passages: "
    }
    nomic = {"query": "search_query: ", "document": "search_document: "}
    assert dict(zoo.get_spec("modernbert-embed-base").prompts) == nomic
    assert not zoo.get_spec("gte-base").prompts


# ------------------------------------------------------------------------------------------------------- test models


@every("name", TINY)
def test_it_is_tiny(name, models):
    params = sum(p.numel() for p in models[name].parameters())
    assert params == zoo.get_spec(name).params < 2_000_000


@pytest.mark.parametrize("name", TINY)
def test_forward_gives_unit_vectors(name, models):
    model = models[name]
    for tower, some in _towers_and_inputs(model):
        vectors = tower(tower.encoder.prepare([zoo.inputs.item.as_item(x) for x in some]))
        assert (len(vectors), vectors.shape[-1]) == (len(some), model.spec.dim)
        assert vectors.dtype == torch.float32
        lengths = vectors.norm(dim=-1)
        if model.spec.similarity == "maxsim":
            lengths = lengths[lengths > 0]  # padding is empty
        assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-5)


# LLaVA takes the states before CLIP's last layer, and SigLIP's before its last norm; what is after them is only carried. VIRTUE's
# SAM stays as it is. TIPSv2's mask token is of its masked training. FG-CLIP 2's other heads are for regions and other texts.
# Whisper's positions are waves that nobody trains. PE-AV's codec stays as it is. jina-embeddings-v3's adapters are of texts with a
# prompt (test_text_adapters.py).
AFTER_FEATURES = re.compile(
    r"vision_tower\..*(post_layernorm|layers\.2)\.|segmenter\.sam\.|embeddings\.mask_token$|^towers\.\d\.encoder\.(dense|first|rest|long_head|region_head)\."
    r"|tower\.embed_positions\.weight$|codec\.(dac_encoder|bottleneck)\.|\.lora_[AB]$"
)


@pytest.mark.parametrize("name", TINY)
def test_backward_reaches_every_weight(name, models):
    model = zoo.build_model(name).train()
    for tower, some in _towers_and_inputs(model):
        batch = tower.encoder.prepare([zoo.inputs.item.as_item(x) for x in some])
        found = (
            list(tower.forward_outputs(batch, ["dense", *tower.outputs]).values()) if tower.outputs else [tower(batch)]
        )
        sum((one.to_dense() * torch.randn(one.shape)).sum() for one in found).backward()
    gradients = {key: weight.grad for key, weight in model.named_parameters() if not AFTER_FEATURES.search(key)}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("name", TINY)
def test_encode(name, models):
    model = models[name]
    for some in inputs(model):
        vectors = model.encode(some)
        assert {v.shape[-1] for v in vectors} == {model.spec.dim}
        assert model.encode(some[0]).ndim == (2 if model.spec.similarity == "maxsim" else 1)
        means = torch.stack([v if v.ndim == 1 else v.mean(0) for v in vectors])
        assert torch.pdist(means).min() > 1e-4, "different inputs must not share a vector"


@pytest.mark.parametrize("name", TINY)
def test_batch_of_one_equals_batch_of_many(name, models):
    model = models[name]
    for some in inputs(model):
        together = model.encode(some)
        assert same([model.encode(one) for one in some], together)
        assert same(model.encode(some, batch_size=2), together)


@pytest.mark.parametrize("name", zoo.list_models("*-test", modality="text"))
def test_padding_never_changes_an_embedding(name, models):
    model = models[name]
    tower = model.route(zoo.Item(text="x"))
    short = zoo.Item(text="a red motorbike")
    alone = tower(tower.encoder.prepare([short]))
    beside = tower(tower.encoder.prepare([zoo.Item(text="word " * 40), short]))[1:]
    if alone.ndim == 3:  # one vector per token: those of the padding are empty
        beside, padding = beside[:, : alone.shape[1]], beside[:, alone.shape[1] :]
        assert padding.numel()
        assert not padding.any()
    assert torch.allclose(alone, beside, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_save_and_load_gives_equal_vectors(name, models, tmp_path):
    model = models[name]
    model.save_pretrained(tmp_path / "saved")
    again = zoo.load_model(tmp_path / "saved", device="cpu")
    assert again.spec == model.spec
    for some in inputs(model):
        assert same(model.encode(some), again.encode(some), atol=0)


# ---------------------------------------------------------------------------------------------- never silently random


@every("name", TINY)
def test_a_test_model_has_nothing_to_load(name):
    with pytest.raises(MissingWeightsError, match=re.escape(f"build_model('{name}')")):
        zoo.load_model(name)


@every("name", [name for name in NAMES if zoo.get_spec(name).recipe])
def test_weights_that_a_recipe_makes_are_told_so(name):
    spec = zoo.get_spec(name)
    with pytest.raises(MissingWeightsError) as error:
        zoo.load_model(name)
    assert f"`zoo train --recipe {spec.recipe} --out runs/{name}`" in str(error.value)
    assert f"load_model('./runs/{name}')" in str(error.value)
    assert get_recipe(spec.recipe)().model == name


def test_a_folder_without_weights_is_refused(models, tmp_path):
    models["text-test"].save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "model.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match="never loaded with random weights"):
        zoo.load_model(tmp_path / "saved")


def test_weights_of_another_model_are_refused(models, tmp_path):
    models["text-test"].save_pretrained(tmp_path / "saved")
    models["modernbert-test"].save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "saved" / "model.safetensors")
    with pytest.raises(MissingWeightsError):
        zoo.load_model(tmp_path / "saved")


def test_a_shape_without_its_tokenizer_reads_no_text():
    model = zoo.build_model("all-minilm-l6-v2")
    with pytest.raises(MissingWeightsError, match="load_model"):
        model.encode("a text")


def _towers_and_inputs(model: zoo.Embedder) -> list[tuple[torch.nn.Module, list]]:
    return [(model.route(zoo.inputs.item.as_item(some[0])), some) for some in inputs(model)]


def test_another_prompt_is_another_vector(models):
    model = models["text-test"]
    plain, query = model.encode("a red motorbike"), model.encode_query("a red motorbike")
    assert torch.allclose(model.encode("query: a red motorbike"), query, atol=1e-6)
    assert (plain - query).abs().max() > 1e-4
    assert replace(model.spec, prompts={}).prompts == {}


@pytest.mark.parametrize("demo", ["", "..os", "search.py", "a/b", "__import__"])
def test_a_demo_is_a_plain_module_name(demo):
    """A published config.json may not make the demo import anything else."""
    with pytest.raises(ValueError, match="module of demos"):
        replace(zoo.get_spec("zoo-mini"), demo=demo)


def test_a_builder_that_gives_no_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.MODELS, "_found", dict(registry.MODELS._found))
    registry.register_model(name="none-test", modalities={"text"}, dim=4, license="mit")(lambda spec: None)
    with pytest.raises(
        UnrecognisedCheckpointError, match=r"builder of none-test \(.*\) gives a NoneType; it must return"
    ):
        zoo.build_model("none-test")


@pytest.mark.parametrize(
    "name", ["imagebind-huge", "jina-embeddings-v5-omni-small", "LanguageBind_Video", "ms-clap-2023"]
)
def test_a_model_that_people_ask_for_and_that_is_not_here_says_why(name):
    with pytest.raises(UnknownModelError, match=r"is not in the zoo: its .* What reads the same: ") as error:
        zoo.load_model(name)
    assert "nearest" not in str(error.value)


def test_what_is_here_in_place_of_absent_models_is_here():
    for begins, (_, instead) in ABSENT.items():
        assert not zoo.list_models(f"{begins}*"), begins
        for name in instead.split(", "):
            assert zoo.get_spec(name)


def test_a_model_made_of_another_names_what_it_is_made_of_and_nothing_of_where_that_is():
    published = zoo.get_spec("bge-small-en-v1.5")
    made = published.derived("mine", dim=100)
    assert (made.name, made.base, made.dim) == ("mine", published.hub_id, 100)
    assert (made.hub_id, made.source, made.revision, made.base_revision, made.packaged, made.recipe) == (
        "",
        "",
        None,
        None,
        False,
        "",
    )
    assert (made.license, made.prompts, made.max_tokens) == (published.license, published.prompts, published.max_tokens)
    assert made.derived("again").base == published.hub_id  # the weights that anyone can fetch
    assert zoo.get_spec("mini-test").derived("mine").base == "mini-test"
