"""Alpha-CLIP: CLIP whose images come with a fourth channel, what is meant of them (Sun et al., 2023, arxiv:2312.03818).

The weights lie on drives and no Hub: `load_model("./folder", allow_pickle=True)` opens the authors' file (see `zoo.formats.alpha_clip`).
"""

from zoo.models.clip import DUAL, tiny_towers
from zoo.models.parts import AlphaClipImage, Embedder, Tower
from zoo.registry import register_model
from zoo.spec import ModelSpec


@register_model(
    **{**DUAL, "modalities": {"image", "regions", "text"}},
    dim=16,
    params=856_640,
    license="apache-2.0",
    paper="arxiv:2312.03818",
    image_size=32,
    max_tokens=16,
)
def alpha_clip_test(spec: ModelSpec) -> Embedder:
    vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    clip = tiny_towers(spec, vision, {})
    image, text = clip.towers
    encoder = AlphaClipImage(image.encoder.model_cfg, image.encoder.transform, image.encoder.tower)
    return Embedder(spec, [Tower(encoder, image.pooler, image.head), text])
