"""zoo-omni: zoo-mini stands still, and a head each learns what audio and the camera's motion are called in its space."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.embedder import Embedder
    from zoo.tables.pairs import Pair, PairTable

# What is zoo-mini's in the other towers: where a tensor's name begins so, it is the one whose name begins so.
COPIES = {
    "towers.2.encoder.stem.0.": "towers.0.encoder.backbone.conv_stem.",
    "towers.2.encoder.stem.1.": "towers.0.encoder.backbone.bn1.",
    "towers.2.encoder.blocks.": "towers.0.encoder.backbone.blocks.",
    "towers.3.encoder.image.": "towers.0.encoder.",
    "towers.3.head.project.": "towers.0.head.project.",
    "towers.3.head.classify.": "towers.0.head.classify.",
    "towers.3.head.names": "towers.0.head.names",
}


@dataclass(frozen=True)
class OnBase(Recipe):
    """A stage of a model that begins as another, with further towers.

    Attributes:
        base: the other model, of which the first towers are. copies: beginnings of names of further tensors that are the base's, and of
            those.
    """

    base: str = ""
    copies: tuple[tuple[str, str], ...] = ()

    @classmethod
    def _read(cls, facts: dict[str, Any]) -> dict[str, Any]:
        facts = super()._read(facts)
        return {**facts, "copies": tuple((ours, theirs) for ours, theirs in facts.get("copies", ()))}

    def prepare(self, model: "Embedder", pairs: "Sequence[Pair] | PairTable", folder: Path) -> None:
        """Fills all that is the base's, before the first step; what does not learn again, when the run goes on."""
        from zoo.formats.changes import begin_as
        from zoo.loading import load_model

        if self.base:
            begin_as(model, load_model(self.base).state_dict(), dict(self.copies))


def zoo_omni(**changes: Any) -> tuple[OnBase, ...]:
    """The packaged omni-modal model: a head for audio, then what the camera does in videos."""
    return zoo_omni_audio(**changes), zoo_omni_video(**changes)


def zoo_omni_audio(**changes: Any) -> OnBase:
    """The audio tower learns, trunk and head, what recordings and synthetic voices are called in the space of zoo-mini's texts."""
    recipe = OnBase(
        model="zoo-omni",
        name="audio",
        datasets=("audio*", "spoken"),
        loss="infonce(temperature=0.05)",
        sampler="mixed(temperature=0.35)",
        freeze=("text", "image", "video"),
        augment="pitch=0.3, pad=0.15, noise=0.7",
        steps=500,
        batch_size=64,
        lr=1e-3,
        rates=(("audio.encoder", 0.5),),
        weight_decay=0.05,
        checkpoint_every=50,
        keep="last",
        base="zoo-mini",
        copies=tuple(COPIES.items()),
    )
    return replace(recipe, **changes)


def zoo_omni_video(**changes: Any) -> OnBase:
    """What the camera does is called, beside what is seen, which stays zoo-mini's."""
    recipe = OnBase(
        model="zoo-omni",
        name="video",
        datasets=("video*",),
        loss="infonce(temperature=0.05)",
        freeze=(
            "text",
            "image",
            "audio",
            "video.encoder",
            "video.head.project",
            "video.head.classify",
            "video.head.names",
        ),
        steps=300,
        batch_size=240,
        lr=3e-3,
        weight_decay=0.0,
        checkpoint_every=100,
        keep="last",
    )
    return replace(recipe, **changes)
