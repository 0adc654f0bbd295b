"""Search your own sentences by meaning: the demo of models that read text only."""

import time
from typing import TYPE_CHECKING, Any

import gradio as gr

from zoo.errors import EmptyTextError, InputError

from .registry import register_demo
from .widgets import answered, api_text, friendly, how_many, score_bars, score_name, score_rows, user_error

if TYPE_CHECKING:
    from zoo import Embedder

MAX_PASSAGES = 500
PASSAGES = """The cat slept on the warm windowsill all afternoon.
A new bakery opened next to the railway station.
Heavy rain is expected along the coast tonight.
The company reported a loss for the third quarter in a row.
Water boils at a lower temperature on high mountains.
She forgot her umbrella and came home soaked.
Our train was two hours late because of snow on the tracks.
The recipe needs two eggs, flour and a little sugar.
Scientists found a planet that orbits two suns.
The museum is closed on Mondays."""
EXAMPLES = ("a sleepy pet", "bad weather", "where can I buy bread?", "astronomy", "delays in public transport")


@register_demo("text")
def build(model: "Embedder", **_page: Any) -> gr.Blocks:
    """The page; options that only concern images are accepted and unused, so that every demo opens alike."""

    def search(query: str, passages: str, top_k: int = 10) -> dict[str, Any]:
        """The passages closest in meaning to the query.

        Args:
            query: a question or a few words.
            passages: what is searched, one on each line.
            top_k: how many passages to return.
        """
        return search_passages(model, query, passages, int(top_k))

    spoken = f", in {model.spec.language_names}" if model.spec.languages else ""
    with gr.Blocks(title="Embedding Zoo · search by meaning", analytics_enabled=False) as page:
        gr.Markdown(
            f"# Embedding Zoo\n{model.spec.name} turns sentences into vectors of {model.spec.dim} numbers; what means "
            f"the same lies close together. Search your own sentences{spoken}.",
            elem_id="title",
        )
        query = gr.Textbox(
            label="What are you looking for?",
            placeholder=EXAMPLES[0],
            submit_btn="Search",
            autofocus=True,
            max_length=2000,
            elem_id="query",
        )
        examples = gr.Dataset(
            components=[gr.Textbox(visible=False)], samples=[[text] for text in EXAMPLES], label="Try", type="values"
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300):
                passages = gr.Textbox(PASSAGES, label="Passages, one on each line", lines=12, max_length=200_000)
                top_k = how_many(50, 10, "Passages to show")
            with gr.Column(scale=1, min_width=300):
                start = {"title": "Nothing asked yet", "note": "Type a few words above, or click an example."}
                bars = score_bars("Scores", start, elem_id="text-scores")
        call = {"fn": search, "inputs": [query, passages, top_k], "outputs": bars, "concurrency_id": "search"}
        picked = examples.click(lambda row: row[0], examples, query, api_visibility="private", show_progress="hidden")
        for event in (
            query.submit(**call, api_name="search_passages", api_description=api_text(search)),
            picked.then(**call, api_visibility="private"),
        ):
            answered(event, bars)
    page.queue(max_size=64, default_concurrency_limit=4)
    return page


def search_passages(model: "Embedder", query: str, passages: str, top_k: int) -> dict[str, Any]:
    """The scores of `widgets.score_bars` for the passages (one on each line) closest to the query."""
    lines = list(dict.fromkeys(line.strip() for line in (passages or "").splitlines() if line.strip()))
    if not lines:
        raise user_error("There is nothing to search: write some passages, one on each line.")
    if len(lines) > MAX_PASSAGES:
        raise user_error(f"{len(lines):,} passages are too many for this page; give at most {MAX_PASSAGES}.")
    started = time.perf_counter()
    try:
        if not (query or "").strip():
            raise EmptyTextError("the query is empty")
        hits = model.rank(model.encode_query(query, progress=False), model.encode_document(lines, progress=False), None)
    except InputError as error:
        raise friendly(error) from error
    average = sum(hit.score for hit in hits) / len(hits)
    rows = score_rows([(lines[hit.index], hit.score) for hit in hits[: max(1, top_k)]], average, score_name(model))
    elapsed = 1000 * (time.perf_counter() - started)
    number = "dot product" if model.spec.similarity == "dot" else "cosine"
    note = f"The number is the {number}. Bars run from the average passage (empty) to the best match (full)."
    return {"title": f"{len(lines):,} passages embedded and searched in {elapsed:.0f} ms", "rows": rows, "note": note}
