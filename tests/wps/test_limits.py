"""Who asks too much is told when to go on, in the client's version of WPS, and others are not."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from lxml import etree
from quick_fixture import PROBE, Quick, cancel, soon, submit
from service_fixture import Service, status_path, unfinished_jobs
from storagehub_fixture import ALICE, BOB
from wps2_fixture import execute as execute2
from wps2_fixture import inputs_of

from die_algorithm import web
from die_algorithm.models import JobState, UserToken
from die_algorithm.storagehub import StorageHub
from die_algorithm.web import CANCEL_PATH, WPS_PATH
from die_algorithm.xml_reader import read_root
from die_algorithm.xml_writer import Element

CAPABILITIES = f"{WPS_PATH}?service=WPS&request=GetCapabilities"
WRONG = "00000000-0000-4000-8000-{:012}-98187548"


def told(answer: requests.Response, version: str = "1.1") -> bool:
    """Whether an answer is a proper refusal, with the time of the next try."""
    root = etree.fromstring(answer.content)
    assert root.tag == f"{{http://www.opengis.net/ows/{version}}}ExceptionReport"
    assert int(answer.headers["Retry-After"]) > 0
    return answer.status_code == 429


def test_two_large_bodies_are_read_at_once_and_small_ones_beside_them(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, free = threading.Semaphore(0), threading.Event()
    most = threading.BoundedSemaphore(2)

    def read(body: bytes) -> Element:
        if len(body) > 2**16:
            assert most.acquire(blocking=False)
            reading.release()
            free.wait(20)
            most.release()
        return read_root(body)

    monkeypatch.setattr(web, "read_root", read)
    with quick.service() as service, ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(service.post, f"<a>{'x' * 2**17}</a>") for _ in range(4)]
        for _ in range(2):
            assert reading.acquire(timeout=20)
        assert service.post("<a/>").status_code == 400
        free.set()
        assert {answer.result().status_code for answer in answers} == {400}


def test_requests_of_one_address_are_limited_and_health_is_not(quick: Quick) -> None:
    with quick.service(max_requests_per_minute="5") as service:
        answers = [service.get(CAPABILITIES) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert told(answers[5])
        assert told(service.get(CAPABILITIES + "&version=2.0.0"), "2.0")
        assert told(service.get(CAPABILITIES + "&AcceptVersions=2.0.0"), "2.0")
        assert told(service.post(execute2()), "2.0")
        assert told(service.post("<a/>"))
        assert service.get("/health").status_code == 200
        assert service.get("/nothing").status_code == 429


def test_behind_a_trusted_proxy_each_client_counts_for_itself(quick: Quick) -> None:
    def status(service: Service, client: str) -> int:
        return service.get(CAPABILITIES, headers={"X-Forwarded-For": client}).status_code

    changes = {"max_requests_per_minute": "2"}
    with quick.service(trusted_proxies="127.0.0.0/8", **changes) as service:
        assert [status(service, "192.0.2.1") for _ in range(3)] == [200, 200, 429]
        assert status(service, "192.0.2.2") == 200
        # The client's own word stands before what the proxy adds.
        assert status(service, "198.51.100.7, 192.0.2.1") == 429
    with quick.service(**changes) as service:
        seen = [status(service, f"192.0.2.{n}") for n in range(3)]
        assert seen == [200, 200, 429]


def test_executes_of_one_user_are_limited_and_another_users_are_not(quick: Quick) -> None:
    bobs = quick.hub.seed(BOB.name, "b.txt", b"b")
    with quick.service(max_executes_per_minute="2") as service:
        jobs = [submit(service, "probe noop", quick.item) for _ in range(2)]
        url = service.execute_url(
            ALICE.token, Image=PROBE, CommandName="probe noop", FileParam=quick.item
        )
        answer = service.get(url)
        assert told(answer)
        assert "2 jobs within a minute" in answer.text
        body = execute2(inputs_of(PROBE, "probe noop", quick.item), mode="async")
        assert told(service.post(body, headers={"gcube-token": ALICE.token}), "2.0")
        submit(service, "probe noop", bobs, BOB)
        for job in jobs:
            assert service.get(status_path(job)).status_code == 200
            assert service.runtime.engine.wait(job, 20).state is JobState.SUCCEEDED


def test_one_users_synchronous_executes_leave_a_place_for_anothers_and_nobodys_take_none(
    quick: Quick,
) -> None:
    bobs = quick.hub.seed(BOB.name, "b.txt", b"b")

    def execute(token: str, item: str, command: str = "probe noop") -> requests.Response:
        url = service.execute_url(token, Image=PROBE, CommandName=command, FileParam=item)
        return service.get(url)

    with quick.service(max_sync="2") as service, ThreadPoolExecutor(2) as clients:
        waits = clients.submit(execute, BOB.token, bobs, "probe forever")
        soon(lambda: unfinished_jobs(service.settings))
        busy = execute(BOB.token, bobs)
        assert busy.status_code == 503
        assert 'exceptionCode="ServerBusy"' in busy.text
        assert "requests under way as one user may, 1. Nothing was started" in busy.text
        assert execute(ALICE.token, quick.item).status_code == 200
        hers = clients.submit(execute, ALICE.token, quick.item, "probe forever")
        jobs = soon(lambda: found if len(found := unfinished_jobs(service.settings)) == 2 else None)
        # All places are taken, of which a token that is nobody's would want none.
        assert execute(WRONG.format(1), quick.item).status_code == 401
        for job, user in zip(sorted(jobs, key=lambda job: job.owner), (ALICE, BOB), strict=True):
            service.get(f"{CANCEL_PATH}?id={job.id}&gcube-token={user.token}")
        assert [each.result(20).status_code for each in (waits, hers)] == [200, 200]
        assert execute(BOB.token, bobs).status_code == 200


def test_to_guess_tokens_becomes_no_load_of_storagehubs(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = StorageHub.workspace_root

    def counted(storagehub: StorageHub, token: UserToken) -> object:
        if token.secret != ALICE.token:  # as the worker does
            asked.append(token.secret)
        return ask(storagehub, token)

    monkeypatch.setattr(StorageHub, "workspace_root", counted)
    with quick.service(max_refused_tokens_per_minute="3") as service:
        job = submit(service, "probe forever", quick.item)
        guesses = [service.get(status_path(job, WRONG.format(n))) for n in range(10)]
        assert [guess.status_code for guess in guesses] == [401] * 3 + [429] * 7
        assert told(guesses[-1])
        assert len(asked) == 3
        # Tokens that are known go on, from the same address too.
        assert service.get(status_path(job)).status_code == 200
        url = f"{service.wps}?service=WPS&version=2.0.0&request=GetStatus&JobID={job}"
        assert told(service.get(url, headers={"gcube-token": WRONG.format(99)}), "2.0")
        assert len(asked) == 3


def test_guesses_from_the_same_address_shut_nobody_out_whose_token_was_good(quick: Quick) -> None:
    with quick.service(max_refused_tokens_per_minute="3") as service:
        job = submit(service, "probe forever", quick.item)
        for number in range(4):
            guess = service.get(status_path(job, WRONG.format(number)))
        assert told(guess)
        # Who has not been here before cannot be told from them.
        assert told(cancel(service, job, BOB))
        submit(service, "probe noop", quick.item)
        assert cancel(service, job).status_code == 200
        quick.hub.revoke(ALICE.token)
        assert cancel(service, job).status_code == 401
        assert told(cancel(service, job))
    quick.hub.stop()
    quick.hub.start()  # it is accepted again
