"""Tokens that expire or are revoked: before the job, while it waits, while it runs, and after it."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from quick_fixture import PROBE, Quick, cancel, quick_world, soon, status
from service_fixture import Service, status_path
from storagehub_fixture import ALICE, BOB, HubUser, hub_client

from die_algorithm import credentials
from die_algorithm.documents import failure_texts
from die_algorithm.errors import SwarmUnavailable, TokenNotAccepted
from die_algorithm.job_store import store
from die_algorithm.models import FaultClass, Job, JobState, UserToken
from die_algorithm.storagehub import StorageHub
from die_algorithm.swarm import Swarm
from die_algorithm.web import WPS_PATH
from die_algorithm.worker import driver

#: Seconds: a token lives long enough to be accepted, and not until its job's end.
SHORT = 6.0


def jwt(**claims: float | str) -> str:
    """A token of a user whose name is in it, signed by nobody."""
    parts = ({"alg": "none"}, {"sub": "carol", **claims})
    return ".".join(
        [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        + ["c2lnbmF0dXJl"]
    )


def carol(**claims: float | str) -> HubUser:
    return HubUser("carol.test", jwt(**claims))


@pytest.fixture
def world_of(tmp_path: Path) -> Iterator[Callable[[HubUser], Quick]]:
    """Makes a world with a third user."""
    worlds = []

    def made(user: HubUser) -> Quick:
        worlds.append(quick_world(tmp_path, (ALICE, BOB, user)))
        return worlds[0].__enter__()

    yield made
    for world in worlds:
        world.__exit__(None, None, None)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """All clocks are the same, so none is given the benefit of the doubt."""
    for module in (credentials, store):
        monkeypatch.setattr(module, "CLOCK_SKEW", timedelta(0))


def execute(service: Service, user: HubUser, item: str, command: str = "probe noop") -> Job:
    """The job of an asynchronous Execute that was accepted."""
    job_id = service.submit(user.token, PROBE, command, item)
    return service.runtime.engine.job(job_id)


def refusal(service: Service, token: str, item: str) -> requests.Response:
    url = service.execute_url(
        token, asynchronous=True, Image=PROBE, CommandName="probe noop", FileParam=item
    )
    return service.get(url)


def end_of(service: Service, job: Job) -> Job:
    return soon(lambda: j if (j := service.runtime.engine.job(job.id)).state.is_final else None)


def seen_by(service: Service, user: HubUser, job: Job) -> str:
    """Its status, for who had the token when it was accepted."""
    return service.get(status_path(job.id, user.token)).text


def item_of(world: Quick, user: HubUser) -> str:
    return world.hub.seed(user.name, "c.txt", b"c")


# -- before


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": time.time() - 120}, "has expired at"),
        ({"nbf": time.time() + 3600, "exp": time.time() + 7200}, "is not valid before"),
        # What is no time, or of a user whom nobody knows, is StorageHub's to judge.
        ({"exp": "soon"}, "StorageHub does not accept"),
        ({"exp": 1e300}, "StorageHub does not accept"),
        ({"sub": "nobody"}, "StorageHub does not accept"),
    ],
)
def test_a_token_that_is_not_valid_now_is_refused(
    world_of: Callable[[HubUser], Quick], claims: dict[str, float | str], says: str
) -> None:
    world = world_of(carol())
    with world.service() as service:
        answer = refusal(service, jwt(**claims), world.item)
        assert answer.status_code == 401
        assert says in answer.text
        assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")
        assert answer.headers["WWW-Authenticate"].endswith(', error="invalid_token"')
        world.assert_nothing_left()


def test_without_a_token_no_error_of_one_is_named(world_of: Callable[[HubUser], Quick]) -> None:
    world = world_of(carol())
    with world.service() as service:
        url = service.execute_url(None, Image=PROBE, CommandName="probe noop", FileParam="x")
        answer = service.get(url)
        assert answer.status_code == 401
        assert "error" not in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("claims", "is_refused"),
    [
        ({"exp": -59}, False), ({"exp": -61}, True), ({"nbf": 59}, False), ({"nbf": 61}, True),
        ({"exp": 1}, False), ({}, False),
    ],
)  # fmt: skip
def test_clocks_may_differ_by_a_minute(claims: dict[str, float], is_refused: bool) -> None:
    now = datetime(2026, 3, 4, tzinfo=UTC)
    times = {name: now.timestamp() + seconds for name, seconds in claims.items()}
    token = UserToken(jwt(**times))
    if not is_refused:
        credentials.check_validity(token, now)
        return
    with pytest.raises(TokenNotAccepted):
        credentials.check_validity(token, now)


def test_while_storagehub_is_away_nobody_is_let_in_nor_called_wrong(
    world_of: Callable[[HubUser], Quick],
) -> None:
    world = world_of(carol())
    with world.service() as service:
        world.hub.stop()
        answer = refusal(service, BOB.token, world.item)
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        world.hub.start()


# -- meanwhile


def test_the_status_says_when_the_token_expires_before_the_deadline(
    world_of: Callable[[HubUser], Quick],
) -> None:
    user = carol(exp=int(time.time()) + 3600)
    world = world_of(user)
    with world.service(total_deadline="2h") as service:
        job = execute(service, user, item_of(world, user), "probe sleep 60")
        when = f"{job.token_expires_at:%Y-%m-%dT%H:%M:%SZ}"
        assert f"Your token expires at {when}." in seen_by(service, user, job)
        query = f"?service=WPS&version=2.0.0&request=GetStatus&JobID={job.id}"
        answer = service.get(f"{WPS_PATH}{query}&gcube-token={user.token}")
        assert re.search(f"<!-- [^>]* Your token expires at {when}\\.", answer.text)
        assert "Your token" not in status(service, execute(service, ALICE, world.item).id)
        soon(lambda: "is running" in seen_by(service, user, job))
        world.engine.let_end(job.id)
        end_of(service, job)
        assert "Your token" not in seen_by(service, user, job)
    with world.service(total_deadline="30m", data_dir=str(world.folder / "2")) as service:
        brief = execute(service, user, item_of(world, user), "probe sleep 60")
        soon(lambda: "is running" in seen_by(service, user, brief))
        assert "Your token" not in seen_by(service, user, brief)
        world.engine.let_end(brief.id)
        end_of(service, brief)


@pytest.mark.usefixtures("exact")
def test_a_token_that_expires_while_its_job_waits_costs_no_container(
    world_of: Callable[[HubUser], Quick],
) -> None:
    user = carol(exp=time.time() + SHORT)
    world = world_of(user)
    with world.service(max_running="1") as service:
        first = execute(service, ALICE, world.item, "probe sleep 60")
        soon(lambda: "is running" in status(service, first.id))
        waits = execute(service, user, item_of(world, user))
        failed = end_of(service, waits)
        assert failed.failure is not None
        assert failed.failure.fault_class is FaultClass.TOKEN
        assert f"has expired at {waits.token_expires_at:%Y-%m-%d %H:%M} UTC" in failed.failure.text
        assert waits.id not in [start.job_id for start in world.engine.starts]
        world.engine.let_end(first.id)
        assert end_of(service, first).state is JobState.SUCCEEDED
    assert world.engine.services() == []


@pytest.mark.usefixtures("exact")
def test_a_token_that_expires_while_its_job_waits_for_the_swarm_costs_no_container(
    world_of: Callable[[HubUser], Quick], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.2)
    user = carol(exp=time.time() + SHORT)
    world = world_of(user)
    with world.service() as service:
        world.engine.away()
        job = execute(service, user, item_of(world, user))
        soon(lambda: service.runtime.engine.job(job.id).waiting)
        assert service.runtime.engine.job(job.id).state is JobState.STAGED_IN
        soon(lambda: time.time() > user_expires(job))
        world.engine.back()
        failed = end_of(service, job)
        assert failed.failure is not None
        assert failed.failure.fault_class is FaultClass.TOKEN
        assert world.engine.starts == []
        said = "\n".join(failure_texts(failed, ""))
        assert f"The job had made the folder die-{job.id} in your workspace" in said


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("is_started", [False, True])
def test_a_token_that_expires_before_the_start_costs_no_container_and_after_it_ends_none(
    world_of: Callable[[HubUser], Quick], monkeypatch: pytest.MonkeyPatch, is_started: bool
) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.2)
    user = carol(exp=time.time() + SHORT)
    world = world_of(user)
    start, expired = Swarm.start_service, threading.Event()

    def lose_the_answer(swarm: Swarm, service_id: str) -> None:
        if is_started or expired.is_set():
            start(swarm, service_id)
        if not expired.is_set():
            raise SwarmUnavailable("The Docker engine does not answer.")

    monkeypatch.setattr(Swarm, "start_service", lose_the_answer)
    with world.service() as service:
        job = execute(service, user, item_of(world, user), "probe sleep 60")
        soon(lambda: not is_started or world.engine.alive())
        soon(lambda: service.runtime.engine.job(job.id).state is not JobState.ACCEPTED)
        soon(lambda: time.time() > user_expires(job))
        expired.set()
        if is_started:
            world.engine.let_end(job.id)
        ended = end_of(service, job)
    assert (job.id in [start.job_id for start in world.engine.starts]) is is_started
    assert ended.exit_code == (0 if is_started else None)
    assert ended.failure is not None
    assert ended.failure.fault_class is FaultClass.TOKEN
    assert world.engine.services() == []


def user_expires(job: Job) -> float:
    assert job.token_expires_at is not None
    return job.token_expires_at.timestamp()


@pytest.mark.parametrize("dies", ["expires", "is revoked"])
@pytest.mark.usefixtures("exact")
def test_a_token_that_dies_while_the_program_runs_leaves_the_result_in_its_folder(
    world_of: Callable[[HubUser], Quick], caplog: pytest.LogCaptureFixture, dies: str
) -> None:
    user = carol(exp=time.time() + SHORT) if dies == "expires" else carol()
    world = world_of(user)
    caplog.set_level(logging.INFO, "die_algorithm.local_storagehub.app")
    with world.service() as service:
        job = execute(service, user, item_of(world, user), "probe write-slowly o.txt 60")
        soon(lambda: service.runtime.engine.job(job.id).state is JobState.RUNNING)
        soon(lambda: "create/FILE" in caplog.text)
        if dies == "is revoked":
            world.hub.revoke(user.token)
        else:
            soon(lambda: time.time() > user_expires(job))
        world.engine.let_end(job.id)
        failed = end_of(service, job)
        assert failed.failure is not None
        assert failed.failure.fault_class is FaultClass.TOKEN
        assert failed.exit_code == 0
        when = "has expired at" if dies == "expires" else "has expired or was revoked"
        assert when in failed.failure.text
        assert failed.folder_kept
        assert world.engine.services() == []
        assert world.engine.alive() == []
        refused = [text for text in caplog.messages if text.endswith(("400", "401"))]
        assert len(refused) <= 5, refused  # no storm
        assert user.token not in caplog.text
    world.hub.stop()
    world.hub.start()  # the revoked one is accepted again
    if dies == "is revoked":
        with hub_client(world.hub, user) as client:
            (folder,) = [each for each in client.children(client.root()) if each["name"] != "c.txt"]
            assert folder["name"] == failed.folder_name
            assert client.names(str(folder["id"])) == ["o.txt"]


def test_the_failure_names_the_folder(world_of: Callable[[HubUser], Quick]) -> None:
    user = HubUser("carol.test", "ca201000-0000-4000-8000-000000000003-98187548")
    world = world_of(user)
    with world.service(open_status="true") as service:
        job = execute(service, user, item_of(world, user), "probe write-slowly o.txt 60")
        with hub_client(world.hub, user) as client:
            folder = soon(lambda: service.runtime.engine.job(job.id).folder)
            soon(lambda: client.names(folder.id))
        world.hub.revoke(user.token)
        world.engine.let_end(job.id)
        end_of(service, job)
        said = service.get(f"{status_path(job.id, '')}".partition("&")[0]).text
        assert "Fault class: TOKEN." in said
        assert f"What the program had written is kept in the folder die-{job.id}" in said


def test_a_revoked_token_shows_its_job_until_the_end_and_cancels_nothing(
    world_of: Callable[[HubUser], Quick],
) -> None:
    user = HubUser("carol.test", "ca201000-0000-4000-8000-000000000003-98187548")
    world = world_of(user)
    with world.service() as service:
        job = execute(service, user, item_of(world, user), "probe sleep 60")
        soon(lambda: "is running" in seen_by(service, user, job))
        world.hub.revoke(user.token)
        assert "is running" in seen_by(service, user, job)
        answer = cancel(service, job.id, user)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        assert not service.runtime.engine.job(job.id).cancel_requested


@pytest.mark.usefixtures("exact")
def test_an_expired_token_cancels_nothing_though_storagehub_is_away(
    world_of: Callable[[HubUser], Quick],
) -> None:
    user = carol(exp=time.time() + SHORT)
    world = world_of(user)
    with world.service() as service:
        job = execute(service, user, item_of(world, user), "probe sleep 60")
        soon(lambda: "is running" in seen_by(service, user, job))
        world.hub.stop()
        soon(lambda: time.time() > user_expires(job))
        answer = cancel(service, job.id, user)
        assert answer.status_code == 401
        assert "has expired at" in answer.text
        assert not service.runtime.engine.job(job.id).cancel_requested
        world.hub.start()


def test_a_job_is_cancelled_with_its_own_token_though_storagehub_is_away(
    world_of: Callable[[HubUser], Quick],
) -> None:
    world = world_of(carol())
    with world.service() as service:
        job = execute(service, ALICE, world.item, "probe sleep 60")
        soon(lambda: "is running" in seen_by(service, ALICE, job))
        world.hub.stop()
        assert cancel(service, job.id, BOB).status_code == 503
        assert cancel(service, job.id).status_code == 200
        world.hub.start()
        assert end_of(service, job).state is JobState.DISMISSED


# -- after


def test_a_token_that_dies_before_the_folder_is_removed_takes_no_result_away(
    world_of: Callable[[HubUser], Quick], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = HubUser("carol.test", "ca201000-0000-4000-8000-000000000003-98187548")
    world = world_of(user)
    delete = StorageHub.delete

    def refused(hub: StorageHub, token: UserToken, item_id: str) -> None:
        world.hub.revoke(user.token)
        delete(hub, token, item_id)

    monkeypatch.setattr(StorageHub, "delete", refused)
    with world.service(open_status="true") as service:
        job = execute(service, user, item_of(world, user), "probe write-slowly o.txt 0")
        ended = end_of(service, job)
        assert ended.state is JobState.SUCCEEDED
        assert ended.folder_kept
        said = service.get(f"{status_path(job.id, '')}".partition("&")[0]).text
        assert f"The folder die-{job.id} could not be removed from the workspace." in said
    assert world.engine.services() == []
