"""A reranker → a repository of the Hub: saved, opened again, its scores compared, with a card that says so; sent in one commit."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from zoo.embedder.cutting import unsaid
from zoo.errors import NotPublishableError
from zoo.publishing.cards import check
from zoo.publishing.cards.rerankers import fact_rows, front_matter, how_it_reads, summary, usage
from zoo.publishing.certificate.scores import write_scores
from zoo.publishing.staging import check_license, check_repo
from zoo.reranking import Reranker, RerankerSpec, load_reranker
from zoo.reranking.folders import SAMPLES

NO_LICENSE = "other: of the checkpoint"
BOUND = 1e-5  # of the scores of sentence-transformers, in float32


def stage_reranker(
    source: Reranker | str | Path,
    repo: str,
    folder: Path,
    *,
    license: str | None = None,
    ignore: Sequence[str] = (),
    say: Callable[[str], None] = lambda message: None,
) -> RerankerSpec:
    """Writes everything that a repository gets, and tries it: no network is needed. Returns the published facts.

    `save_pretrained` compares the scores of what it wrote with the reranker's. A cross-encoder is opened by
    sentence-transformers too, whose scores must be the same.

    Args:
        source: a reranker, or whatever `load_reranker` opens. repo: "org/name"; the second half becomes its name.
        folder: new or empty. license: where it is another than the source's. ignore: as in `load_reranker`. say: is told what is done.

    Raises:
        NotPublishableError: nobody says the licence, or sentence-transformers gives other scores.
        NotSavedError: as of `Reranker.save_pretrained`. ZooError: the source cannot be opened.
    """
    name = check_repo(repo)
    if folder.exists() and any(folder.iterdir()):
        raise NotPublishableError(f"{folder} is not empty; stage into a new folder")
    say("opening the reranker")
    model = source if isinstance(source, Reranker) else load_reranker(source, device="cpu", ignore=ignore)
    license = license or model.spec.license
    if license == NO_LICENSE:
        raise NotPublishableError(f"nobody says the licence of {model.spec.name}; name it: license=, or --license")
    if not license.startswith("other: "):
        check_license(license)
    mine = copy.copy(model)  # shares the weights
    facts = {"name": name, "license": license, "base": model.spec.base or model.spec.hub_id or None}
    mine.spec = replace(model.spec, **facts, hub_id="", revision=None, family="")
    say("writing its files, opening them again and comparing the scores")
    mine.save_pretrained(folder)
    tried = mine.spec.judge is None
    if tried:
        say("sentence-transformers' scores of the same files")
        _try_sentence_transformers(mine, folder)
    say("its certificate")
    write_scores(load_reranker(folder, device="cpu"), folder)
    (folder / "README.md").write_text(card_of(mine.spec, repo, tried), encoding="utf-8")
    return mine.spec


def card_of(spec: RerankerSpec, repo: str, tried: bool) -> str:
    """The card of a published reranker. tried: whether sentence-transformers gave the same scores.

    Raises:
        NotPublishableError: it breaks the Hub's rules.
    """
    place = f"hf:{repo}"
    table = "\n".join(["| fact | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in fact_rows(spec).items())])
    reads = "\n".join(f"- {what}: {words}" for what, words in how_it_reads(spec).items())
    called = usage(replace(spec, name=place, hub_id=repo))
    use = f"## Use\n\n```bash\npip install embedding-zoo\n```\n\n```python\n{called}\n```"
    if tried:
        other = f'from sentence_transformers import CrossEncoder\n\nmodel = CrossEncoder("{repo}")\nmodel.predict([("a query", "a document")])'
        use += f"\n\nThe same scores come from sentence-transformers:\n\n```python\n{other}\n```"
    proof = "Before they were sent, these files were opened again, and the scores of a few pairs equalled the model's"
    proof += (
        f"; those of sentence-transformers' CrossEncoder differ by at most {BOUND:.0e} in float32." if tried else "."
    )
    proof += (
        f"\n\n`certificate.json` holds its scores of golden pairs: `zoo verify {place}` computes them again on any machine, and says "
        "which file, fact or score departs."
    )
    parts = [
        f"# {spec.name}",
        summary(replace(spec, hub_id=repo)),
        table,
        use,
        f"## How it reads\n\n{reads}",
        f"## Checked\n\n{proof}",
    ]
    card = f"{front_matter(spec, {})}\n" + "\n\n".join(parts) + "\n"
    if wrong := check(card):
        raise NotPublishableError("the card breaks the Hub's rules: " + "; ".join(wrong))
    return card


def _try_sentence_transformers(model: Reranker, folder: Path) -> None:
    """Raises NotPublishableError where its CrossEncoder gives other scores of the folder, or is not installed."""
    try:
        from sentence_transformers import CrossEncoder
    except ImportError as error:
        raise NotPublishableError(
            "to try the files it takes sentence-transformers: pip install sentence-transformers"
        ) from error
    import torch

    theirs = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    found = theirs.predict([tuple(pair) for pair in SAMPLES], convert_to_tensor=True).float().cpu()
    with unsaid(model):
        apart = float((found - model.score(list(SAMPLES), progress=False)).abs().max())
    if not apart <= BOUND:
        raise NotPublishableError(
            f"sentence-transformers' CrossEncoder gives scores of {folder} that are {apart:.1e} off the model's"
        )
