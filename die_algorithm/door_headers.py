"""The headers of requests as the rules read them, and those of every answer.

The latter say what a browser may do with it, which is nothing but show or save it.
"""

from __future__ import annotations

from collections.abc import Mapping

from werkzeug.wrappers import Request

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
