"""The real parts that tests share: private Swarm, PostgreSQL, embedded StorageHub, service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from canary import LogWatch, search_of
from postgresql_fixture import (
    PostgresqlServer,
    fresh_database,
    postgresql_programs,
    private_postgresql,
)
from service_fixture import Service, running_service
from sortapp_sample import SAMPLE
from storagehub_fixture import ALICE, HubClient, hub_client, local_storagehub
from swarm_fixture import PROBE, private_swarm

from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.settings import Settings

# A machine under load is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent.parent


#: Fixtures that are dear to make: all their tests run in one process, one after the other.
_DEAR = ("swarm", "postgresql", "catalogue")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell which tests belong together where several processes share them (``make test``)."""
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue  # it asks for the Swarm only when it runs
        fixtures = getattr(item, "fixturenames", ())
        group = next((name for name in _DEAR if name in fixtures), str(item.path))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> None:
    """No setting, proxy or password file of the developer's own leaks into a test."""
    for name in list(os.environ):
        if name.startswith(("DIE_", "PYWPS_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["NETRC"] = os.devnull


@pytest.fixture(scope="session", autouse=True)
def _no_token_is_shown(
    tmp_path_factory: pytest.TempPathFactory, _clean_environment: None
) -> Iterator[None]:
    """When all has ended: what services have written holds no user's token."""
    watch = LogWatch()
    watch.install()
    yield
    watch.remove()
    folder = tmp_path_factory.getbasetemp()
    found = [*search_of(folder).folder(folder), *watch.found]
    if found:
        listed = "\n".join(map(str, found[:50]))
        pytest.fail(f"Tokens were shown in {len(found)} places, below {folder}:\n{listed}")


@pytest.fixture(scope="session")
def swarm() -> Iterator[LocalSwarm]:
    """A private Swarm whose registry has the test images; its folder is kept for the next run."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a private Swarm")
    with private_swarm(ROOT / ".die" / "tests" / "swarm") as swarm:
        yield swarm


@pytest.fixture(scope="session")
def docker_host(swarm: LocalSwarm) -> str:
    """The private engine's address."""
    return swarm.docker_host


@pytest.fixture(scope="session")
def probe_image() -> str:
    """The repository of the image that behaves as its command says."""
    return PROBE


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A private PostgreSQL server. A test may stop or kill it: who needs it next starts it again."""
    programs = postgresql_programs()
    if programs is None:
        if os.geteuid() != 0:
            pytest.skip("PostgreSQL is not installed, and only root can install it")
        pytest.fail("PostgreSQL is not installed; 'scripts/bootstrap tests' installs it")
    with private_postgresql(programs) as server:
        yield server


@pytest.fixture
def postgresql_database(postgresql: PostgresqlServer) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database, which is dropped afterwards."""
    with fresh_database(postgresql) as url:
        yield url


@pytest.fixture(scope="session")
def storagehub(
    swarm: LocalSwarm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalStorageHub]:
    """An embedded StorageHub that containers reach, also under the original's address."""
    listen = (f"{swarm.host_address}:0",)
    with local_storagehub(tmp_path_factory.mktemp("storagehub"), listen=listen) as hub:
        swarm.forward_port(80, to=int(hub.url.rpartition(":")[2]))
        yield hub


@pytest.fixture
def alice(storagehub: LocalStorageHub) -> Iterator[HubClient]:
    """Bare requests of a user to her workspace."""
    with hub_client(storagehub, ALICE) as client:
        yield client


@pytest.fixture(scope="session")
def item(storagehub: LocalStorageHub) -> str:
    """The id of the sample file in alice's workspace."""
    return storagehub.seed(ALICE.name, SAMPLE.name, SAMPLE.read_bytes())


@pytest.fixture(scope="session")
def settings(
    swarm: LocalSwarm, storagehub: LocalStorageHub, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """The settings of the shared service."""
    return Settings(
        data_dir=tmp_path_factory.mktemp("service"),
        storagehub_url=storagehub.base_url,
        docker_host=swarm.docker_host,
        docker_hub_url=swarm.registry_url,
        extra_hosts=(f"registry.d4science.org:{swarm.host_address}",),
        memory_limit="64MiB",
    )


@pytest.fixture(scope="session")
def service(settings: Settings) -> Iterator[Service]:
    """The shared service."""
    with running_service(settings) as service:
        yield service
