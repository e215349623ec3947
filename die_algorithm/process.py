"""The PyWPS process: it works in anybody's service with ``Service([DockerImageExecutor()])``.

PyWPS is the protocol's skin. It finds the process and hands the request over; from there on the
request is read again by our own rules, because PyWPS drops and changes values without a word, and the
job is the engine's, because PyWPS's queue loses jobs (reference: pywps 0 and 6). Nothing is forked.
``die serve`` does without it: it answers the same requests itself, on the same engine.
"""

from __future__ import annotations

import logging
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pywps
from pywps.inout.literaltypes import AnyValue
from werkzeug.wrappers import Request, Response

from die_algorithm import description
from die_algorithm.description import InputDescription, OutputDescription
from die_algorithm.documents import files_removed, job_documents
from die_algorithm.door_headers import add_door_headers
from die_algorithm.errors import (
    DieError,
    RequestError,
    ServiceUnavailable,
    UnsupportedMediaType,
)
from die_algorithm.execute_door import ExecuteDoor
from die_algorithm.http_answers import error_response, unforeseen_response
from die_algorithm.links import Links
from die_algorithm.models import Job, JobState
from die_algorithm.pywps_settings import PywpsSettings
from die_algorithm.results import Results
from die_algorithm.runtime import Runtime
from die_algorithm.senders import Senders
from die_algorithm.settings import Settings
from die_algorithm.wps_kvp import parse_kvp, read_query
from die_algorithm.wps_operations import Execute
from die_algorithm.wps_xml import parse_xml

LOGGER = logging.getLogger(__name__)


class DockerImageExecutor(pywps.Process):
    """Runs a Docker image on a file or folder of the caller's workspace and gives back the result.

    It is configured by the sections ``[die]`` and ``[server]`` of the configuration that PyWPS has
    loaded, from wherever, and by ``DIE_*`` in the environment. It publishes status documents and results
    in ``outputpath``.
    """

    def __init__(self) -> None:
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
        self._pywps_settings = PywpsSettings()
        self._runtime = Runtime(self._pywps_settings.load, _publish_status)
        self._senders = Senders()

    def start(self) -> None:
        """Let unfinished jobs go on now; otherwise they do when the next Execute comes.

        Call it after ``Service`` was made, which loads the configuration, and where your server has just
        started a process that answers requests, for example in gunicorn's ``post_worker_init``; not before
        it forks.

        Raises:
            SettingsError: the configuration is wrong.
            StoreUnavailable: the jobs' database cannot be opened.
        """
        self._runtime.start()

    def stop(self) -> None:
        """Accept no more jobs, break off transfers, and let another process have those under way.

        It happens by itself where Python ends the process. Call it where your server ends one in another
        way; nothing is started again afterwards.
        """
        self._runtime.stop()

    def set_workdir(self, workdir: str) -> None:
        """Give back the folder that PyWPS has made for a request, and leave it no input to read.

        PyWPS calls it on the request's own copy of the process before it reads the inputs. It would follow
        references, and fetch what a ``wps:BodyReference`` names, whoever asks; and where it refuses an
        input itself, it would leave the folder behind. Ours are read in :meth:`execute`.

        Args:
            workdir: the path of the folder, which is empty.
        """
        Path(workdir).rmdir()
        self.inputs: list[Any] = []

    def execute(self, wps_request: Any, uuid: object) -> Response:  # noqa: ANN401, ARG002 - PyWPS's
        """Answer an Execute; called by PyWPS in place of its own queue and forks.

        Args:
            wps_request: PyWPS's reading of the request, of which only the HTTP request is used.
            uuid: PyWPS's guess at a job id, not used: it is predictable.
        """
        # What is set on the way, such as which token to mask, ends with the request, not with the thread.
        return copy_context().run(self._respond, wps_request.http_request)

    def _respond(self, http_request: Request) -> Response:
        response = self._answered(http_request)
        add_door_headers(response, http_request)
        return response

    def _answered(self, http_request: Request) -> Response:
        try:
            return self._answer(_operation(http_request), http_request)
        except RequestError as error:
            return error_response(error)
        except Exception as error:  # noqa: BLE001 - PyWPS would swallow it without a line in the log
            return unforeseen_response(error)

    def _answer(self, operation: Execute, http_request: Request) -> Response:
        settings = self._settings()
        door = ExecuteDoor(self._runtime, settings, _links(settings))
        # In place of the last proxy's address.
        sender = self._senders.of(http_request.environ, settings.trusted_proxies)
        http_request = Request({**http_request.environ, "REMOTE_ADDR": sender})
        job = door.run(operation, http_request)
        if operation.response_form.status:
            _publish_first(job, settings)
        return door.answer_about(job, operation.response_form, http_request)

    def _settings(self) -> Settings:
        """The settings in force; the engine has started."""
        try:
            self.start()
            self._pywps_settings.check()
        except DieError:
            LOGGER.exception("No Execute can be carried out.")
            raise ServiceUnavailable(
                "The service is not set up correctly; its operator finds the reason in the log."
            ) from None
        return self._runtime.settings


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


# -- where the developer's PyWPS and web server find things


def _links(settings: Settings) -> Links:
    return Links(
        service=settings.url,
        status_prefix=f"{settings.results_base_url}/",
        status_suffix=".xml",
        results=settings.results_base_url,
    )


def _publish_first(job: Job, settings: Settings) -> None:
    """Put the document of a job that was just accepted where the client will look."""
    document = job_documents(settings, _links(settings)).execute_response(job)
    try:
        Results(settings.results_path).write_status(job, document, first=True)
    except OSError:
        # The job is accepted and goes on; the worker publishes it as soon as that is possible.
        LOGGER.exception("Job %s: its document could not be written.", job.id)


def _publish_status(job: Job, settings: Settings) -> None:
    """Write a changed job's documents where the developer's web server finds them.

    Raises:
        OSError: they cannot be written now.
    """
    results = Results(settings.results_path)
    documents = job_documents(settings, _links(settings))
    if job.state is JobState.SUCCEEDED and not files_removed(job):
        results.write_collection(job, documents.non_deterministic_output(job))
    if job.response_form.store:
        results.write_status(job, documents.execute_response(job))
