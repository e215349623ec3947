"""Who asks too much is told when to go on, in the client's version of WPS, and others are not."""

from __future__ import annotations

import pytest
import requests
from lxml import etree
from quick_fixture import PROBE, Quick, submit
from service_fixture import Service, status_path
from storagehub_fixture import ALICE, BOB
from wps2_fixture import execute as execute2
from wps2_fixture import inputs_of

from die_algorithm.models import JobState, UserToken
from die_algorithm.storagehub import StorageHub
from die_algorithm.web import WPS_PATH

CAPABILITIES = f"{WPS_PATH}?service=WPS&request=GetCapabilities"
WRONG = "00000000-0000-4000-8000-{:012}-98187548"


def told(answer: requests.Response, version: str = "1.1") -> bool:
    """Whether an answer is a proper refusal, with the time of the next try."""
    root = etree.fromstring(answer.content)
    assert root.tag == f"{{http://www.opengis.net/ows/{version}}}ExceptionReport"
    assert int(answer.headers["Retry-After"]) > 0
    return answer.status_code == 429


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
