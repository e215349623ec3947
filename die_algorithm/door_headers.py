"""The headers of every answer: what a browser may do with it, which is nothing but show or save it."""

from __future__ import annotations

from collections.abc import Mapping

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
