"""The WSGI application: WPS, status, cancel, results, health.

Requests are read by our own strict rules; PyWPS would not read them as well (reference: pywps 6), and is not
needed here.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from contextvars import copy_context
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as RoutingMethodNotAllowed
from werkzeug.exceptions import NotFound as RoutingNotFound
from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.wrappers import Request, Response

from die_algorithm import description
from die_algorithm.capabilities import capabilities, process_descriptions
from die_algorithm.credentials import find_user_token, user_token
from die_algorithm.documents import exception_report, job_documents
from die_algorithm.door_headers import add_door_headers, headers_of
from die_algorithm.downloads import file_response, single_file_response
from die_algorithm.errors import (
    DieError,
    FileSizeExceeded,
    Gone,
    InvalidParameterValue,
    MethodNotAllowed,
    MissingParameterValue,
    NotAuthorized,
    NotFound,
    RequestError,
    ServiceUnavailable,
    TooManyRequests,
    UnsupportedMediaType,
)
from die_algorithm.execute_door import ExecuteDoor
from die_algorithm.http_answers import error_response, unforeseen_response
from die_algorithm.job_list import job_list, parse_limit
from die_algorithm.links import Links
from die_algorithm.locators import known_locator
from die_algorithm.models import Job, JobState, UserToken
from die_algorithm.rate_limits import RateLimits
from die_algorithm.readiness import Readiness, service_checks, worker_checks
from die_algorithm.refusals import Refusals
from die_algorithm.results import Results, collection_name, job_id_in
from die_algorithm.runtime import Runtime
from die_algorithm.senders import Senders
from die_algorithm.settings import Settings
from die_algorithm.wps2_capabilities import wps2_capabilities
from die_algorithm.wps2_documents import Wps2Documents, wps2_exception_report
from die_algorithm.wps2_jobs import Wps2Jobs
from die_algorithm.wps2_kvp import is_wps2_query, parse_wps2_kvp
from die_algorithm.wps2_operations import Operation as Wps2Operation
from die_algorithm.wps2_operations import in_terms_of_wps2
from die_algorithm.wps2_xml import is_wps2_body, read_wps2
from die_algorithm.wps_kvp import parse_kvp, read_query
from die_algorithm.wps_operations import (
    VERSION,
    DescribeProcess,
    Execute,
    GetCapabilities,
    Operation,
)
from die_algorithm.wps_xml import read_wps
from die_algorithm.xml_reader import read_root

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOGGER = logging.getLogger(__name__)

WPS_PATH = "/wps/WebProcessingService"
STATUS_PATH = "/wps/RetrieveResultServlet"
CANCEL_PATH = "/wps/CancelComputationServlet"
RESULTS_PATH = "/results"
JOBS_PATH = "/jobs"
_HEALTH_PATH = "/health"

_ROUTES = Map(
    [
        Rule(WPS_PATH, endpoint="wps", methods=["GET", "POST"]),
        Rule(STATUS_PATH, endpoint="status", methods=["GET"]),
        Rule(CANCEL_PATH, endpoint="cancel", methods=["GET", "POST"]),
        Rule(f"{RESULTS_PATH}/<key>/<name>", endpoint="result", methods=["GET"]),
        Rule(f"{RESULTS_PATH}/<key>/<name>/<path:path>", endpoint="single_file", methods=["GET"]),
        Rule(JOBS_PATH, endpoint="jobs", methods=["GET"]),
        Rule(_HEALTH_PATH, endpoint="health", methods=["GET"]),
        Rule("/ready", endpoint="ready", methods=["GET"]),
        Rule("/", endpoint="welcome", methods=["GET"]),
    ],
    strict_slashes=False,
    # The portal writes ``…:80//wps/RetrieveResultServlet``; a redirect would cost it the request.
    merge_slashes=False,
)
# What looks like a result's key: a client may glue one to any path, or cut the file's name off.
_KEY = re.compile(r"[0-9a-f]{32,}", re.IGNORECASE)
_GLUED = re.compile(r"[?&;]|%3f|%26|gcube-?token", re.IGNORECASE)
_XML_TYPES = ("text/xml", "application/xml", "")
#: Where a request's environment says that it speaks WPS 2.0.
_WPS2 = "die.speaks_wps2"
#: Where it says as what a request was refused: code, and the locator if it is a name of ours. A sentence,
#: and any other locator, may quote what was sent.
_REFUSED_AS = "die.refused_as"
_WPS2_MARKS = (b"version=2.0.0", b"acceptversions=2.0.0", b"http://www.opengis.net/wps/2.0")
#: How much of a body is looked at for them.
_BEGINNING = 2048
#: Bytes of a large one, and how many of those are read at once: XML takes many times as much when it is read.
_LARGE_BODY, _LARGE_BODIES = 2**16, 2
#: The methods of HTTP (RFC 9110, 9.1; RFC 5789); others are unknown to it.
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
# Other odd values are sent by old clients with bodies that are plain XML (W5).
_COMPRESSED = ("gzip", "x-gzip", "deflate", "br", "zstd", "compress")


class WebApplication:
    """The service as a WSGI application.

    Args:
        settings: the operator's.
        runtime: the engine.

    Raises:
        SettingsError: the administrators' file cannot be used. A worker needs none.
    """

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        runtime.engine.check_admins()
        self._settings = settings
        self._runtime = runtime
        self._results = Results(settings.results_path)
        self._links = Links(
            service=f"{settings.url}{WPS_PATH}",
            status_prefix=f"{settings.url}{STATUS_PATH}?id=",
            status_suffix="",
            results=settings.results_base_url,
        )
        self._documents = job_documents(settings, self._links)
        self._executes = ExecuteDoor(runtime, settings, self._links)
        self._wps2 = Wps2Jobs(runtime, self._executes, Wps2Documents(self._links, self._documents))
        self._refusals = Refusals()
        self._readiness = Readiness(lambda: service_checks(settings))
        self._large_bodies = threading.Semaphore(_LARGE_BODIES)
        self._requests = RateLimits(settings.max_requests_per_minute)
        self._senders = Senders()
        self._endpoints: dict[str, Callable[..., Response]] = {
            "wps": self._wps,
            "status": self._status,
            "cancel": self._cancel,
            "result": self._result,
            "single_file": self._single_file,
            "jobs": self._jobs,
            "health": self._health,
            "ready": self._ready,
            "welcome": self._welcome,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        # What is set on the way, such as which token to mask, ends with the request.
        return copy_context().run(self._respond, environ, start_response)

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.monotonic()
        environ["PATH_INFO"] = "/" + environ.get("PATH_INFO", "").lstrip("/")
        environ["REMOTE_ADDR"] = self._senders.of(environ, self._settings.trusted_proxies)
        # No other protocol is spoken, and who asks for one is answered in this (RFC 9110, 7.8).
        environ.pop("HTTP_UPGRADE", None)
        request = Request(environ)
        response = self._answer(request)
        add_door_headers(response, request)
        is_poll = request.path == STATUS_PATH and response.status_code == 200
        LOGGER.log(
            logging.DEBUG if is_poll else logging.INFO,
            "%s %s %r %d%s %.0f ms",
            request.remote_addr,
            request.method if request.method in _METHODS else "?",
            _loggable(request.path),
            response.status_code,
            request.environ.get(_REFUSED_AS, ""),
            (time.monotonic() - started) * 1000,
        )
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            self._check_rate(request)
            adapter: MapAdapter = _ROUTES.bind_to_environ(request.environ)
            endpoint, arguments = adapter.match()
            return self._endpoints[endpoint](request, **arguments)
        except RequestError as error:
            return _refusal(error, request)
        except HTTPException as error:
            return _http_refusal(error, request)
        except DieError:
            LOGGER.exception("A request could not be answered.")
            return _refusal(
                ServiceUnavailable(
                    "The service cannot answer at the moment; try again in a minute."
                ),
                request,
            )
        except Exception as error:  # noqa: BLE001 - the door must not fall off
            return unforeseen_response(error, _report(request))

    def _check_rate(self, request: Request) -> None:
        # Who looks whether the service lives would stop it if it did not answer.
        if request.path == _HEALTH_PATH:
            return
        if seconds := self._requests.take(request.remote_addr or ""):
            request.environ[_WPS2] = _seems_wps2(request)
            raise TooManyRequests(
                f"More than {self._settings.max_requests_per_minute} requests came from your address "
                f"within a minute. Ask again in {seconds} s, and less often from then on.",
                seconds,
            )

    # -- WPS

    def _wps(self, request: Request) -> Response:
        operation = self._operation(request)
        if isinstance(operation, GetCapabilities):
            write = capabilities if operation.version == VERSION else wps2_capabilities
            return _xml(write(self._links.service))
        # What is none of the operations that both versions have is of WPS 2.0.
        if _speaks_wps2(request) or not isinstance(operation, DescribeProcess | Execute):
            return self._wps2.answer(operation, request)
        if isinstance(operation, DescribeProcess):
            return _xml(process_descriptions(operation.identifiers))
        return self._execute(operation, request)

    def _operation(self, request: Request) -> Operation | Wps2Operation:
        """Read what is asked for, and note in which version, so that refusals are in it too."""
        if request.method != "POST":
            query = _query(request)
            request.environ[_WPS2] = is_wps2_query(query)
            return parse_wps2_kvp(query) if _speaks_wps2(request) else parse_kvp(query)
        body = self._body(request)
        with self._large_bodies if len(body) > _LARGE_BODY else nullcontext():
            root = read_root(body)
            request.environ[_WPS2] = is_wps2_body(root)
            return read_wps2(root) if _speaks_wps2(request) else read_wps(root)

    def _body(self, request: Request) -> bytes:
        if request.mimetype not in _XML_TYPES:
            raise UnsupportedMediaType(
                f"A body of type {request.mimetype[:60]!r} is not read here; send XML with the header "
                "'Content-Type: text/xml'."
            )
        codings = request.headers.get("Content-Encoding", "").lower().split(",")
        if any(coding.strip(" \t") in _COMPRESSED for coding in codings):
            raise UnsupportedMediaType("Send the body uncompressed.")
        limit = self._settings.max_request_size
        if (request.content_length or 0) > limit:
            raise FileSizeExceeded(f"The request is larger than {limit} bytes.")
        # werkzeug would keep it as long as the request, which may wait for a job.
        return request.get_data(cache=False)

    def _execute(self, operation: Execute, request: Request) -> Response:
        if request.method == "HEAD":
            raise MethodNotAllowed("Execute starts a job; use GET or POST.", ("GET", "POST"))
        return self._executes.answer(operation, request)

    # -- jobs

    def _status(self, request: Request) -> Response:
        job_id = _job_id(request)
        try:
            return self._document(self._seen_job(job_id, request))
        except (NotAuthorized, NotFound) as error:
            if self._refusals.are_too_many(job_id):
                raise TooManyRequests(
                    f"{error.text} This was asked for too often; wait a while before you ask again."
                ) from None
            raise

    def _seen_job(self, job_id: str, request: Request) -> Job:
        engine = self._runtime.engine
        if not self._settings.open_status:
            return engine.seen_job(job_id, _token(request))
        # It is open to those who cannot send a token, not to those who send a wrong one.
        token = _find_token(request)
        return engine.job(job_id) if token is None else engine.seen_job(job_id, token)

    def _cancel(self, request: Request) -> Response:
        if request.method == "HEAD":
            raise MethodNotAllowed("Cancelling changes the job; use GET or POST.", ("GET", "POST"))
        token = _token(request)
        return self._document(self._runtime.engine.cancel(_job_id(request), token))

    def _document(self, job: Job) -> Response:
        place = self._runtime.engine.place_in_queue(job)
        return _xml(self._documents.execute_response(job, place))

    def _jobs(self, request: Request) -> Response:
        limit = parse_limit(_query(request).get("limit", ()))
        # One more, to see whether there are more.
        jobs, everybodys = self._runtime.engine.latest_jobs(_token(request), limit + 1)
        return _json(job_list(jobs, limit, self._links, names_owners=everybodys), 200)

    def _result(self, request: Request, key: str, name: str) -> Response:
        job_id = job_id_in(name)
        if job_id is None:
            raise _no_such_result()
        path = self._results.find(key, name)
        if path is not None:
            self._check_reader(job_id, request)
            try:
                return file_response(path, request.environ)
            except FileNotFoundError:
                # It has expired since it was looked for.
                raise Gone from None
        try:
            job = self._runtime.engine.job(job_id)
        except NotFound:
            # In these words: whether there is such a job is its owner's affair.
            raise _no_such_result() from None
        if not hmac.compare_digest(job.result_key.encode(), key.encode()):
            raise _no_such_result()
        self._check_reader(job_id, request)
        if job.expiry and job.expiry.files_at <= datetime.now(UTC):
            raise Gone
        if name == collection_name(job) and job.state is JobState.SUCCEEDED:
            return _xml(self._documents.non_deterministic_output(job))
        raise _no_such_result()

    def _check_reader(self, job_id: str, request: Request) -> None:
        """Refuse a result, whose address is right, to another user's token.

        The address is enough to have it: no token is asked for, and one that cannot be checked, or
        opens nothing any more, is as good as none.

        Raises:
            NotFound: the token is another user's.
        """
        try:
            token = _find_token(request)
        except RequestError:
            return
        if token is not None and self._runtime.engine.is_anothers(job_id, token):
            raise _no_such_result()

    def _single_file(self, request: Request, key: str, name: str, path: str) -> Response:
        zip_name = f"{name}.zip"
        job_id = job_id_in(zip_name)
        copy = self._results.find_single_file(key, zip_name, path)
        if job_id is None or copy is None:
            raise _no_such_result()
        self._check_reader(job_id, request)
        try:
            return single_file_response(copy, path, request.environ)
        except FileNotFoundError:
            raise _no_such_result() from None

    # -- the operator

    def _health(self, _request: Request) -> Response:
        return _json({"status": "alive"}, 200)

    def _ready(self, _request: Request) -> Response:
        found = self._readiness.look()
        found += worker_checks(self._runtime.worker_reports, works_here=self._runtime.works)
        ready = all(check.passed for check in found)
        body = {
            "status": "ready" if ready else "not ready",
            "checks": {check.name: "passed" if check.passed else check.text for check in found},
        }
        return _json(body, 200 if ready else 503)

    def _welcome(self, _request: Request) -> Response:
        text = (
            f"{description.TITLE}\n\n"
            f"WPS 1.0.0: {self._links.service}?service=WPS&request=GetCapabilities\n"
            f"WPS 2.0.0: {self._links.service}?service=WPS&version=2.0.0&request=GetCapabilities\n"
        )
        return Response(text, mimetype="text/plain")


def _loggable(path: str) -> str:
    """A request's path without what opens a door: never the query, nor a result's key.

    Nor what should have been a query: clients glue ``&gcube-token=…`` to any address (W3).
    """
    path = _KEY.sub("***", _GLUED.split(path, maxsplit=1)[0])
    if path.startswith(f"{RESULTS_PATH}/"):
        return f"{RESULTS_PATH}/***/{path.rpartition('/')[2][:60]}"
    return path[:120]


def _http_refusal(error: HTTPException, request: Request) -> Response:
    """What werkzeug refuses, in our own words."""
    if isinstance(error, RoutingNotFound):
        return _refusal(NotFound(f"There is nothing here; the WPS is at {WPS_PATH}."), request)
    if isinstance(error, RoutingMethodNotAllowed) and request.method not in _METHODS:
        # RFC 9110, 9.1: unknown, which is not the same as known and not offered here.
        response = _refusal(
            RequestError("This HTTP method is not known; use GET or POST."), request
        )
        response.status_code = 501
        return response
    if isinstance(error, RoutingMethodNotAllowed):
        allowed = tuple(error.valid_methods or ())
        text = f"Use {' or '.join(sorted(allowed))} here."
        return _refusal(MethodNotAllowed(text, allowed), request)
    # Such as a range beyond the end of a file, with the header that says where that is.
    response = _refusal(RequestError(f"{error.name}: this cannot be answered."), request)
    response.status_code = error.code or 400
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _query(request: Request) -> Mapping[str, tuple[str, ...]]:
    return read_query(request.query_string)


def _token(request: Request) -> UserToken:
    return user_token(_query(request), headers_of(request), request.remote_addr or "")


def _find_token(request: Request) -> UserToken | None:
    return find_user_token(_query(request), headers_of(request), request.remote_addr or "")


def _seems_wps2(request: Request) -> bool:
    """Whether a request that is not read speaks WPS 2.0, by its look."""
    text = request.query_string.lower()
    if request.method == "POST":
        text += request.stream.read(_BEGINNING).lower()
    return any(mark in text for mark in _WPS2_MARKS)


def _no_such_result() -> NotFound:
    return NotFound("There is no such result, or it has expired.")


def _job_id(request: Request) -> str:
    values = _query(request).get("id", ())
    if not values:
        raise MissingParameterValue("The parameter id is missing.", "id")
    if len(set(values)) > 1:
        raise InvalidParameterValue("The parameter id is given more than once.", "id")
    return values[0]


def _speaks_wps2(request: Request) -> bool:
    return bool(request.environ.get(_WPS2))


def _report(request: Request) -> Callable[[RequestError], bytes]:
    return wps2_exception_report if _speaks_wps2(request) else exception_report


def _refusal(error: RequestError, request: Request) -> Response:
    if _speaks_wps2(request):
        error = in_terms_of_wps2(error)
    response = error_response(error, _report(request))
    locator = known_locator(error.locator)
    request.environ[_REFUSED_AS] = f" {error.code} {locator!r}" if locator else f" {error.code}"
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.allowed))
    return response


def _xml(document: bytes) -> Response:
    return Response(document, mimetype=description.XML)


def _json(body: object, status: int) -> Response:
    return Response(json.dumps(body, indent=1) + "\n", status, mimetype="application/json")
