"""The one world that all rows are played in."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from storagehub_fixture import ALICE, BOB

from catalogue.asking import WRONG
from catalogue.world import World, catalogue_world


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service in a network of its own. At the end, its log has shown no token to anybody."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a network namespace")
    with catalogue_world(tmp_path_factory.mktemp("catalogue")) as world:
        yield world
        log = world.log
    assert not [token for token in (ALICE.token, BOB.token, WRONG) if token in log]
    assert "Traceback" not in log
