"""OWSLib and birdy with the token in each place that they have for one, and what becomes of a poller.

The forms and files of their requests are in test_clients, on a real Swarm.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import birdy
import pytest
import requests
from owslib.util import Authentication
from owslib.wps import ASYNC, SYNC, WebProcessingService, WPSExecution, monitorExecution
from quick_fixture import PROBE, Quick, quick_world
from service_fixture import Service
from storagehub_fixture import ALICE, BOB

from die_algorithm import refusals
from die_algorithm.description import IDENTIFIER, NON_DETERMINISTIC, RESULT
from die_algorithm.web import STATUS_PATH

PLACES: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "header": lambda url: (url, {"headers": {"gcube-token": ALICE.token}}),
    "bearer": lambda url: (url, {"headers": {"Authorization": f"Bearer {ALICE.token}"}}),
    "basic": lambda url: (url, {"auth": Authentication(ALICE.name, ALICE.token)}),
    "address": lambda url: (f"{url}?gcube-token={ALICE.token}", {}),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quick]:
    with quick_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(scope="module")
def quick_service(world: Quick) -> Iterator[Service]:
    with world.service() as service:
        yield service


@pytest.fixture(scope="module")
def open_service(world: Quick) -> Iterator[Service]:
    with world.service(open_status="true", data_dir=str(world.folder / "open")) as service:
        yield service


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the clients of this process have asked for a status."""
    found: list[float] = []
    request = requests.Session.request

    def counted(session: requests.Session, method: str, url: str, **options: Any) -> Any:
        if STATUS_PATH in url:
            found.append(time.monotonic())
        return request(session, method, url, **options)

    monkeypatch.setattr(requests.Session, "request", counted)
    return found


def given(item: str, command: str) -> list[tuple[str, object]]:
    return [("Image", PROBE), ("CommandName", command), ("FileParam", item)]


def watch(execution: WPSExecution, seconds: float = 0.1) -> None:
    """Let OWSLib wait for the end; it has one."""
    thread = threading.Thread(
        target=monitorExecution, args=(execution,), kwargs={"sleepSecs": seconds}, daemon=True
    )
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it goes on for ever"


@pytest.mark.parametrize("mode", [SYNC, ASYNC])
@pytest.mark.parametrize("place", ["header", "bearer", "basic"])
def test_owslib_carries_the_token_all_the_way(
    quick_service: Service, world: Quick, polls: list[float], tmp_path: Path, place: str, mode: str
) -> None:
    url, options = PLACES[place](quick_service.wps)
    wps = WebProcessingService(url, **options)
    assert [process.identifier for process in wps.processes] == [IDENTIFIER]
    assert wps.describeprocess(IDENTIFIER).title == "Docker Image Executor"
    outputs = [(NON_DETERMINISTIC, True), (RESULT, True)]
    execution = wps.execute(
        IDENTIFIER, given(world.item, "probe write-slowly a.txt 0.3"), output=outputs, mode=mode
    )
    watch(execution)
    assert execution.isSucceded(), execution.errors
    if mode == SYNC:
        assert polls == []
    else:
        # One look each tenth of a second: it has never gone round without a pause.
        gaps = [later - earlier for earlier, later in itertools.pairwise(polls)]
        assert polls
        assert all(gap >= 0.1 for gap in gaps)
    target = tmp_path / "result"
    execution.getOutput(str(target), RESULT)
    assert target.read_bytes().startswith(b"PK")
    execution.getOutput(str(target), NON_DETERMINISTIC)
    assert b"FeatureCollection" in target.read_bytes()


def test_owslib_carries_the_token_in_the_address_where_it_waits(
    quick_service: Service, world: Quick, tmp_path: Path
) -> None:
    url, options = PLACES["address"](quick_service.wps)
    execution = WebProcessingService(url, **options).execute(
        IDENTIFIER, given(world.item, "probe write a.txt a"), output=[(RESULT, True)], mode=SYNC
    )
    assert execution.isSucceded(), execution.errors
    target = tmp_path / "result.zip"
    execution.getOutput(str(target))
    assert target.read_bytes().startswith(b"PK")


def test_owslib_that_polls_without_a_token_needs_an_open_status(
    open_service: Service, world: Quick, polls: list[float]
) -> None:
    url, options = PLACES["address"](open_service.wps)
    execution = WebProcessingService(url, **options).execute(
        IDENTIFIER, given(world.item, "probe noop"), output=[(RESULT, True)], mode=ASYNC
    )
    watch(execution)
    assert execution.isSucceded(), execution.errors
    assert polls


@pytest.mark.parametrize(
    ("headers", "words"),
    [({}, "carries no user token"), ({"gcube-token": BOB.token}, "There is no job of this id")],
)
def test_owslib_that_is_refused_its_status_ends_and_says_why(
    quick_service: Service,
    world: Quick,
    polls: list[float],
    headers: dict[str, str],
    words: str,
) -> None:
    """Of itself it would ask again for ever, without a pause."""
    url, options = PLACES["address"](quick_service.wps)
    execution = WebProcessingService(url, **options).execute(
        IDENTIFIER, given(world.item, "probe noop"), output=[(RESULT, True)], mode=ASYNC
    )
    execution.headers = headers
    watch(execution)
    assert not execution.isSucceded()
    assert words in execution.errors[0].text
    assert "asked for too often" in execution.errors[0].text
    assert len(polls) < 2 * refusals._BORNE


def test_who_is_refused_too_often_is_told_when_to_come_again(
    quick_service: Service, world: Quick
) -> None:
    job_id = quick_service.submit(ALICE.token, PROBE, "probe forever", world.item)
    path = f"{STATUS_PATH}?id={job_id}"
    answers = [quick_service.get(path) for _ in range(refusals._BORNE + 1)]
    assert [answer.status_code for answer in answers] == [401] * refusals._BORNE + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    # Who may see it is not concerned.
    assert quick_service.get(path, headers={"gcube-token": ALICE.token}).status_code == 200


@pytest.mark.parametrize(("place", "progress"), [("header", False), ("basic", True)])
def test_birdy_carries_the_token_all_the_way(
    quick_service: Service, world: Quick, place: str, progress: bool
) -> None:
    options: dict[str, Any] = (
        {"headers": {"gcube-token": ALICE.token}}
        if place == "header"
        else {"auth": (ALICE.name, ALICE.token)}
    )
    client = birdy.WPSClient(quick_service.wps, progress=progress, **options)
    execution = getattr(client, birdy.utils.sanitize(IDENTIFIER))(
        image=PROBE, commandname="probe write a.txt a", itemparam=world.item
    )
    watch(execution)
    assert execution.isSucceded(), execution.errors
    address = execution.get()[1]
    assert quick_service.get(address).content.startswith(b"PK")


def test_birdy_carries_the_token_in_the_address_where_it_waits(
    quick_service: Service, world: Quick
) -> None:
    client = birdy.WPSClient(f"{quick_service.wps}?gcube-token={ALICE.token}")
    execution = getattr(client, birdy.utils.sanitize(IDENTIFIER))(
        image=PROBE, commandname="probe noop", itemparam=world.item
    )
    assert quick_service.get(execution.get()[1]).content.startswith(b"PK")
