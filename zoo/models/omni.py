"""Embedders on the thinker of Qwen2.5-Omni, a language model that sees and hears; one vector of text, images, video and audio.

LCO-Embedding asks for a summary in one word (Xiao et al., 2025, arxiv:2510.11693). Omni-Embed-Nemotron reads in both directions and
takes the mean (Xu et al., 2025, arxiv:2510.03458). OmniEmbed (Ma et al., 2025, arxiv:2505.02466) and e5-omni (Chen et al., 2026,
arxiv:2601.03666) pool the end token after the assistant's header.
"""

from zoo.models.backbones import (
    OMNI_MEDIA,
    ON_OMNI_THINKER,
    TINY,
    TINY_PIXELS,
    omni_processor,
    omni_thinker,
    tiny_omni_thinker,
)
from zoo.models.parts import Embedder, Identity, LastToken, Mean, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import AudioLimits, ImageLimits, SequenceFormat, VideoLimits
from zoo.spec import ModelSpec

_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"
# lco_embedding_models.py of mteb, after the authors' LCO_Embedding.py and README.md: the word asked for is that of the first of image,
# video, audio and text that there is. Its authors give an instruction no place; a system text is what it is in the chat template.
LCO = SequenceFormat(
    prompt=(
        "<|im_start|>system\n{{ instruction or 'You are a helpful assistant.' }}<|im_end|>\n<|im_start|>user\n"
        "{{ videos ~ audios ~ images ~ text if content == media ~ text else content }}\nSummarize the above "
        "{{ 'image' if images else 'video' if videos else 'audio' if audios else 'text' }} in one word:" + _ASSISTANT
    ),
    backbone="qwen2_5_omni_thinker",
    marks=OMNI_MEDIA,
    positions="mrope",
    join="",
)
# README.md of nvidia/omni-embed-nemotron-3b and mteb's omni_embed_nemotron_models.py: the prompt and the text first, then video and
# audio, no turn of the assistant. Its own code reads padded batches causally under transformers 5, and single items both ways.
NEMOTRON = SequenceFormat(
    prompt=(
        _SYSTEM
        + "{{ instruction ~ text ~ videos ~ audios ~ images if content == text ~ media else instruction ~ content }}"
        "<|im_end|>\n"
    ),
    backbone="qwen2_5_omni_thinker",
    marks=OMNI_MEDIA,
    positions="mrope",
    attention="bidirectional",
    join="",
    media_first=False,
)
# README.md of Haon-Chen/e5-omni-7B, adapted from OmniEmbed's; mteb's e5_omni_models.py and tevatron_omni_embed_models.py. The video's
# audio track is left out, as in mteb and by sentence-transformers; the example of their README weaves it in.
TEVATRON = SequenceFormat(
    prompt=(
        _SYSTEM
        + "{{ videos ~ audios ~ images ~ instruction ~ text if content == media ~ text else instruction ~ content }}"
        + _ASSISTANT
        + "<|endoftext|>"
    ),
    backbone="qwen2_5_omni_thinker",
    marks=OMNI_MEDIA,
    positions="mrope",
    join="",
)
# Two frames a second, as qwen-omni-utils; at most 64 is mteb's choice. Pixels of a frame: the processor's own defaults, and what both
# model cards advise.
FRAMES = VideoLimits(frames=64, fps=2.0, pixels=(128 * 28 * 28, 768 * 28 * 28))
SMALL_FRAMES = VideoLimits(frames=64, fps=2.0, pixels=(32 * 14 * 14, 64 * 28 * 28))
LONG, SHORT = AudioLimits(seconds=300.0), AudioLimits(seconds=128.0)
THINKER: Facts = {
    "modalities": {"text", "image", "video", "audio"},
    "languages": ("en",),
    "max_tokens": 32768,
    "demo": "omni",
}
ON_LCO: Facts = {**THINKER, "paper": "arxiv:2510.11693", "format": LCO, "media": {"video": FRAMES, "audio": LONG}}
ON_TEVATRON: Facts = {
    **THINKER,
    "license": "mit",
    "prompts": {"query": "Query: "},
    "format": TEVATRON,
    "media": {"video": SMALL_FRAMES, "audio": LONG},
}
ON_NEMOTRON: Facts = {
    **THINKER,
    "license": "other: nvidia-evaluation-non-commercial",
    "paper": "arxiv:2510.03458",
    "pooling": "mean",
    "prompts": {"query": "query: ", "document": "passage: "},
    "format": NEMOTRON,
    "media": {"video": SMALL_FRAMES, "audio": SHORT},
}


@register_model(
    hub_id="LCO-Embedding/LCO-Embedding-Omni-3B",
    revision="eea763cfaf673e955ae86c64968896a3fea70189",
    license="mit",
    **ON_OMNI_THINKER["3b"],
    **ON_LCO,
)
def lco_embedding_omni_3b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, omni_thinker("3b")), LastToken(), Identity())])


@register_model(
    name="lco-embedding-omni-3b-2605",
    hub_id="LCO-Embedding/LCO-Embedding-Omni-3B-2605",
    revision="93aadb155d07c16018cc241efe03e4c278e6001c",
    license="apache-2.0",
    **ON_OMNI_THINKER["3b"],
    **ON_LCO,
)
def lco_embedding_omni_3b_2605(spec: ModelSpec) -> Embedder:
    """The update of May 2026."""
    return Embedder(spec, [Tower(sequence(spec, omni_thinker("3b")), LastToken(), Identity())])


@register_model(
    hub_id="LCO-Embedding/LCO-Embedding-Omni-7B",
    revision="3d38f58aae1253a4443b1270b0767f1e533936cf",
    license="mit",
    **ON_OMNI_THINKER["7b"],
    **ON_LCO,
)
def lco_embedding_omni_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, omni_thinker("7b")), LastToken(), Identity())])


@register_model(
    hub_id="nvidia/omni-embed-nemotron-3b",
    revision="e0e93aaaa65d2422a8a0c1284116e71f7a0fe966",
    **ON_OMNI_THINKER["3b"],
    **ON_NEMOTRON,
)
def omni_embed_nemotron_3b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, omni_thinker("3b")), Mean(), Identity())])


@register_model(
    name="e5-omni-3b",
    hub_id="Haon-Chen/e5-omni-3B",
    revision="bc2c24d7596ea578d08adffd96146ed47b1e5f72",
    paper="arxiv:2601.03666",
    **ON_OMNI_THINKER["3b"],
    **ON_TEVATRON,
)
def e5_omni_3b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, omni_thinker("3b")), LastToken(), Identity())])


@register_model(
    name="e5-omni-7b",
    hub_id="Haon-Chen/e5-omni-7B",
    revision="ffea4ae1382fc26dc9fc337a89ced3fab58e408b",
    paper="arxiv:2601.03666",
    **ON_OMNI_THINKER["7b"],
    **ON_TEVATRON,
)
def e5_omni_7b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, omni_thinker("7b")), LastToken(), Identity())])


@register_model(
    name="omniembed-v0.1",
    hub_id="Tevatron/OmniEmbed-v0.1",
    revision="fa8be315e74d07f563b07c0d053525de6dc7eda8",
    base_revision="8876e9bc7e6af2ecbdfb14e0416e2c1105f0f7bb",
    paper="arxiv:2505.02466",
    **{**ON_OMNI_THINKER["7b"], "base": "Tevatron/Qwen2.5-Omni-7B-Thinker"},
    **ON_TEVATRON,
)
def omniembed_v01(spec: ModelSpec) -> Embedder:
    """An adapter, which names its base without a revision; that is pinned here."""
    return Embedder(spec, [Tower(sequence(spec, omni_thinker("7b")), LastToken(), Identity())])


TINY_MEDIA = {
    "image": ImageLimits(pixels=TINY_PIXELS),
    "video": VideoLimits(frames=8, fps=2.0, pixels=TINY_PIXELS),
    "audio": AudioLimits(seconds=4.0),
}
TINY_THINKER: Facts = {
    **TINY,
    "max_tokens": 1024,
    "params": 136_864,
    "languages": (),
    "paper": None,
    "media": TINY_MEDIA,
}


@register_model(**{**ON_LCO, **TINY_THINKER})
def omni_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_omni_thinker(), omni_processor())
    return Embedder(spec, [Tower(encoder, LastToken(), Identity())])


@register_model(**{**ON_NEMOTRON, **TINY_THINKER})
def omni_mean_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_omni_thinker(), omni_processor())
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


@register_model(**{**ON_TEVATRON, **TINY_THINKER})
def omni_end_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_omni_thinker(), omni_processor())
    return Embedder(spec, [Tower(encoder, LastToken(), Identity())])
