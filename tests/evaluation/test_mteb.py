"""zoo.evaluation.mteb: mteb's protocol, its own mock tasks, the photos pack as a task, prompts, entries without an embedding, media."""

import io
import logging
import math
import wave
from collections import Counter
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader

import zoo
from tests.conftest import data_pack
from zoo.errors import UnsupportedModalityError
from zoo.evaluation.packs import BENCHMARKS, evaluate_pack
from zoo.evaluation.pairs import evaluate_pairs
from zoo.evaluation.tasks import _mteb_results
from zoo.inputs.video import load_video
from zoo.registry.trained_on import source, trained_on
from zoo.tables.pack_files import read_pack

NAMES = zoo.list_models("*-test")
# The rest of the grid runs under `slow`: every kind of task once, queries with instructions, several languages.
TELLING = {
    "MockRetrievalTask",
    "MockInstructionReranking",
    "MockMultilingualSTSTask",
    "MockClassificationTask",
    "MockRetrievalDialogTask",
    "MockAny2AnyRetrievalI2T",
    "MockAny2AnyRetrievalT2I",
    "MockVisualSTS",
    "MockZeroShotClassification",
    "MockImageClassification",
}
# Of models that watch or hear and read no images; others read these by the same way of `wrap`.
TELLING_OF = {
    "video": {"MockVideoClassification", "MockVideoPairClassification", "MockVideoRetrievalT2V"},
    "audio": {"MockAudioClassification", "AbsTaskAudioPairClassification", "MockAny2AnyRetrievalT2A"},
}


@pytest.fixture(autouse=True, scope="module")
def _mteb():
    """mteb takes seconds to import: every worker collects this file, and one of them runs it."""
    global ALL_MOCK_TASK_TEST_GRID, Colours, EncoderProtocol, PromptType, Spectrum, datasets, facts, mteb
    global captions, frames_of, get_compatible_mock_tasks, hearing, model_of, photos, retrieval

    import datasets
    import mteb
    from mteb.mocks import ALL_MOCK_TASK_TEST_GRID
    from mteb.mocks.mock_run import get_compatible_mock_tasks
    from mteb.models.models_protocols import EncoderProtocol
    from mteb.types import PromptType

    import_module("zoo.evaluation.mteb")
    from tests.evaluation.mteb_tasks import Colours, Spectrum, captions, facts, hearing, model_of, photos, retrieval
    from zoo.evaluation.mteb_media import frames_of


def loader(rows: list[dict], **features) -> DataLoader:
    """Rows as mteb hands them over: a torch loader over a `datasets.Dataset`."""
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}
    dataset = datasets.Dataset.from_dict(columns)
    for name, feature in features.items():
        dataset = dataset.cast_column(name, feature)
    return DataLoader(dataset, batch_size=2)


def embed(wrapped, inputs, role=None, task=None):
    task = task or facts("Local")
    return wrapped.encode(inputs, task_metadata=task, hf_split="test", hf_subset="default", prompt_type=role)


def png(colour) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 20), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def clip():
    return zoo.build_model("clip-test")


# ------------------------------------------------------------------------------------------------ protocol and mocks


@pytest.mark.parametrize("name", NAMES)
def test_every_model_satisfies_the_protocol_and_tells_its_facts(name):
    model = zoo.build_model(name)
    wrapped = zoo.evaluation.mteb.wrap(model)
    assert isinstance(wrapped, EncoderProtocol)
    meta = wrapped.mteb_model_meta
    assert set(meta.modalities) == model.spec.modalities - {"regions"}  # which mteb has no word for
    assert (meta.embed_dim, meta.max_tokens) == (model.spec.dim, model.spec.max_tokens)
    assert meta.n_parameters == sum(p.numel() for p in model.parameters())
    assert meta.name.endswith(model.spec.name) or meta.name == model.spec.hub_id


@pytest.mark.parametrize("name", NAMES)
def test_the_telling_mock_tasks_are_green(name):
    wrapped = zoo.evaluation.mteb.wrap(zoo.build_model(name))
    reads = wrapped.model.spec.modalities
    others = [] if "image" in reads else [TELLING_OF[medium] for medium in TELLING_OF if medium in reads]
    telling = set.union(*others) if others else TELLING
    tasks = [task for task in get_compatible_mock_tasks(wrapped) if task.metadata.name in telling]
    if wrapped.model.spec.similarity == "maxsim":
        tasks = [task for task in tasks if zoo.evaluation.mteb.RANKS.search(task.metadata.type)]
    assert len(tasks) >= 2
    found = mteb.evaluate(wrapped, tasks, cache=None, show_progress_bar=False)
    assert {one.task_name for one in found.task_results} == {task.metadata.name for task in tasks}
    assert wrapped.seen > 0
    assert not wrapped.skipped


def test_the_telling_tasks_exist_and_cover_text_and_image():
    grid = {task.metadata.name: set(task.metadata.modalities) for task in ALL_MOCK_TASK_TEST_GRID}
    assert grid.keys() >= set.union(TELLING, *TELLING_OF.values())
    assert {"text", "image"} == set.union(*(grid[name] for name in TELLING))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "zoo-mini"])
def test_mtebs_mock_run_is_green(name):
    wrapped = zoo.evaluation.mteb.wrap(zoo.load_model(name) if name == "zoo-mini" else zoo.build_model(name))
    if wrapped.model.spec.similarity == "maxsim":
        pytest.skip("most kinds of tasks take one vector per item; those that rank are among the telling")
    found = mteb.mock_run(wrapped)
    assert {task: status.exception for task, status in found.items() if hasattr(status, "exception")} == {}
    # mteb lists one of its tasks twice and keeps results by name.
    names = {task.metadata.name for task in get_compatible_mock_tasks(wrapped)}
    assert {task for task, status in found.items() if status is not None} == names
    assert len(names) >= (8 if {"text", "image"} & wrapped.model.spec.modalities else 4)
    assert not wrapped.skipped


def test_an_entry_of_image_and_text_is_two_items_where_a_model_reads_them_apart():
    image = Image.new("RGB", (40, 30), "red")
    for name, count in (("jina-v4-test", 2), ("qwen3vl-test", 1), ("clip-test", 2)):
        wrapped = zoo.evaluation.mteb.wrap(zoo.build_model(name))
        assert len(wrapped._items({"image": image, "text": "a cat"})) == count, name


@pytest.fixture(scope="module")
def photo_scores(tmp_path_factory):
    """zoo-mini, a folder with every sixth photo of the validation split, and our own figures of these."""
    rows = pq.read_table(data_pack("photos") / "val.parquet")
    packs = tmp_path_factory.mktemp("packs")
    (packs / "photos").mkdir()
    pq.write_table(rows.take(list(range(0, len(rows), 6))), packs / "photos" / "val.parquet")
    model = zoo.load_model("zoo-mini")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_DATA", str(packs))
        scores = evaluate_pack(model, BENCHMARKS[0], "val")
    return model, packs, next(score for score in scores if score.source == "all")


@pytest.mark.slow
@pytest.mark.parametrize("category", ["t2i", "i2t"])
def test_the_photos_pack_gives_the_recall_of_our_own_evaluation(category, photo_scores, monkeypatch):
    model, packs, ours = photo_scores
    monkeypatch.setenv("ZOO_DATA", str(packs))
    found = mteb.evaluate(zoo.evaluation.mteb.wrap(model), photos(category), cache=None, show_progress_bar=False)
    scores = found.task_results[0].scores["test"][0]
    queries, expected = {"t2i": (ours.texts, ours.text_to_image), "i2t": (ours.images, ours.image_to_text)}[category]
    # mteb rounds to five digits, so the queries that succeed are counted: equal counts are equal shares.
    counts = {k: round(share * queries) for k, share in expected.items()}
    assert expected == pytest.approx({k: count / queries for k, count in counts.items()}, abs=1e-6)
    # A text has many photos: there our recall@k is mteb's hit rate. A photo has one text: there the two are one.
    for metric in ("hit_rate_at", "recall_at") if category == "i2t" else ("hit_rate_at",):
        assert {k: scores[f"{metric}_{k}"] for k in counts} == {k: round(n / queries, 5) for k, n in counts.items()}
    assert 0 < counts[1] < counts[10] < queries


# ------------------------------------------------------------------------------------------------ prompts


def with_prompts(default=None, **prompts):
    model = zoo.build_model("mini-test")
    model.spec = replace(model.spec, prompts=prompts, default_prompt_name=default)
    return model


def test_roles_get_the_models_prompts():
    model = with_prompts(query="query: ", passage="passage: ", any="text: ", default="any")
    wrapped, rows = zoo.evaluation.mteb.wrap(model), [{"text": "a red motorbike"}, {"text": "two cats"}]
    texts = [row["text"] for row in rows]
    for role, expected in (
        (PromptType.query, model.encode_query(texts)),
        (PromptType.document, model.encode_document(texts)),
        (None, model.encode(["text: " + text for text in texts], prompt="")),
    ):
        torch.testing.assert_close(embed(wrapped, loader(rows), role), expected, rtol=0, atol=1e-6)
    assert not torch.allclose(model.encode_query(texts), model.encode_document(texts), atol=1e-3)


def test_a_prompt_named_like_a_kind_of_task_goes_first():
    wrapped = zoo.evaluation.mteb.wrap(with_prompts(query="query: ", STS="compare: "))
    sts = facts("Local", type="STS")
    assert wrapped.prompt(sts, None) == wrapped.prompt(sts, PromptType.query) == "compare: "
    assert wrapped.prompt(facts("Local"), PromptType.query) == "query: "
    assert wrapped.prompt(facts("Local"), PromptType.document) == ""


def test_a_model_that_takes_instructions_gets_the_tasks_words():
    words = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
    wrapped = zoo.evaluation.mteb.wrap(with_prompts(query=words, document=""))
    task = facts("Local", prompt={"query": "Find the song"})
    assert wrapped.prompt(task, PromptType.query) == "Instruct: Find the song\nQuery: "
    assert wrapped.prompt(task, PromptType.document) == ""
    assert wrapped.prompt(facts("Local", prompt="Tell moods apart"), None) == "Instruct: Tell moods apart\nQuery: "
    other = zoo.evaluation.mteb.wrap(with_prompts(), instruction="<{instruction}> ")
    assert other.prompt(task, PromptType.query) == "<Find the song> "
    with pytest.raises(ValueError, match="instruction"):
        zoo.evaluation.mteb.wrap(with_prompts(), instruction="no place for it")


# ------------------------------------------------------------------------------------------------ what cannot be embedded


def test_entries_without_an_embedding_are_zero_counted_and_the_others_unharmed(clip, caplog):
    wrapped = zoo.evaluation.mteb.wrap(clip)
    rows = [{"text": "a cat"}, {"text": ""}, {"text": None}, {"text": " \n"}, {"text": "a dog"}]
    with caplog.at_level(logging.WARNING, "zoo.evaluation.mteb"):
        vectors = embed(wrapped, loader(rows))
    torch.testing.assert_close(vectors[[0, 4]], clip.encode(["a cat", "a dog"]), rtol=0, atol=1e-6)
    assert vectors[1:4].abs().max() == 0
    assert wrapped.similarity(vectors, vectors)[1].abs().max() == 0
    assert (wrapped.seen, wrapped.skipped) == (5, Counter({"empty-text": 2, "empty-item": 1}))
    assert "3 of 5 entries" in caplog.text
    assert "row 1" in caplog.text


def test_a_broken_image_costs_its_own_row_only(clip):
    good = [png("red"), png("green")]
    rows = [{"image": {"bytes": data, "path": None}} for data in (good[0], good[0][:60], b"<html>", good[1])]
    wrapped = zoo.evaluation.mteb.wrap(clip)
    vectors = embed(wrapped, loader(rows, image=datasets.Image()))
    torch.testing.assert_close(vectors[[0, 3]], clip.encode(good), rtol=0, atol=1e-6)
    assert vectors[1:3].abs().max() == 0
    assert wrapped.skipped == Counter({"corrupt-image": 1, "not-media": 1})


def test_a_retrieval_run_survives_empty_documents(clip):
    words = {"id": ["1", "2", "3"], "text": ["a red motorbike", "", "two cats"]}
    queries = datasets.Dataset.from_dict({"id": ["q"], "text": ["two cats"]})
    task = retrieval("LocalEmpty", "t2t", queries, datasets.Dataset.from_dict(words), {"q": {"3"}})
    wrapped = zoo.evaluation.mteb.wrap(clip)
    found = mteb.evaluate(wrapped, task, cache=None, show_progress_bar=False)
    assert found.task_results[0].get_score() == pytest.approx(1)
    assert wrapped.skipped == Counter({"empty-text": 1})


def test_what_the_model_does_not_read_at_all_is_an_error():
    wrapped = zoo.evaluation.mteb.wrap(zoo.build_model("image-test"))
    with pytest.raises(UnsupportedModalityError, match=r"Local .*image-test reads image, not text"):
        embed(wrapped, loader([{"text": "a cat"}, {"text": "a dog"}]))


def test_other_precisions_are_refused(clip):
    wrapped = zoo.evaluation.mteb.wrap(clip)
    options = {"task_metadata": facts("Local"), "hf_split": "test", "hf_subset": "default"}
    with pytest.raises(ValueError, match="CompressionWrapper"):
        wrapped.encode(loader([{"text": "a cat"}]), precision="int8", **options)


# ------------------------------------------------------------------------------------------------ several modalities


def test_interleaved_entries_are_the_sum_of_their_parts_on_dual_towers(clip):
    red, green = png("red"), png("green")
    rows = [
        {"text": "a cat", "image": {"bytes": red, "path": None}},
        {"text": None, "image": {"bytes": green, "path": None}},
        {"text": "a dog", "image": None},
        {"text": "", "image": {"bytes": red, "path": None}},
    ]
    wrapped = zoo.evaluation.mteb.wrap(clip)
    vectors = embed(wrapped, loader(rows, image=datasets.Image()))
    texts, images = clip.encode(["a cat", "a dog"]), clip.encode([red, green])
    expected = torch.stack([F.normalize(texts[0] + images[0], dim=0), images[1], texts[1], images[0]])
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-6)
    assert not wrapped.skipped
    # A model of text alone takes the text of such entries, as mteb's own wrappers do.
    text = zoo.build_model("text-test")
    both = embed(zoo.evaluation.mteb.wrap(text), loader(rows[:1], image=datasets.Image()))
    torch.testing.assert_close(both, text.encode(["a cat"]), rtol=0, atol=1e-6)


def test_batches_of_lists_are_read_too(clip):
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    vectors = embed(
        zoo.evaluation.mteb.wrap(clip), [{"image": images, "id": ["1", "2"]}, {"image": images[:1], "id": ["3"]}]
    )
    torch.testing.assert_close(vectors, clip.encode([*images, images[0]]), rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------ audio


def tone(hertz: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(rate) / rate)).astype(np.float32)


def wav(hertz: float, rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone(hertz, rate) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def test_audio_comes_at_the_encoders_rate_in_one_channel():
    wrapped = zoo.evaluation.mteb.wrap(model_of(Spectrum()))
    given = [{"array": tone(1200, rate), "sampling_rate": rate} for rate in (16_000, 8_000, 44_100)]
    given.append({"array": np.stack([tone(1200, 16_000)] * 2), "sampling_rate": 16_000})
    given.append({"array": tone(2400, 16_000), "sampling_rate": 16_000})
    broken = {"array": [0.1, math.nan, 0.2], "sampling_rate": 16_000}
    given += [None, {"array": [], "sampling_rate": 16_000}, broken, {"array": "loud", "sampling_rate": 16_000}, 3.0]
    vectors = embed(wrapped, [{"audio": given}])
    similarity = vectors @ vectors[0]
    assert similarity[:4].min() > 0.99
    assert similarity[4] < 0.5
    assert vectors[5:].abs().max() == 0
    assert wrapped.skipped == Counter({"empty-item": 1, "invalid-audio": 2, "unsupported-type": 1, "invalid-media": 1})


def test_a_retrieval_task_over_files_of_audio():
    pitches = [300, 700, 1500, 3100, 5200]
    files = [{"bytes": wav(hertz), "path": None} for hertz in pitches]
    ids = [str(hertz) for hertz in pitches]
    corpus = datasets.Dataset.from_dict({"id": ids, "audio": files}).cast_column("audio", datasets.Audio())
    near = [{"array": tone(hertz + 15, 22_050).tolist(), "sampling_rate": 22_050} for hertz in pitches]
    queries = datasets.Dataset.from_dict({"id": [f"q{name}" for name in ids], "audio": near})
    task = retrieval("LocalAudio", "a2a", queries, corpus, {f"q{name}": {name} for name in ids})
    wrapped = zoo.evaluation.mteb.wrap(model_of(Spectrum()))
    found = mteb.evaluate(wrapped, task, cache=None, show_progress_bar=False)
    assert found.task_results[0].get_score() == pytest.approx(1)
    assert not wrapped.skipped


@pytest.mark.parametrize(
    "kind", ["MockAudioClassification", "MockAny2AnyRetrievalA2A", "AbsTaskAudioPairClassification"]
)
def test_mocks_of_audio_are_green_where_torchcodec_cannot_load(kind):
    wrapped = zoo.evaluation.mteb.wrap(model_of(Spectrum()))
    tasks = [task for task in get_compatible_mock_tasks(wrapped) if task.metadata.name == kind]
    assert len(mteb.evaluate(wrapped, tasks, cache=None, show_progress_bar=False).task_results) == 1
    assert wrapped.seen > 0
    assert not wrapped.skipped


@pytest.mark.skipif(find_spec("torchcodec") is not None, reason="there datasets decodes by torchcodec")
def test_datasets_hands_out_files_and_an_array_to_who_asks_for_one(tmp_path):
    zoo.evaluation.mteb.wrap(model_of(Spectrum()))
    (tmp_path / "high.wav").write_bytes(wav(1200, 8_000))
    cells = [{"bytes": wav(700, 22_050), "path": None}, {"bytes": None, "path": str(tmp_path / "high.wav")}]
    rows = datasets.Dataset.from_dict({"audio": cells}).cast_column("audio", datasets.Audio())
    assert rows[0]["audio"] == cells[0]
    assert [row["audio"]["sampling_rate"] for row in rows] == [22_050, 8_000]
    np.testing.assert_allclose(rows[1]["audio"]["array"], tone(1200, 8_000), atol=1e-4)
    again = rows.cast_column("audio", datasets.Audio(sampling_rate=16_000))[1]["audio"]
    assert (again["sampling_rate"], len(again["array"])) == (16_000, 16_000)
    with pytest.raises(KeyError, match="seconds"):
        again["seconds"]
    # Arrays are stored as they are, whatever asks for a column of audio.
    stored = datasets.Dataset.from_dict({"audio": [{"array": tone(300, 8_000), "sampling_rate": 8_000}]})
    stored = stored.cast_column("audio", datasets.Audio())
    np.testing.assert_allclose(stored[0]["audio"]["array"], tone(300, 8_000), atol=1e-6)


@pytest.mark.parametrize(("pack", "source"), [("audio", "esc10"), ("video", "motion_over_photo")])
def test_tasks_like_maebs_and_mvebs_give_the_figures_of_our_own_evaluation(pack, source):
    data_pack(pack)
    task, texts, files = captions(pack, source, rows=40)
    model = hearing() if pack == "audio" else zoo.build_model("xclip-test")
    wrapped = zoo.evaluation.mteb.wrap(model)
    found = mteb.evaluate(wrapped, task, cache=None, show_progress_bar=False).task_results[0].scores["test"][0]
    items = [zoo.Item(**{pack: file}) for file in files]
    ours = evaluate_pairs(model, [zoo.Item(text=text) for text in texts], items).forward
    for name, measure in (("hit_rate_at_{}", "hit@{}"), ("recall_at_{}", "recall@{}")):
        for k in (1, 5, 10):
            known = measure.format(k) if measure.format(k) in ours.measures else f"recall@{k}"
            assert found[name.format(k)] == pytest.approx(ours.values(known).mean(), abs=1e-5), (name, k)
    assert found["ndcg_at_10"] == pytest.approx(ours.values("ndcg@10").mean(), abs=1e-5)
    assert 0 < found["hit_rate_at_10"] < 1
    assert not wrapped.skipped


@pytest.mark.slow  # datasets writes a table of every part
def test_a_task_of_maeb_runs_from_a_folder(tmp_path):
    """The published task and mteb's own loader, which looks at the first row; the data are ours."""
    data_pack("audio")
    _, texts, files = captions("audio", "esc10", rows=24)
    parts = {
        "corpus": {"id": [f"d{i}" for i in range(24)], "audio": [{"bytes": file, "path": None} for file in files]},
        "queries": {"id": [f"q{i}" for i in range(24)], "text": texts},
        "qrels": {
            "query-id": [f"q{i}" for i, text in enumerate(texts) for other in texts if other == text],
            "corpus-id": [f"d{j}" for text in texts for j, other in enumerate(texts) if other == text],
            "score": [1 for text in texts for other in texts if other == text],
        },
    }
    lines = []
    for name, columns in parts.items():
        rows = datasets.Dataset.from_dict(columns)
        rows = rows.cast_column("audio", datasets.Audio()) if "audio" in columns else rows
        rows.to_parquet(tmp_path / name / "test-0.parquet")
        lines += [f"- config_name: {name}", "  data_files:", "  - split: test", f"    path: {name}/*.parquet"]
    (tmp_path / "README.md").write_text("\n".join(["---", "configs:", *lines, "---", ""]))
    task = mteb.get_task("ClothoT2ARetrieval.v2")
    task.metadata.dataset.update(path=str(tmp_path), revision="local")
    wrapped = zoo.evaluation.mteb.wrap(hearing())
    found = mteb.evaluate(wrapped, task, cache=None, show_progress_bar=False).task_results[0]
    items = [zoo.Item(audio=file) for file in files]
    ours = evaluate_pairs(wrapped.model, [zoo.Item(text=text) for text in texts], items).forward
    # Queries of one text are asked once by us, and each by mteb.
    counts = Counter(texts)
    weights = [counts[texts[row]] for row in ours.rows]
    for k in (1, 5, 10):
        expected = np.average(ours.values(f"hit@{k}"), weights=weights)
        assert found.scores["test"][0][f"hit_rate_at_{k}"] == pytest.approx(expected, abs=1e-5)
    assert not wrapped.skipped


# ------------------------------------------------------------------------------------------------ video


def test_frames_keep_their_layout_whatever_it_is():
    # A known clip, taller than wide: red, then green above blue, then white.
    clip = np.zeros((3, 10, 6, 3), np.uint8)
    clip[0, ..., 0], clip[1, :5, :, 1], clip[1, 5:, :, 2], clip[2] = 255, 255, 255, 255
    first = torch.from_numpy(clip.transpose(0, 3, 1, 2).copy())
    forms = [clip, first, torch.from_numpy(clip), first.numpy(), [Image.fromarray(frame) for frame in clip]]
    for form in forms:
        np.testing.assert_array_equal(frames_of(form), clip)
    # Three rows high: only the kind of array tells the two layouts apart.
    low = clip[:, :3]
    np.testing.assert_array_equal(frames_of(torch.from_numpy(low.transpose(0, 3, 1, 2).copy())), low)
    wrapped = zoo.evaluation.mteb.wrap(model_of(Colours()))
    vectors = embed(wrapped, [{"video": [*forms, clip.astype(np.float32), clip[..., :2], None]}])
    assert torch.equal(vectors[1:5], vectors[:1].expand(4, -1))
    assert vectors[5:].abs().max() == 0
    assert wrapped.skipped == Counter({"invalid-media": 2, "empty-item": 1})


def test_a_retrieval_task_over_videos_of_the_pack():
    data_pack("video")
    rows = read_pack("video", "val")[:12]
    ids = [row["id"] for row in rows]
    files = [{"bytes": row["video"], "path": None} for row in rows]
    corpus = datasets.Dataset.from_dict({"id": ids, "video": files}).cast_column("video", datasets.Video())
    wrapped = zoo.evaluation.mteb.wrap(model_of(Colours()))
    # Frames as torchcodec and mteb's collators give them give the vectors of the file itself.
    frames = [torch.from_numpy(load_video(row["video"], frames=16).frames) for row in rows]
    from_files = embed(wrapped, DataLoader(corpus))
    torch.testing.assert_close(embed(wrapped, [{"video": [f.permute(0, 3, 1, 2) for f in frames]}]), from_files)
    # Rows that a loader mixed come one by one, as files too.
    mixed = DataLoader(
        corpus, shuffle=True, batch_size=3, collate_fn=lambda some: {"video": [r["video"] for r in some]}
    )
    again = embed(wrapped, mixed)
    assert ((again @ from_files.T).max(1).values > 1 - 1e-6).all()
    assert not torch.equal(again, from_files)
    queries = corpus.rename_column("id", "file").add_column("id", [f"q{name}" for name in ids])
    task = retrieval("LocalVideo", "v2v", queries.remove_columns("file"), corpus, {f"q{name}": {name} for name in ids})
    found = mteb.evaluate(wrapped, task, cache=None, show_progress_bar=False)
    assert found.task_results[0].get_score() == pytest.approx(1)
    assert not wrapped.skipped


# ------------------------------------------------------------------------------------------------ mteb's cache


def test_models_of_one_name_do_not_share_results(tmp_path):
    torch.manual_seed(1)
    one, other = zoo.build_model("mini-test"), zoo.build_model("mini-test")
    with torch.no_grad():
        next(other.parameters()).add_(1)
    revision = zoo.evaluation.mteb.wrap(one).mteb_model_meta.revision
    assert revision == zoo.evaluation.mteb.wrap(one).mteb_model_meta.revision
    changed = [zoo.evaluation.mteb.wrap(other), zoo.evaluation.mteb.wrap(one, instruction="{instruction}: ")]
    short = zoo.evaluation.mteb.wrap(one, dim=8)
    with pytest.warns(UserWarning, match="columns lose accuracy"):
        vectors = embed(short, [{"text": ["a cat"]}])
    assert vectors.shape == (1, 8)
    assert len({revision, *(wrapped.mteb_model_meta.revision for wrapped in (*changed, short))}) == 4
    assert zoo.evaluation.mteb.wrap(one, revision="a" * 40).mteb_model_meta.revision == "a" * 40


def test_figures_on_data_that_a_model_was_trained_on_say_so(monkeypatch):
    task = mteb.get_task("NanoNQRetrieval")
    model = zoo.build_model("text-test")
    model.spec = replace(model.spec, hub_id="BAAI/bge-large-en-v1.5")
    rows = {"train": [{"hf_subset": "default", "main_score": 0.5}]}
    found = SimpleNamespace(mteb_version="2", dataset_revision="r", scores=rows)
    wrapped = zoo.evaluation.mteb.wrap(model)
    assert "NQ" in wrapped.mteb_model_meta.training_datasets
    assert "not zero-shot" in _mteb_results(found, task, wrapped)[0].notes
    assert "zero-shot" not in _mteb_results(found, mteb.get_task("SciFact"), wrapped)[0].notes
    model.spec = replace(model.spec, hub_id="")
    assert "zero-shot" not in _mteb_results(found, task, zoo.evaluation.mteb.wrap(model))[0].notes


def test_what_models_were_trained_on_is_as_mteb_records_it():
    registry = import_module("mteb.models.model_implementations").MODEL_REGISTRY
    assert source() == f"mteb {version('mteb')}", "run python -m zoo.publishing.cards.trained_on"
    hub_ids = {zoo.get_spec(name).hub_id for name in zoo.list_models()} - {""}
    hub_ids |= {zoo.reranking.get_reranker_spec(name).hub_id for name in zoo.list_rerankers()} - {""}
    for hub_id in sorted(hub_ids):
        record = registry.get(hub_id)
        wanted = None if record is None or record.training_datasets is None else tuple(sorted(record.training_datasets))
        assert trained_on(hub_id) == wanted, f"{hub_id}: run python -m zoo.publishing.cards.trained_on"
