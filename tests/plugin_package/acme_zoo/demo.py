"""A demo: how close two texts are."""

from typing import Any

import gradio as gr
from zoo.demos import register_demo

from zoo import Embedder


@register_demo("acme_letters")
def build(model: Embedder, **_page: Any) -> gr.Blocks:
    """Two texts, one number; whatever else the page could have (a gallery, queries) is not for texts."""

    def compare(one: str, other: str) -> float:
        first, second = model.encode([one, other])
        return float(first @ second)

    texts = [gr.Textbox(label=label, max_length=200) for label in ("One text", "Another")]
    # Without a button "Flag", which would write what visitors type into a folder of the server.
    return gr.Interface(compare, texts, gr.Number(label="Cosine"), api_name="compare", flagging_mode="never")
