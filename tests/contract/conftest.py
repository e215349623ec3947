"""What each module of contract tests may ask for: a StorageHub of its own, and jobs' databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from job_network_fixture import JobNetwork
from postgresql_fixture import PostgresqlServer
from storagehub_fixture import ALICE, BOB, HubClient, hub_client, local_storagehub
from store_fixture import DatabaseClock, Place, clock_of

from die_algorithm.job_store import JobStore
from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.local_swarm import LocalSwarm


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


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    """An SQLite database that is not there yet."""
    folder = tmp_path / "data"
    return Place(f"sqlite:///{folder / 'jobs.sqlite'}", folder, folder)


@pytest.fixture
def postgresql_place(
    postgresql: PostgresqlServer, postgresql_database: str, tmp_path: Path
) -> Place:
    """An empty PostgreSQL database."""
    return Place(postgresql_database, tmp_path / "data", postgresql.folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each database in turn, empty."""
    found = request.getfixturevalue(f"{request.param}_place")
    assert isinstance(found, Place)
    return found


@pytest.fixture
def clock(place: Place) -> Iterator[DatabaseClock]:
    """The clock of that database; to be asked for before the store."""
    with clock_of(place) as clock:
        yield clock


@pytest.fixture
def postgresql_clock(postgresql_place: Place) -> Iterator[DatabaseClock]:
    """The clock of the PostgreSQL database; to be asked for before the store."""
    with clock_of(postgresql_place) as clock:
        yield clock


@pytest.fixture
def store(place: Place) -> Iterator[JobStore]:
    """A store on each database in turn."""
    with closing(place.open()) as store:
        yield store


@pytest.fixture
def sqlite_store(sqlite_place: Place) -> Iterator[JobStore]:
    """A store on SQLite."""
    with closing(sqlite_place.open()) as store:
        yield store


@pytest.fixture
def postgresql_store(postgresql_place: Place) -> Iterator[JobStore]:
    """A store on PostgreSQL."""
    with closing(postgresql_place.open()) as store:
        yield store


@pytest.fixture
def password_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A trap on this machine: a password for its own address, which libraries like to send along."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password trap\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def job_network(swarm: LocalSwarm, storagehub: LocalStorageHub) -> Iterator[JobNetwork]:
    """The network of jobs made, and taken away."""
    network = JobNetwork(swarm, storagehub.base_url.split("/")[2])
    made = network.script()
    assert made.returncode == 0, made.stderr
    yield network
    network.script("--remove")
