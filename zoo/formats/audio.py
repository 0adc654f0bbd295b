"""transformers' audio encoders: CLAP, AST, Whisper's encoder, wav2vec 2.0 and related models; and how their files say audio is read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.encoders._logging import quiet
from zoo.encoders.config_checks import check_numbers
from zoo.errors import UnrecognisedCheckpointError
from zoo.formats import read_object
from zoo.formats.backbones import own_class
from zoo.formats.composites import check_parts
from zoo.formats.known import audio as known
from zoo.formats.layout import Opening, register_layout
from zoo.formats.scale import scale_of
from zoo.formats.settings import Ignore, Table, read
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import OfTypes, allowed, folder_config, from_pretrained, shape_of
from zoo.spec import LogitScale, ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from zoo.embedder import Embedder, Tower


class Extractor(NamedTuple):
    """Which class makes audio ready for a type of model, and what of its file is followed."""

    name: str
    table: Table


_OF_SPEECH = Extractor("Wav2Vec2FeatureExtractor", known.SPEECH)
READERS: Mapping[str, Extractor] = MappingProxyType(
    {
        "clap": Extractor("ClapFeatureExtractor", known.CLAP),
        "audio-spectrogram-transformer": Extractor("ASTFeatureExtractor", known.AST),
        "whisper": Extractor("WhisperFeatureExtractor", known.WHISPER),
        **dict.fromkeys(("wav2vec2", "hubert", "wavlm", "data2vec-audio"), _OF_SPEECH),
    }
)
MAX_CLAP_TOKENS = 77  # laion_clap's own length of a text (hook.py); the positions would allow 512
FILES = ("preprocessor_config.json", "processor_config.json")


@register_layout
class Audio(OfTypes):
    """Encoders of audio, alone or beside one of texts."""

    name = "audio"
    order = 28
    looked_for = f'audio: config.json with "model_type" among {", ".join(READERS)}, and model.safetensors'
    types = READERS
    beside = FILES

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """A tower of audio, and of CLAP one of texts. Heads for other tasks, such as a classifier's, are left out."""
        from zoo.embedder import Embedder

        written, where = folder_config(folder, opening.allow_pickle), folder / "config.json"
        if own := own_class(written):
            why = f"its authors' own class, {own}, need not compute what transformers' own class of this type does"
            opening.ignore.refuse(where, "auto_map", written["auto_map"], why)
        check_parts(written, where, opening.ignore)
        config = _config(folder)
        towers, scale = LOADERS[config.model_type](folder, config, opening)
        texts = [tower.encoder.max_tokens for tower in towers if "text" in tower.encoder.modalities]
        spec = ModelSpec(
            name=opening.name,
            modalities=frozenset().union(*(tower.encoder.modalities for tower in towers)),
            dim=towers[0].encoder.width,
            license="unknown",
            max_tokens=texts[0] if texts else None,
            params=sum(p.numel() for tower in towers for p in tower.parameters()),
        )
        model = Embedder(spec, towers)
        model.logit_scale = scale
        return model


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # its own validation raises TypeError, ValueError and types of huggingface_hub
        reason = " ".join(str(error).split())[:300]
        raise UnrecognisedCheckpointError(f"{folder / 'config.json'} makes no sense: {reason}") from error


def extractor_settings(folder: Path, model_type: str, ignore: Ignore) -> dict[str, Any]:
    """What a folder's files say of how audio becomes features, but for the class and what has no effect.

    Raises:
        UnreadSettingError: a setting that is not followed, or another class. UnrecognisedCheckpointError: there are none.
    """
    cls, table = READERS[model_type]
    for name in FILES:
        if not (folder / name).is_file():
            continue
        settings, file = read_object(folder / name), folder / name
        if name == "processor_config.json":
            settings = settings.get("feature_extractor")
        if not isinstance(settings, dict):
            continue
        check_numbers({key: value for key, value in settings.items() if key != "mel_filters"}, str(file))
        # Of before transformers had an extractor apart from a processor, files name none.
        named = settings.get("feature_extractor_type")
        if named not in (None, cls):
            ignore.refuse(file, "feature_extractor_type", named, f"a {model_type} is read by a {cls}")
        settings = read(settings, table, file, ignore)
        return {key: value for key, value in settings.items() if key in {*table.followed} and value is not None}
    raise UnrecognisedCheckpointError(
        f"{folder} has none of {', '.join(FILES)}, so that nothing says how audio is read"
    )


# ------------------------------------------------------------------------------------------------------- one function a family

Loaded = tuple[list["Tower"], LogitScale | None]


def _audio(encoder: Any) -> "Tower":
    from zoo.embedder import Tower
    from zoo.heads import Identity
    from zoo.pooling import Mean

    return Tower(encoder, Mean(), Identity())


def _made(make: Callable[[], Any], where: Path) -> Any:
    """An encoder of settings that a stranger wrote."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: its settings make no sense: {error}") from error


def _whole(cls: Any, folder: Path, config: Any, opening: Opening) -> Any:
    return from_pretrained(cls, folder, opening.allow_pickle, whole=True, config=config)


def _clap(folder: Path, config: Any, opening: Opening) -> Loaded:
    import torch
    from transformers import ClapAudioModelWithProjection, ClapModel, ClapTextModelWithProjection

    from zoo.embedder import Tower
    from zoo.encoders.clap import ClapAudio, ClapFeatures
    from zoo.encoders.transformers_dual import HfText
    from zoo.heads import Identity
    from zoo.pooling import Cls

    where = folder / "config.json"
    settings = extractor_settings(folder, "clap", opening.ignore)
    features = _made(lambda: ClapFeatures.of(settings), where)
    tokenizer = read_tokenizer(folder, opening.ignore, dual=True)
    longest = min(allowed(config.text_config.max_position_embeddings - 2, tokenizer), MAX_CLAP_TOKENS)
    both = _whole(ClapModel, folder, config, opening)
    with torch.device("meta"), quiet():  # their own parts are put in their places
        audio, text = (
            cls(part)
            for cls, part in (
                (ClapAudioModelWithProjection, config.audio_config),
                (ClapTextModelWithProjection, config.text_config),
            )
        )
    audio.audio_model, audio.audio_projection = both.audio_model, both.audio_projection
    text.text_model, text.text_projection = both.text_model, both.text_projection
    ears = _made(lambda: ClapAudio(shape_of(config.audio_config), features, tower=audio), where)
    pad = config.text_config.pad_token_id if config.text_config.pad_token_id is not None else 1
    words = HfText("clap", shape_of(config.text_config), longest, pad_id=pad, tokenizer=tokenizer, tower=text)
    # One of its two scales: that of audio among texts, which differs from that of texts among audio in the last digits.
    return [_audio(ears), Tower(words, Cls(), Identity())], scale_of(both.logit_scale_a.detach(), None, where)


def _ast(folder: Path, config: Any, opening: Opening) -> Loaded:
    from transformers import ASTModel

    from zoo.encoders.ast import AstAudio

    settings = extractor_settings(folder, config.model_type, opening.ignore)
    tower = _whole(ASTModel, folder, config, opening)
    return [_audio(_made(lambda: AstAudio(shape_of(config), settings, tower=tower), folder / "config.json"))], None


def _whisper(folder: Path, config: Any, opening: Opening) -> Loaded:
    from transformers import WhisperModel

    from zoo.encoders.whisper import WhisperAudio

    settings = extractor_settings(folder, config.model_type, opening.ignore)
    tower = _whole(WhisperModel, folder, config, opening).encoder
    return [_audio(_made(lambda: WhisperAudio(shape_of(config), settings, tower=tower), folder / "config.json"))], None


def _speech(folder: Path, config: Any, opening: Opening) -> Loaded:
    from zoo.encoders.speech import SpeechAudio, speech_class

    settings = extractor_settings(folder, config.model_type, opening.ignore)
    config.mask_time_prob = config.mask_feature_prob = (
        0.0  # of training; without them there is no vector for what is masked
    )
    tower: nn.Module = _whole(speech_class(config.model_type), folder, config, opening)
    rate = settings.pop("sampling_rate", 16_000)
    made = _made(
        lambda: SpeechAudio(config.model_type, shape_of(config), rate=rate, tower=tower, **settings),
        folder / "config.json",
    )
    return [_audio(made)], None


LOADERS: Mapping[str, Callable[[Path, Any, Opening], Loaded]] = MappingProxyType(
    {
        "clap": _clap,
        "audio-spectrogram-transformer": _ast,
        "whisper": _whisper,
        **dict.fromkeys(("wav2vec2", "hubert", "wavlm", "data2vec-audio"), _speech),
    }
)
