"""The operations of WPS 2.0 on the process and its jobs: asked of the engine, answered over HTTP."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from werkzeug.wrappers import Request, Response

from die_algorithm import description
from die_algorithm.credentials import user_token
from die_algorithm.documents import files_removed
from die_algorithm.door_headers import headers_of
from die_algorithm.errors import Gone, MethodNotAllowed, NotFound
from die_algorithm.execute_door import ExecuteDoor
from die_algorithm.http_answers import failed_response, is_our_fault
from die_algorithm.models import Job, JobState, UserToken
from die_algorithm.runtime import Runtime
from die_algorithm.wps2_capabilities import process_offerings
from die_algorithm.wps2_documents import Wps2Documents, is_dismissed
from die_algorithm.wps2_errors import NoSuchJob, ResultNotReady
from die_algorithm.wps2_operations import (
    Dismiss,
    GetStatus,
    JobOperation,
    check_described,
)
from die_algorithm.wps_kvp import read_query
from die_algorithm.wps_operations import DescribeProcess, Execute


class Wps2Jobs:
    """Answers what is asked in WPS 2.0.

    Args:
        runtime: the engine.
        executes: carries out an Execute.
        documents: the renderer.
    """

    def __init__(self, runtime: Runtime, executes: ExecuteDoor, documents: Wps2Documents) -> None:
        self._runtime = runtime
        self._executes = executes
        self._documents = documents

    def answer(
        self, operation: DescribeProcess | Execute | JobOperation, request: Request
    ) -> Response:
        """Answer one operation.

        Args:
            operation: what is asked for.
            request: how it came; the user token is taken from it.

        Raises:
            RequestError: it is refused.
        """
        if isinstance(operation, DescribeProcess):
            check_described(operation.identifiers)
            return _xml(process_offerings())
        if isinstance(operation, Execute):
            return self._execute(operation, request)
        try:
            return self._answer_about_job(operation, request)
        except NotFound as error:
            raise NoSuchJob(error.text, operation.job_id) from error

    def _execute(self, operation: Execute, request: Request) -> Response:
        job = self._executes.run(operation, request)
        if operation.response_form.status:
            return self._status(job)
        # A retry with its idempotency key may ask for the same job in another form.
        return self._result(
            dataclasses.replace(job, response_form=operation.response_form), request
        )

    def _answer_about_job(self, operation: JobOperation, request: Request) -> Response:
        headers = headers_of(request)
        query = read_query(request.query_string)
        token = user_token(query, headers, request.remote_addr or "")
        engine = self._runtime.engine
        if isinstance(operation, Dismiss):
            return self._dismiss(operation, token, request)
        job = engine.seen_job(operation.job_id, token)
        if isinstance(operation, GetStatus):
            return self._status(job)
        return self._result(job, request)

    def _dismiss(self, operation: Dismiss, token: UserToken, request: Request) -> Response:
        if request.method == "HEAD":
            raise MethodNotAllowed("Dismiss ends the job; use GET or POST.", ("GET", "POST"))
        engine = self._runtime.engine
        job = engine.cancel(operation.job_id, token)
        # Read again: the job knows of the wish by now, unless it had ended before.
        return self._status(engine.job(job.id))

    def _status(self, job: Job) -> Response:
        place = self._runtime.engine.place_in_queue(job)
        return _xml(self._documents.status_info(job, datetime.now(UTC), place))

    def _result(self, job: Job, request: Request) -> Response:
        if job.state is JobState.FAILED or is_dismissed(job):
            code = "InternalServerError" if is_our_fault(job) else "NoApplicableCode"
            return failed_response(job, self._documents.failure_report(job, code))
        if not job.state.is_final:
            raise ResultNotReady(
                "The job has not ended yet. Ask for its result when GetStatus says that it has "
                "succeeded.",
                job.id,
            )
        if files_removed(job):
            raise Gone
        if job.response_form.raw is not None:
            return self._executes.bare_output(job, job.response_form.raw, request)
        return _xml(self._documents.result(job))


def _xml(document: bytes) -> Response:
    return Response(document, mimetype=description.XML)
