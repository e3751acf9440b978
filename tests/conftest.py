"""Shared fixtures. Tests that need the real development images skip with a reason where those are absent."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def _data_folder() -> Path | None:
    named = os.environ.get("MEDFPL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder if (folder / "manifest.csv").is_file() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, or a skip."""
    folder = _data_folder()
    if folder is None:
        pytest.skip("the real development images are not on this machine (set MEDFPL_DATA)")
    return folder


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The sample data that ships with the project."""
    return REPOSITORY / "sample_data"
