"""InstructCIR: a picture and how to change it, for composed retrieval (Zhong et al., 2024, arxiv:2412.05756); LLaVA-Phi-3.5.

Not the other paper of that name (arxiv:2504.00812). The released weights come from follow-up work, as its README says.
"""

from typing import TYPE_CHECKING

from zoo.models.backbones import vlm_tower
from zoo.models.llava_backbones import llava_phi35, llava_processor, tiny_llava
from zoo.reading import Reading
from zoo.registry import register_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

PAPER = "arxiv:2412.05756"
# The words of generate_test_submission.py, "desribe" included. How captions were put in training is not published: a text
# alone is read as E5-V reads it. An instruction takes the place of the last line.
DESCRIBE = (
    "{% if content != media ~ text %}{{ content }}\n{{ instruction or 'Summary above sentence in one word: ' }}"
    "{% elif instruction %}{{ media }}{{ text }}\n{{ instruction }}"
    '{% elif media and text %}{{ media }}Modify this image with "{{ text }}", desribe modified image in one word:'
    "{% elif media %}{{ media }}\n Describe this image in one word:"
    "{% else %}{{ text }}\nSummary above sentence in one word: {% endif %}"
)
# One turn of Phi-3.5 with the answer's opening. The authors cut three letters, "<s>", off their tokenizer's template, since
# the processor adds them again: `special_tokens`. That template itself could not be read here.
INSTRUCTCIR = Reading(
    prompt=f"<|user|>\n{DESCRIBE}<|end|>\n<|assistant|>\n", backbone="llava", image="<image>", special_tokens=True
)


@register_model(
    name="instructcir-llava-phi35",
    dim=3072,
    params=4_038_347_776,
    modalities={"text", "image"},
    license="apache-2.0",
    paper=PAPER,
    hub_id="uta-smile/instructcir_llava_phi35_clip224_lp",
    base="microsoft/Phi-3.5-mini-instruct",
    max_tokens=4096,  # of one longer sequence Phi-3.5 would turn all of a batch by other angles
    demo="compose",
    reading=INSTRUCTCIR,
    languages=("en",),
)
def instructcir_llava_phi35(spec: ModelSpec) -> "Embedder":
    """Published as pickles: `load_model` asks for allow_pickle=True (only tensors are read from them)."""
    return vlm_tower(spec, llava_phi35())


@register_model(
    name="instructcir-test",
    dim=32,
    params=75_712,
    modalities={"text", "image"},
    license="apache-2.0",
    max_tokens=512,
    demo="compose",
    reading=INSTRUCTCIR,
)
def instructcir_test(spec: ModelSpec) -> "Embedder":
    return vlm_tower(spec, tiny_llava("llava"), llava_processor("llava"))
