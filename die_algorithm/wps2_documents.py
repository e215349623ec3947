"""The documents of WPS 2.0 about a job and about a refused request (14-065, clause 9).

StatusInfo, Result and ExceptionReport, rendered from the job's record whenever somebody asks, and valid
against the schemas of WPS 2.0 in every state.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from die_algorithm import description
from die_algorithm.documents import (
    PROGRESS,
    JobDocuments,
    failure_texts,
    progress_text,
    result_collection,
    success_text,
    time_text,
    wanted_outputs,
)
from die_algorithm.errors import RequestError
from die_algorithm.links import Links
from die_algorithm.models import Job, JobState, OutputRequest
from die_algorithm.terminal_text import clean_text
from die_algorithm.wps2_operations import VERSION
from die_algorithm.wps_operations import BASE64
from die_algorithm.xml_writer import (
    LANGUAGE,
    OWS_2,
    WPS_2,
    XLINK,
    XML_LANG,
    Element,
    child,
    comment,
    root,
    serialise,
)

#: Until a client should look again: a little longer for each job that gets a free place before its own.
_NEXT_POLL = timedelta(seconds=5)
_LONGER_IN_QUEUE = timedelta(seconds=1)
_LATEST_POLL = timedelta(seconds=60)

_FINAL = {
    JobState.SUCCEEDED: "Succeeded",
    JobState.FAILED: "Failed",
    JobState.DISMISSED: "Dismissed",
}


def wps2_exception_report(error: RequestError) -> bytes:
    """The ows:ExceptionReport about a refused request (OWS Common 2.0, clause 8)."""
    return _report(error.code, error.locator, [error.text])


def is_dismissed(job: Job) -> bool:
    """Whether the job was dismissed, or will be as soon as its container is gone.

    One whose outcome was recorded before the owner's wish ends with that outcome.
    """
    if job.state.is_final:
        return job.state is JobState.DISMISSED
    return job.cancel_requested and not (job.result or job.failure)


class Wps2Documents:
    """Renders the documents about jobs.

    Args:
        links: makes the addresses in them.
        documents: the documents of WPS 1.0.0, which know how large a zip may be inline.
    """

    def __init__(self, links: Links, documents: JobDocuments) -> None:
        self._links = links
        self._documents = documents

    def status_info(self, job: Job, now: datetime, place: int | None = None) -> bytes:
        """The wps:StatusInfo of a job in any state.

        Args:
            job: the job.
            now: the present time, from which the next poll is reckoned.
            place: how many jobs get a free place before it, if it waits for one.
        """
        info = root(WPS_2, "StatusInfo", wps=WPS_2)
        child(info, WPS_2, "JobID", job.id)
        child(info, WPS_2, "Status", _status(job))
        if text := _text(job, place):
            # The standard has no place for one.
            comment(info, text)
        _write_expiration(info, job)
        if not job.state.is_final:
            pause = _NEXT_POLL + (place or 0) * _LONGER_IN_QUEUE
            child(info, WPS_2, "NextPoll", time_text(now + min(pause, _LATEST_POLL)))
        percent = _percent(job)
        if percent is not None:
            child(info, WPS_2, "PercentCompleted", str(percent))
        return serialise(info)

    def result(self, job: Job) -> bytes:
        """The wps:Result of a job that succeeded and whose result is still there."""
        document = root(WPS_2, "Result", wps=WPS_2, xlink=XLINK)
        child(document, WPS_2, "JobID", job.id)
        _write_expiration(document, job)
        with self._documents.turn(job):
            for wanted in wanted_outputs(job):
                self._write_output(document, wanted, job)
            return serialise(document)

    def failure_report(self, job: Job, code: str) -> bytes:
        """The ows:ExceptionReport in place of the result of a job that has none.

        Args:
            job: a job that failed or was dismissed.
            code: the exception code.
        """
        return _report(code, None, failure_texts(job, self._links.log(job)))

    def _write_output(self, document: Element, wanted: OutputRequest, job: Job) -> None:
        output = child(document, WPS_2, "Output")
        output.set("id", wanted.identifier)
        if wanted.identifier == description.RESULT:
            self._write_zip(output, wanted, job)
        elif wanted.as_reference:
            _write_reference(output, self._links.collection(job), description.XML)
        else:
            _data(output, description.XML).append(result_collection(job, self._links))

    def _write_zip(self, output: Element, wanted: OutputRequest, job: Job) -> None:
        content = self._documents.inline_zip(job, wanted)
        if content is None:
            _write_reference(output, self._links.zip(job), description.ZIP)
            return
        data = _data(output, description.ZIP)
        data.set("encoding", BASE64)
        data.text = content


def _status(job: Job) -> str:
    if is_dismissed(job):
        return "Dismissed"
    if job.state is JobState.ACCEPTED:
        return "Accepted"
    return _FINAL.get(job.state, "Running")


def _text(job: Job, place: int | None) -> str:
    """What the status says in WPS 1.0.0; empty where it is another document that says it."""
    if job.state is JobState.SUCCEEDED:
        return success_text(job)
    return "" if job.state.is_final or is_dismissed(job) else progress_text(job, place)


def _percent(job: Job) -> int | None:
    if job.state is JobState.SUCCEEDED:
        return 100
    if job.state.is_final or is_dismissed(job):
        return None
    return PROGRESS[job.state][0]


def _write_expiration(document: Element, job: Job) -> None:
    """When the result is removed; of a job that has none, when it is forgotten."""
    if job.expiry is None:
        return
    has_result = job.state is JobState.SUCCEEDED
    moment = job.expiry.files_at if has_result else job.expiry.record_at
    child(document, WPS_2, "ExpirationDate", time_text(moment))


def _data(output: Element, mime_type: str) -> Element:
    data = child(output, WPS_2, "Data")
    data.set("mimeType", mime_type)
    return data


def _write_reference(output: Element, href: str, mime_type: str) -> None:
    reference = child(output, WPS_2, "Reference")
    reference.set(f"{{{XLINK}}}href", href)
    reference.set("mimeType", mime_type)


def _report(code: str, locator: str | None, texts: Sequence[str]) -> bytes:
    report = root(OWS_2, "ExceptionReport", ows=OWS_2)
    report.set("version", VERSION)
    report.set(XML_LANG, LANGUAGE)
    exception = child(report, OWS_2, "Exception")
    exception.set("exceptionCode", code)
    if locator:
        exception.set("locator", clean_text(locator[:128]))
    for text in texts:
        child(exception, OWS_2, "ExceptionText", text)
    return serialise(report)
