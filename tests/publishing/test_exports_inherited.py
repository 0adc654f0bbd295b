"""Every public method that an exported model inherits from transformers or sentence-transformers works or says by name why not.

What the library's own class raises in the same call is the library's; anything else that is raw is ours.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import AutoModel, AutoProcessor

import zoo
from tests.reference import write
from zoo.errors import NotOfferedError, NotSavedError, ZooError
from zoo.publishing import exports

NAMES = ("mini-test", "vlm2vec-test")
TEXTS = ["a cat", "two dogs in the snow"]
IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])
RAW = (AttributeError, KeyError, TypeError, NotImplementedError, RuntimeError, IndexError, AssertionError)
# Not called: they need the Hub, other machines, several processes or hours; or they are no method of a finished model.
LEFT = {"push_to_hub", "save_to_hub", "start_multi_process_pool", "stop_multi_process_pool", "encode_multi_process"}
LEFT |= {"evaluate", "fit", "old_fit", "merge", "load", "register_for_auto_class", "from_pretrained", "forward"}
LEFT |= {"check_peft_compatible_model", "loss_function", "get_init_context", "smart_apply", "smart_batching_collate"}
LEFT |= {"barrier_after_gathered_checkpoint_save", "gather_sharded_state_dict_for_save", "maybe_distribute_model"}
LEFT |= {"prepare_distribute_model", "save_distributed_checkpoint", "should_save_on_this_rank", "get_compiled_call"}
LEFT |= {"mark_tied_weights_as_initialized", "compile", "load_adapter", "cuda", "parse_response", "set_decoder"}
LEFT |= {
    "set_encoder",
    "init_weights",
    "initialize_weights",
    "get_text_features",
    "get_image_features",
    "get_fused_features",
    "from_args_and_dict",
    "get_possibly_dynamic_module",
}
GIVEN: dict[str, dict[str, Any]] = {
    "add_model_tags": {"tags": ["x"]},
    "add_adapter": {"adapter_config": None},
    "delete_adapter": {"adapter_names": "x"},
    "set_adapter": {"adapter_name": "x"},
    "get_correct_attn_implementation": {"requested_attention": "sdpa"},
    "get_correct_experts_implementation": {"requested_experts": None},
    "get_parameter_or_buffer": {"target": "x.y"},
    "retrieve_modules_from_names": {"names": []},
    "set_attn_implementation": {"attn_implementation": "eager"},
    "set_experts_implementation": {"experts_implementation": "eager"},
    "set_input_embeddings": {"value": nn.Embedding(2, 2)},
    "set_output_embeddings": {"new_embeddings": nn.Embedding(2, 2)},
    "resize_position_embeddings": {"new_num_position_embeddings": 8},
    "set_use_kernels": {"use_kernels": False},
    "warn_if_padding_and_no_attention_mask": {"input_ids": IDS, "attention_mask": None},
    "decode": {"token_ids": [1, 2]},
    "batch_decode": {"sequences": [[1, 2], [3]]},
    "apply_chat_template": {"conversation": [{"role": "user", "content": "a cat"}]},
    "check_argument_for_proper_class": {"argument_name": "tokenizer", "argument": None},
    "create_mm_token_type_ids": {"input_ids": [[1, 2]]},
    "get_text_with_replacements": {"text": TEXTS},
    "post_process_image_text_to_text": {"generated_outputs": [[1, 2]]},
    "post_process_multimodal_output": {"generated_outputs": [[1, 2]]},
    "replace_image_token": {"image_inputs": {}, "image_idx": 0},
    "replace_video_token": {"video_inputs": {}, "video_idx": 0},
    "replace_audio_token": {"audio_inputs": {}, "audio_idx": 0},
    "validate_init_kwargs": {"processor_config": {}, "valid_kwargs": []},
    "validate_inputs": {"text": TEXTS},
    "encode": {"inputs": TEXTS},
    "encode_query": {"inputs": TEXTS},
    "encode_document": {"inputs": TEXTS},
    "preprocess": {"inputs": TEXTS},
    "tokenize": {"texts": TEXTS},
    "is_singular_input": {"inputs": "a cat"},
    "supports": {"modality": "text"},
    "similarity": {"embeddings1": torch.eye(2), "embeddings2": torch.eye(2)},
    "similarity_pairwise": {"embeddings1": torch.eye(2), "embeddings2": torch.eye(2)},
    "truncate_sentence_embeddings": {"truncate_dim": 4},
    "truncate_embeddings": {"truncate_dim": 4},
    "set_pooling_include_prompt": {"include_prompt": True},
    "get_processor_dict": {"pretrained_model_name_or_path": "FOLDER"},
    "load_config": {"model_name_or_path": "FOLDER"},
    "load_file_path": {"model_name_or_path": "FOLDER", "filename": "config.json"},
    "load_dir_path": {"model_name_or_path": "FOLDER"},
    "load_torch_weights": {"model_name_or_path": "FOLDER"},
}
PATHS = ("save_directory", "path", "output_path", "json_file_path")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("exports")
    exports.register()
    write("transformers-clip", root / "transformers-clip")
    for name in (*NAMES, "text-test", "image-test"):
        exports.export(zoo.build_model(name), root / name)
    zoo.build_model("text-test").save_pretrained(root / "plain")
    return {path.name: path for path in root.iterdir()}


OPEN: dict[str, Callable[[Path], Any]] = {
    "AutoModel": lambda folder: AutoModel.from_pretrained(folder),
    "AutoProcessor": lambda folder: AutoProcessor.from_pretrained(folder),
    "SentenceTransformer": lambda folder: SentenceTransformer(str(folder), device="cpu", trust_remote_code=True),
    "module": lambda folder: SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)[0],
}


def methods(value: Any) -> Iterator[str]:
    """Public names that the class has from its library or from us, torch's own left out."""
    for name in sorted(dir(type(value))):
        owner = next(cls for cls in type(value).__mro__ if name in vars(cls))
        if not name.startswith("_") and not owner.__module__.startswith(("torch", "builtins")):
            yield name


def outcome(value: Any, name: str, folder: Path, out: Path) -> BaseException | None:
    """The error of reading a property or calling a method, None where it works."""
    try:
        member = getattr(value, name)
        if isinstance(member, nn.Module | type) or (not inspect.ismethod(member) and not inspect.isfunction(member)):
            return None
        arguments = {key: str(folder) if one == "FOLDER" else one for key, one in GIVEN.get(name, {}).items()}
        for key in inspect.signature(member).parameters:
            if key in PATHS:
                out.mkdir()
                arguments[key] = str(out / "file.json") if "file" in key else str(out)
        member(**arguments)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("what", OPEN)
@pytest.mark.parametrize("name", [NAMES[0], pytest.param(NAMES[1], marks=pytest.mark.slow)])
def test_no_inherited_method_fails_raw(name: str, what: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder, native = folders[name], folders["transformers-clip" if what == "AutoProcessor" else "text-test"]
    value = OPEN[what](folder)
    raw = {}
    for method in methods(value):
        if method in LEFT:
            continue
        error = outcome(value, method, folder, tmp_path / method)
        if error is None:
            continue
        if isinstance(error, RAW) and not isinstance(error, ZooError):
            raw[method] = error
        value = OPEN[what](folder)
    theirs = OPEN[what](native)
    for method, error in list(raw.items()):
        if type(outcome(theirs, method, native, tmp_path / f"native-{method}")) is type(error):
            del raw[method]
    assert {method: f"{type(error).__name__}: {error}" for method, error in raw.items()} == {}


# ------------------------------------------------------------------------------------------------ what they now do


@pytest.mark.parametrize(("name", "first"), [("mini-test", "model"), ("vlm2vec-test", "processor")])
def test_model_and_processor_are_saved_into_one_folder(
    name: str, first: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model, processor = (OPEN[what](folders[name]) for what in ("AutoModel", "AutoProcessor"))
    for part in (model, processor) if first == "model" else (processor, model):
        part.save_pretrained(tmp_path / "m")
    again, reader = (OPEN[what](tmp_path / "m") for what in ("AutoModel", "AutoProcessor"))
    assert torch.equal(
        again.get_text_features(**reader(text=TEXTS)).pooler_output,
        model.get_text_features(**processor(text=TEXTS)).pooler_output,
    )
    assert zoo.load_model(tmp_path / "m").spec == zoo.load_model(folders[name]).spec


def test_a_processor_alone_reads_as_before(folders: dict[str, Path], tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(folders["mini-test"])
    processor.save_pretrained(tmp_path / "p")
    assert not list((tmp_path / "p").rglob("*.safetensors"))
    again = AutoProcessor.from_pretrained(tmp_path / "p")
    for key, tensor in processor(text=TEXTS).items():
        assert torch.equal(again(text=TEXTS)[key], tensor)
    with pytest.raises(ZooError, match="weights"):
        AutoModel.from_pretrained(tmp_path / "p")
    assert json.loads(processor.to_json_string())["processor_class"] == "ZooProcessor"


def test_a_processor_does_not_overwrite_another_model(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["plain"], tmp_path / "m"))
    with pytest.raises(NotSavedError, match="another model"):
        AutoProcessor.from_pretrained(folders["mini-test"]).save_pretrained(copy)


def test_ids_become_texts_again(folders: dict[str, Path]) -> None:
    processor = AutoProcessor.from_pretrained(folders["mini-test"])
    ids = processor(text="two dogs")["input_ids"][0]
    assert processor.decode(ids).replace(" ##", "").startswith("two")
    assert processor.batch_decode([ids, ids]) == [processor.decode(ids)] * 2
    with pytest.raises(NotOfferedError, match="no tokenizer"):
        AutoProcessor.from_pretrained(folders["image-test"]).decode([1])


def test_max_seq_length_is_followed_and_saved(folders: dict[str, Path], tmp_path: Path) -> None:
    """As the same setting of sentence-transformers' own module: a long text is its first tokens."""
    long = "two dogs in the snow and a cat on the sofa, " * 4
    model = OPEN["SentenceTransformer"](folders["mini-test"])
    model.max_seq_length = 10
    assert model.max_seq_length == 10
    ids = model.tokenizer(long, truncation=True).input_ids
    assert len(ids) == 10
    short = zoo.load_model(folders["mini-test"])
    short.towers[1].encoder.limit(10)
    expected = short.encode(long)
    assert torch.allclose(torch.tensor(model.encode(long)), expected, atol=1e-6)
    assert (zoo.load_model(folders["mini-test"]).encode(long) - expected).abs().max() > 1e-3, "the cut changes nothing"
    model.save_pretrained(str(tmp_path / "m"))
    again = zoo.load_model(tmp_path / "m", device="cpu")
    assert again.spec.max_tokens == 10
    assert torch.allclose(again.encode(long), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "value", "named"), [("mini-test", 0, "1 or more"), ("image-test", 10, "no text")])
def test_a_length_that_cannot_be_is_named(name: str, value: int, named: str, folders: dict[str, Path]) -> None:
    model = OPEN["SentenceTransformer"](folders[name])
    with pytest.raises((ValueError, NotOfferedError), match=named):
        model.max_seq_length = value


def test_what_encode_gives_out_besides_embeddings(folders: dict[str, Path]) -> None:
    """Vectors of tokens have no one place among towers: said by name. All that a pass gives comes as it is."""
    model = OPEN["SentenceTransformer"](folders["mini-test"])
    for value in ("token_embeddings", "anything"):
        with pytest.raises(NotOfferedError, match=f'{value} are not offered.*"sentence_embedding"'):
            model.encode(TEXTS, output_value=value)
    vectors = model.encode(TEXTS, convert_to_tensor=True)
    for given, vector in zip(model.encode(TEXTS, output_value=None), vectors, strict=True):
        assert torch.equal(given["sentence_embedding"], vector)


def test_options_with_an_effect_are_followed_or_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["mini-test"]
    assert AutoModel.from_pretrained(folder, dtype="bfloat16").dtype == torch.bfloat16
    assert AutoModel.from_pretrained(folder, dtype="auto").dtype == torch.float32
    zoo.load_model(folder).to(torch.float16).save_pretrained(tmp_path / "half")
    assert AutoModel.from_pretrained(tmp_path / "half", dtype="auto").dtype == torch.float16
    assert AutoModel.from_pretrained(folder, device_map={"": "cpu"}).device.type == "cpu"
    for options in ({"quantization_config": {"bits": 4}}, {"variant": "fp16"}):
        with pytest.raises(NotOfferedError, match=next(iter(options))):
            AutoModel.from_pretrained(folder, **options)
    with pytest.raises(ValueError, match="dtype"):
        AutoModel.from_pretrained(folder, dtype="int8")
    model = AutoModel.from_pretrained(folder)
    with pytest.raises(NotOfferedError, match="state_dict"):
        model.save_pretrained(tmp_path / "x", state_dict={"a": torch.zeros(1)})
    with pytest.raises(NotOfferedError, match="safe_serialization"):
        OPEN["SentenceTransformer"](folder).save_pretrained(str(tmp_path / "y"), safe_serialization=False)
    with pytest.raises(NotOfferedError, match="attn_implementation"):
        SentenceTransformer(str(folder), trust_remote_code=True, model_kwargs={"attn_implementation": "eager"})
