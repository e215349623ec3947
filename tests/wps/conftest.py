"""What tests at the doors share beside the real parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_fixture import Quick, quick_world


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Quick]:
    """The outside world of a service that costs little: an engine and a StorageHub of its own."""
    with quick_world(tmp_path) as world:
        yield world
