"""Checkpoints: whole or not there, the newest whole one is read, a full disk leaves the one before."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from zoo.training.checkpoint import DONE, STATE, last_checkpoint, save_checkpoint
from zoo.training.errors import DamagedRunError

from zoo.errors import DiskFullError
from zoo.files import write_json


class TestCheckpoint:
    def test_newest_whole_one_is_read(self, tmp_path):
        for step in (1, 2, 3):
            save_checkpoint(tmp_path, step, {"step": step, "weight": torch.full((4,), float(step))})
        assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
        assert last_checkpoint(tmp_path)["step"] == 3

    def test_killed_write_is_ignored(self, tmp_path, monkeypatch):
        save_checkpoint(tmp_path, 1, {"step": 1})

        def killed(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, 2, {"step": 2})
        assert last_checkpoint(tmp_path) == {"step": 1}

    @pytest.mark.parametrize("damage", ["cut", "changed", "unmarked"])
    def test_damaged_one_is_passed_over(self, tmp_path, damage):
        for step in (1, 2):
            save_checkpoint(tmp_path, step, {"step": step, "weight": torch.ones(100)})
        state = tmp_path / "step-00000002" / STATE
        content = state.read_bytes()
        if damage == "unmarked":
            (tmp_path / "step-00000002" / DONE).unlink()
        else:
            state.write_bytes(content[:-1] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
        assert last_checkpoint(tmp_path)["step"] == 1

    def test_all_damaged_is_an_error(self, tmp_path):
        save_checkpoint(tmp_path, 1, {"step": 1})
        (tmp_path / "step-00000001" / DONE).unlink()
        with pytest.raises(DamagedRunError, match="step-00000001"):
            last_checkpoint(tmp_path)

    def test_none_yet(self, tmp_path):
        assert last_checkpoint(tmp_path / "nowhere") is None


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


class TestFullDisk:
    def test_named_error_and_the_one_before_survives(self, small_disk):
        save_checkpoint(small_disk, 1, {"step": 1, "weight": torch.ones(60_000)})
        with pytest.raises(DiskFullError, match=r"bytes free.*step-00000001 is whole.*--resume"):
            save_checkpoint(small_disk, 2, {"step": 2, "weight": torch.ones(400_000)})
        assert [path.name for path in small_disk.iterdir()] == ["step-00000001"]
        assert last_checkpoint(small_disk)["step"] == 1
        save_checkpoint(small_disk, 2, {"step": 2, "weight": torch.ones(60_000)})
        assert last_checkpoint(small_disk)["step"] == 2

    def test_nothing_before_it(self, small_disk):
        with pytest.raises(DiskFullError, match="there is none before it"):
            save_checkpoint(small_disk, 1, {"weight": torch.ones(400_000)})

    def test_other_errors_keep_their_name(self, tmp_path):
        (tmp_path / "run").write_text("a file, no folder")
        with pytest.raises(OSError, match="run"):
            save_checkpoint(tmp_path / "run", 1, {"step": 1})


def test_json_is_whole_or_not_there(tmp_path):
    write_json(tmp_path / "facts.json", {"a": "ü"})
    assert json.loads((tmp_path / "facts.json").read_text()) == {"a": "ü"}
    with pytest.raises(TypeError):
        write_json(tmp_path / "facts.json", {"a": object()})
    assert json.loads((tmp_path / "facts.json").read_text()) == {"a": "ü"}
