"""Whatever stands in a request's line and headers: the parser refuses it or reads it, and raises nothing.

An exception there would be nobody's: the connection would end without an answer.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from waitress.adjustments import Adjustments

from die_algorithm.server import _Parser

ADJUSTMENTS = Adjustments()
_PIECES = (
    "http://", "//", "[", "]", "::1", "@", ":", "99999", "?", "#", "%", "%00", "v1.", "/", "\\", "a", "\xe9", "*", "\t",
)  # fmt: skip
_LINES = (
    "Content-Length: 5", f"Content-Length: {'9' * 5000}", "Content-Length:", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", " folded",
    "Expect: 100-continue", "Connection: close", "X", "X: \xff", ": y", "Host: [",
)  # fmt: skip
_TARGETS = st.lists(st.sampled_from(_PIECES) | st.characters(max_codepoint=255), max_size=8)
_HEADERS = st.lists(st.sampled_from(_LINES) | st.text(st.characters(max_codepoint=255)), max_size=4)


@settings(max_examples=2000, deadline=None, database=None)
@given(_TARGETS, st.sampled_from(("HTTP/1.1", "HTTP/1.0", "HTTP/3.7", "")), _HEADERS, st.binary())
def test_no_head_of_a_request_raises(
    target: list[str], version: str, headers: list[str], body: bytes
) -> None:
    head = "\r\n".join((f"GET {''.join(target)} {version}", *headers))
    data = head.encode("latin-1") + b"\r\n\r\n" + body
    parser = _Parser(ADJUSTMENTS)
    while data and not parser.completed:
        data = data[parser.received(data[:7]) :]
