"""The documents about a job and about a refused request: ExecuteResponse and ExceptionReport.

They are rendered from the job's record whenever somebody asks. Valid against the schemas of WPS 1.0.0
(05-007r7) in every state; what DataMiner's clients cut out of them by hand is noted where it matters
(reference: dataminer-wps, 2.3, wire samples and checklist).
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from die_algorithm import description
from die_algorithm.errors import RequestError
from die_algorithm.job_request import COMMAND_NAME, IMAGE
from die_algorithm.links import Links
from die_algorithm.models import Job, JobState, OutputRequest
from die_algorithm.results import Results
from die_algorithm.settings import Settings
from die_algorithm.terminal_text import clean_text
from die_algorithm.wps_operations import BASE64, VERSION
from die_algorithm.xml_writer import (
    LANGUAGE,
    OWS,
    WPS,
    XML_LANG,
    Element,
    child,
    root,
    serialise,
)

_OGR = "http://ogr.maptools.org/"
_GML = "http://www.opengis.net/gml"
_D4SCIENCE = "http://www.d4science.org"

#: Bytes of a large zip, and how many of those are put into documents at once: each costs six times as many.
_LARGE, _LARGE_AT_ONCE = 2**18, 2
#: Percent done and the status's text. The portal shows the number; the text must not be one.
PROGRESS: dict[JobState, tuple[int, str]] = {
    JobState.ACCEPTED: (0, "The job is accepted and will be prepared."),
    JobState.STAGED_IN: (10, "The temporary folder is ready."),
    JobState.DISPATCHED: (20, "The Docker Swarm is starting the container."),
    JobState.RUNNING: (30, "The program is running."),
    JobState.STAGING_OUT: (90, "The program has ended; its result is being collected."),
}


def exception_report(error: RequestError) -> bytes:
    """The ows:ExceptionReport about a refused request (OWS Common 1.1, clause 8)."""
    report = root(OWS, "ExceptionReport", ows=OWS)
    _fill_report(report, error.code, error.locator, [error.text])
    return serialise(report)


class JobDocuments:
    """Renders the documents about jobs.

    Args:
        links: makes the addresses in them.
        zip_path: where a job's zip lies, for a client that wants it inline.
        inline_limit: the largest zip, in bytes, that is put inline; a larger one is referred to.
    """

    def __init__(self, links: Links, zip_path: Callable[[Job], Path], inline_limit: int) -> None:
        self._links = links
        self._zip_path = zip_path
        self._inline_limit = inline_limit
        self._large = threading.Semaphore(_LARGE_AT_ONCE)

    def turn(self, job: Job) -> contextlib.AbstractContextManager[object]:
        """To be held while a document is written that may hold the job's zip: few large ones at once."""
        size = job.result.size if job.result else 0
        is_large = _LARGE < size <= self._inline_limit
        return self._large if is_large else contextlib.nullcontext()

    def execute_response(self, job: Job, place: int | None = None) -> bytes:
        """The wps:ExecuteResponse of a job in any state.

        Args:
            job: the job.
            place: how many jobs get a free place before it, if it waits for one.
        """
        response = root(WPS, "ExecuteResponse", wps=WPS, ows=OWS)
        response.set("service", "WPS")
        response.set("version", VERSION)
        response.set(XML_LANG, LANGUAGE)
        response.set(
            "serviceInstance", f"{self._links.service}?service=WPS&request=GetCapabilities"
        )
        if job.response_form.store:
            # Last: clients read up to the first quote followed by ">" of the whole document (W3).
            response.set("statusLocation", self._links.status(job))
        process = child(response, WPS, "Process")
        process.set(f"{{{WPS}}}processVersion", description.VERSION)
        child(process, OWS, "Identifier", description.IDENTIFIER)
        child(process, OWS, "Title", description.TITLE)
        _write_status(response, job, self._links.log(job), place)
        if job.response_form.lineage:
            _write_lineage(response, job)
        with self.turn(job):
            if job.state is JobState.SUCCEEDED and not files_removed(job):
                self._write_outputs(response, job)
            return serialise(response)

    def failure_report(self, job: Job) -> bytes:
        """The ows:ExceptionReport about a job that did not succeed and whose bare output was wanted."""
        report = root(OWS, "ExceptionReport", ows=OWS)
        texts = failure_texts(job, self._links.log(job))
        _fill_report(report, "NoApplicableCode", None, texts)
        return serialise(report)

    def non_deterministic_output(self, job: Job) -> bytes:
        """The original's output as a document of its own."""
        return serialise(result_collection(job, self._links))

    def inline_zip(self, job: Job, wanted: OutputRequest) -> str | None:
        """The zip in base64, for a document that holds it; None for one that refers to it.

        So does one where that is wanted, the zip is too large, or it is gone: its address then tells so to
        whoever follows it.

        Args:
            job: the job.
            wanted: how the client wants its zip.
        """
        if wanted.as_reference or (job.result and job.result.size > self._inline_limit):
            return None
        try:
            return base64.b64encode(self._zip_path(job).read_bytes()).decode()
        except FileNotFoundError:
            return None

    def _write_outputs(self, response: Element, job: Job) -> None:
        titles = {output.identifier: output.title for output in description.OUTPUTS}
        outputs = child(response, WPS, "ProcessOutputs")
        for wanted in wanted_outputs(job):
            element = child(outputs, WPS, "Output")
            child(element, OWS, "Identifier", wanted.identifier)
            child(element, OWS, "Title", titles[wanted.identifier])
            if wanted.identifier == description.RESULT:
                self._write_result(element, wanted, job)
            elif wanted.as_reference:
                _write_reference(element, self._links.collection(job), description.XML)
            else:
                _complex_data(element, description.XML).append(result_collection(job, self._links))

    def _write_result(self, element: Element, wanted: OutputRequest, job: Job) -> None:
        if wanted.mime_type == description.XML and not wanted.as_reference:
            # The portal asks for every output as inline XML and shows each ogr:Result that it finds.
            # The other output names the zip already, so this one is an empty collection.
            _complex_data(element, description.XML).append(_collection_root())
            return
        content = self.inline_zip(job, wanted)
        if content is None:
            _write_reference(element, self._links.zip(job), description.ZIP)
            return
        data = _complex_data(element, description.ZIP)
        data.set("encoding", BASE64)
        data.text = content


def job_documents(settings: Settings, links: Links) -> JobDocuments:
    """The renderer of documents about jobs, as the settings want them.

    Args:
        settings: the operator's.
        links: makes the addresses in them.
    """
    return JobDocuments(links, Results(settings.results_path).zip_path, settings.inline_limit)


# -- status


def _write_status(response: Element, job: Job, log_url: str, place: int | None) -> None:
    status = child(response, WPS, "Status")
    status.set("creationTime", time_text(job.updated_at))
    if job.state is JobState.SUCCEEDED:
        child(status, WPS, "ProcessSucceeded", success_text(job))
    elif job.state.is_final:
        failed = child(status, WPS, "ProcessFailed")
        report = child(failed, OWS, "ExceptionReport")
        texts = failure_texts(job, log_url)
        _fill_report(report, "NoApplicableCode", None, texts)
    else:
        text = progress_text(job, place)
        if job.state is JobState.ACCEPTED:
            child(status, WPS, "ProcessAccepted", text)
        else:
            started = child(status, WPS, "ProcessStarted", text)
            started.set("percentCompleted", str(PROGRESS[job.state][0]))


def progress_text(job: Job, place: int | None) -> str:
    """What a job that has not ended is doing, what it waits for, and what its owner should know.

    Args:
        job: the job.
        place: how many jobs get a free place before it, if it waits for one.
    """
    text = PROGRESS[job.state][1]
    if job.stopped_at:
        text = "The program is asked to end."
    elif place is not None:
        text = _waiting_text(place)
    if job.waiting:
        text = f"{text} It is {job.waiting.reason}, since {time_text(job.waiting.since)}."
    return " ".join(filter(None, (text, _token_warning(job))))


def _token_warning(job: Job) -> str:
    """That the user token of a job which has not ended may expire before it does; empty if it will not."""
    expires_at = job.token_expires_at
    if job.state.is_final or expires_at is None or job.deadlines is None:
        return ""
    if expires_at >= job.accepted_at + job.deadlines.total:
        return ""
    return (
        f"Your token expires at {time_text(expires_at)}. If the job is not done by then, it fails, and what "
        "it has written stays in its folder in your workspace: send long jobs with a new token."
    )


def _waiting_text(place: int) -> str:
    before = {0: "It is the next one", 1: "1 job is before it"}.get(
        place, f"{place} jobs are before it"
    )
    return f"The job is accepted and waits for a free place. {before}."


def files_removed(job: Job) -> bool:
    """Whether the job's zip and log have expired."""
    return job.expiry is not None and job.expiry.files_removed


def success_text(job: Job) -> str:
    """What a job that succeeded has made, and until when it is kept."""
    if job.result is None:
        return "The job succeeded."
    if job.expiry and files_removed(job):
        return (
            f"The job succeeded, but its result has expired: it was kept until "
            f"{time_text(job.expiry.files_at)}. Submit the job again to have it again."
        )
    files = "1 file" if job.result.files == 1 else f"{job.result.files} files"
    texts = [
        f"The job succeeded: {files}, zip of {job.result.size} bytes, SHA-256 {job.result.sha256}.",
        *job.result.notes,
    ]
    if job.saved_as:
        texts.append(f"It is saved in your workspace as {job.saved_as}.")
    if job.expiry:
        texts.append(f"It is kept until {time_text(job.expiry.files_at)}.")
    if job.folder_kept and job.folder:
        texts.append(_left_folder(job, job.folder.name))
    return " ".join(texts)


def _left_folder(job: Job, name: str) -> str:
    """Why the folder of a job that has succeeded is still there."""
    if not (job.result and job.result.left_out):
        return f"The folder {name} could not be removed from the workspace."
    until = f" until {time_text(job.expiry.folder_at)} at least" if job.expiry else ""
    return f"The folder {name} is kept in the workspace{until}."


def failure_texts(job: Job, log_url: str) -> list[str]:
    """Why a job that has ended did not succeed, and the end of its log: one text each.

    Args:
        job: the job.
        log_url: where its log is.
    """
    kept = f"the folder {job.folder.name}" if job.folder_kept and job.folder else ""
    if job.failure is None:
        left = f" But {kept} could not be removed from your workspace." if kept else ""
        return [f"Computation cancelled.{left}"]
    text = f"{job.failure.text} Fault class: {job.failure.fault_class.value}."
    if job.exit_code is not None:
        text += f" Exit code: {job.exit_code}."
    text += f" Job: {job.id}."
    if kept and JobState.DISPATCHED not in job.reached:
        text += f" The job had made {kept} in your workspace; it could not be removed."
    elif kept:
        text += f" What the program had written is kept in {kept} of your workspace"
        text += f" until {time_text(job.expiry.folder_at)} at least." if job.expiry else "."
    if not job.log_tail.strip():
        return [text]
    if files_removed(job):
        return [text, f"The end of the program's log:\n{job.log_tail}"]
    return [text, f"The end of the program's log ({log_url}):\n{job.log_tail}"]


def _fill_report(report: Element, code: str, locator: str | None, texts: Sequence[str]) -> None:
    report.set("version", "1.0.0")
    report.set(XML_LANG, LANGUAGE)
    exception = child(report, OWS, "Exception")
    exception.set("exceptionCode", code)
    if locator:
        exception.set("locator", clean_text(locator[:128]))
    for text in texts:
        child(exception, OWS, "ExceptionText", text)


def time_text(moment: datetime) -> str:
    """A time as xs:dateTime in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- lineage


def _write_lineage(response: Element, job: Job) -> None:
    given = {
        IMAGE: job.request.given_image,
        COMMAND_NAME: job.request.given_command,
        job.request.item_parameter: job.request.given_item,
    }
    inputs = child(response, WPS, "DataInputs")
    for described in description.INPUTS:
        if described.identifier in given:
            element = child(inputs, WPS, "Input")
            child(element, OWS, "Identifier", described.identifier)
            child(element, OWS, "Title", described.title)
            data = child(element, WPS, "Data")
            child(data, WPS, "LiteralData", given[described.identifier])
    definitions = child(response, WPS, "OutputDefinitions")
    for wanted in wanted_outputs(job):
        element = child(definitions, WPS, "Output")
        element.set("asReference", str(wanted.as_reference).lower())
        child(element, OWS, "Identifier", wanted.identifier)


# -- outputs


def wanted_outputs(job: Job) -> tuple[OutputRequest, ...]:
    """The outputs asked for; all if none is named, and then the zip by reference."""
    return job.response_form.outputs or (
        OutputRequest(identifier=description.NON_DETERMINISTIC),
        OutputRequest(identifier=description.RESULT, as_reference=True),
    )


def _complex_data(output: Element, mime_type: str) -> Element:
    data = child(child(output, WPS, "Data"), WPS, "ComplexData")
    data.set("mimeType", mime_type)
    return data


def _write_reference(output: Element, href: str, mime_type: str) -> None:
    reference = child(output, WPS, "Reference")
    reference.set("href", href)
    reference.set("mimeType", mime_type)


def _collection_root() -> Element:
    return root(_OGR, "FeatureCollection", ogr=_OGR, gml=_GML, d4science=_D4SCIENCE)


def result_collection(job: Job, links: Links) -> Element:
    """All results in one featureMember, the log first and the zip last; clients count on both.

    Some take the second for the zip, so what stands between is there only if the operator wants it.
    """
    collection = _collection_root()
    member = child(collection, _GML, "featureMember")
    results = (
        (links.log(job), "Log of the computation", "text/plain"),
        *(
            (links.single_file(job, file), file.path, file.media_type)
            for file in (job.result.single_files if job.result else ())
        ),
        (links.zip(job), "Result of the computation", description.ZIP),
    )
    for number, (href, text, mime_type) in enumerate(results):
        result = child(member, _OGR, "Result")
        result.set("fid", f"F{number}")
        child(result, _D4SCIENCE, "Data", href)
        child(result, _D4SCIENCE, "Description", text)
        child(result, _D4SCIENCE, "MimeType", mime_type)
    return collection
