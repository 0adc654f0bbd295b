"""Files of a checkpoint that name other places: nothing outside its own folder is opened by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.formats.hostile_support import edit, put
from tests.reference.qwen2_vl import write_qwen2_vl
from tests.strangers.fuzz import finds
from tests.strangers.harness import Sandbox
from zoo.publishing import certificate
from zoo.publishing.exports import export

LIKE = "gme-qwen2vl-2b"
PROCESSOR, IMAGES, TOKENS = "processor_config.json", "preprocessor_config.json", "tokenizer_config.json"
VIDEOS, CONFIG = "video_preprocessor_config.json", "config.json"
OPEN = f"import sys, zoo; zoo.load_model(sys.argv[1], like={LIKE!r}, ignore=sys.argv[2:]).encode('a cat')"
SECOND = {"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": "$HOME"}
Case = tuple[str, str, Any, str]

# file, key, value ($HOME is the user's folder), what is said of it
REFUSED: list[Case] = [
    (PROCESSOR, "audio_tokenizer", SECOND, "audio_tokenizer.*second model"),
    (TOKENS, "fast_tokenizer_files", ["$HOME/tokenizer.1.0.json"], "fast_tokenizer_files.*another place"),
]
MORE: list[Case] = [
    (PROCESSOR, "audio_tokenizer", {**SECOND, "audio_tokenizer_name_or_path": "evil/repo"}, "second model"),
    (PROCESSOR, "audio_tokenizer", "evil/repo", "second model"),
    (PROCESSOR, "image_processor.audio_tokenizer", SECOND, "image_processor.audio_tokenizer"),
    (PROCESSOR, "tokenizer.vocab", "$HOME/secret.txt", "tokenizer.vocab"),
    (PROCESSOR, "processor_class", "DiaProcessor", "processor DiaProcessor"),
    (PROCESSOR, "processor_class", "InstructBlipProcessor", "qformer_tokenizer"),
    (IMAGES, "processor_class", "BarkProcessor", "BarkProcessor"),
    (VIDEOS, "processor_class", "Wav2Vec2ProcessorWithLM", "Wav2Vec2ProcessorWithLM"),
    (IMAGES, "image_processor_type", "OneFormerImageProcessor", "image_processor_type.*repo_path"),
    (IMAGES, "image_processor_type", "OneFormerFeatureExtractor", "image_processor_type.*repo_path"),
    (IMAGES, "image_processor_type", "TimmWrapperImageProcessor", "image_processor_type"),
    (IMAGES, "image_processor_type", "LayoutLMv2ImageProcessor", "tesseract_config"),
    (IMAGES, "repo_path", "evil/repo", "repo_path"),
    (IMAGES, "anything", "../../home/secret.txt", "anything.*another place"),
    (IMAGES, "anything", ["~/secret.txt"], "anything.*another place"),
    (VIDEOS, "anything", "file:///etc/passwd", "anything.*another place"),
    (TOKENS, "vocab", "$HOME/secret.txt", "vocab"),
    (TOKENS, "merges", "$HOME/secret.txt", "merges"),
    (TOKENS, "merges_file", "$HOME/secret.txt", "merges_file"),
    (TOKENS, "gguf_file", "$HOME/secret.txt", "gguf_file"),
    (TOKENS, "init_inputs", ["$HOME/secret.txt"], "init_inputs"),
    (TOKENS, "sp_model_kwargs", {"model_file": "$HOME/secret.txt"}, "sp_model_kwargs.model_file"),
    (TOKENS, "mecab_kwargs", {"mecab_option": "-r $HOME/secret.txt"}, "mecab_option"),
    (TOKENS, "fast_tokenizer_files", ["../home/tokenizer.1.0.json"], "another place"),
    (TOKENS, "fast_tokenizer_files", [5], "outside the folder"),
    (TOKENS, "tokenizer_class", "RagTokenizer", "tokenizer_class"),
    (CONFIG, "transformers_weights", "pytorch_model.bin", "transformers_weights"),
    (CONFIG, "vision_config.use_pretrained_backbone", True, "use_pretrained_backbone"),
    (CONFIG, "vision_config.model_args", {"checkpoint_path": "$HOME/x.pth"}, "checkpoint_path"),
    (CONFIG, "vision_config.model_args", {"pretrained": True}, "pretrained"),
    (CONFIG, "text_config", {"_attn_implementation": "evil/kernels"}, "fetch code"),
    (CONFIG, "vision_config.experts_implementation", {"x": "evil/kernels:Layer"}, "fetch code"),
]
# What honest files have, by which nothing is opened.
HARMLESS: list[Case] = [
    (TOKENS, "tokenizer_file", "$HOME/secret.txt", ""),
    (TOKENS, "vocab_file", "$HOME/secret.txt", ""),
    (TOKENS, "special_tokens_map_file", "$HOME/secret.txt", ""),
    (TOKENS, "name_or_path", "$HOME", ""),
    (CONFIG, "_name_or_path", "$HOME", ""),
    (TOKENS, "fast_tokenizer_files", ["tokenizer.json"], ""),
    (TOKENS, "sp_model_kwargs", {}, ""),
    (TOKENS, "chat_template", "https://example.com/{{ messages }}", ""),
]


def _slow(cases: list[Case]) -> list[Any]:
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]


def _change(sandbox: Sandbox, file: str, key: str, value: Any) -> Path:
    folder = sandbox.gift / "model"
    write_qwen2_vl(folder)
    value = json.loads(json.dumps(value).replace("$HOME", str(sandbox.home)))
    edit(folder / file, lambda settings: put(settings, key, value))
    (sandbox.home / "tokenizer.1.0.json").write_bytes((folder / "tokenizer.json").read_bytes())
    return folder


@pytest.mark.parametrize(("file", "key", "value", "said"), [*REFUSED, *_slow(MORE)])
def test_a_setting_that_names_another_place(sandbox: Sandbox, file: str, key: str, value: Any, said: str) -> None:
    folder = _change(sandbox, file, key, value)
    ignored = key.split(".")  # the caller may not ignore what would open something
    sandbox.python(OPEN, folder, *ignored).refused(f"UnsafeCheckpointError: .*{said}")


@pytest.mark.slow
@pytest.mark.parametrize(("file", "key", "value", "said"), HARMLESS)
def test_a_record_of_a_place_opens_nothing(sandbox: Sandbox, file: str, key: str, value: Any, said: str) -> None:
    sandbox.python(OPEN, _change(sandbox, file, key, value)).harmless()


@pytest.mark.slow
def test_a_tokenizer_without_a_file_of_its_own_opens_no_other(sandbox: Sandbox) -> None:
    folder = _change(sandbox, TOKENS, "vocab_file", "$HOME/secret.txt")
    edit(folder / TOKENS, lambda settings: put(settings, "tokenizer_file", str(sandbox.home / "tokenizer.1.0.json")))
    (folder / "tokenizer.json").unlink()
    sandbox.python(OPEN, folder).safe()


@pytest.mark.slow
def test_a_second_model_in_a_file_of_its_own(sandbox: Sandbox) -> None:
    folder = _change(sandbox, "audio_tokenizer_config.json", "audio_tokenizer_class", "DacModel")
    sandbox.python(OPEN, folder).refused("audio_tokenizer_config.json names a second model")


def _template(folder: Path, secret: Path) -> None:
    (folder / "chat_template.jinja").symlink_to(secret)


def _templates(folder: Path, secret: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "x.jinja").symlink_to(secret)


def _template_folder(folder: Path, secret: Path) -> None:
    (folder / "additional_chat_templates").symlink_to(secret.parent)


@pytest.mark.slow
@pytest.mark.parametrize("plant", [_template, _templates, _template_folder])
def test_a_template_that_is_a_link(sandbox: Sandbox, plant: Callable[[Path, Path], None]) -> None:
    folder = _change(sandbox, TOKENS, "sp_model_kwargs", {})
    plant(folder, sandbox.home / "secret.txt")
    sandbox.python(OPEN, folder).refused("is a link to")


@pytest.mark.slow
@pytest.mark.parametrize("deep", ["", "1_Pooling"])
def test_no_other_library_opens_them_either(sandbox: Sandbox, deep: str) -> None:
    folder = export(zoo.load_model("zoo-mini"), sandbox.gift / "model").folder
    certificate.make(zoo.load_model("zoo-mini")).save(folder)
    (folder / deep).mkdir(exist_ok=True)
    second = {**SECOND, "audio_tokenizer_name_or_path": str(sandbox.home)}
    edit(folder / deep / PROCESSOR, lambda settings: put(settings, "audio_tokenizer", second))
    answer = sandbox.zoo("verify", folder).safe()
    assert "second model" in answer.text
    assert answer.status != 0


@pytest.mark.slow
@pytest.mark.parametrize("target", ["fuzz_processors"])
def test_ten_thousand_processors(sandbox: Sandbox, target: str) -> None:
    assert finds(sandbox, f"tests.strangers.{target}", 10_000) == []
