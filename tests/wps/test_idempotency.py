"""What a client asks for in headers: that a retry is the same job, and shorter deadlines."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from socket import SO_LINGER, SOL_SOCKET

import pytest
import requests
from lxml import etree
from quick_fixture import PROBE, Quick, soon, status, submit
from service_fixture import Service, connect, elements, job_id_of, text_of
from storagehub_fixture import ALICE, BOB, HubUser

from die_algorithm.description import IDENTIFIER
from die_algorithm.models import JobState

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
KEYED = {"Idempotency-Key": KEY}


@pytest.fixture
def service(quick: Quick) -> Iterator[Service]:
    with quick.service() as service:
        yield service


def execute(
    service: Service,
    item: str,
    headers: dict[str, str],
    *,
    command: str = "probe noop",
    user: HubUser = ALICE,
    asynchronous: bool = True,
) -> requests.Response:
    inputs = {"Image": PROBE, "CommandName": command, "FileParam": item}
    url = service.execute_url(user.token, asynchronous=asynchronous, **inputs)
    return service.get(url, headers=headers)


def job_of(answer: requests.Response) -> str:
    assert answer.status_code == 200, answer.text
    return job_id_of(etree.fromstring(answer.content))


def jobs_started(quick: Quick) -> list[str]:
    return [start.job_id for start in quick.engine.starts]


def assert_refused(answer: requests.Response, status_code: int, locator: str) -> None:
    assert answer.status_code == status_code
    report = etree.fromstring(answer.content)
    (exception,) = elements(report, "//ows:Exception")
    assert exception.get("exceptionCode") == "InvalidParameterValue"
    assert exception.get("locator") == locator


# -- the same key again


def test_the_same_key_again_is_the_same_job(service: Service, quick: Quick) -> None:
    first = job_of(execute(service, quick.item, KEYED))
    again = job_of(execute(service, quick.item, KEYED))
    assert service.runtime.engine.wait(first, 20).state is JobState.SUCCEEDED
    at_the_end = job_of(execute(service, quick.item, {"Idempotency-Key": f'"{KEY}"'}))
    assert first == again == at_the_end
    assert jobs_started(quick) == [first]


def test_a_synchronous_execute_with_a_known_key_gives_that_jobs_result(
    service: Service, quick: Quick
) -> None:
    job_id = job_of(execute(service, quick.item, KEYED))
    for _ in range(2):
        answer = execute(service, quick.item, KEYED, asynchronous=False)
        document = etree.fromstring(answer.content)
        assert f"die-{job_id}.zip" in text_of(document, "//ogr:Result[2]/d4science:Data")
    assert jobs_started(quick) == [job_id]


def test_a_key_is_known_after_a_restart(quick: Quick) -> None:
    with quick.service() as service:
        job_id = job_of(execute(service, quick.item, KEYED))
    with quick.service() as service:
        assert job_of(execute(service, quick.item, KEYED)) == job_id
        assert service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    assert jobs_started(quick) == [job_id]


def test_of_twenty_at_once_with_one_key_one_job_is_made(service: Service, quick: Quick) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = pool.map(lambda _: execute(service, quick.item, KEYED), range(20))
        jobs = {job_of(answer) for answer in answers}
    (job_id,) = jobs
    assert service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    assert jobs_started(quick) == [job_id]


def test_without_a_key_two_executes_are_two_jobs(service: Service, quick: Quick) -> None:
    assert submit(service, "probe noop", quick.item) != submit(service, "probe noop", quick.item)


def test_another_request_with_the_same_key_is_refused(service: Service, quick: Quick) -> None:
    job_id = job_of(execute(service, quick.item, KEYED))
    for asynchronous in (True, False):
        answer = execute(
            service, quick.item, KEYED, command="probe exit 1", asynchronous=asynchronous
        )
        assert_refused(answer, 422, "Idempotency-Key")
        assert "Another request was sent with this idempotency key before." in answer.text
    assert service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    assert jobs_started(quick) == [job_id]


def test_another_users_key_is_his_own(service: Service, quick: Quick) -> None:
    bobs_item = quick.hub.seed(BOB.name, "b.txt", b"b")
    hers = job_of(execute(service, quick.item, KEYED))
    his = job_of(execute(service, bobs_item, KEYED, user=BOB))
    assert hers != his
    assert service.runtime.engine.job(his).owner == BOB.name


def test_a_malformed_key_is_refused(service: Service, quick: Quick) -> None:
    for key in ("", '""', "a b", "a" * 256, 'a"b', "a\\b", "ä"):
        answer = execute(service, quick.item, {"Idempotency-Key": key})
        assert_refused(answer, 400, "Idempotency-Key")
    assert jobs_started(quick) == []


def test_a_retry_after_a_lost_answer_is_the_same_job(service: Service, quick: Quick) -> None:
    body = execute_body(quick.item)
    head = (
        "POST /wps/WebProcessingService HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
        f"gcube-token: {ALICE.token}\r\nIdempotency-Key: {KEY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with connect(service) as connection:
        connection.sendall(head.encode() + body)
        (job_id,) = soon(lambda: jobs_started(quick))
        connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    headers = {"gcube-token": ALICE.token, "Idempotency-Key": KEY}
    answer = service.post(body, headers=headers)
    assert job_of(answer) == job_id
    assert service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    assert jobs_started(quick) == [job_id]


def execute_body(item: str) -> bytes:
    inputs = "".join(
        f"<wps:Input><ows:Identifier>{name}</ows:Identifier><wps:Data><wps:LiteralData>{value}"
        "</wps:LiteralData></wps:Data></wps:Input>"
        for name, value in (
            ("Image", PROBE),
            ("CommandName", "probe sleep 0.3"),
            ("FileParam", item),
        )
    )
    return (
        '<wps:Execute service="WPS" version="1.0.0" xmlns:wps="http://www.opengis.net/wps/1.0.0" '
        f'xmlns:ows="http://www.opengis.net/ows/1.1"><ows:Identifier>{IDENTIFIER}</ows:Identifier>'
        f"<wps:DataInputs>{inputs}</wps:DataInputs><wps:ResponseForm><wps:ResponseDocument "
        'storeExecuteResponse="true" status="true"/></wps:ResponseForm></wps:Execute>'
    ).encode()


# -- deadlines


def test_a_program_is_stopped_at_the_deadline_that_its_client_has_set(
    service: Service, quick: Quick
) -> None:
    job_id = job_of(execute(service, quick.item, {"Run-Deadline": "1s"}, command="probe forever"))
    job = service.runtime.engine.wait(job_id, 20)
    assert job.state is JobState.FAILED
    text = status(service, job_id)
    assert "Fault class: LIMIT." in text
    assert "ran longer than the time limit of 1 second." in text
    quick.assert_nothing_left()


def test_a_container_that_does_not_start_in_time_is_given_up(
    service: Service, quick: Quick
) -> None:
    quick.engine.hold_pending()
    job_id = job_of(execute(service, quick.item, {"Start-Deadline": "1s"}))
    job = service.runtime.engine.wait(job_id, 20)
    assert job.state is JobState.FAILED
    assert "was not started within 1 second because no machine" in status(service, job_id)
    quick.engine.release_pending()
    quick.assert_nothing_left()


def test_a_deadline_beyond_the_operators_is_refused(quick: Quick) -> None:
    longest = {"start_deadline": "90s", "run_deadline": "48h", "total_deadline": "36h"}
    with quick.service(**longest) as service:
        for header, most in (
            ("Start-Deadline", "90s"),
            ("Run-Deadline", "2d"),
            ("Total-Deadline", "36h"),
        ):
            answer = execute(service, quick.item, {header: "3651d"})
            assert_refused(answer, 400, header)
            assert f"{header} may be at most {most} here." in answer.text
    assert jobs_started(quick) == []


def test_a_deadline_that_is_no_duration_is_refused(service: Service, quick: Quick) -> None:
    for header in ("Start-Deadline", "Run-Deadline", "Total-Deadline"):
        for value in ("soon", "", "-1s", "0s", "5", "9" * 400 + "d"):
            answer = execute(service, quick.item, {header: value})
            assert_refused(answer, 400, header)
            assert "30s, 10m, 24h or 7d" in answer.text
    assert jobs_started(quick) == []
