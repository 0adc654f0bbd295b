"""E5-V: any input "in one word", and the state behind that (Jiang et al., 2024, arxiv:2407.12580); LLaVA-NeXT on Llama-3."""

from typing import TYPE_CHECKING

from zoo.models.backbones import vlm_tower
from zoo.models.llava_backbones import llava_next, llava_processor, tiny_llava
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

PAPER = "arxiv:2407.12580"
# A picture with a text is read as a change to it, misspelt as in the authors' retrieval.py (CIRR). An instruction takes the
# place of the last line: theirs for CIRR's gallery is " Describe this image in one word:", for FashionIQ's changed shirts
# " Desribe this modified shirt in one word based on its style:" behind the text " change the style of this shirt to …".
ONE_WORD = (
    "{% if content != media ~ text %}{{ content }}\n{{ instruction or 'Summary above sentence in one word: ' }}"
    "{% elif instruction %}{{ media }}{{ text }}\n{{ instruction }}"
    '{% elif media and text %}{{ media }}Modify this image with "{{ text }}", desribe modified image in one word:'
    "{% elif media %}{{ media }}\nSummary above image in one word: "
    "{% else %}{{ text }}\nSummary above sentence in one word: {% endif %}"
)
# The tokenizer adds "<|begin_of_text|>". The last token is the second line break of the template, behind a space.
E5V = Reading(
    prompt=f"<|start_header_id|>user<|end_header_id|>\n\n{ONE_WORD}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n \n",
    backbone="llava_next",
    image="<image>",
    special_tokens=True,
)


@register_model(
    name="e5-v-llava-next-8b",
    dim=4096,
    params=7_829_678_080,
    modalities={"text", "image"},
    license="unknown",  # its repository names none; its base is under Llama 3's
    paper=PAPER,
    hub_id="royokong/e5-v",
    revision="0c1f22679417b3ae925d779442221c40cd1861ab",  # that mteb measured
    base="lmms-lab/llama3-llava-next-8b",
    max_tokens=8192,
    demo="compose",
    reading=E5V,
    languages=("en",),
)
def e5_v_llava_next_8b(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, llava_next("llama3-8b"))


@register_model(
    name="e5-v-test",
    dim=32,
    params=75_744,
    modalities={"text", "image"},
    license="apache-2.0",
    max_tokens=512,
    demo="compose",
    reading=E5V,
)
def e5_v_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_llava("llava_next"), llava_processor("llava_next"))
