"""Texts of models that have a vector of a text for each target: which one is taken where the other side is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from demos import labels, vocabulary
from tests.evaluation.mteb_tasks import facts
from tests.tables.test_pack_regions import write_pack
from zoo.bulk import embed_dataset
from zoo.embedder.aiming import facing
from zoo.errors import ArgumentError, FingerprintMismatchError
from zoo.evaluation import regions, scar
from zoo.evaluation.mteb import wrap
from zoo.evaluation.pairs import evaluate_pairs
from zoo.index import open_index
from zoo.vectors import open_vectors

REGION = zoo.Box(4, 4, 40, 30)
TEXTS = ["a red cup", "two dogs on the grass", "the sea"]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8) for seed in range(3)]


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    torch.manual_seed(0)
    return zoo.build_model("fgclip2-test").eval()


@pytest.fixture(scope="module")
def audible() -> zoo.Embedder:
    torch.manual_seed(0)
    return zoo.build_model("pe-av-test").eval()


def test_the_target_is_that_of_the_other_side_unless_somebody_chose(model: zoo.Embedder, audible: zoo.Embedder) -> None:
    place, whole = ("image", "regions"), ("image",)
    assert facing(model, [place, place]).against == "regions"
    assert model.against == "image"
    for others in ([whole], [place, whole], [], [("text",)], [("audio",)]):
        assert facing(model, others).against == "image"
    assert facing(model.with_against("image-long"), [place]).against == "image-long"
    for other, target in (
        ("audio", "audio"),
        ("video", "video"),
        ("text+video", "video"),
        ("audio+video", "audio+video"),
    ):
        assert facing(audible, [other.split("+")]).against == target
    assert facing(audible, [("image", "regions")]).against == audible.against
    plain = zoo.build_model("clip-test")
    assert facing(plain, [place]) is plain


def test_rank_compares_texts_with_what_is_ranked(model: zoo.Embedder, images: list[np.ndarray]) -> None:
    places = [zoo.Item(image=pixels, regions=(REGION,)) for pixels in images]
    for documents, target in ((places, "regions"), (images, "image")):
        vectors, text = model.encode(documents), model.encode(TEXTS[0], against=target)
        scores = {hit.index: hit.score for hit in model.rank(TEXTS[0], documents)}
        assert [scores[i] for i in range(3)] == pytest.approx((vectors @ text).tolist(), abs=1e-6)
        back = {hit.index: hit.score for hit in model.rank(documents[0], TEXTS)}
        expected = model.encode(TEXTS, against=target) @ vectors[0]
        assert [back[i] for i in range(3)] == pytest.approx(expected.tolist(), abs=1e-6)
    long = model.with_against("image-long")
    expected = model.encode(places) @ long.encode(TEXTS[0])
    assert long.rank(TEXTS[0], places, 1)[0].score == pytest.approx(expected.max().item(), abs=1e-6)
    given = model.rank(TEXTS[0], model.encode(places), 1)[0].score  # vectors do not say what they are of
    assert given == pytest.approx((model.encode(places) @ model.encode(TEXTS[0])).max().item(), abs=1e-6)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, bool]]:
    """The target of every text that is embedded from here on, and whether it was a text."""
    seen: list[tuple[str | None, bool]] = []
    stream = zoo.Embedder.encode_stream

    def encode_stream(self, inputs, **options):
        inputs = list(inputs)
        seen.extend((self.against, isinstance(one, str) or getattr(one, "text", None) is not None) for one in inputs)
        return stream(self, inputs, **options)

    monkeypatch.setattr(zoo.Embedder, "encode_stream", encode_stream)
    return seen


def targets(seen: list[tuple[str | None, bool]]) -> set[str | None]:
    return {target for target, is_text in seen if is_text}


def test_pairs_are_measured_with_the_target_of_the_other_side(
    model: zoo.Embedder, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [zoo.Item(text=text) for text in TEXTS]
    places = [zoo.Item(image=pixels, regions=(REGION,)) for pixels in images]
    for others, target in ((places, "regions"), ([zoo.Item(image=pixels) for pixels in images], "image")):
        for pair in ((words, others), (others, words)):
            with monkeypatch.context() as patch:
                seen = spied(patch)
                evaluate_pairs(model, *pair, ks=(1,))
            assert targets(seen) == {target}


def test_captions_of_scar_are_compared_with_regions(
    model: zoo.Embedder, tmp_path: Path, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    Image.fromarray(images[0]).save(tmp_path / "a.png")
    captions = tuple(f"caption {number}" for number in range(10))
    seen = spied(monkeypatch)
    choices = scar.evaluate_scar(model, [scar.Sample("row 0", tmp_path / "a.png", REGION, captions)])
    assert targets(seen) == {"regions"}
    vector = model.encode_regions(images[0], [REGION])[0]
    likeness = model.encode(list(captions), against="regions") @ vector
    np.testing.assert_allclose(choices.margins[0], (likeness[0] - likeness[1:]).numpy(), atol=1e-6)


def test_the_pack_of_regions_compares_captions_with_regions_and_with_whole_images(
    model: zoo.Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pack(tmp_path, "test")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    compared: dict[str, torch.Tensor] = {}

    def score(way, part, scenes, captions, similarity):
        compared[way] = similarity
        found["scenes"], found["captions"] = scenes, captions

    found: dict = {}
    monkeypatch.setattr(regions, "score_regions", score)
    regions.evaluate_regions(model, "test", part=regions.SCENES)
    assert set(compared) == {regions.WHOLE, regions.OWN}
    for way, target in ((regions.WHOLE, "image"), (regions.OWN, "regions")):
        vectors = regions.region_vectors(model, found["scenes"], whole=way == regions.WHOLE)
        expected = vectors @ model.encode(list(found["captions"]), against=target).T
        torch.testing.assert_close(compared[way], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("category", "role", "target"),
    [
        ("t2v", "query", "video"),
        ("v2t", "document", "video"),
        ("t2a", "query", "audio"),
        ("t2va", "query", "audio+video"),
        ("t2t", "query", "audio+video"),
    ],
)
def test_mteb_compares_texts_with_the_other_side_of_its_task(
    audible: zoo.Embedder, category: str, role: str, target: str
) -> None:
    """As mteb's own class for PE-AV does (`_other_side_modalities`)."""
    from mteb.types import PromptType

    found = wrap(audible).encode(
        [{"text": TEXTS}],
        task_metadata=facts("Local", category),
        hf_split="test",
        hf_subset="default",
        prompt_type=PromptType(role),
        show_progress_bar=False,
    )
    torch.testing.assert_close(found, audible.encode(TEXTS, against=target), atol=1e-6, rtol=0)


def test_words_of_the_demos_are_kept_for_each_target(model: zoo.Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_FEW", 1)
    monkeypatch.setattr(vocabulary, "vocabulary", lambda: TEXTS)
    for of, target in ((("image",), "image"), (("image", "regions"), "regions"), (("image",), "image")):
        _, vectors = vocabulary.encoded_words(model, of)
        torch.testing.assert_close(vectors, model.encode(TEXTS, against=target), atol=1e-6, rtol=0)
    assert vocabulary.encoded_words(model)[1] is vocabulary.encoded_words(model)[1]
    place = model.encode(TEXTS[2], against="regions")
    assert labels.nearest_words(model, place, ("image", "regions"))["rows"][0]["label"] == TEXTS[2]


# ------------------------------------------------------------------------------------------------ the command line


@pytest.fixture
def saved(model: zoo.Embedder, tmp_path: Path, cache_home) -> Path:
    return model.save_pretrained(tmp_path / "model")


@pytest.fixture
def photos(images: list[np.ndarray], tmp_path: Path) -> Path:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def test_encode_and_embed_follow_against(run, model: zoo.Embedder, saved: Path, tmp_path: Path) -> None:
    code, out, err = run("encode", TEXTS[0], "--model", saved, "--against", "regions", "--json")
    assert code == 0, err
    vector = json.loads(out)["vectors"][0]["vector"]
    np.testing.assert_allclose(vector, model.encode(TEXTS[0], against="regions"), atol=1e-5)
    code, _, err = run("encode", TEXTS[0], "--model", saved, "--against", "video")
    assert (code, "'image', 'image-long', 'regions'" in " ".join(err.split())) == (2, True), err
    (tmp_path / "words.txt").write_text("\n".join(TEXTS))
    out = tmp_path / "words"
    code, _, err = run(
        "embed", tmp_path / "words.txt", "--out", out, "--model", saved, "--against", "regions", "--quiet"
    )
    assert code == 0, err
    vectors = open_vectors(out, ours=True)
    np.testing.assert_allclose(vectors.floats(), model.encode(TEXTS, against="regions"), atol=1e-3)
    assert vectors.manifest["fingerprint"]["against"] == "regions"
    for options, expected in (([], 0), (["--against", "regions"], 0), (["--against", "image"], 2)):
        code, _, err = run("search", out, TEXTS[0], "--model", saved, *options)
        assert code == expected, err
    said = " ".join(err.split())
    assert "against: 'regions' there, 'image' here" in said
    assert "--against regions" in said
    code, _, err = run("encode", TEXTS[0], "--model", "clip-test", "--against", "image")
    assert (code, "one vector, for any target" in err) == (2, True)


def test_a_job_without_texts_refuses_against(model: zoo.Embedder, saved: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="has none in its inputs"):
        embed_dataset(model, photos, tmp_path / "out", against="regions", progress=False)
    with pytest.raises(ArgumentError, match="'image-long', 'regions'"):
        embed_dataset(model, photos, tmp_path / "out", against="video", progress=False)
    assert not (tmp_path / "out" / "manifest.json").exists()
    (tmp_path / "words.txt").write_text("\n".join(TEXTS))
    report = embed_dataset(saved, tmp_path / "words.txt", tmp_path / "out", against="image-long", progress=False)
    assert report.vectors == len(TEXTS)
    opened = zoo.load_model(saved)
    with pytest.raises(FingerprintMismatchError, match="against: 'image-long' there, 'image' here"):
        open_index(tmp_path / "out", model=opened)
    open_index(tmp_path / "out", model=opened.with_against("image-long"))
    embed_dataset(saved, photos, tmp_path / "images", progress=False)
    open_index(tmp_path / "images", model=opened.with_against("regions"))  # images have one vector


def test_search_over_media_takes_the_head_of_its_kind(run, audible: zoo.Embedder, tmp_path: Path, cache_home) -> None:
    import soundfile

    folder, out = audible.save_pretrained(tmp_path / "model"), tmp_path / "vectors"
    (tmp_path / "recordings").mkdir()
    for number in range(2):
        wave = np.sin(np.arange(12_000) * (number + 1) / 20).astype(np.float32)
        soundfile.write(tmp_path / "recordings" / f"{number}.wav", wave, 48_000)
    code, _, err = run("embed", tmp_path / "recordings", "--out", out, "--model", folder, "--quiet")
    assert code == 0, err
    (tmp_path / "recordings" / "video.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    code, _, err = run("embed", tmp_path / "recordings", "--out", tmp_path / "other", "--model", folder, "--quiet")
    assert (code, "say --kind video or --kind audio" in " ".join(err.split())) == (2, True), err
    for options, target in (([], "audio"), (["--against", "audio+video"], "audio+video")):
        code, found, err = run("search", out, TEXTS[1], "--json", "--model", folder, *options)
        assert code == 0, err
        vectors = torch.tensor(np.asarray(open_vectors(out, ours=True).floats()))
        expected = (vectors @ audible.encode(TEXTS[1], against=target)).sort(descending=True).values
        assert [hit["score"] for hit in json.loads(found)] == pytest.approx(expected.tolist(), abs=2e-3)


def test_search_over_places_compares_texts_with_regions(
    run, model: zoo.Embedder, saved: Path, photos: Path, tmp_path: Path
) -> None:
    places, whole = tmp_path / "places", tmp_path / "whole"
    for out, more in ((places, ["--regions", "grid:1"]), (whole, [])):
        code, _, err = run("embed", photos, "--out", out, "--model", saved, "--quiet", *more)
        assert code == 0, err
    for folder, options, target in (
        (places, [], "regions"),
        (places, ["--against", "image"], "image"),
        (whole, [], "image"),
        (whole, ["--against", "image-long"], "image-long"),
    ):
        code, out, err = run("search", folder, TEXTS[1], "-k", 3, "--json", "--model", saved, *options)
        assert code == 0, err
        vectors = torch.tensor(np.asarray(open_vectors(folder, ours=True).floats()))
        expected = (vectors @ model.encode(TEXTS[1], against=target)).sort(descending=True).values
        assert [hit["score"] for hit in json.loads(out)] == pytest.approx(expected[:3].tolist(), abs=2e-3), options
