"""Instructions of public benchmarks, to the space: what a query and a target are told to be (standard library only).

`model.encode(texts, prompt=TASKS["msr-vtt"].query)`. VLM2Vec's evaluation wants them exactly so, because the state of the last
token is pooled and whitespace is a token (src/data/eval_dataset/*.py of TIGER-AI-Lab/VLM2Vec; image tasks: MMEB's rows).
"""

from dataclasses import dataclass

_DOCUMENT = "Find a document image that matches the given query:"
_PAGE = "Understand the content of the provided document image."
_VIDEO = "Understand the content of the provided video."
_IMAGE = "\nRepresent the given image.\n"
_CLIP = "Find the clip that corresponds to the described scene in the given video:"
_ANSWER = (
    "Given a video and a question, select the most accurate answer from the provided candidates. Return only the exact text of "
    "your chosen answer. Question: "
)


@dataclass(frozen=True)
class Task:
    """The instructions of one task.

    Attributes:
        title: what it is, for menus. query, target: instructions; "" where the item stands alone.
        ending: what the authors' evaluation puts behind the query's text; see `query_text`.
    """

    title: str
    query: str
    target: str = ""
    ending: str = ""

    def query_text(self, text: str) -> str:
        """The query's text as VLM2Vec's evaluation writes it: its ending behind it, exactly once."""
        return text if text.endswith(self.ending) else text + self.ending


TASKS: dict[str, Task] = {
    # Composed retrieval, picture and words → picture.
    "cirr": Task(
        "Change an everyday picture",
        "\nGiven an image, find a similar everyday image with the described changes:",
        _IMAGE,
        "\n",
    ),
    "fashioniq": Task(
        "Change a fashion picture", "\nFind an image to match the fashion image and style note:", _IMAGE, "\n"
    ),
    "cirr-mbeir": Task(
        "Change an everyday picture (M-BEIR)", "I'm looking for a similar everyday image with the described changes."
    ),
    "fashioniq-mbeir": Task(
        "Change a fashion picture (M-BEIR)", "Find an image to match the fashion image and style note."
    ),
    "nights": Task(
        "Find a similar picture", "\nFind a day-to-day image that looks similar to the provided image.\n", _IMAGE
    ),
    # Words → picture.
    "mscoco-t2i": Task("Words to pictures", "Find me an everyday image that matches the given caption:", _IMAGE, "\n"),
    # Words → pages.
    "vidore": Task("Words to document pages", _DOCUMENT, _PAGE),
    "visrag": Task("Words to document pages", _DOCUMENT, _PAGE),
    "vidoseek": Task("Words to document pages", _DOCUMENT, _PAGE),
    "mmlongbench": Task("Words to document pages", _DOCUMENT, _PAGE),
    # Words → films.
    "msr-vtt": Task("Words to films", "Find a video that contains the following visual content:", _VIDEO),
    "msvd": Task("Words to films", "Find the video snippet that corresponds to the given summary:", _VIDEO),
    "didemo": Task("Words to films", "Find a video that includes the following described scenes:", _VIDEO),
    "vatex": Task("Words to films", "Select a video that fits the description provided:", _VIDEO),
    "youcook2": Task(
        "Words to films of cooking",
        "Find a video that demonstrates the following action while making a recipe:",
        _VIDEO,
    ),
    # A film and words → a clip of it.
    "qvhighlight": Task("Moments of a film", _CLIP, _VIDEO),
    "charades-sta": Task("Moments of a film", _CLIP, _VIDEO),
    "momentseeker": Task(
        "Moments of a film",
        "Find the clip that corresponds to the given text:",
        "Understand the content of the provided video clip.",
    ),
    "momentseeker-image": Task(
        "Moments of a film, by picture and words",
        "Select the video clip that aligns with the given text and image:",
        "Understand the content of the provided video clip.",
    ),
    "momentseeker-video": Task(
        "Moments of a film, by a part of it",
        "Find the clip that corresponds to the given sentence and video segment:",
        "Understand the content of the provided video clip.",
    ),
    # A film → a label.
    "kinetics-700": Task("What a film shows", "Recognize the category of the video content."),
    "smthsmthv2": Task(
        "What is done", "What actions or object interactions are being performed by the person in the video?"
    ),
    "ucf101": Task("What is done", "What activities or sports are being performed by the person in the video?"),
    "hmdb51": Task("What is done", "What actions or objects interactions are the person in the video doing?"),
    "breakfast": Task(
        "What is cooked", "Recognize the breakfast type that the person is cooking in the video. "
    ),  # the space is theirs
    "video-qa": Task("A film and a question", _ANSWER),
}
