"""The headers of requests as the rules read them, and those of every answer.

The latter say what a browser may do with it, which is nothing but show or save it.
"""

from __future__ import annotations

from collections.abc import Mapping

from werkzeug.wrappers import Request, Response

from die_algorithm.credentials import PARAMETER

#: Sent with each answer that does not say otherwise itself. No ``Access-Control-…`` is among them: pages
#: of other origins may send requests, as links do, and read no answer.
DOOR_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    # Neither a document nor a log, whatever a program wrote into it, runs or loads anything.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    # Clients put their tokens into addresses (reference: dataminer-wps, W3).
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def headers_of(request: Request) -> Mapping[str, str]:
    """The headers of a request, their names in lower case."""
    return {name.lower(): value for name, value in request.headers.items()}


def add_door_headers(response: Response, request: Request) -> None:
    """Give an answer the headers that every answer has.

    Args:
        response: the answer; what it says itself stays.
        request: what it answers.
    """
    for name, value in DOOR_HEADERS.items():
        response.headers.setdefault(name, value)
    if _carries_token(request):
        # Whoever keeps the answer keeps it by an address that may hold the token.
        response.headers["Cache-Control"] = "no-store"


def _carries_token(request: Request) -> bool:
    """Whether a request carries a token, or what could be one, in any of its places."""
    headers = request.headers
    return (
        PARAMETER.encode() in request.query_string.lower()
        or PARAMETER in headers
        or "Authorization" in headers
    )
