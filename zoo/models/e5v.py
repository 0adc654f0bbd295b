"""E5-V: any input "in one word", and the state after that (Jiang et al., 2024, arxiv:2407.12580); LLaVA-NeXT on Llama-3."""

from zoo.models.backbones import TINY
from zoo.models.llava_backbones import ON_LLAVA_NEXT, llava_next, llava_processor, tiny_llava
from zoo.models.parts import Embedder, Identity, LastToken, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import SequenceFormat
from zoo.spec import ModelSpec

PAPER = "arxiv:2407.12580"
# An image with a text is read as a change to it, misspelt as in the authors' retrieval.py (CIRR). An instruction takes the
# place of the last line: theirs for CIRR's gallery is " Describe this image in one word:", for FashionIQ's changed shirts
# " Desribe this modified shirt in one word based on its style:" after the text " change the style of this shirt to …".
ONE_WORD = (
    "{% if content != media ~ text %}{{ content }}\n{{ instruction or 'Summary above sentence in one word: ' }}"
    "{% elif instruction %}{{ media }}{{ text }}\n{{ instruction }}"
    '{% elif media and text %}{{ media }}Modify this image with "{{ text }}", desribe modified image in one word:'
    "{% elif media %}{{ media }}\nSummary above image in one word: "
    "{% else %}{{ text }}\nSummary above sentence in one word: {% endif %}"
)
# The tokenizer adds "<|begin_of_text|>". The last token is the second line break of the template, after a space.
E5V = SequenceFormat(
    prompt=f"<|start_header_id|>user<|end_header_id|>\n\n{ONE_WORD}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n \n",
    backbone="llava_next",
    marks={"image": "<image>"},
    special_tokens=True,
)
FACTS: Facts = {"modalities": {"text", "image"}, "demo": "compose", "format": E5V}


@register_model(
    license="unknown",  # its repository names none; its base is under Llama 3's
    paper=PAPER,
    hub_id="royokong/e5-v",
    revision="0c1f22679417b3ae925d779442221c40cd1861ab",  # that mteb measured
    max_tokens=8192,
    languages=("en",),
    **ON_LLAVA_NEXT["llama3-8b"],
    **FACTS,
)
def e5_v_llava_next_8b(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, llava_next("llama3-8b")), LastToken(), Identity())])


@register_model(params=75_744, **TINY, **FACTS)
def e5_v_test(spec: ModelSpec) -> Embedder:
    return Embedder(
        spec, [Tower(sequence(spec, tiny_llava("llava_next"), llava_processor("llava_next")), LastToken(), Identity())]
    )
