"""What a column's name says: roles, modalities and facts, in the words that people use; the same in every command."""

import re
from dataclasses import dataclass

_ROLES = {
    "query": ("query", "qry", "anchor", "question", "reference"),
    "positive": ("positive", "positives", "pos", "answer", "passage", "document", "target"),
    "negative": ("negative", "negatives", "neg"),
    "also": ("also",),
}
_IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
_VIDEO_ENDINGS = (
    "mp4",
    "m4v",
    "avi",
    "mov",
    "mkv",
    "webm",
    "mpg",
    "mpeg",
    "wmv",
    "flv",
    "3gp",
    "ogv",
    "vob",
    "m2ts",
    "asf",
)
_AUDIO_ENDINGS = ("wav", "mp3", "flac", "ogg", "oga", "opus", "m4a", "aac", "aif", "aiff", "wma", "amr", "caf")
_MODALITIES = {
    "text": ("text", "texts", "txt", "caption", "captions", "sentence", "sentences", "passages"),
    "image": ("image", "images", "img", "picture", "pictures", "photo", *_IMAGE_ENDINGS),
    "document": ("pdf", "pdfs"),
    "video": ("video", "videos", *_VIDEO_ENDINGS),
    "audio": ("audio", "audios", "sound", *_AUDIO_ENDINGS),
}
_ROLE_OF = {word: role for role, words in _ROLES.items() for word in words}
_MODALITY_OF = {word: modality for modality, words in _MODALITIES.items() for word in words}
_PLURAL = {
    "positives",
    "negatives",
    "also",
    "texts",
    "captions",
    "sentences",
    "passages",
    "images",
    "videos",
    "audios",
}
LABELS = ("label", "class")
REGIONS = ("regions", "box", "mask")  # what of an image is meant, as `zoo.inputs.region_json` writes it
MINED = "mined_scores"  # what `zoo mine` ranked by: its work is done, so that a loss may leave it unread
# `source` is none of them: it often names the page that a row was taken from. columns={"dataset": "source"} says so.
FACTS = {
    "score": ("score", "similarity"),
    "group": ("group", *LABELS),
    "dataset": ("dataset", "task"),
    "teacher_scores": ("teacher_scores", MINED),
    "query_instruction": ("query_instruction", "qry_inst"),  # the latter are MMEB's
    "positive_instruction": ("positive_instruction", "target_instruction", "document_instruction", "tgt_inst"),
    "split": ("split", "data_split", "dataset_split"),
    "regions": REGIONS,  # of the one image that there is
    **{f"{role}_regions": tuple(f"{role}_{word}" for word in REGIONS) for role in ("query", "positive", "also")},
    "negatives_regions": tuple(f"negative{s}_{word}" for word in REGIONS for s in ("s", "")),
}
# Columns that matter to a run, whose names are no part of a pair.
MATTERING = {
    "score": ("score", "scores", "similarity", "similarity_score", "relevance", "grade"),
    "label": ("label", "labels", "class"),
    "teacher_scores": (
        *(
            f"{who}_score{s}"
            for who in ("teacher", "reranker", "pos", "positive", "neg", "negative")
            for s in ("", "s")
        ),
    ),
    "weights": ("weight", "weights", "sample_weight", "sample_weights"),
}
FURTHER = re.compile(r"(?:.+[_-])?captions?(?:[_-](?!id)[a-z]{2})?")  # long_caption, caption_de: where they hold texts
_WORD = re.compile(r"mp[34]|m4[av]|m2ts|3gp|[a-z]+|\d+")
_BARE = ("path", "file", "file_name", "filename", "filepath")
_TAIL = {"path", "file", "filename", "bytes"}


@dataclass(frozen=True)
class Meaning:
    """What a column's name says; "" and -1 for what it does not say."""

    role: str
    modality: str
    number: int
    many: bool
    weak: bool = False  # `path`, `file_name`: an image where no other column is one


def read_name(name: str) -> Meaning | None:
    """What a column's name says: `query_image`, `imageQuery`, `neg_text`, `negative_2_image_path`, `caption`, `sentence1`.

    Every word must be known: `query_id` and `image_width` are no items.
    """
    if not name.isascii():
        return None
    if name.lower() in _BARE:
        return Meaning("", "image", -1, False, weak=True)
    words = _WORD.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    if words[-2:] == ["file", "name"]:
        words = words[:-2]
    elif words and words[-1] in _TAIL:
        words = words[:-1]
    roles = [_ROLE_OF[word] for word in words if word in _ROLE_OF]
    modalities = [_MODALITY_OF[word] for word in words if word in _MODALITY_OF]
    numbers = [int(word) for word in words if word.isdigit()]
    counts = (len(roles), len(modalities), len(numbers))
    if not words or max(counts) > 1 or sum(counts) != len(words) or not (roles or modalities):
        return None
    role, modality, number = (found[0] if found else "" for found in (roles, modalities, numbers))
    if number != "" and role != "negative":
        if role or modality != "text" or number not in (1, 2):
            return None
        role, number = ("query", "positive")[number - 1], ""  # sentence1, sentence2
    return Meaning(role, modality, -1 if number == "" else number, any(word in _PLURAL for word in words))
