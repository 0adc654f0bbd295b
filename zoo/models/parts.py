"""The parts of a tower by name, for model files: imported when the first is called, so that names and facts need no torch.

from zoo.models.parts import Embedder, Identity, LastToken, Tower, sequence
"""

# ruff: noqa: F401 (what is imported here is for others)
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.embedder import Embedder, Tower
    from zoo.encoders.adapted import AdaptedText
    from zoo.encoders.alpha_clip import AlphaClipImage
    from zoo.encoders.around import AroundText
    from zoo.encoders.ast import AstAudio
    from zoo.encoders.bert import BertText
    from zoo.encoders.clap import ClapAudio
    from zoo.encoders.experts import ExpertsText
    from zoo.encoders.fgclip2 import FgClip2Image, FgClip2Text
    from zoo.encoders.frames import FramesVideo
    from zoo.encoders.image import TimmImage, timm_image
    from zoo.encoders.in_context import InContextText
    from zoo.encoders.nv_embed import NvEmbedText
    from zoo.encoders.open_clip import OpenClipImage, OpenClipText
    from zoo.encoders.pe_av import PeAv
    from zoo.encoders.segmented import segmented
    from zoo.encoders.sequence import sequence
    from zoo.encoders.spectrogram import SpectrogramAudio
    from zoo.encoders.speech import SpeechAudio
    from zoo.encoders.static import StaticText
    from zoo.encoders.text import TransformersText
    from zoo.encoders.transformers_dual import HfImage, HfText
    from zoo.encoders.transformers_video import CanonicalText, HfVideo
    from zoo.encoders.whisper import WhisperAudio
    from zoo.encoders.wrapped import WrappedText
    from zoo.heads import Blend, DenseStack, Identity, Linear, Mlp, Named
    from zoo.outputs import LexicalWeights, TokenVectors
    from zoo.pooling import Cls, EveryToken, LastToken, Mean, NormedMean, WeightedMean
    from zoo.pooling.latent_attention import LatentAttention
else:

    @cache
    def _parts() -> dict[str, Any]:
        from zoo.embedder import Embedder, Tower
        from zoo.encoders.adapted import AdaptedText
        from zoo.encoders.alpha_clip import AlphaClipImage
        from zoo.encoders.around import AroundText
        from zoo.encoders.ast import AstAudio
        from zoo.encoders.bert import BertText
        from zoo.encoders.clap import ClapAudio
        from zoo.encoders.experts import ExpertsText
        from zoo.encoders.fgclip2 import FgClip2Image, FgClip2Text
        from zoo.encoders.frames import FramesVideo
        from zoo.encoders.image import TimmImage, timm_image
        from zoo.encoders.in_context import InContextText
        from zoo.encoders.nv_embed import NvEmbedText
        from zoo.encoders.open_clip import OpenClipImage, OpenClipText
        from zoo.encoders.pe_av import PeAv
        from zoo.encoders.segmented import segmented
        from zoo.encoders.sequence import sequence
        from zoo.encoders.spectrogram import SpectrogramAudio
        from zoo.encoders.speech import SpeechAudio
        from zoo.encoders.static import StaticText
        from zoo.encoders.text import TransformersText
        from zoo.encoders.transformers_dual import HfImage, HfText
        from zoo.encoders.transformers_video import CanonicalText, HfVideo
        from zoo.encoders.whisper import WhisperAudio
        from zoo.encoders.wrapped import WrappedText
        from zoo.heads import Blend, DenseStack, Identity, Linear, Mlp, Named
        from zoo.outputs import LexicalWeights, TokenVectors
        from zoo.pooling import Cls, EveryToken, LastToken, Mean, NormedMean, WeightedMean
        from zoo.pooling.latent_attention import LatentAttention

        return locals()

    class _Part:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return _parts()[self.name](*args, **kwargs)

    Embedder, Tower = _Part("Embedder"), _Part("Tower")
    AlphaClipImage, PeAv = _Part("AlphaClipImage"), _Part("PeAv")
    FgClip2Image, FgClip2Text = _Part("FgClip2Image"), _Part("FgClip2Text")
    AstAudio, ClapAudio = _Part("AstAudio"), _Part("ClapAudio")
    SpectrogramAudio, SpeechAudio, WhisperAudio = _Part("SpectrogramAudio"), _Part("SpeechAudio"), _Part("WhisperAudio")
    HfImage, HfText = _Part("HfImage"), _Part("HfText")
    CanonicalText, FramesVideo, HfVideo = _Part("CanonicalText"), _Part("FramesVideo"), _Part("HfVideo")
    TimmImage, timm_image = _Part("TimmImage"), _Part("timm_image")
    OpenClipImage, OpenClipText = _Part("OpenClipImage"), _Part("OpenClipText")
    segmented, sequence = _Part("segmented"), _Part("sequence")
    AdaptedText, ExpertsText, StaticText = _Part("AdaptedText"), _Part("ExpertsText"), _Part("StaticText")
    AroundText, BertText, TransformersText = _Part("AroundText"), _Part("BertText"), _Part("TransformersText")
    WrappedText = _Part("WrappedText")
    LatentAttention, NvEmbedText = _Part("LatentAttention"), _Part("NvEmbedText")
    Blend, Identity, Linear = _Part("Blend"), _Part("Identity"), _Part("Linear")
    InContextText = _Part("InContextText")
    LexicalWeights, TokenVectors = _Part("LexicalWeights"), _Part("TokenVectors")
    DenseStack, Mlp, Named = _Part("DenseStack"), _Part("Mlp"), _Part("Named")
    Cls, EveryToken, LastToken, Mean = _Part("Cls"), _Part("EveryToken"), _Part("LastToken"), _Part("Mean")
    NormedMean, WeightedMean = _Part("NormedMean"), _Part("WeightedMean")
