"""A service with limits that are soon reached, alone on the real Swarm."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_ground import Ground, Images
from odd_images import RegistryFiles
from quick_fixture import Quick, quick_world
from service_fixture import running_service
from storagehub_fixture import ALICE, hub_client

from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.settings import Settings


@pytest.fixture(scope="session")
def images(swarm: LocalSwarm) -> Images:
    """Publishes odd images on the private Swarm."""
    return Images(RegistryFiles(swarm.state / "registry"))


@pytest.fixture(scope="module")
def ground(
    settings: Settings,
    swarm: LocalSwarm,
    storagehub: LocalStorageHub,
    item: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ground]:
    """A service with low limits, alone on the Swarm."""
    changes = {
        "data_dir": str(tmp_path_factory.mktemp("hostile")),
        "run_deadline": "8s",
        "stop_grace": "1s",
        "pids_limit": 64,
        "disk_limit": "32MiB",
        "log_limit": "1MiB",
        # What is asked of the registry when a job is submitted would refuse some of the images.
        "docker_hub_url": "engine",
    }
    command = ["docker", "-H", swarm.docker_host, "network", "ls", "-q"]
    networks = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    with (
        pytest.MonkeyPatch.context() as patch,
        running_service(Settings(**{**settings.model_dump(), **changes})) as service,
        hub_client(storagehub, ALICE) as alice,
    ):
        # As often as the engine can tell.
        patch.setattr("die_algorithm.steps.disk_watch._EVERY", 0.3)
        patch.setattr("die_algorithm.steps.disk_watch._SHARE", 1.0)
        yield Ground(service, swarm, alice, item, frozenset(networks))


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Quick]:
    """The outside world of a service that costs little: an engine and a StorageHub of its own."""
    with quick_world(tmp_path) as world:
        yield world
