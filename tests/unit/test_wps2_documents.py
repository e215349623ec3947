"""The documents of WPS 2.0 about jobs, in every state and form."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jobs_fixture import ACCEPTED_AT, TOKEN, make_job
from lxml import etree
from ogc import assert_valid, needs_schemas
from wps2_fixture import NAMESPACES, found, one

from die_algorithm.description import IDENTIFIER, INPUTS, NON_DETERMINISTIC, OUTPUTS, RESULT
from die_algorithm.documents import JobDocuments
from die_algorithm.errors import NotFound
from die_algorithm.links import Links
from die_algorithm.models import (
    Expiry,
    Failure,
    FaultClass,
    Job,
    JobState,
    OutputRequest,
    ResponseForm,
    ResultFile,
    Waiting,
)
from die_algorithm.wps2_capabilities import process_offerings, wps2_capabilities
from die_algorithm.wps2_documents import Wps2Documents, is_dismissed, wps2_exception_report

HOST = "https://die.example"
LINKS = Links(
    service=f"{HOST}/wps/WebProcessingService",
    status_prefix=f"{HOST}/wps/RetrieveResultServlet?id=",
    status_suffix="",
    results=f"{HOST}/results",
)
ZIP = b"PK\x05\x06" + bytes(18)
NOW = ACCEPTED_AT + timedelta(hours=1)
NASTY = "\x1b[31mred\x1b[0m \0\x01 ]]> <b>&amp; \N{SNAKE} \ud800 \ufffe \r\n last"
EXPIRY = Expiry(
    files_at=NOW + timedelta(days=7),
    record_at=NOW + timedelta(days=30),
    folder_at=NOW + timedelta(days=7),
)
WAITING = Waiting(reason="waiting for StorageHub, which does not answer", since=ACCEPTED_AT)
FAILURE = Failure(fault_class=FaultClass.USER, text=f"It failed: {NASTY}")
EXPIRED = Expiry(
    files_at=ACCEPTED_AT, record_at=EXPIRY.record_at, folder_at=ACCEPTED_AT, files_removed=True
)


def states() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each state with the word that WPS 2.0 has for it."""
    yield "accepted", {"state": JobState.ACCEPTED}, "Accepted"
    yield "waiting", {"state": JobState.ACCEPTED, "waiting": WAITING}, "Accepted"
    for state in (JobState.STAGED_IN, JobState.DISPATCHED, JobState.RUNNING, JobState.STAGING_OUT):
        yield state.value, {"state": state}, "Running"
    yield "failing", {"state": JobState.STAGING_OUT, "failure": FAILURE}, "Running"
    yield "succeeded", {"state": JobState.SUCCEEDED, "expiry": EXPIRY}, "Succeeded"
    yield "expired", {"state": JobState.SUCCEEDED, "expiry": EXPIRED}, "Succeeded"
    everything = {"failure": FAILURE, "exit_code": 137, "log_tail": NASTY * 100, "expiry": EXPIRY}
    yield "failed", {"state": JobState.FAILED, **everything}, "Failed"
    yield "dismissed", {"state": JobState.DISMISSED, "expiry": EXPIRY}, "Dismissed"
    wished = {"cancel_requested": True}
    yield "to be dismissed", {"state": JobState.RUNNING, **wished}, "Dismissed"
    yield (
        "dismissed too late",
        {"state": JobState.STAGING_OUT, "failure": FAILURE, **wished},
        "Running",
    )
    yield (
        "ended all the same",
        {"state": JobState.SUCCEEDED, "expiry": EXPIRY, **wished},
        "Succeeded",
    )
    yield "of a former release", {"state": JobState.SUCCEEDED}, "Succeeded"


STATES = {name: changes for name, changes, _ in states()}
WORDS = {name: word for name, _, word in states()}
FORMS = {
    "nothing said": ResponseForm(),
    "zip inline": ResponseForm(outputs=(OutputRequest(identifier=RESULT),)),
    "both by reference": ResponseForm(
        outputs=tuple(
            OutputRequest(identifier=output.identifier, as_reference=True) for output in OUTPUTS
        )
    ),
    "raw": ResponseForm(raw=OutputRequest(identifier=RESULT), store=True, status=True),
    "the portal's of WPS 1.0.0": ResponseForm(
        store=True,
        status=True,
        outputs=tuple(
            OutputRequest(identifier=output.identifier, mime_type="text/xml") for output in OUTPUTS
        ),
    ),
}


@pytest.fixture
def documents(tmp_path: Path) -> Wps2Documents:
    zip_path = tmp_path / "die.zip"
    zip_path.write_bytes(ZIP)
    return Wps2Documents(LINKS, JobDocuments(LINKS, lambda _job: zip_path, inline_limit=2000))


def info_of(documents: Wps2Documents, job: Job, place: int | None = None) -> etree._Element:
    return assert_valid(documents.status_info(job, NOW, place))


# -- StatusInfo


@needs_schemas
@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_valid_document_with_its_word(
    documents: Wps2Documents, state: str
) -> None:
    job = make_job(**STATES[state])
    info = info_of(documents, job)
    assert one(info, "wps:Status") == WORDS[state]
    assert one(info, "wps:JobID") == job.id
    assert is_dismissed(job) is (WORDS[state] == "Dismissed")
    assert TOKEN.encode() not in etree.tostring(info)


@pytest.mark.parametrize("state", STATES)
def test_a_job_says_when_to_look_again_until_it_has_ended_and_then_when_it_expires(
    documents: Wps2Documents, state: str
) -> None:
    job = make_job(**STATES[state])
    info = info_of(documents, job)
    assert len(found(info, "wps:NextPoll")) == (0 if job.state.is_final else 1)
    assert len(found(info, "wps:ExpirationDate")) == (1 if job.expiry else 0)
    assert found(info, "wps:EstimatedCompletion") == []


def test_the_next_poll_is_later_for_a_job_that_waits(documents: Wps2Documents) -> None:
    job = make_job(state=JobState.ACCEPTED)
    polls = [
        one(info_of(documents, job, place), "wps:NextPoll") for place in (None, 0, 3, 100, 10_000)
    ]
    assert f"{NOW:%Y-%m-%dT%H:%M:%SZ}" < polls[0] == polls[1] < polls[2] < polls[3] == polls[4]


@pytest.mark.parametrize(
    ("state", "expires"),
    [("succeeded", EXPIRY.files_at), ("expired", ACCEPTED_AT), ("failed", EXPIRY.record_at)],
)
def test_the_expiration_is_that_of_the_result_or_else_of_the_status(
    documents: Wps2Documents, state: str, expires: Any
) -> None:
    info = info_of(documents, make_job(**STATES[state]))
    assert one(info, "wps:ExpirationDate") == f"{expires:%Y-%m-%dT%H:%M:%SZ}"


def test_the_percentage_rises_to_the_end(documents: Wps2Documents) -> None:
    way = [*list(JobState)[:5], JobState.SUCCEEDED]
    percents = [
        int(one(info_of(documents, make_job(state=state)), "wps:PercentCompleted")) for state in way
    ]
    assert percents == sorted(set(percents))
    assert (percents[0], percents[-1]) == (0, 100)
    for state in ("failed", "dismissed", "to be dismissed"):
        info = info_of(documents, make_job(**STATES[state]))
        assert found(info, "wps:PercentCompleted") == []


# -- Result


@needs_schemas
@pytest.mark.parametrize("form", FORMS)
def test_a_result_is_valid_in_every_form(documents: Wps2Documents, form: str) -> None:
    job = make_job(state=JobState.SUCCEEDED, expiry=EXPIRY, response_form=FORMS[form])
    result = assert_valid(documents.result(job))
    assert one(result, "wps:JobID") == job.id
    assert one(result, "wps:ExpirationDate") == f"{EXPIRY.files_at:%Y-%m-%dT%H:%M:%SZ}"
    wanted = FORMS[form].outputs or OUTPUTS
    assert found(result, "wps:Output/@id") == [output.identifier for output in wanted]


def test_the_outputs_come_as_they_were_asked_for(documents: Wps2Documents) -> None:
    def result(form: str) -> tuple[Job, etree._Element]:
        job = make_job(state=JobState.SUCCEEDED, response_form=FORMS[form])
        return job, assert_valid(documents.result(job))

    job, document = result("both by reference")
    hrefs = [LINKS.collection(job), LINKS.zip(job)]
    assert found(document, "//wps:Reference/@xlink:href") == hrefs
    job, document = result("zip inline")
    assert base64.b64decode(one(document, "//wps:Data[@encoding='base64']")) == ZIP
    job, document = result("nothing said")
    path = f"wps:Output[@id='{NON_DETERMINISTIC}']/wps:Data//d4science:Data"
    assert found(document, path) == [LINKS.log(job), LINKS.zip(job)]
    assert one(document, f"wps:Output[@id='{RESULT}']/wps:Reference/@xlink:href") == LINKS.zip(job)
    job, document = result("the portal's of WPS 1.0.0")
    assert base64.b64decode(one(document, "//wps:Data[@encoding='base64']")) == ZIP


def test_a_zip_above_the_limit_comes_by_reference(documents: Wps2Documents) -> None:
    large = ResultFile(name="x", size=2001, sha256="0" * 64, files=1)
    job = make_job(state=JobState.SUCCEEDED, response_form=FORMS["zip inline"], result=large)
    document = assert_valid(documents.result(job))
    assert one(document, "//wps:Reference/@xlink:href") == LINKS.zip(job)


# -- ExceptionReport


@needs_schemas
def test_the_report_of_a_failure_says_why_and_shows_the_log(documents: Wps2Documents) -> None:
    job = make_job(**STATES["failed"])
    report = assert_valid(documents.failure_report(job, "NoApplicableCode"))
    assert report.get("version") == "2.0.0"
    reason, log = found(report, "//ows:ExceptionText")
    assert "Fault class: USER. Exit code: 137." in reason
    assert log.startswith("The end of the program's log")
    dismissed = documents.failure_report(make_job(**STATES["dismissed"]), "NoApplicableCode")
    assert found(assert_valid(dismissed), "//ows:ExceptionText") == ["Computation cancelled."]


@needs_schemas
@pytest.mark.parametrize("locator", [None, "", "Image", '" onload="x', "a\0\x1b[2J\nb", NASTY * 9])
def test_a_refusal_is_valid_whatever_it_names(locator: str | None) -> None:
    report = assert_valid(wps2_exception_report(NotFound(f"a sentence {NASTY}", locator)))
    assert one(report, "//ows:Exception/@exceptionCode") == "NoApplicableCode"
    assert len(found(report, "//ows:Exception/@locator")) == (1 if locator else 0)


# -- the service


def test_the_capabilities_offer_every_operation_as_it_can_be_had() -> None:
    document = assert_valid(wps2_capabilities(LINKS.service))
    names = found(document, "//ows:Operation/@name")
    assert names == [
        *("GetCapabilities", "DescribeProcess", "Execute"),
        *("GetStatus", "GetResult", "Dismiss"),
    ]
    for name in names:
        http = f"//ows:Operation[@name='{name}']/ows:DCP/ows:HTTP"
        assert one(document, f"{http}/ows:Post/@xlink:href") == LINKS.service
        assert len(found(document, f"{http}/ows:Get")) == (0 if name == "Execute" else 1)
    assert found(document, "//ows:ServiceTypeVersion") == ["2.0.0", "1.0.0"]
    summary = "wps:Contents/wps:ProcessSummary"
    assert one(document, f"{summary}/ows:Identifier") == IDENTIFIER
    options = one(document, f"{summary}/@jobControlOptions").split()
    assert options == ["sync-execute", "async-execute", "dismiss"]
    assert one(document, f"{summary}/@outputTransmission").split() == ["value", "reference"]


def test_the_description_names_every_input_and_output() -> None:
    document = assert_valid(process_offerings())
    process = "wps:ProcessOffering/wps:Process"
    assert found(document, f"{process}/wps:Input/ows:Identifier") == [
        described.identifier for described in INPUTS
    ]
    assert found(document, f"{process}/wps:Input/@minOccurs") == ["1", "1", "0", "0"]
    assert found(document, f"{process}/wps:Output/ows:Identifier") == [NON_DETERMINISTIC, RESULT]
    zip_formats = f"{process}/wps:Output[ows:Identifier='{RESULT}']/wps:ComplexData/wps:Format"
    assert found(document, f"{zip_formats}/@mimeType") == ["application/zip"] * 2
    descriptions = document.xpath("//wps:Format/..", namespaces=NAMESPACES)
    assert isinstance(descriptions, list)
    assert len(descriptions) == len(INPUTS) + len(OUTPUTS)
    for data in descriptions:
        assert isinstance(data, etree._Element)
        assert found(data, "wps:Format/@default") == ["true"]
