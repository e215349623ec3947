"""The PyWPS process: it works in anybody's service with ``Service([DockerImageExecutor()])``.

PyWPS is the protocol's skin. It finds the process and hands the request over; from there on the
request is read again by our own rules, because PyWPS drops and changes values without a word, and the
job is the engine's, because PyWPS's queue loses jobs (reference: pywps 0 and 6). Nothing is forked.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pywps
from pywps import configuration
from pywps.inout.literaltypes import AnyValue
from werkzeug.wrappers import Request, Response

from die_algorithm import description
from die_algorithm.credentials import user_token
from die_algorithm.description import InputDescription, OutputDescription
from die_algorithm.documents import JobDocuments, exception_report
from die_algorithm.downloads import file_response
from die_algorithm.engine import Engine
from die_algorithm.errors import (
    DieError,
    Gone,
    NotAuthorized,
    RequestError,
    ServerBusy,
    ServiceUnavailable,
    TokenNotAccepted,
    TooManyRequests,
    UnsupportedMediaType,
)
from die_algorithm.job_options import parse_job_options
from die_algorithm.links import Links
from die_algorithm.models import FaultClass, Job, JobState, OutputRequest, ResponseForm
from die_algorithm.results import Results
from die_algorithm.runtime import Runtime
from die_algorithm.senders import sender
from die_algorithm.settings import Settings
from die_algorithm.wps_kvp import parse_kvp, read_query
from die_algorithm.wps_operations import Execute
from die_algorithm.wps_xml import parse_xml

LOGGER = logging.getLogger(__name__)

#: Whose fault makes an HTTP error of the server's, when a bare output was asked for.
_OURS = (FaultClass.STORAGE, FaultClass.SYSTEM)


class DockerImageExecutor(pywps.Process):
    """Runs a Docker image on a file or folder of the caller's workspace and gives back the result.

    Args:
        runtime: the engine to use. None, in a PyWPS service of your own: one that is configured by
            the sections ``[die]`` and ``[server]`` of the PyWPS configuration and by ``DIE_*`` in the
            environment, and that publishes status documents and results in ``outputpath``.
        links: where clients find them; None with ``runtime``.
    """

    def __init__(self, runtime: Runtime | None = None, links: Links | None = None) -> None:
        super().__init__(
            # PyWPS calls the handler from machinery that execute() replaces.
            handler=None,
            identifier=description.IDENTIFIER,
            title=description.TITLE,
            abstract=description.ABSTRACT,
            version=description.VERSION,
            inputs=[_pywps_input(described) for described in description.INPUTS],
            outputs=[_pywps_output(output) for output in description.OUTPUTS],
            store_supported=True,
            status_supported=True,
        )
        self._runtime = runtime or Runtime(_guest_settings, _publish_status)
        self._links = links

    def start(self) -> None:
        """Let unfinished jobs go on now; otherwise they do when the next Execute comes.

        In a PyWPS service of your own, call it where your server has just started a process that
        answers requests, for example in gunicorn's ``post_worker_init``; not before it forks.

        Raises:
            SettingsError: the configuration is wrong.
            StoreUnavailable: the jobs' database cannot be opened.
        """
        self._runtime.start()

    def execute(self, wps_request: Any, uuid: object) -> Response:  # noqa: ANN401, ARG002 - PyWPS's
        """Answer an Execute; called by PyWPS in place of its own queue and forks.

        Args:
            wps_request: PyWPS's reading of the request, of which only the HTTP request is used.
            uuid: PyWPS's guess at a job id, not used: it is predictable.
        """
        try:
            http_request = wps_request.http_request
            return self.answer(_operation(http_request), http_request)
        except RequestError as error:
            return error_response(error)
        except Exception as error:  # noqa: BLE001 - PyWPS would swallow it without a line in the log
            return unforeseen_response(error)
        finally:
            self.clean()

    def answer(self, operation: Execute, http_request: Request) -> Response:
        """Answer an Execute that was read already.

        Args:
            operation: what is asked for.
            http_request: how it came; the user token is taken from it.

        Raises:
            RequestError: as for :meth:`run`.
        """
        job = self.run(operation, http_request)
        return self._response(job, operation.response_form, http_request)

    def run(self, operation: Execute, http_request: Request) -> Job:
        """Accept the job of an Execute and, if it is synchronous, wait for its end.

        Args:
            operation: what is asked for.
            http_request: how it came; the user token is taken from it.

        Returns:
            The job. A synchronous one has not ended if its client has left.

        Raises:
            RequestError: the request is refused; nothing was created.
            ServiceUnavailable: the same, or the service stops and the job, which goes on, is not waited
                for: the text says so.
        """
        form = operation.response_form
        description.check_inputs(operation.inputs)
        description.check_outputs(form)
        headers = {name.lower(): value for name, value in http_request.headers.items()}
        query = read_query(http_request.query_string)
        engine = self._engine()
        token = user_token(query, headers, self._sender(http_request))
        options = parse_job_options(headers, self._runtime.settings.deadlines)

        def submit() -> Job:
            return engine.submit(operation.values(), token, form, options)

        if form.store and form.status:
            job = submit()
            self._publish_first(job)
        else:
            is_gone = http_request.environ.get("waitress.client_disconnected", lambda: False)
            job = engine.run_to_end(submit, is_gone)
            if engine.is_closing and not job.state.is_final:
                raise self._not_waited_for(job)
        return job

    def _sender(self, http_request: Request) -> str:
        """Whom a refused token is counted for: in a service of its own, the door has found out."""
        peer = http_request.remote_addr or ""
        if self._links is not None:
            return peer
        forwarded_for = ", ".join(http_request.headers.getlist("X-Forwarded-For"))
        return sender(peer, forwarded_for, self._runtime.settings.trusted_proxies)

    def _not_waited_for(self, job: Job) -> ServiceUnavailable:
        links = self._links or _guest_links(self._runtime.settings)
        return ServiceUnavailable(
            f"The service is stopping and cannot wait for your job. The job {job.id} was accepted and goes "
            f"on: do not submit it again. In a minute its status can be read at {links.status(job)}",
            # Clients that repeat a request by themselves do so where they are told when.
            retry_after=None,
        )

    def _engine(self) -> Engine:
        try:
            return self._runtime.engine
        except DieError:
            LOGGER.exception("The engine cannot start.")
            raise ServiceUnavailable(
                "The service is not set up correctly; its operator finds the reason in the log."
            ) from None

    def _response(self, job: Job, form: ResponseForm, http_request: Request) -> Response:
        settings = self._runtime.settings
        documents = job_documents(settings, self._links or _guest_links(settings))
        # A retry with its idempotency key may ask for the same job in another form.
        job = dataclasses.replace(job, response_form=form)
        if form.raw is None:
            place = self._runtime.engine.place_in_queue(job)
            return Response(documents.execute_response(job, place), mimetype=description.XML)
        if job.state is not JobState.SUCCEEDED:
            return failed_response(job, documents.failure_report(job))
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
        settings = self._runtime.settings
        if raw.identifier == description.NON_DETERMINISTIC:
            documents = job_documents(settings, self._links or _guest_links(settings))
            return Response(documents.non_deterministic_output(job), mimetype=description.XML)
        try:
            return file_response(Results(settings.results_path).zip_path(job), http_request.environ)
        except FileNotFoundError:
            raise Gone("The result of this job was removed when its time was over.") from None

    def _publish_first(self, job: Job) -> None:
        """In somebody else's service, put the accepted document where the client will look."""
        if self._links is not None:
            return
        settings = self._runtime.settings
        document = job_documents(settings, _guest_links(settings)).execute_response(job)
        try:
            Results(settings.results_path).write_status(job, document, first=True)
        except OSError:
            # The job is accepted and goes on; the worker publishes it as soon as that is possible.
            LOGGER.exception("Job %s: its document could not be written.", job.id)


def job_documents(settings: Settings, links: Links) -> JobDocuments:
    """The renderer of documents about jobs, as the settings want them."""
    return JobDocuments(links, Results(settings.results_path).zip_path, settings.inline_limit)


def error_response(
    error: RequestError, report: Callable[[RequestError], bytes] = exception_report
) -> Response:
    """The HTTP answer to a refused request; the report is that of the client's version of WPS."""
    response = Response(report(error), error.http_status, mimetype=description.XML)
    if isinstance(error, NotAuthorized):
        # Bearer, never Basic: a browser must not ask for a password and then send it by itself.
        challenge = 'Bearer realm="Docker Image Executor"'
        if isinstance(error, TokenNotAccepted):
            challenge += ', error="invalid_token"'
        response.headers["WWW-Authenticate"] = challenge
    if (
        isinstance(error, ServerBusy | ServiceUnavailable | TooManyRequests)
        and error.retry_after is not None
    ):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def unforeseen_response(
    error: Exception, report: Callable[[RequestError], bytes] = exception_report
) -> Response:
    """The HTTP answer to a request that failed in a way nobody foresaw; the log has the rest."""
    number = uuid4()
    LOGGER.error("A request failed in an unforeseen way (%s).", number, exc_info=error)
    response = error_response(
        RequestError(
            f"Something went wrong in this service. Tell its operator the number {number}."
        ),
        report,
    )
    response.status_code = 500
    return response


def failed_response(job: Job, report: bytes) -> Response:
    """The HTTP answer in place of the output of a job that did not succeed.

    Args:
        job: the job.
        report: the document that says why.
    """
    return Response(report, 500 if is_our_fault(job) else 400, mimetype=description.XML)


def is_our_fault(job: Job) -> bool:
    """Whether it was the server's side that made a job fail."""
    return job.failure is not None and job.failure.fault_class in _OURS


def _operation(http_request: Request) -> Execute:
    if http_request.method == "GET":
        operation = parse_kvp(read_query(http_request.query_string))
    elif "json" in (http_request.content_type or ""):
        raise UnsupportedMediaType(
            "Send the Execute as XML, or as key-value pairs in a GET request."
        )
    else:
        operation = parse_xml(http_request.get_data())
    if not isinstance(operation, Execute):
        raise UnsupportedMediaType("The request is not an Execute.")
    return operation


def _pywps_input(described: InputDescription) -> Any:  # noqa: ANN401 - pywps has no types
    if described.formats:
        return pywps.ComplexInput(
            described.identifier,
            described.title,
            supported_formats=[pywps.Format(mime_type) for mime_type in described.formats],
            abstract=described.abstract,
            min_occurs=described.min_occurs,
            max_occurs=1,
        )
    return pywps.LiteralInput(
        described.identifier,
        described.title,
        data_type="string",
        abstract=described.abstract,
        min_occurs=described.min_occurs,
        max_occurs=1,
        allowed_values=AnyValue(),
    )


def _pywps_output(output: OutputDescription) -> Any:  # noqa: ANN401 - pywps has no types
    return pywps.ComplexOutput(
        output.identifier,
        output.title,
        supported_formats=[pywps.Format(mime_type) for mime_type in output.formats],
        abstract=output.abstract,
    )


# -- in a PyWPS service of somebody else's


def _guest_settings() -> Settings:
    """The settings, with results where the PyWPS configuration puts outputs."""
    settings = Settings.load()
    changes: dict[str, object] = {"url": _server("url")}
    if settings.results_dir is None:
        changes["results_dir"] = Path(_server("outputpath")).absolute()
    if not settings.results_url:
        changes["results_url"] = _server("outputurl").rstrip("/")
    return settings.model_copy(update=changes)


def _guest_links(settings: Settings) -> Links:
    return Links(
        service=_server("url"),
        status_prefix=f"{settings.results_base_url}/",
        status_suffix=".xml",
        results=settings.results_base_url,
    )


def _server(name: str) -> str:
    return str(configuration.get_config_value("server", name))


def _publish_status(job: Job, settings: Settings) -> None:
    """Write a changed job's documents where the developer's web server finds them.

    Raises:
        OSError: they cannot be written now.
    """
    results = Results(settings.results_path)
    documents = job_documents(settings, _guest_links(settings))
    has_expired = job.expiry is not None and job.expiry.files_removed
    if job.state is JobState.SUCCEEDED and not has_expired:
        results.write_collection(job, documents.non_deterministic_output(job))
    if job.response_form.store:
        results.write_status(job, documents.execute_response(job))
