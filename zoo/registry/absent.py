"""Models that people ask for and that are not here, with the reason: a name is refused rather than half kept."""

from collections.abc import Mapping

_CODE = "its code is no part of transformers, and exists only as Python files beside the weights, which the zoo does not run"
_PACKAGE = "its code is a repository of its own, which neither transformers nor timm nor open_clip has"
_LGAI = (
    "its report puts examples, instruction and query in a row, and no published file says with which words and line breaks "
    "between, nor how its states are pooled"
)
_QZHOU_ZH = "only Python files beside its weights, a Qwen3 with a dense layer after it, say whether its tokens see each other both ways"
_BGE_CODE = (
    "its authors' usage runs Python files beside its weights, a Qwen2, and no published text says whether these differ from "
    "transformers' class, by attention in both directions for one"
)
_SITEMB = (
    "its vector is a sum, of a chunk alone and of the chunk in its context, and no source of its authors' that could be read says how "
    "the two are written into one text and weighed"
)
_ALIBI = "its positions are ALiBi's, by Python files beside the weights that call themselves BERT; transformers' BERT has none such"
_HEARS = "embeddinggemma-2, clap-htsat-unfused"
_WATCHES = "embeddinggemma-2, videoprism-lvt-vit-b"
# How a name begins (without its organisation) → why it is not here, and what is. Checked with transformers 5.23.
ABSENT: dict[str, tuple[str, str]] = {
    "jina-embeddings-v5-omni": (_CODE, "embeddinggemma-2"),
    "bidirlm-omni": (_CODE, "embeddinggemma-2"),
    "omnivinci": (_CODE, "embeddinggemma-2"),
    "llama-nemotron-embed-vl": (_CODE, "qwen3vl-embedding-2b"),
    "ebind": (f"{_PACKAGE}; its licence is cc-by-nc-sa", "embeddinggemma-2"),
    "imagebind": (f"{_PACKAGE}; its licence is cc-by-nc-sa", "embeddinggemma-2"),
    "languagebind": (_PACKAGE, "embeddinggemma-2"),
    "viclip": (_PACKAGE, _WATCHES),
    "internvideo2": (_PACKAGE, _WATCHES),
    "cosmos-embed1": (_CODE, _WATCHES),
    "ms-clap": (_PACKAGE, _HEARS),
    "msclap": (_PACKAGE, _HEARS),
    "muq-mulan": (_PACKAGE, _HEARS),
    "audiomae": (_PACKAGE, _HEARS),
    "dasheng": (_PACKAGE, _HEARS),
    "bge-code": (_BGE_CODE, "qwen3-embedding-0.6b, bge-m3"),
    "codesage": (_CODE, "coderankembed, jina-code-embeddings-0.5b"),
    "codexembed": (_CODE, "coderankembed, nomic-embed-code"),
    "jina-embeddings-v2": (_ALIBI, "jina-embeddings-v3, jina-code-embeddings-0.5b, coderankembed"),
    "sfr-embedding-code": (_CODE, "coderankembed, nomic-embed-code"),
    "lgai-embedding": (_LGAI, "nv-embed-v2, qzhou-embedding"),
    "qzhou-embedding-zh": (_QZHOU_ZH, "qzhou-embedding"),
    "searchmap": (
        "its repository could not be read, and no other source says how its states are pooled, or which dense layer follows",
        "stella-en-400m-v5",
    ),
    "jasper-token-compression": (_CODE, "qwen3-embedding-0.6b"),
    "jasper-en-vision-language": (_CODE, "stella-en-1.5b-v5, gme-qwen2vl-2b"),
    "sitemb": (_SITEMB, "bge-m3, qwen3-embedding-8b"),
}


_JINA = "its classifier and attention are code of its authors' own, beside the weights, which the zoo does not run"
_LISTWISE = "it reads all documents of a query in one sequence, by code of its authors' own beside the weights, which the zoo does not run"
_LIMIT = (
    "its code counts how much of a query and of a document is read by the length of its own prompt in tokens, which no published "
    "text states"
)
_LAYERS = (
    "it is scored after any of its layers, by code of its authors' own beside the weights, which the zoo does not run"
)
ABSENT_RERANKERS: dict[str, tuple[str, str]] = {
    "bge-reranker-v2-gemma": (_LIMIT, "bge-reranker-v2-m3, qwen3-reranker-4b"),
    "bge-reranker-v2-minicpm": (_LAYERS, "bge-reranker-v2-m3, qwen3-reranker-4b"),
    "bge-reranker-v2.5-gemma2": (_LAYERS, "bge-reranker-v2-m3, qwen3-reranker-8b"),
    "jina-reranker-m0": (_JINA, "qwen3vl-reranker-2b"),
    "jina-reranker-v1": (_JINA, "ms-marco-minilm-l6-v2, granite-embedding-reranker-english-r2"),
    "jina-reranker-v2": (_JINA, "bge-reranker-v2-m3, gte-multilingual-reranker-base"),
    "jina-reranker-v3": (_LISTWISE, "qwen3-reranker-0.6b"),
}


def why_absent(name: str, absent: Mapping[str, tuple[str, str]] = ABSENT) -> str:
    """Why no model is called so, and what is here in its place; "" for a name that nobody asked for yet.

    Args:
        name: as it was asked for, with the organisation or without. absent: `ABSENT`, or `ABSENT_RERANKERS`.
    """
    asked = name.removeprefix("hf:").rpartition("/")[2].lower().replace("_", "-")
    for begins, (why, instead) in absent.items():
        if asked.startswith(begins):
            return f"{begins} is not in the zoo: {why}. What reads the same: {instead}"
    return ""
