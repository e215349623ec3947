"""Bad input at a service on the real Swarm: nothing is created. The rows are in ``tests/catalogue``."""

from __future__ import annotations

import subprocess
from urllib.parse import quote

import pytest
from service_fixture import Service, unfinished_jobs
from storagehub_fixture import ALICE, BOB, HubClient
from swarm_fixture import SORTAPP

from die_algorithm.description import IDENTIFIER
from die_algorithm.local_swarm import LocalSwarm

BASE = f"service=WPS&version=1.0.0&request=Execute&Identifier={IDENTIFIER}"
GOOD = f"Image={quote(SORTAPP, safe='')};CommandName=sortapp"


@pytest.fixture
def untouched(service: Service, alice: HubClient, swarm: LocalSwarm) -> object:
    """What exists before and must be the same after."""

    def inventory() -> object:
        jobs = len(unfinished_jobs(service.settings))
        services = subprocess.run(
            ["docker", "-H", swarm.docker_host, "service", "ls", "-q"],
            check=True,
            capture_output=True,
        ).stdout
        return jobs, services, sorted(map(str, alice.names(alice.root(), showHidden=True)))

    before = inventory()
    yield
    assert inventory() == before


@pytest.mark.parametrize(
    ("inputs", "token", "status"),
    [
        (f"{GOOD};FileParam=00000000-0000-4000-8000-000000000000", ALICE.token, 400),
        ("Image=evil.com%2Fx;CommandName=x;FileParam=ITEM", ALICE.token, 400),
        (f"{GOOD};FileParam=ITEM", "wrong-token-0000-4000", 401),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_what_is_refused_leaves_no_service_and_no_folder(
    service: Service, item: str, inputs: str, token: str, status: int
) -> None:
    query = f"{BASE}&DataInputs={inputs.replace('ITEM', item)}"
    answer = service.get(f"{service.wps}?{query}", headers={"gcube-token": token})
    assert answer.status_code == status


@pytest.mark.parametrize("token", [None, BOB.token])
def test_only_the_owner_can_cancel(service: Service, item: str, token: str | None) -> None:
    job_id = service.submit(ALICE.token, SORTAPP, "sortapp", item)
    answer = service.get(
        f"/wps/CancelComputationServlet?id={job_id}",
        headers={"gcube-token": token} if token else {},
    )
    assert answer.status_code == (404 if token else 401)
    assert service.runtime.engine.wait(job_id, 60).state.value == "succeeded"
