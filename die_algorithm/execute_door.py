"""What one Execute comes to: its job is accepted, perhaps waited for, and answered about over HTTP.

The same for all who read requests: our own service in both versions of WPS, and PyWPS.
"""

from __future__ import annotations

import dataclasses

from werkzeug.wrappers import Request, Response

from die_algorithm import description
from die_algorithm.credentials import user_token
from die_algorithm.documents import job_documents
from die_algorithm.door_headers import headers_of
from die_algorithm.downloads import file_response
from die_algorithm.errors import Gone, ServiceUnavailable
from die_algorithm.http_answers import failed_response
from die_algorithm.job_options import parse_job_options
from die_algorithm.links import Links
from die_algorithm.models import Job, JobState, OutputRequest, ResponseForm
from die_algorithm.results import Results
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings
from die_algorithm.wps_kvp import read_query
from die_algorithm.wps_operations import Execute


class ExecuteDoor:
    """Carries out Executes that were read already.

    Whoever hands a request over has put its sender's address into ``REMOTE_ADDR``: refused tokens are
    counted for it.

    Args:
        runtime: the engine.
        settings: the operator's.
        links: where clients find jobs and results.
    """

    def __init__(self, runtime: Runtime, settings: Settings, links: Links) -> None:
        self._runtime = runtime
        self._settings = settings
        self._links = links
        self._results = Results(settings.results_path)
        self._documents = job_documents(settings, links)

    def answer(self, operation: Execute, http_request: Request) -> Response:
        """Carry out an Execute of WPS 1.0.0.

        Args:
            operation: what is asked for.
            http_request: how it came; the user token is taken from it.

        Raises:
            RequestError: as for :meth:`run`.
        """
        job = self.run(operation, http_request)
        return self.answer_about(job, operation.response_form, http_request)

    def run(self, operation: Execute, http_request: Request) -> Job:
        """Accept the job of an Execute and, if it is synchronous, wait for its end.

        Args:
            operation: what is asked for.
            http_request: how it came; the user token is taken from it.

        Returns:
            The job; a synchronous one has ended.

        Raises:
            RequestError: the request is refused; nothing was created.
            ServiceUnavailable: the same, or the job, which goes on, is not waited for because the service
                stops or the client may have left: the text says so.
        """
        form = operation.response_form
        description.check_inputs(operation.inputs)
        description.check_outputs(form)
        headers = headers_of(http_request)
        query = read_query(http_request.query_string)
        engine = self._runtime.engine
        token = user_token(query, headers, http_request.remote_addr or "")
        options = parse_job_options(headers, self._settings.deadlines)
        if form.status:
            return engine.submit(operation.values(), token, form, options)
        is_gone = http_request.environ.get("waitress.client_disconnected", lambda: False)
        job = engine.run_to_end(operation.values(), token, form, options, is_gone=is_gone)
        if not job.state.is_final:
            raise self._not_waited_for(job, engine.is_closing)
        return job

    def _not_waited_for(self, job: Job, is_closing: bool) -> ServiceUnavailable:
        why = (
            "The service is stopping"
            if is_closing
            else "You have closed your side of the connection"
        )
        when = "In a minute its" if is_closing else "Its"
        return ServiceUnavailable(
            f"{why}, so your job cannot be waited for. The job {job.id} was accepted and goes on: do not "
            f"submit it again. {when} status can be read at {self._links.status(job)}",
            # Clients that repeat a request by themselves do so where they are told when.
            retry_after=None,
        )

    def answer_about(self, job: Job, form: ResponseForm, http_request: Request) -> Response:
        """What the Execute of a job is answered with in WPS 1.0.0, in the job's present state.

        Args:
            job: the job.
            form: how this Execute wants its answer.
            http_request: how it came.

        Raises:
            Gone: its bare output is asked for and has expired.
        """
        # A retry with its idempotency key may ask for the same job in another form.
        job = dataclasses.replace(job, response_form=form)
        if form.raw is None:
            place = self._runtime.engine.place_in_queue(job)
            return Response(self._documents.execute_response(job, place), mimetype=description.XML)
        if job.state is not JobState.SUCCEEDED:
            return failed_response(job, self._documents.failure_report(job))
        return self.bare_output(job, form.raw, http_request)

    def bare_output(self, job: Job, raw: OutputRequest, http_request: Request) -> Response:
        """One output of a job that succeeded, without a document around it.

        Args:
            job: the job.
            raw: which one.
            http_request: may ask for a range of it.

        Raises:
            Gone: it has expired.
        """
        if raw.identifier == description.NON_DETERMINISTIC:
            document = self._documents.non_deterministic_output(job)
            return Response(document, mimetype=description.XML)
        try:
            return file_response(self._results.zip_path(job), http_request.environ)
        except FileNotFoundError:
            raise Gone from None
