"""Killed at random moments of a first run and of an update: only whole answers, and the next run ends as if nothing had been."""

import os
import random
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import zoo
from tests.bulk.bulk_support import Jobs
from zoo.bulk import embed_dataset
from zoo.errors import IndexStateError
from zoo.index import open_index
from zoo.shards.folder import ShardFolder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

BEFORE = [f"text {i}" for i in range(90)]
# Rows are added in front, between and after, changed, moved and deleted.
AFTER = [
    "new 0",
    *BEFORE[5:40],
    "changed",
    *BEFORE[41:60],
    *reversed(BEFORE[60:85]),
    *(f"new {i}" for i in range(1, 6)),
]
ALL = sorted({*BEFORE, *AFTER})


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(0)
    return zoo.build_model("text-test")


@pytest.fixture(scope="module")
def vectors(text):
    """What every text's vector is."""
    return dict(zip(ALL, text.encode_document(ALL).numpy(), strict=True))


@pytest.fixture(scope="module")
def jobs(text, tmp_path_factory):
    jobs = Jobs(text.save_pretrained(tmp_path_factory.mktemp("model") / "text-test"))
    yield jobs
    jobs.close()


def write(source, texts):
    source.write_text("".join(f"{one}\n" for one in ["text", *texts]))


def answers(text, out, vectors):
    """{id: text} of what is searched; every vector is its text's, and a search finds the row it asks for."""
    if not (out / "shards").is_dir():
        return {}
    found = [row for shard in ShardFolder(out).finished() for row in pq.read_table(shard.path).to_pylist()]
    for row in found:
        np.testing.assert_allclose(row["vector"], vectors[row["text"]], atol=1e-5)
    told = {row["id"]: row["text"] for row in found}
    assert len(told) == len(found)
    if not found:
        with pytest.raises(IndexStateError, match="no vectors"):
            open_index(out, model=text, backend="exact")
        return told
    index = open_index(out, model=text, backend="exact")
    wanted = found[len(found) // 2]
    match = index.search(np.array(wanted["vector"], np.float32), 1)[0]
    assert (match.attributes["text"], index.count()) == (wanted["text"], len(found))
    return told


def test_killed_at_random_moments(trial_seeds, text, vectors, jobs, tmp_path):
    source, options = tmp_path / "t.csv", {"shard_size": 3, "batch_size": 8}  # most of the time goes into files
    ends, costs = [], []
    for texts in (BEFORE, AFTER):
        write(source, texts)
        assert jobs.run(source, tmp_path / "whole", **options) == 0
        costs.append(jobs.spent)
        ends.append(answers(text, tmp_path / "whole", vectors))
    assert set(ends[1].values()) > set(AFTER)  # the rows after the last have stayed
    killed, unfinished = 0, 0
    for seed in trial_seeds:
        draw, out = random.Random(seed), tmp_path / str(seed)
        for turn, texts in enumerate((BEFORE, AFTER)):
            write(source, texts)
            old = answers(text, out, vectors)
            code = jobs.run(source, out, seconds=(0.35 + 0.65 * draw.random()) * costs[turn], **options)
            assert code in (0, -signal.SIGPROF)
            found = answers(text, out, vectors)
            if turn == 0:
                assert found.items() <= ends[0].items()
            else:
                assert found in (old, ends[1])
            killed += code != 0
            unfinished += found != ends[turn]
            embed_dataset(text, source, out, progress=False, **options)
            assert answers(text, out, vectors) == ends[turn]
            assert len({path.name[:8] for path in (out / "shards").iterdir()} - {f"{0:08}"}) <= 1
    assert killed > len(trial_seeds) / 2  # of two runs each
    assert unfinished > 0


@pytest.fixture(params=[5, pytest.param(50, marks=pytest.mark.slow)], ids=["10 kills", "100 kills"])
def trial_seeds(request):
    return range(request.param)
