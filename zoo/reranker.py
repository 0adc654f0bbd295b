"""Rerankers: a vision-language model that reads a query and a document together and says how likely it is to answer "yes"."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.arguments import checked, flag, many, optional, text, whole
from zoo.arguments import path as a_path
from zoo.encoders.rust import opening
from zoo.encoders.vlm import VlmEncoder, content_of
from zoo.encoders.windows import batches
from zoo.errors import InputError, MissingWeightsError, UnknownModelError, UnrecognisedCheckpointError
from zoo.formats import read_object
from zoo.formats.fetching import snapshot
from zoo.formats.vlm import load as load_vlm
from zoo.formats.vlm import wanted
from zoo.inputs.item import Item, as_item
from zoo.pooling import LastToken
from zoo.reading import Reading
from zoo.spec import ModelSpec


@dataclass(frozen=True)
class Judge:
    """How a model is asked about one query and one document.

    Attributes:
        reading: of the whole sequence; its `content` is the query, then the document, with the words before each.
        query, document: those words. yes, no: the answers whose first tokens are compared.
        kinds: order of what a query or document holds. asked: where an instruction stands, in the "prompt" by itself or
            before the words of the "query".
        max_tokens: longest sequence.
    """

    reading: Reading
    query: str
    document: str
    yes: str
    no: str
    kinds: tuple[str, ...] = ("image", "video", "text")
    asked: str = "prompt"
    max_tokens: int = 10_240


TOKEN = 32 * 32  # pixels of Qwen3-VL
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
JUDGES = {
    # src/models/qwen3_vl_reranker.py of QwenLM/Qwen3-VL-Embedding (Li et al., 2026, arxiv:2601.04720).
    "qwen3vl-reranker": Judge(
        Reading(
            prompt=(
                "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
                'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: '
                "{{ instruction or 'Given a search query, retrieve relevant candidates that answer the query.' }}"
                "{{ content }}<|im_end|>\n<|im_start|>assistant\n"
            ),
            backbone="qwen3_vl",
            image=PICTURE,
            video="<|video_pad|>",
            special_tokens=True,
            positions="mrope",
            pixels=(4 * TOKEN, 1800 * TOKEN),
            frame_pixels=(128 * TOKEN, 768 * TOKEN),
            total_pixels=10 * 768 * TOKEN,
            frames=64,
            fps=1.0,
            join="",
            pre_resize=(32, 4 * TOKEN, 1800 * TOKEN),
            pre_frames=(64, 4 * 64 * 64, 16384 * 64 * 64),
        ),
        query="<Query>:",
        document="\n<Document>:",
        yes="yes",
        no="no",
        kinds=("video", "image", "text"),
    ),
    # dataset/datasets_mbeir_eval_rerank.py of chaxjli/U-MARVEL (Li et al., 2025, arxiv:2507.14902), whose line goes on in
    # the middle of a string, so that the indentation is part of the prompt; the misspelling is theirs.
    "u-marvel-reranker": Judge(
        Reading(
            prompt=(
                "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
                "I will provide you with a query and a candidate. Please evaluate whether the candidate"
                "                        meets the requirements of the query. If it does, respond with 'Yes'; if it doesn't, "
                "responed with 'No'.{{ content }}<|im_end|>\n<|im_start|>assistant\n"
            ),
            backbone="qwen2_vl",
            image=PICTURE,
            positions="mrope",
            join="",
            pixels=(4 * 28 * 28, 300 * 28 * 28),  # collators/qwen2_vision_process.py
            pre_resize=(28, 4 * 28 * 28, 300 * 28 * 28),
            pre_ratio="both",
        ),
        query="Query:",
        document="Candidate:",
        yes="Yes",
        no="No",
        asked="query",
        max_tokens=2048,
    ),
}


_WINDOW = 64  # pairs that are read before they are scored


class Reranker(nn.Module):
    """Scores documents for a query by the probability of "yes" against "no" as the next word.

    Args:
        encoder: reads the pair as one sequence. answer: `(width,)`, row of the vocabulary projection for yes minus that
            for no. judge: how a pair is laid out.
    """

    def __init__(self, encoder: VlmEncoder, answer: Tensor, judge: Judge) -> None:
        super().__init__()
        self.encoder, self.judge = encoder, judge
        self.register_buffer("answer", answer)

    def pair(self, query: Any, document: Any) -> Item:
        """Query and document as one item, as the judge is asked about them.

        Raises:
            InputError: one of them cannot be read, or is none of a model's inputs.
        """
        query = as_item(query)
        instruction = query.instruction or ""
        asked, about = self._parts(query), self._parts(as_item(document))
        if instruction and self.judge.asked == "query":
            at = next((i for i, (kind, _) in enumerate(asked) if kind == "text"), len(asked))
            words = " ".join([instruction, *(value for _, value in asked[at : at + 1])])
            asked = [*asked[:at], ("text", words), *asked[at + 1 :]]
            instruction = ""
        parts = [("text", self.judge.query), *asked, ("text", self.judge.document), *about]
        return Item(parts=tuple(Item(**{kind: value}) for kind, value in parts), instruction=instruction or None)

    def _parts(self, item: Item) -> list[tuple[str, Any]]:
        content = content_of(item)
        return content if item.parts else sorted(content, key=lambda part: self.judge.kinds.index(part[0]))

    @checked(documents=optional(many), batch_size=optional(whole()))
    def score(self, query: Any, documents: Sequence[Any] | None = None, *, batch_size: int | None = None) -> Tensor:
        """Probabilities `(n,)`, 0 to 1, float32 on the CPU.

        Args:
            query: anything that `zoo.Item` describes, its instruction included. documents: what is scored for it.
                Without documents, `query` is a list of (query, document), as mining hands them on.
            batch_size: pairs of one forward pass; by default as many tokens as run best.

        Raises:
            InputError: a query or document that cannot be read; its `index` is that of the pair.
        """
        pairs = [(query, document) for document in documents] if documents is not None else list(query)
        scores = torch.empty(len(pairs))
        for start in range(0, len(pairs), _WINDOW):  # mining hands over thousands, whose pictures would not all fit
            self._score(pairs[start : start + _WINDOW], start, batch_size, scores)
        return scores

    @torch.inference_mode()  # the scores themselves are made outside, so that they are an ordinary tensor
    def _score(self, pairs: list[tuple[Any, Any]], start: int, batch_size: int | None, scores: Tensor) -> None:
        reads = []
        for index, (asked, about) in enumerate(pairs, start):
            try:
                reads.append((index, self.encoder.read(self.pair(asked, about))))
            except InputError as error:
                raise error.at(index) from None
        pool, device = LastToken(), self.answer.device
        for batch in batches(reads, self.encoder, batch_size):
            inputs = self.encoder.collate([read for _, read in batch])
            states = pool(self.encoder({name: tensor.to(device) for name, tensor in inputs.items()}))
            margins = states.float() @ self.answer.float()
            scores[[index for index, _ in batch]] = margins.sigmoid().cpu()


@checked(name=a_path, like=optional(text), revision=optional(text), allow_pickle=flag)
def load_reranker(
    name: str | Path, *, like: str | None = None, revision: str | None = None, allow_pickle: bool = False
) -> Reranker:
    """A vision-language model as a reranker, ready on the CPU in float32.

    Args:
        name: a folder (`Path`, "./folder") or a Hub repository ("hf:Qwen/Qwen3-VL-Reranker-2B").
        like: how it is asked, one of `JUDGES`; by default the one for its kind of backbone.
        revision: commit, tag or branch of the repository. allow_pickle: read weights that are there as a pickle only.

    Raises:
        UnknownModelError: no such `like`. UnrecognisedCheckpointError: no backbone that one of them is for.
        MissingWeightsError: weights or processor are missing or damaged. HubError: the Hub does not give it.
    """
    if like is not None and like not in JUDGES:
        raise UnknownModelError(f"there is no reranker {like!r}; known are {', '.join(sorted(JUDGES))}")
    repo = str(name).removeprefix("hf:") if isinstance(name, str) and name.startswith("hf:") else ""
    folder = snapshot(repo, revision, wanted) if repo else Path(name).expanduser()
    config = read_object(folder / "config.json")
    kinds = {judge.reading.backbone: known for known, judge in JUDGES.items()}
    like = like or kinds.get(config.get("model_type"))
    if like is None:
        raise UnrecognisedCheckpointError(
            f"{name} is a {config.get('model_type')!r}, for which there is no reranker; known are {', '.join(sorted(kinds))}"
        )
    judge = JUDGES[like]
    kind = ModelSpec(
        name=like,
        modalities=frozenset({"text", "image"} | ({"video"} if judge.reading.video else set())),
        dim=1,
        license="other: of the checkpoint",
        max_tokens=judge.max_tokens,
        reading=judge.reading,
    )
    model = load_vlm(folder, name=like, trust_remote_code=False, allow_pickle=allow_pickle, like=kind)
    encoder = model.towers[0].encoder
    with opening(f"the tokenizer in {folder}"):  # also one that makes no token of them
        yes, no = (encoder.tokenizer(word, add_special_tokens=False).input_ids[0] for word in (judge.yes, judge.no))
    rows = _vocabulary_rows(folder, config, encoder, [yes, no], allow_pickle)
    return Reranker(encoder, rows[0] - rows[1], judge).eval()


def _vocabulary_rows(
    folder: Path, config: dict[str, Any], encoder: VlmEncoder, ids: list[int], allow_pickle: bool
) -> Tensor:
    """Rows `(len(ids), width)` of the projection to the vocabulary, which may be the token table."""
    if config.get("tie_word_embeddings", config.get("text_config", {}).get("tie_word_embeddings", False)):
        return encoder.backbone.get_input_embeddings().weight.detach()[ids].clone()
    from safetensors import safe_open

    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            if "lm_head.weight" in set(tensors.keys()):
                head = tensors.get_slice("lm_head.weight")
                rows = torch.stack([head[i : i + 1][0] for i in ids]).float()
                if rows.shape[1] == encoder.width and bool(rows.isfinite().all()):
                    return rows
    if allow_pickle and (path := folder / "pytorch_model.bin").is_file():
        head = torch.load(path, map_location="cpu", weights_only=True).get("lm_head.weight")
        if head is not None and head.ndim == 2 and head.shape[1] == encoder.width:
            return head[ids].float()
    raise MissingWeightsError(
        f"{folder} has no projection to the vocabulary (lm_head.weight of width {encoder.width}), so it is no reranker: an "
        "embedder's repository often leaves it out"
    )
