"""The HTTP answers to what went wrong: a refused request, an unforeseen error, a job that failed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import uuid4

from werkzeug.wrappers import Response

from die_algorithm import description
from die_algorithm.documents import exception_report
from die_algorithm.errors import (
    NotAuthorized,
    RequestError,
    ServerBusy,
    ServiceUnavailable,
    TokenNotAccepted,
    TooManyRequests,
)
from die_algorithm.models import FaultClass, Job

LOGGER = logging.getLogger(__name__)

#: Whose fault makes an HTTP error of the server's, when a bare output was asked for.
_OURS = (FaultClass.STORAGE, FaultClass.SYSTEM)


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
