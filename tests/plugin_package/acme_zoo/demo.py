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

    return gr.Interface(
        compare, [gr.Textbox(max_length=200), gr.Textbox(max_length=200)], gr.Number(), api_name="compare"
    )
