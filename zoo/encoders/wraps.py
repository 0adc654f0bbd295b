"""The turn of a conversation that LLM2Vec writes each text into: `prepare_for_tokenization` of McGill-NLP/llm2vec."""

from typing import NamedTuple


class Wrap(NamedTuple):
    """What stands before a text and its instruction, and after them."""

    before: str
    after: str


INST = Wrap("[INST] ", " [/INST]")
# The adapter that every model starts from (`ModelSpec.base`) → the turn of the language model under it.
WRAPS = {
    "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp": Wrap(
        "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"
    ),
    "McGill-NLP/LLM2Vec-Mistral-7B-Instruct-v2-mntp": INST,
    "McGill-NLP/LLM2Vec-Llama-2-7b-chat-hf-mntp": INST,
    "McGill-NLP/LLM2Vec-Sheared-LLaMA-mntp": Wrap("", ""),
}
LONGEST = 512  # tokens that the authors' code reads
