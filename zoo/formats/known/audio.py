"""The files of transformers' extractors of audio: preprocessor_config.json, and feature_extractor in processor_config.json."""

from zoo.formats.settings import Only, Table

NAMES = ("feature_extractor_type", "processor_class", "image_processor_type")

_FOLLOWS = "it follows from the other settings of the file"
_OF_A_CALL = "it says how one call hands over audio, and the zoo hands over its own"
_INERT = {
    "processor_class": "the class that has this extractor and a tokenizer side by side",
    "padding_side": _OF_A_CALL,
    "return_attention_mask": "the zoo pads nothing beyond a window, and knows how much of one is audio",
    "feature_extractor_type": "held to the model's own before this table is read",
}
_SILENCE = Only((None, 0, 0.0), "the zoo fills with silence, 0")
_PLAIN = Only((None, 0, 0.0), "noise would make another vector of every call")
_AT_16K = Only((None, 16_000), "the filter banks of this model are of 16,000 Hz")

CLAP = Table(
    followed={
        "feature_size", "sampling_rate", "hop_length", "fft_window_size", "max_length_s", "frequency_min", "frequency_max",
        "truncation", "padding",
    },
    inert={
        **_INERT,
        **dict.fromkeys(("nb_frequency_bins", "nb_max_samples", "nb_max_frames", "chunk_length_s", "n_fft"), _FOLLOWS),
        "top_db": "transformers' class does not read it",
        "padding_value": "transformers' class fills with 0, whatever it says",
    },
)  # fmt: skip
AST = Table(
    followed={"num_mel_bins", "max_length", "do_normalize", "mean", "std"},
    inert={**_INERT, "feature_size": "of one waveform", "padding_value": "transformers' class fills with 0, whatever it says"},
    held={"sampling_rate": _AT_16K},
)  # fmt: skip
WHISPER = Table(
    followed={"feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft"},
    inert={
        **_INERT,
        **dict.fromkeys(("n_samples", "nb_max_frames", "mel_filters"), _FOLLOWS),
    },
    held={"padding_value": _SILENCE, "dither": _PLAIN, "do_normalize": Only((None, False), "Whisper's class takes it in a call alone")},
)  # fmt: skip
SPEECH = Table(
    followed={"do_normalize", "sampling_rate"},
    inert={**_INERT, "feature_size": "of one waveform", "padding_value": "windows are not padded"},
)
