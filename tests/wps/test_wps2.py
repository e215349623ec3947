"""WPS 2.0 over real HTTP: the abstract tests of 14-065, annex A.5 (conformance class Basic WPS).

What runs on a real Swarm is one synchronous and one asynchronous job; the rest is asked of a service
beside a stand-in engine. Every document is held to the schemas by the fixtures.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import zipfile
from collections.abc import Iterator

import pytest
import requests
from lxml import etree
from ogc import assert_valid
from quick_fixture import PROBE, Quick, quick_world, soon
from service_fixture import Service, status_path, unfinished_jobs
from storagehub_fixture import ALICE, BOB, HubUser
from swarm_fixture import SORTAPP
from wps2_fixture import (
    VALUE,
    WPS,
    ZIP,
    about_job,
    answered,
    data,
    execute,
    found,
    inputs_of,
    one,
    reference,
    refused,
    request,
)

from die_algorithm.description import IDENTIFIER
from die_algorithm.job_store import JobStore
from die_algorithm.models import Failure, FaultClass, Job, JobState
from die_algorithm.runtime import job_store

DESCRIBE = f"service=WPS&version=2.0.0&request=DescribeProcess&identifier={IDENTIFIER}"
UNKNOWN_JOB = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quick]:
    with quick_world(tmp_path_factory.mktemp("quick")) as world:
        yield world


@pytest.fixture(scope="module")
def near(world: Quick) -> Iterator[Service]:
    """A service beside a stand-in engine."""
    with world.service() as service:
        yield service


def post(
    service: Service, body: str, user: HubUser = ALICE, headers: dict[str, str] | None = None
) -> requests.Response:
    return service.post(body, headers={"gcube-token": user.token, **(headers or {})})


def get(service: Service, query: str, user: HubUser = ALICE) -> requests.Response:
    return service.get(f"{service.wps}?{query}", headers={"gcube-token": user.token})


def start(service: Service, world: Quick, command: str = "probe noop", **options: str) -> str:
    """Start an asynchronous job; its id."""
    body = execute(inputs_of(PROBE, command, world.item), mode="async", **options)
    return one(answered(post(service, body), "StatusInfo"), "wps:JobID")


def finished(service: Service, world: Quick, **options: str) -> str:
    """The id of an asynchronous job that has succeeded."""
    job_id = start(service, world, **options)
    assert service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    return job_id


def rewrite(service: Service, job_id: str, **changes: object) -> None:
    """Put an ended job's record into another state, as time or a fault would."""
    job = service.runtime.engine.job(job_id)
    with contextlib.closing(job_store(service.settings)) as store:
        store.save(dataclasses.replace(job, **changes))  # type: ignore[arg-type]


def assert_sorted_zip(content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if not name.endswith("/")]
        assert [name.partition("/")[2] for name in names] == ["elements.txt"]
        lines = archive.read(names[0]).decode().split()
    assert lines == sorted(lines)


# -- on a real Swarm


def test_a_synchronous_job_gives_its_result_by_value_and_by_reference(
    service: Service, item: str
) -> None:
    """A.5.3, A.5.5, A.5.6, A.5.11: inputs and outputs by value, an output by reference, mode sync."""
    outputs = '<wps:Output id="non_deterministic_output" transmission="reference"/>' + ZIP.format(
        "value"
    )
    answer = post(service, execute(inputs_of(SORTAPP, "sortapp", item), outputs))
    result = answered(answer, "Result")
    assert_sorted_zip(base64.b64decode(one(result, "//wps:Data[@encoding='base64']")))
    collection = service.get(one(result, "//wps:Reference/@xlink:href"))
    hrefs = found(etree.fromstring(collection.content), "//d4science:Data")
    assert_sorted_zip(service.get(hrefs[-1]).content)
    assert service.runtime.engine.job(one(result, "wps:JobID")).state is JobState.SUCCEEDED


def test_an_asynchronous_job_is_followed_to_its_result(service: Service, item: str) -> None:
    """A.5.4, A.5.6, A.5.12, A.5.14, A.5.15: an input by reference, mode async, GetStatus, GetResult."""
    inputs = (
        data("Image", SORTAPP)
        + data("CommandName", "sortapp")
        + reference("FileParam", f"{service.settings.storagehub_url}/items/{item}/download")
    )
    body = execute(inputs, VALUE + ZIP.format("reference"), mode="async")
    accepted = answered(post(service, body), "StatusInfo")
    assert one(accepted, "wps:Status") in ("Accepted", "Running")
    job_id = one(accepted, "wps:JobID")
    seen: list[tuple[str, int]] = []

    def ended() -> list[etree._Element]:
        info = answered(post(service, about_job("GetStatus", job_id)), "StatusInfo")
        seen.append((one(info, "wps:Status"), int(one(info, "wps:PercentCompleted"))))
        return [info] if seen[-1][0] == "Succeeded" else []

    (last,) = soon(ended, 60)
    assert found(last, "wps:ExpirationDate") != found(last, "wps:NextPoll") == []
    words = ["Accepted", "Running", "Succeeded"]
    assert seen == sorted(seen, key=lambda state: (words.index(state[0]), state[1]))
    assert "Running" in {word for word, _ in seen}
    result = answered(post(service, about_job("GetResult", job_id)), "Result")
    assert found(result, "wps:Output/@id") == ["non_deterministic_output", "Result"]
    (href,) = found(result, "wps:Output[2]/wps:Reference/@xlink:href")
    assert found(result, "wps:Output[1]/wps:Data//d4science:Data")[-1] == href
    assert_sorted_zip(service.get(href).content)


# -- A.5.1, A.5.2: service and version


@pytest.mark.parametrize(
    ("query", "code", "locator"),
    [
        ("service=WMS&version=2.0.0&request=GetCapabilities", "InvalidParameterValue", "service"),
        ("version=2.0.0&request=GetCapabilities", "MissingParameterValue", "service"),
        (
            f"service=WMS&version=2.0.0&request=DescribeProcess&identifier={IDENTIFIER}",
            "InvalidParameterValue",
            "service",
        ),
        (
            "service=WPS&version=2.0.0&request=GetCapabilities&AcceptVersions=3.0.0",
            "VersionNegotiationFailed",
            None,
        ),
    ],
)
def test_another_service_is_refused(
    near: Service, query: str, code: str, locator: str | None
) -> None:
    """A.5.1. None of the accepted versions: OWS Common 2.0, 7.3.2."""
    answer = get(near, query)
    if code == "VersionNegotiationFailed":
        assert answer.status_code == 400
        assert code in answer.text
    else:
        assert refused(answer) == (400, code, locator)


@pytest.mark.parametrize("request_name", ["GetCapabilities", "DescribeProcess"])
def test_another_version_is_refused(near: Service, request_name: str) -> None:
    """A.5.2."""
    answer = get(near, f"service=WPS&version=3.0.0&request={request_name}&identifier={IDENTIFIER}")
    assert answer.status_code == 400
    assert 'locator="version"' in answer.text
    body = request("GetStatus", "<wps:JobID>x</wps:JobID>", 'version="1.0.0"')
    assert refused(post(near, body)) == (400, "InvalidParameterValue", "version")


@pytest.mark.parametrize(
    ("query", "version"),
    [
        ("", "1.0.0"),
        ("&version=1.0.0", "1.0.0"),
        ("&AcceptVersions=1.0.0", "1.0.0"),
        ("&AcceptVersions=1.0.0,2.0.0", "1.0.0"),
        ("&version=2.0.0&AcceptVersions=1.0.0", "1.0.0"),
        ("&version=2.0.0", "2.0.0"),
        ("&AcceptVersions=2.0.0", "2.0.0"),
        ("&AcceptVersions=2.0.0,1.0.0", "2.0.0"),
        ("&AcceptVersions=9.0.0,2.0.0,1.0.0", "2.0.0"),
    ],
)
def test_the_first_version_that_both_speak_is_spoken(
    near: Service, query: str, version: str
) -> None:
    answer = get(near, f"service=WPS&request=GetCapabilities{query}")
    assert answer.status_code == 200
    assert etree.fromstring(answer.content).get("version") == version


def test_capabilities_asked_for_in_xml_are_negotiated_too(near: Service) -> None:
    accepts = "<ows:AcceptVersions><ows:Version>1.0.0</ows:Version></ows:AcceptVersions>"
    answer = post(near, request("GetCapabilities", accepts, ""))
    assert etree.fromstring(answer.content).get("version") == "1.0.0"


# -- A.5.7, A.5.9, A.5.10, A.5.16, A.5.17: what is offered


def test_the_capabilities_are_the_same_in_every_encoding(near: Service) -> None:
    """A.5.7, A.5.9, A.5.16: each process has an identifier of its own; POST XML, GET in any case."""
    offered = post(near, request("GetCapabilities", "", ""))
    capabilities = answered(offered, "Capabilities")
    identifiers = found(capabilities, "wps:Contents/wps:ProcessSummary/ows:Identifier")
    assert identifiers == [IDENTIFIER]
    for query in (
        "service=WPS&version=2.0.0&request=GetCapabilities",
        "SERVICE=WPS&VERSION=2.0.0&REQUEST=GetCapabilities",
    ):
        assert get(near, query).content == offered.content


def test_the_description_is_the_same_in_every_encoding(near: Service) -> None:
    """A.5.10, A.5.17."""
    body = request("DescribeProcess", f"<ows:Identifier>{IDENTIFIER}</ows:Identifier>")
    described = post(near, body)
    answered(described, "ProcessOfferings")
    for query in (DESCRIBE, DESCRIBE.replace("identifier", "IDENTIFIER"), DESCRIBE + ",ALL"):
        assert get(near, query).content == described.content
    for answer in (
        get(near, "service=WPS&version=2.0.0&request=DescribeProcess&identifier=nix"),
        post(near, request("DescribeProcess", "<ows:Identifier>nix</ows:Identifier>")),
    ):
        assert refused(answer) == (404, "NoSuchProcess", "nix")


# -- A.5.8, A.5.12 to A.5.15, A.5.18, A.5.19: jobs


def test_each_job_has_an_id_of_its_own(near: Service, world: Quick) -> None:
    """A.5.8."""
    assert len({start(near, world) for _ in range(3)}) == 3


def test_the_mode_auto_is_answered(near: Service, world: Quick) -> None:
    """A.5.13: here it is asynchronous."""
    body = execute(inputs_of(PROBE, "probe sleep 30", world.item), mode="auto")
    info = answered(post(near, body), "StatusInfo")
    assert one(info, "wps:Status") in ("Accepted", "Running")
    job_id = one(info, "wps:JobID")
    assert not near.runtime.engine.job(job_id).state.is_final
    answered(post(near, about_job("Dismiss", job_id)), "StatusInfo")
    near.runtime.engine.wait(job_id, 20)


@pytest.mark.parametrize("name", ["JobID", "JOBID", "jobid"])
def test_status_and_result_are_had_by_key_value_pairs(
    near: Service, world: Quick, name: str
) -> None:
    """A.5.18, A.5.19: parameter names in any case."""
    job_id = finished(near, world)
    rest = f"service=WPS&version=2.0.0&{name}={job_id}"
    info = answered(get(near, f"{rest}&request=GetStatus"), "StatusInfo")
    assert one(info, "wps:Status") == "Succeeded"
    assert one(info, "wps:PercentCompleted") == "100"
    result = get(near, f"{rest}&request=GetResult")
    assert one(answered(result, "Result"), "wps:JobID") == job_id
    assert post(near, about_job("GetResult", job_id)).content == result.content


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_raw_response_is_the_output_alone(near: Service, world: Quick, mode: str) -> None:
    """A.5.11, A.5.15, A.5.19 with the response raw."""
    for output, kind in ((ZIP.format("value"), "application/zip"), (VALUE, "text/xml")):
        if mode == "sync":
            body = execute(inputs_of(PROBE, "probe noop", world.item), output, response="raw")
            answer = post(near, body)
        else:
            job_id = finished(near, world, outputs=output, response="raw")
            answer = post(near, about_job("GetResult", job_id))
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith(kind)
        if kind == "application/zip":
            assert zipfile.ZipFile(io.BytesIO(answer.content)).testzip() is None
        else:
            assert b"FeatureCollection" in answer.content[:200]


def test_a_result_that_is_not_ready_is_refused_and_a_job_that_runs_says_when_to_look_again(
    near: Service, world: Quick
) -> None:
    job_id = start(near, world, "probe sleep 30")
    soon(lambda: JobState.RUNNING in near.runtime.engine.job(job_id).reached)
    info = answered(post(near, about_job("GetStatus", job_id)), "StatusInfo")
    assert one(info, "wps:Status") == "Running"
    assert 0 < int(one(info, "wps:PercentCompleted")) < 100
    assert str(info.xpath("string(comment())")).strip() == "The program is running."
    assert found(info, "wps:NextPoll") != found(info, "wps:ExpirationDate") == []
    answer = post(near, about_job("GetResult", job_id))
    assert refused(answer) == (404, "ResultNotReady", job_id)
    # Its owner takes it back, in the other encoding.
    query = f"service=WPS&version=2.0.0&request=Dismiss&jobid={job_id}"
    assert near.runtime.engine.job(job_id).state is JobState.RUNNING
    head = requests.head(f"{near.wps}?{query}&gcube-token={ALICE.token}", timeout=20)
    assert head.status_code == 405
    dismissed = answered(get(near, query), "StatusInfo")
    assert one(dismissed, "wps:Status") == "Dismissed"
    assert near.runtime.engine.wait(job_id, 20).state is JobState.DISMISSED
    info = answered(post(near, about_job("GetStatus", job_id)), "StatusInfo")
    assert one(info, "wps:Status") == "Dismissed"
    gone = post(near, about_job("GetResult", job_id))
    assert refused(gone) == (400, "NoApplicableCode", None)
    assert "Computation cancelled." in gone.text


def test_dismissing_a_job_that_has_ended_leaves_it_as_it_ended(near: Service, world: Quick) -> None:
    job_id = finished(near, world)
    info = answered(post(near, about_job("Dismiss", job_id)), "StatusInfo")
    assert one(info, "wps:Status") == "Succeeded"
    text = str(info.xpath("string(comment())"))
    assert "The job succeeded: 0 files" in text
    assert "It is kept until " in text
    answered(post(near, about_job("GetResult", job_id)), "Result")


@pytest.mark.parametrize("command", ["probe noop", "probe exit 3"])
def test_a_job_that_was_dismissed_just_before_its_outcome_stays_dismissed(
    near: Service, world: Quick, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = JobStore.save
    answers: list[str] = []

    def dismiss_and_save(store: JobStore, job: Job, **options: bool) -> Job:
        if (job.result or job.failure) and not answers:
            info = answered(post(near, about_job("Dismiss", job.id)), "StatusInfo")
            answers.append(one(info, "wps:Status"))
        return save(store, job, **options)

    monkeypatch.setattr(JobStore, "save", dismiss_and_save)
    job_id = start(near, world, command)
    ended = near.runtime.engine.wait(job_id, 20)
    assert answers == ["Dismissed"]
    assert ended.state is JobState.DISMISSED
    info = answered(post(near, about_job("GetStatus", job_id)), "StatusInfo")
    assert one(info, "wps:Status") == "Dismissed"
    assert not list((near.settings.results_path / ended.result_key).glob("*.zip*"))
    world.assert_nothing_left()


def test_a_failed_job_tells_its_reason_instead_of_a_result(near: Service, world: Quick) -> None:
    body = execute(inputs_of(PROBE, "probe exit 3", world.item))
    answer = post(near, body)
    assert refused(answer) == (400, "NoApplicableCode", None)
    assert "Fault class: USER. Exit code: 3." in answer.text
    job_id = start(near, world, "probe exit 3")
    near.runtime.engine.wait(job_id, 20)
    info = answered(post(near, about_job("GetStatus", job_id)), "StatusInfo")
    assert one(info, "wps:Status") == "Failed"
    assert found(info, "wps:PercentCompleted") == []
    later = post(near, about_job("GetResult", job_id))
    assert refused(later) == (400, "NoApplicableCode", None)
    assert "Fault class: USER. Exit code: 3." in later.text


def test_a_job_that_failed_by_the_servers_fault_is_an_error_of_the_server(
    near: Service, world: Quick
) -> None:
    job_id = finished(near, world)
    failure = Failure(fault_class=FaultClass.SYSTEM, text="The machine was restarted.")
    rewrite(near, job_id, state=JobState.FAILED, failure=failure, result=None)
    answer = post(near, about_job("GetResult", job_id))
    assert refused(answer) == (500, "InternalServerError", None)
    assert "The machine was restarted. Fault class: SYSTEM." in answer.text


def test_an_expired_result_is_gone_and_the_status_says_since_when(
    near: Service, world: Quick
) -> None:
    job_id = finished(near, world)
    job = near.runtime.engine.job(job_id)
    assert job.expiry is not None
    rewrite(near, job_id, expiry=dataclasses.replace(job.expiry, files_removed=True))
    info = answered(post(near, about_job("GetStatus", job_id)), "StatusInfo")
    assert one(info, "wps:Status") == "Succeeded"
    assert one(info, "wps:ExpirationDate") == f"{job.expiry.files_at:%Y-%m-%dT%H:%M:%SZ}"
    gone = post(near, about_job("GetResult", job_id))
    assert refused(gone) == (410, "NoApplicableCode", None)


# -- both versions speak of the same jobs


def test_both_versions_show_the_same_job(near: Service, world: Quick) -> None:
    job_id = near.submit(ALICE.token, PROBE, "probe noop", world.item)
    near.runtime.engine.wait(job_id, 20)
    result = answered(post(near, about_job("GetResult", job_id)), "Result")
    assert found(result, "wps:Output/@id") == ["non_deterministic_output", "Result"]
    other = near.get(status_path(finished(near, world)))
    assert b"ProcessSucceeded" in other.content


@pytest.mark.parametrize("operation", ["GetStatus", "GetResult", "Dismiss"])
def test_only_its_owner_finds_a_job(near: Service, world: Quick, operation: str) -> None:
    world.hub.seed(BOB.name, "b.txt", b"b")
    job_id = finished(near, world)
    for stranger, wanted in ((BOB, job_id), (ALICE, UNKNOWN_JOB), (ALICE, "../x")):
        answer = post(near, about_job(operation, wanted), stranger)
        assert refused(answer) == (404, "NoSuchJob", wanted)
    nobody = near.post(about_job(operation, job_id))
    assert refused(nobody) == (401, "NoApplicableCode", None)
    assert nobody.headers["WWW-Authenticate"].startswith("Bearer")
    answered(post(near, about_job("GetStatus", job_id)), "StatusInfo")


def test_a_retry_with_its_key_is_the_same_job_and_deadlines_are_kept(
    near: Service, world: Quick
) -> None:
    body = execute(inputs_of(PROBE, "probe noop", world.item), mode="async")
    headers = {"Idempotency-Key": "wps2-retry", "Run-Deadline": "5m"}
    jobs = {
        one(answered(post(near, body, headers=headers), "StatusInfo"), "wps:JobID")
        for _ in range(2)
    }
    (job_id,) = jobs
    deadlines = near.runtime.engine.job(job_id).deadlines
    assert deadlines is not None
    assert deadlines.run.total_seconds() == 300
    other = execute(inputs_of(PROBE, "probe exit 1", world.item), mode="async")
    reused = post(near, other, headers=headers)
    assert refused(reused) == (422, "InvalidParameterValue", "Idempotency-Key")
    refusal = post(near, body, headers={"Run-Deadline": "99d"})
    assert refused(refusal) == (400, "InvalidParameterValue", "Run-Deadline")


# -- refusals (14-065, tables 41-50)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"process": "nix"}, (404, "NoSuchProcess", "nix")),
        ({"mode": "later"}, (400, "NoSuchMode", "later")),
        ({"mode": ""}, (400, "MissingParameterValue", "mode")),
        ({"response": "page"}, (400, "InvalidParameterValue", "response")),
        ({"inputs": data("Bogus", "x")}, (400, "NoSuchInput", "Bogus")),
        ({"inputs": data("Image", "alpine") * 2}, (400, "TooManyInputs", "Image")),
        ({"inputs": data("Image", "alpine")}, (400, "MissingParameterValue", "CommandName")),
        ({"inputs": inputs_of("evil.com/x", "x", "ITEM")}, (400, "WrongInputData", "Image")),
        ({"inputs": inputs_of(PROBE, "$(id)", "ITEM")}, (400, "WrongInputData", "CommandName")),
        ({"inputs": inputs_of(PROBE, "x" * 2000, "ITEM")}, (400, "SizeExceeded", "CommandName")),
        ({"inputs": inputs_of(PROBE, ALICE.token, "ITEM")}, (400, "WrongInputData", "CommandName")),
        ({"inputs": inputs_of(PROBE, "x", UNKNOWN_JOB)}, (400, "DataNotAccessible", "FileParam")),
        ({"outputs": '<wps:Output id="nix"/>'}, (400, "NoSuchOutput", "nix")),
        ({"outputs": VALUE * 2}, (400, "TooManyOutputs", "non_deterministic_output")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_execute_has_its_code_and_creates_nothing(
    near: Service, world: Quick, changed: dict[str, str], expected: tuple[int, str, str]
) -> None:
    soon(lambda: not unfinished_jobs(near.settings))
    started, kept = len(world.engine.starts), world.folders()
    inputs = changed.get("inputs", inputs_of(PROBE, "probe noop", "ITEM"))
    body = execute(**{**changed, "inputs": inputs.replace("ITEM", world.item)})
    answer = post(near, body)
    assert refused(answer) == expected
    assert ALICE.token not in answer.text
    assert unfinished_jobs(near.settings) == []
    assert (len(world.engine.starts), world.folders()) == (started, kept)


def test_an_execute_by_key_value_pairs_is_no_operation_of_this_version(near: Service) -> None:
    answer = get(near, f"service=WPS&version=2.0.0&request=Execute&identifier={IDENTIFIER}")
    assert refused(answer) == (501, "OperationNotSupported", "Execute")


def test_too_many_that_wait_are_told_when_to_come_back(world: Quick) -> None:
    limits = {"max_running": "1", "max_waiting": "1", "data_dir": str(world.folder / "full")}
    with world.service(**limits) as service:
        jobs = [start(service, world, "probe sleep 30")]
        soon(lambda: JobState.RUNNING in service.runtime.engine.job(jobs[0]).reached)
        jobs.append(start(service, world, "probe sleep 30"))
        waiting = answered(post(service, about_job("GetStatus", jobs[1])), "StatusInfo")
        assert one(waiting, "wps:Status") == "Accepted"
        body = execute(inputs_of(PROBE, "probe noop", world.item), mode="async")
        busy = post(service, body)
        assert refused(busy) == (503, "ServerBusy", None)
        assert int(busy.headers["Retry-After"]) > 0
        for job_id in jobs:
            answered(post(service, about_job("Dismiss", job_id)), "StatusInfo")
            service.runtime.engine.wait(job_id, 20)


def test_a_fault_that_nobody_foresaw_is_told_in_the_clients_version(
    near: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("a secret path")

    monkeypatch.setattr(near.runtime.engine, "seen_job", broken)
    answer = post(near, about_job("GetStatus", UNKNOWN_JOB))
    assert refused(answer) == (500, "NoApplicableCode", None)
    assert "secret" not in answer.text


def test_the_documents_in_these_tests_are_held_to_the_schemas() -> None:
    """Guards the guard: a document of WPS 2.0 that is not valid is noticed."""
    with pytest.raises(AssertionError):
        assert_valid(f'<wps:StatusInfo xmlns:wps="{WPS}"/>'.encode())
