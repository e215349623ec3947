"""An embedded StorageHub of its own for each module that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from storagehub_fixture import ALICE, BOB, HubClient, hub_client, local_storagehub

from die_algorithm.local_storagehub.server import LocalStorageHub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStorageHub]:
    """A running StorageHub."""
    with local_storagehub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def alice(hub: LocalStorageHub) -> Iterator[HubClient]:
    """Bare requests of one user."""
    with hub_client(hub, ALICE) as client:
        yield client


@pytest.fixture
def bob(hub: LocalStorageHub) -> Iterator[HubClient]:
    """Bare requests of another."""
    with hub_client(hub, BOB) as client:
        yield client
