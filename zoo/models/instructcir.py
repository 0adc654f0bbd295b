"""InstructCIR: an image and how to change it, for composed retrieval (Zhong et al., 2024, arxiv:2412.05756); LLaVA-Phi-3.5.

Not the other paper of that name (arxiv:2504.00812). The released weights come from follow-up work, as its README says.
"""

from zoo.models.backbones import TINY
from zoo.models.llava_backbones import ON_LLAVA_PHI35, llava_phi35, llava_processor, tiny_llava
from zoo.models.parts import Embedder, Identity, LastToken, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import SequenceFormat
from zoo.spec import ModelSpec

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
INSTRUCTCIR = SequenceFormat(
    prompt=f"<|user|>\n{DESCRIBE}<|end|>\n<|assistant|>\n",
    backbone="llava",
    marks={"image": "<image>"},
    special_tokens=True,
)
FACTS: Facts = {"modalities": {"text", "image"}, "license": "apache-2.0", "demo": "compose", "format": INSTRUCTCIR}


@register_model(
    hub_id="uta-smile/instructcir_llava_phi35_clip224_lp",
    paper=PAPER,
    max_tokens=4096,  # of one longer sequence Phi-3.5 would turn all of a batch by other angles
    languages=("en",),
    **ON_LLAVA_PHI35,
    **FACTS,
)
def instructcir_llava_phi35(spec: ModelSpec) -> Embedder:
    """Published as pickles: `load_model` asks for allow_pickle=True (only tensors are read from them)."""
    return Embedder(spec, [Tower(sequence(spec, llava_phi35()), LastToken(), Identity())])


@register_model(params=75_712, **{**FACTS, **TINY})
def instructcir_test(spec: ModelSpec) -> Embedder:
    return Embedder(
        spec, [Tower(sequence(spec, tiny_llava("llava"), llava_processor("llava")), LastToken(), Identity())]
    )
