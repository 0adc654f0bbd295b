"""The sandbox of each hostile case."""

from pathlib import Path

import pytest

from tests.strangers.harness import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A folder of its own with a stranger's gift and a user's files."""
    return Sandbox(tmp_path / "sandbox")
