"""Task instructions as benchmarks and their authors word them, to the space: `encode(query, prompt=TASKS["msr-vtt"].query)`.

MMEB-V2's are from TIGER-AI-Lab/VLM2Vec (src/data/eval_dataset, arxiv:2507.04590), composed retrieval's from U-MARVEL
(dataset/datasets_circo.py, datasets_genecis.py; arxiv:2507.14902). Its image tasks have their instructions in the data
(`qry_inst` and `tgt_inst` of ziyjiang/MMEB_Test_Instruct); `mmeb_query` and `mmeb_target` write those as the authors do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Task:
    """What a benchmark's queries and targets are told.

    Attributes:
        query, target: their instructions; "" where texts stand for themselves, such as labels and answers.
        about: what is looked for, in words for people.
    """

    query: str
    target: str = ""
    about: str = ""


_VIDEO, _PAGE = (
    "Understand the content of the provided video.",
    "Understand the content of the provided document image.",
)
_CLIP = "Understand the content of the provided video clip."
_DOCUMENT = Task("Find a document image that matches the given query:", _PAGE, "pages of documents for a question")
_MOMENT = Task(
    "Find the clip that corresponds to the described scene in the given video:",
    _VIDEO,
    "the clip of a video and a scene",
)
_ANSWER = Task(
    "Given a video and a question, select the most accurate answer from the provided candidates. Return only the exact text "
    "of your chosen answer. Question: ",
    about="the answer to a question about a video",
)

TASKS: dict[str, Task] = {
    # Composed retrieval as MMEB's rows have it (`mmeb_query` writes the whole query, line breaks included).
    "cirr": Task(
        "Given an image, find a similar everyday image with the described changes:",
        "Represent the given image.",
        "an everyday image, changed as the text says",
    ),
    "fashioniq": Task(
        "Find an image to match the fashion image and style note:",
        "Represent the given image.",
        "clothes, changed as the text says",
    ),
    "vidore": _DOCUMENT,
    "visrag": _DOCUMENT,
    "vidoseek": _DOCUMENT,
    "mmlongbench": _DOCUMENT,
    "msr-vtt": Task("Find a video that contains the following visual content:", _VIDEO, "videos for a caption"),
    "msvd": Task("Find the video snippet that corresponds to the given summary:", _VIDEO, "videos for a summary"),
    "didemo": Task("Find a video that includes the following described scenes:", _VIDEO, "videos for several scenes"),
    "vatex": Task("Select a video that fits the description provided:", _VIDEO, "videos for a description"),
    "youcook2": Task(
        "Find a video that demonstrates the following action while making a recipe:",
        _VIDEO,
        "videos of a step in cooking",
    ),
    "qvhighlight": _MOMENT,
    "charades-sta": _MOMENT,
    "momentseeker-text": Task("Find the clip that corresponds to the given text:", _CLIP, "clips for a text"),
    "momentseeker-image": Task(
        "Select the video clip that aligns with the given text and image:", _CLIP, "clips for a text and an image"
    ),
    "momentseeker-video": Task(
        "Find the clip that corresponds to the given sentence and video segment:", _CLIP, "clips for a text and a clip"
    ),
    "kinetics-700": Task("Recognize the category of the video content.", about="the kind of a video"),
    "smthsmthv2": Task(
        "What actions or object interactions are being performed by the person in the video?",
        about="what is done to a thing",
    ),
    "ucf101": Task(
        "What activities or sports are being performed by the person in the video?",
        about="which activity or sport it is",
    ),
    "hmdb51": Task(
        "What actions or objects interactions are the person in the video doing?", about="what somebody does in a video"
    ),
    "breakfast": Task(  # the space at the end is in the authors' source
        "Recognize the breakfast type that the person is cooking in the video. ", about="which breakfast is made"
    ),
    **dict.fromkeys(("mvbench", "video-mme", "nextqa", "egoschema", "activitynetqa"), _ANSWER),
    # U-MARVEL's composed retrieval; the texts that follow are `sentence`s.
    "circo": Task(
        "I'm looking for a similar everyday image with the described changes.",
        about="an image with a change described in text",
    ),
    "genecis-change": Task(
        "I want you to retrieve an similar image with the described changes. Show me an image that best captures the following "
        "the described changes.",
        about="an image with something changed",
    ),
    "genecis-focus": Task(
        "I want you to retrieve an image with the same attributes as described. Show me an image that best captures the "
        "following the same attributes.",
        about="an image alike in one respect",
    ),
    "fashioniq-turns": Task(
        "Find me a similar fashion image based on the following multi-round modifications.",
        about="clothes with changes in several turns",
    ),
    "caption-to-image": Task(
        "Find me an everyday image that matches the given caption.", about="images for a caption (U-MARVEL)"
    ),
    "image-to-caption": Task(
        "Find an image caption describing the following everyday image.", about="captions for an image (U-MARVEL)"
    ),
}

Kind = Literal["classification", "i2t", "qa", "i2i", "grounding", "t2i"]
IMAGE = "<|image_1|>"  # where MMEB's data have the image


def mmeb_query(instruction: str, text: str, kind: Kind, *, visdial: bool = False) -> str:
    """The words of a query of MMEB's 36 image tasks, for which VLM2Vec's prompt is that of its evaluation.

    `Item(image=image, text=mmeb_query(...))`, or the text alone for "t2i". They end in a line break, whose state is pooled.

    Args:
        instruction, text: `qry_inst` and `qry_text` of the data. kind: of the task.
        visdial: whether the task is VisDial, whose queries end in two line breaks.
    """
    if kind == "t2i":
        return f"{instruction.replace(IMAGE, '')} {text}\n" + ("\n" if visdial else "")
    instruction = instruction.replace(IMAGE, "")
    if kind in ("qa", "i2i", "grounding"):
        instruction = "\n" + instruction.strip()
    return _closed(f"{instruction} {text}" if text else instruction)


def mmeb_target(instruction: str, caption: str, kind: Kind) -> str:
    """The words of an image among the targets of MMEB's image tasks (`tgt_inst`, `tgt_text`); see `mmeb_query`.

    Texts among the targets (labels, captions, answers) stand for themselves.
    """
    instruction = instruction.replace(IMAGE, "")
    if caption.strip():
        return _closed(f"{instruction} {caption}")
    return _closed(instruction) if kind == "t2i" else instruction


def _closed(words: str) -> str:
    # The authors turn " \n" into "\n" and add a break afterwards; VLM2Vec's prompt turns all of them, so that a space before
    # the last break is doubled here.
    return words + (" \n" if not words or words.endswith(" ") else "\n")


def video_question(question: str, options: Sequence[str]) -> str:
    """A question about a video with its options, as MVBench and NExTQA have them in MMEB-V2 (`qa_template`)."""
    listed = "".join(f"({chr(ord('A') + i)}) {option}\n" for i, option in enumerate(options))
    return f"{question}\nOptions:\n{listed}".rstrip()


def sentence(text: str) -> str:
    """A text as M-BEIR's sentences are (`format_string`): stripped, begun with a capital, ended in punctuation.

    U-MARVEL was trained and measured with queries and targets in this form; of a query after an instruction only the end is
    changed.
    """
    text = text.replace("\r", "").strip().strip('"')
    if not text:
        return text
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else f"{text}."
