from __future__ import annotations

import base64
import dataclasses
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any
from xml.dom import minidom

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_fixture import ACCEPTED_AT, TOKEN, make_job, make_request
from lxml import etree
from ogc import assert_valid, needs_schemas, text, texts

from die_algorithm import errors
from die_algorithm.description import IDENTIFIER, NON_DETERMINISTIC, RESULT
from die_algorithm.documents import JobDocuments, exception_report
from die_algorithm.errors import RequestError
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

HOST = "https://die.example"
LINKS = Links(
    service=f"{HOST}/wps/WebProcessingService",
    status_prefix=f"{HOST}/wps/RetrieveResultServlet?id=",
    status_suffix="",
    results=f"{HOST}/results",
)
ZIP = b"PK\x05\x06" + bytes(18)
NASTY = "\x1b[31mred\x1b[0m \0\x01\x07 ]]> <b>&amp; \N{SNAKE} \ud800 \ufffe \r\n last"

STORED = ResponseForm(store=True, status=True)
NDO = OutputRequest(identifier=NON_DETERMINISTIC)
FORMS = {
    "nothing said": ResponseForm(),
    "asynchronous": STORED,
    "lineage": ResponseForm(store=True, status=True, lineage=True),
    "the portal's": ResponseForm(
        store=True,
        status=True,
        outputs=(
            OutputRequest(identifier=NON_DETERMINISTIC, mime_type="text/xml"),
            OutputRequest(identifier=RESULT, mime_type="text/xml"),
        ),
    ),
    "by reference": ResponseForm(
        lineage=True,
        outputs=(
            OutputRequest(identifier=NON_DETERMINISTIC, as_reference=True),
            OutputRequest(identifier=RESULT, as_reference=True),
        ),
    ),
    "stored and waited for": ResponseForm(store=True, lineage=True),
    "each in its own way": ResponseForm(
        store=True,
        status=True,
        lineage=True,
        outputs=(
            OutputRequest(identifier=NON_DETERMINISTIC, as_reference=True, mime_type="text/xml"),
            OutputRequest(identifier=RESULT, mime_type="application/zip"),
        ),
    ),
    "zip inline": ResponseForm(outputs=(OutputRequest(identifier=RESULT),)),
    "both inline": ResponseForm(lineage=True, outputs=(OutputRequest(identifier=RESULT), NDO)),
}


def states() -> Iterator[tuple[str, dict[str, Any]]]:
    for state in JobState:
        yield state.value, {"state": state}
    waiting = Waiting(reason="waiting for StorageHub, which does not answer", since=ACCEPTED_AT)
    yield "accepted and waiting", {"state": JobState.ACCEPTED, "waiting": waiting}
    for state in (JobState.STAGED_IN, JobState.RUNNING, JobState.STAGING_OUT):
        yield f"{state.value} and waiting", {"state": state, "waiting": waiting}
    yield "running and asked to end", {"state": JobState.RUNNING, "stopped_at": ACCEPTED_AT}
    yield "accepted and cancelled", {"state": JobState.ACCEPTED, "cancel_requested": True}
    for removed, word in ((False, "kept"), (True, "expired")):
        later = ACCEPTED_AT + timedelta(days=7)
        expiry = Expiry(files_at=later, record_at=later, folder_at=later, files_removed=removed)
        yield f"succeeded and {word}", {"state": JobState.SUCCEEDED, "expiry": expiry}
        yield (
            f"failed and {word}",
            {
                "state": JobState.FAILED,
                "expiry": expiry,
                "log_tail": "the end",
                "folder_kept": True,
            },
        )
    yield "dismissed and left", {"state": JobState.DISMISSED, "folder_kept": True}
    yield (
        "failed with everything",
        {
            "state": JobState.FAILED,
            "failure": Failure(fault_class=FaultClass.IMAGE, text=f"It failed: {NASTY}"),
            "exit_code": 137,
            "log_tail": NASTY * 1000,
            "folder_kept": True,
        },
    )
    yield (
        "succeeded with notes",
        {
            "state": JobState.SUCCEEDED,
            "folder_kept": True,
            "result": ResultFile(name="x", size=1, sha256="0" * 64, files=1, notes=(NASTY, "b.")),
        },
    )


STATES = dict(states())


@pytest.fixture
def documents(tmp_path: Path) -> JobDocuments:
    zip_path = tmp_path / "die.zip"
    zip_path.write_bytes(ZIP)
    return JobDocuments(LINKS, lambda _job: zip_path, inline_limit=2000)


@pytest.fixture
def render(documents: JobDocuments) -> Callable[..., etree._Element]:
    def rendered(**changes: Any) -> etree._Element:
        return assert_valid(documents.execute_response(make_job(**changes)))

    return rendered


# -- validity


@needs_schemas
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_in_every_form_is_valid(documents: JobDocuments, state: str, form: str) -> None:
    request = make_request(given_command="sort <&> ]]> \N{SNAKE}", item_parameter="ItemParam")
    job = make_job(**STATES[state], response_form=FORMS[form], request=request)
    assert_valid(documents.execute_response(job))


@needs_schemas
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", [0, 1, 1999])
def test_a_place_in_the_queue_is_valid_in_every_form(
    documents: JobDocuments, place: int, form: str
) -> None:
    job = make_job(state=JobState.ACCEPTED, response_form=FORMS[form])
    root = assert_valid(documents.execute_response(job, place))
    said = text(root, "wps:Status/wps:ProcessAccepted")
    assert "waits for a free place" in said
    assert ("next one" if place == 0 else str(place)) in said


@needs_schemas
@pytest.mark.parametrize("state", [name for name in STATES if name.startswith(("fail", "dis"))])
def test_the_report_in_place_of_a_bare_output_is_valid(documents: JobDocuments, state: str) -> None:
    root = assert_valid(documents.failure_report(make_job(**STATES[state])))
    assert texts(root, "ows:Exception/ows:ExceptionText")[0].strip()


def request_errors() -> list[RequestError]:
    def walk(kind: type[RequestError]) -> Iterator[type[RequestError]]:
        yield kind
        for below in kind.__subclasses__():
            yield from walk(below)

    made: list[RequestError] = []
    for kind in walk(RequestError):
        if issubclass(kind, errors.MethodNotAllowed):
            made.append(kind("a sentence", ("GET",)))
        else:
            made.append(kind("a sentence"))
    return made


HOSTILE = [
    None,
    "",
    "Image",
    "<script>alert(1)</script>",
    '" onload="x',
    "]]>",
    "a\0\x1b[2J\nb",
    "\ud800\ufffe",
    "x" * 100_000,
    "\N{SNAKE}" * 200,
]


@needs_schemas
@pytest.mark.parametrize("locator", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("error", request_errors(), ids=lambda error: type(error).__name__)
def test_every_exception_report_is_valid(error: RequestError, locator: str | None) -> None:
    error.locator = locator
    error.text = f"a sentence {locator}"
    root = assert_valid(exception_report(error))
    assert text(root, "ows:Exception/@exceptionCode") == error.code
    shown = texts(root, "ows:Exception/@locator")
    assert len(shown) == (1 if locator else 0)
    assert all(len(shown_locator) <= 128 for shown_locator in shown)


def test_an_exception_report_says_code_locator_and_sentence() -> None:
    root = assert_valid(exception_report(errors.InvalidParameterValue("It is wrong.", "Image")))
    assert root.tag == "{http://www.opengis.net/ows/1.1}ExceptionReport"
    assert text(root, "ows:Exception/@exceptionCode") == "InvalidParameterValue"
    assert text(root, "ows:Exception/@locator") == "Image"
    assert text(root, "ows:Exception/ows:ExceptionText") == "It is wrong."


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_any_words_can_be_reported(sentence: str, locator: str) -> None:
    assert_valid(exception_report(RequestError(sentence, locator)))


# -- the status


def test_a_status_names_process_instance_and_time(render: Callable[..., etree._Element]) -> None:
    root = render(state=JobState.RUNNING)
    assert text(root, "wps:Process/ows:Identifier") == IDENTIFIER
    assert text(root, "wps:Status/@creationTime") == "2026-03-04T05:06:10Z"
    assert root.get("serviceInstance") == f"{LINKS.service}?service=WPS&request=GetCapabilities"


def test_percent_grows_and_stays_below_100_until_the_end(
    render: Callable[..., etree._Element],
) -> None:
    percents = [
        int(text(render(state=state), "wps:Status/wps:ProcessStarted/@percentCompleted"))
        for state in (
            JobState.STAGED_IN,
            JobState.DISPATCHED,
            JobState.RUNNING,
            JobState.STAGING_OUT,
        )
    ]
    assert percents == sorted(set(percents))
    assert percents[0] > 0
    assert percents[-1] <= 99


@pytest.mark.parametrize(
    "state", [state for state in STATES if not state.startswith(("fail", "dis"))]
)
def test_a_status_text_is_neither_empty_nor_a_number_nor_an_alarm(
    render: Callable[..., etree._Element], state: str
) -> None:
    # The portal takes a numeric text for the percentage, and clients look for "Exception".
    said = text(render(**STATES[state]), "wps:Status/*")
    assert said.strip()
    assert "Exception" not in said
    with pytest.raises(ValueError, match="convert"):
        float(said)


def test_an_outage_is_told_with_its_beginning(render: Callable[..., etree._Element]) -> None:
    said = text(render(**STATES["accepted and waiting"]), "wps:Status/wps:ProcessAccepted")
    assert "waiting for StorageHub" in said
    assert "2026-03-04T05:06:07Z" in said


def test_success_tells_files_size_and_digest(render: Callable[..., etree._Element]) -> None:
    said = text(render(state=JobState.SUCCEEDED), "wps:Status/wps:ProcessSucceeded")
    for fact in ("2 files", "1234 bytes", "ab" * 32):
        assert fact in said
    notes = text(render(**STATES["succeeded with notes"]), "wps:Status/wps:ProcessSucceeded")
    assert "1 file," in notes
    assert "could not be removed" in notes


def test_a_folder_that_is_kept_for_what_is_no_file_is_called_kept(
    render: Callable[..., etree._Element],
) -> None:
    result = ResultFile(name="x", size=1, sha256="0" * 64, files=1, left_out=1)
    root = render(state=JobState.SUCCEEDED, folder_kept=True, result=result)
    said = text(root, "wps:Status/wps:ProcessSucceeded")
    assert "is kept in the workspace" in said
    assert "could not be removed" not in said


def test_a_failure_tells_class_exit_code_job_and_log(render: Callable[..., etree._Element]) -> None:
    job = make_job(
        state=JobState.FAILED,
        failure=Failure(fault_class=FaultClass.USER, text="The program failed."),
        exit_code=3,
        log_tail="line 1\nline 2",
        folder_kept=True,
    )
    root = render(**{field.name: getattr(job, field.name) for field in dataclasses.fields(job)})
    report = "wps:Status/wps:ProcessFailed/ows:ExceptionReport/ows:Exception"
    assert text(root, f"{report}/@exceptionCode") == "NoApplicableCode"
    facts, log = texts(root, f"{report}/ows:ExceptionText")
    for fact in ("The program failed.", "USER", "Exit code: 3", job.id, job.folder_name):
        assert fact in facts
    assert log.endswith("line 1\nline 2")


def test_a_failure_without_exit_code_and_log_does_not_speak_of_them(
    render: Callable[..., etree._Element],
) -> None:
    said = texts(render(state=JobState.FAILED, log_tail=" \n"), "//ows:ExceptionText")
    assert len(said) == 1
    assert "Exit code" not in said[0]


def test_a_dismissed_job_is_failed_for_a_client_of_wps_1(
    render: Callable[..., etree._Element],
) -> None:
    root = render(state=JobState.DISMISSED)
    path = "wps:Status/wps:ProcessFailed/ows:ExceptionReport/ows:Exception/ows:ExceptionText"
    assert text(root, path) == "Computation cancelled."
    kept = render(state=JobState.DISMISSED, folder_kept=True)
    assert "could not be removed" in text(kept, path)


def test_the_report_for_a_bare_output_says_the_same() -> None:
    job = make_job(**STATES["failed with everything"])
    documents = JobDocuments(LINKS, lambda _job: Path("none"), inline_limit=0)
    root = assert_valid(documents.failure_report(job))
    assert "Exit code: 137" in texts(root, "ows:Exception/ows:ExceptionText")[0]


def test_a_number_of_nothing_is_no_file(render: Callable[..., etree._Element]) -> None:
    empty = ResultFile(name="x", size=22, sha256="0" * 64, files=0)
    assert "0 files" in text(
        render(state=JobState.SUCCEEDED, result=empty), "//wps:ProcessSucceeded"
    )


def test_no_more_than_two_large_zips_are_put_into_documents_at_once(tmp_path: Path) -> None:
    entered, may = threading.Semaphore(0), threading.Event()

    def zip_path(_job: Job) -> Path:
        entered.release()
        assert may.wait(60)
        return tmp_path / "none"

    documents = JobDocuments(LINKS, zip_path, inline_limit=2**20)

    def begun(size: int, within: float = 60.0) -> bool:
        result = ResultFile(name="x", size=size, sha256="0" * 64, files=1)
        form = FORMS["zip inline"]
        job = make_job(state=JobState.SUCCEEDED, result=result, response_form=form)
        pool.submit(documents.execute_response, job)
        return entered.acquire(timeout=within)

    with ThreadPoolExecutor(5) as pool:
        assert begun(2**20)
        assert begun(2**20)
        assert not begun(2**20, within=0.3)
        assert begun(2000)
        may.set()
        assert entered.acquire(timeout=60)


def test_what_has_expired_is_not_referred_to(render: Callable[..., etree._Element]) -> None:
    kept, expired = (render(**STATES[f"succeeded and {word}"]) for word in ("kept", "expired"))
    assert "It is kept until 2026-03-11T05:06:07Z." in text(kept, "//wps:ProcessSucceeded")
    assert "has expired" in text(expired, "//wps:ProcessSucceeded")
    assert texts(expired, "wps:ProcessOutputs") == []
    log = texts(render(**STATES["failed and expired"]), "//ows:ExceptionText")[1]
    assert log == "The end of the program's log:\nthe end"


# -- lineage


def test_lineage_repeats_the_inputs_as_given_and_no_token(documents: JobDocuments) -> None:
    request = make_request(given_image="Alpine", item_parameter="ItemParam")
    job = make_job(request=request, response_form=FORMS["lineage"])
    document = documents.execute_response(job)
    root = assert_valid(document)
    assert texts(root, "wps:DataInputs/wps:Input/ows:Identifier") == [
        "Image",
        "CommandName",
        "ItemParam",
    ]
    assert texts(root, "wps:DataInputs/wps:Input/wps:Data/wps:LiteralData") == [
        "Alpine",
        "sortapp",
        request.given_item,
    ]
    assert texts(root, "wps:OutputDefinitions/wps:Output/ows:Identifier") == [
        NON_DETERMINISTIC,
        RESULT,
    ]
    assert TOKEN.encode() not in document


@pytest.mark.parametrize("form", FORMS)
def test_inputs_are_repeated_only_with_lineage(
    render: Callable[..., etree._Element], form: str
) -> None:
    root = render(response_form=FORMS[form])
    assert bool(texts(root, "wps:DataInputs")) is FORMS[form].lineage


# -- outputs


@pytest.mark.parametrize(
    "state", [state for state, job in STATES.items() if job.get("state") is not JobState.SUCCEEDED]
)
def test_only_a_succeeded_job_has_outputs(
    render: Callable[..., etree._Element], state: str
) -> None:
    assert texts(render(**STATES[state]), "wps:ProcessOutputs") == []


def test_asked_for_nothing_both_outputs_come_the_zip_by_reference(
    render: Callable[..., etree._Element],
) -> None:
    root = render(
        state=JobState.SUCCEEDED, response_form=ResponseForm(), result_key="a" * 32, id="j"
    )
    names = texts(root, "wps:ProcessOutputs/wps:Output/ows:Identifier")
    assert names == [NON_DETERMINISTIC, RESULT]
    assert texts(root, "//ogr:Result/d4science:MimeType") == ["text/plain", "application/zip"]
    reference = "wps:ProcessOutputs/wps:Output[2]/wps:Reference"
    assert text(root, f"{reference}/@href") == f"{HOST}/results/{'a' * 32}/die-j.zip"
    assert text(root, f"{reference}/@mimeType") == "application/zip"


def test_outputs_come_in_the_order_asked_for(render: Callable[..., etree._Element]) -> None:
    root = render(state=JobState.SUCCEEDED, response_form=FORMS["both inline"])
    assert texts(root, "//wps:Output/ows:Identifier")[-2:] == [RESULT, NON_DETERMINISTIC]


def test_a_small_zip_comes_inline_and_whole(render: Callable[..., etree._Element]) -> None:
    root = render(state=JobState.SUCCEEDED, response_form=FORMS["zip inline"])
    data = "wps:ProcessOutputs/wps:Output/wps:Data/wps:ComplexData"
    assert text(root, f"{data}/@mimeType") == "application/zip"
    assert text(root, f"{data}/@encoding") == "base64"
    assert base64.b64decode(text(root, data)) == ZIP


@pytest.mark.parametrize(("size", "inline"), [(2000, True), (2001, False)])
def test_a_zip_above_the_limit_comes_by_reference(
    render: Callable[..., etree._Element], size: int, *, inline: bool
) -> None:
    result = ResultFile(name="x", size=size, sha256="0" * 64, files=1)
    root = render(state=JobState.SUCCEEDED, response_form=FORMS["zip inline"], result=result)
    assert bool(texts(root, "//wps:ComplexData")) is inline
    assert bool(texts(root, "//wps:Reference")) is not inline


def test_the_collection_by_reference_is_the_document_of_its_own(
    documents: JobDocuments,
) -> None:
    job = make_job(state=JobState.SUCCEEDED, response_form=FORMS["by reference"])
    root = assert_valid(documents.execute_response(job))
    assert text(root, "//wps:Output[1]/wps:Reference/@href") == LINKS.collection(job)
    own = etree.fromstring(documents.non_deterministic_output(job))
    assert etree.QName(own).localname == "FeatureCollection"
    assert texts(own, "//d4science:Data") == [LINKS.log(job), LINKS.zip(job)]


def test_the_portals_document_has_inline_data_in_every_output(
    render: Callable[..., etree._Element],
) -> None:
    root = render(state=JobState.SUCCEEDED, response_form=FORMS["the portal's"])
    assert len(texts(root, "//wps:Output/wps:Data/wps:ComplexData")) == 2
    assert texts(root, "//wps:Reference") == []
    assert texts(root, "//ogr:Result/@fid") == ["F0", "F1"]


# -- clients that cut strings (reference: dataminer-wps, 2.3 and wire samples)


def cut_status_location(document: str) -> str:
    """W3's reader: up to the first quote with a bracket of the whole reply."""
    after = document.index('statusLocation="') + len('statusLocation="')
    return document[after : document.index('">')]


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if form.store])
@pytest.mark.parametrize("state", STATES)
def test_the_status_location_can_be_cut_out_and_appended_to(
    documents: JobDocuments, state: str, form: str
) -> None:
    job = make_job(**STATES[state], response_form=FORMS[form])
    document = documents.execute_response(job).decode()
    location = cut_status_location(document)
    assert location == f"{HOST}/wps/RetrieveResultServlet?id={job.id}"
    # The portal's id is all that follows the last "?id=".
    assert location.rpartition("?id=")[2] == job.id
    assert document.partition('">')[2].startswith("\n")


def test_a_document_that_is_not_stored_has_no_status_location(
    render: Callable[..., etree._Element],
) -> None:
    assert render(response_form=ResponseForm()).get("statusLocation") is None


@pytest.mark.parametrize("state", STATES)
def test_pollers_that_look_for_words_stop_at_the_end_and_not_before(
    documents: JobDocuments, state: str
) -> None:
    job = make_job(**STATES[state], response_form=STORED)
    document = documents.execute_response(job).decode()
    ended = "wps:ProcessSucceeded" in document or "wps:ProcessFailed" in document
    assert ended is job.state.is_final
    assert ("Exception" in document) is (job.state in (JobState.FAILED, JobState.DISMISSED))


@pytest.mark.parametrize("form", ["nothing said", "asynchronous", "the portal's"])
def test_string_cutters_find_the_log_first_and_the_zip_last(
    documents: JobDocuments, form: str
) -> None:
    job = make_job(state=JobState.SUCCEEDED, response_form=FORMS[form])
    document = documents.execute_response(job).decode()
    data = re.findall("<d4science:Data>(.*?)</d4science:Data>", document)
    assert data[0] == LINKS.log(job)
    assert data[-1] == LINKS.zip(job)
    assert "CDATA" not in document


def dom(document: bytes) -> minidom.Document:
    return minidom.parseString(document)  # noqa: S318 - the document is our own


def test_the_portals_dom_walk_finds_each_result(documents: JobDocuments) -> None:
    job = make_job(state=JobState.SUCCEEDED, response_form=FORMS["the portal's"])
    tree = dom(documents.execute_response(job))
    members = tree.getElementsByTagName("gml:featureMember")
    assert len(members) == 1
    found = [
        (
            result.getAttribute("fid"),
            *(
                result.getElementsByTagName(f"d4science:{name}")[0].firstChild.data  # type: ignore[union-attr]
                for name in ("Data", "Description", "MimeType")
            ),
        )
        for result in tree.getElementsByTagName("ogr:Result")
    ]
    assert found == [
        ("F0", LINKS.log(job), "Log of the computation", "text/plain"),
        ("F1", LINKS.zip(job), "Result of the computation", "application/zip"),
    ]


def test_the_jvm_portlet_without_namespaces_takes_the_second_result(
    documents: JobDocuments,
) -> None:
    job = make_job(state=JobState.SUCCEEDED, response_form=FORMS["nothing said"])
    document = documents.execute_response(job).decode()
    bare = re.sub(r"(</?)\w+:", r"\1", re.sub(r'\s\w+:\w+="[^"]*"', "", document))
    root = etree.fromstring(re.sub(r'\sxmlns="[^"]*"', "", bare).encode())
    path = "//ProcessOutputs/Output/Data/ComplexData/FeatureCollection/featureMember/Result/Data/text()"
    assert texts(root, path)[1] == LINKS.zip(job)


def test_the_portal_shows_the_reason_of_a_failure(documents: JobDocuments) -> None:
    job = make_job(**STATES["failed with everything"])
    tree = dom(documents.execute_response(job))
    (report,) = tree.getElementsByTagName("ows:ExceptionReport")
    said = [node.firstChild.data for node in report.getElementsByTagName("ows:ExceptionText")]  # type: ignore[union-attr]
    assert said[0].startswith("It failed: red")
    assert said[1].rstrip().endswith("last")


@pytest.mark.parametrize("state", STATES)
def test_no_document_holds_the_users_token(documents: JobDocuments, state: str) -> None:
    for form in FORMS.values():
        job: Job = make_job(**STATES[state], response_form=form)
        assert TOKEN.encode() not in documents.execute_response(job)


def test_a_document_is_the_same_whenever_it_is_rendered(documents: JobDocuments) -> None:
    for state, form in itertools.product(STATES, FORMS):
        job = make_job(**STATES[state], response_form=FORMS[form])
        later = dataclasses.replace(job, version=7)
        assert documents.execute_response(job) == documents.execute_response(later)


def test_times_are_those_of_utc(render: Callable[..., etree._Element]) -> None:
    moment = ACCEPTED_AT.astimezone(timezone(timedelta(hours=-7)))
    root = render(state=JobState.ACCEPTED, reached={JobState.ACCEPTED: moment})
    assert text(root, "wps:Status/@creationTime") == "2026-03-04T05:06:07Z"
