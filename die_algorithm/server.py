"""The service behind its sockets.

What the HTTP server itself refuses (a body too large, a broken header) is answered as an OWS exception
like everything else, and before the body is read.
"""

from __future__ import annotations

import logging
import re
from tempfile import gettempdir
from typing import Any

from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest, RequestEntityTooLarge, ServerNotImplemented
from waitress.utilities import Error as HttpError

from die_algorithm.documents import exception_report
from die_algorithm.door_headers import DOOR_HEADERS
from die_algorithm.errors import FileSizeExceeded, MalformedRequest, RequestError
from die_algorithm.http_server import GRACE, Channel, HttpServer
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings
from die_algorithm.web import WebApplication

LOGGER = logging.getLogger(__name__)

#: Bytes of a request's line and headers. An Execute by GET is encoded twice, and may carry a token of 8 KiB.
_LONGEST_HEAD = 2**16
#: Bytes of a body that are held in memory while it comes; more of them lie in a file.
_BODY_IN_MEMORY = 2**16
#: Bytes of all bodies together that are not whole. Each may be a client's who means to fill the disk.
_MOST_UNFINISHED = 256 * 2**20
#: Bytes of all answers together that wait for their clients, without files: some fifty of the largest.
_MOST_UNSENT = 512 * 2**20
#: Seconds after which a silent connection is closed.
_SILENCE = 60
# Of the registered methods the longest has 17 characters (RFC 9110, 16.1.2).
_LONG_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{21,}")
#: Bytes in which a chunk's size is said, extensions included, of which none is known here.
_LONGEST_CHUNK_LINE = 4096
#: Bytes of the fields behind a chunked body, of which none is read.
_LONGEST_TRAILER = 4096
#: Bytes that may frame the chunks of a body: each byte of one can be a chunk, at several times its cost.
_MOST_FRAMING = 2**20
#: Between two lines of headers, one that goes on in the next (RFC 9112, 5.2).
_FOLDED = re.compile(rb"\r\n[ \t]")
_CODINGS = re.compile(rb"\r\ntransfer-encoding:([^\r\n]*)", re.IGNORECASE)
_HOST = re.compile(rb"\r\nhost:", re.IGNORECASE)
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
#: A request's line, after the blank lines that may precede it (RFC 9112, 2.2): waitress takes others.
_BEGINNING = re.compile(rb"(?:\r\n)*(?:[!#$%&'*+.^_`|~0-9A-Za-z-]|\Z)")
#: One whose target is no path, address or ``*`` (RFC 9112, 3.2), as that of CONNECT alone may be.
_NO_TARGET = re.compile(rb"(?!CONNECT )\S+ (?!/|\*(?: |$)|[A-Za-z][A-Za-z0-9+.-]*://)")
_NOT_IN_A_TARGET = re.compile(rb"[\x00-\x1f\x7f#]")
_LENGTH = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)


def service_server(settings: Settings, application: WebApplication) -> HttpServer:
    """Listen where the settings say; the server is not started yet.

    Raises:
        SettingsError: an address cannot be listened on.
    """
    return HttpServer(
        application,
        settings.listen,
        threads=settings.threads,
        channel=_Channel,
        channel_timeout=_SILENCE,
        most_unfinished=_MOST_UNFINISHED,
        most_unsent=_MOST_UNSENT,
        max_request_header_size=_LONGEST_HEAD,
        inbuf_overflow=_BODY_IN_MEMORY,
        # Lets a request that waits for a job notice that its client has left.
        channel_request_lookahead=1,
        # waitress refuses bodies of this size and above.
        max_request_body_size=settings.max_request_size + 1,
    )


def stop_service(server: HttpServer, runtime: Runtime, grace: float = GRACE) -> None:
    """Stop the service; its jobs go on at the next start, or in another process at once.

    Args:
        server: its sockets.
        runtime: its engine.
        grace: seconds for answers that are under way. An Execute that waits for its job is answered at
            once: the job may take hours.
    """
    # In this order every answer from here on says that it is its connection's last.
    server.listen_no_more()
    runtime.close()
    server.stop(grace)
    runtime.stop()


_REFUSALS: dict[int, RequestError] = {
    408: MalformedRequest("The request did not come to its end in time. Send it again."),
    413: FileSizeExceeded("The request is larger than this service accepts."),
    431: MalformedRequest(
        "The address or the headers of the request are too long; send a long Execute as XML by POST."
    ),
    500: RequestError(
        "Something went wrong in this service. Its operator finds the reason in the log."
    ),
    501: MalformedRequest(
        "The request's method is not known here, or it is encoded for transfer in a way that is not."
    ),
    503: RequestError(
        "This service has no room for the request now. Nothing was started; try again later."
    ),
}


class _NoRoom(HttpError):
    """A body cannot be held until it is whole (RFC 9110, 15.6.4)."""

    code = 503
    reason = "Service Unavailable"


class _Refusal:
    """An error of waitress's parser, told in our own words."""

    def __init__(self, code: int, reason: str) -> None:
        self._status = f"{code} {reason}"
        self._error = _REFUSALS.get(code, MalformedRequest("The request is not proper HTTP."))

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """What waitress sends: status, headers, body."""
        del ident
        headers = [("Content-Type", "text/xml; charset=utf-8"), *DOOR_HEADERS.items()]
        return self._status, headers, exception_report(self._error)


class _Chunks(ChunkedReceiver):
    """Reads a chunked body, without the blank lines before a chunk's size that waitress takes."""

    error: HttpError | None = None

    def received(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not (self.completed or self.error):
            end = self._end_of_part(data, at)
            if self._awaits_size and self.control_line + data[at:end] == b"\r\n":
                # Others refuse it, or take it for the body's end (RFC 9112, 7.1).
                self.error = BadRequest("A chunk without a size.")
            else:
                at += int(super().received(data[at:end]))
        return at

    @property
    def _awaits_size(self) -> bool:
        in_chunk = self.chunk_remainder > 0 or self.validate_chunk_end
        return not (in_chunk or self.all_chunks_received)

    def _end_of_part(self, data: bytes, at: int) -> int:
        """Where in the data ends what is read as one: a size, a chunk, its line's end, the trailer."""
        if self._awaits_size:
            if self.control_line.endswith(b"\r") and data[at : at + 1] == b"\n":
                return at + 1
            found = data.find(b"\r\n", at)
            return found + 2 if found >= 0 else len(data)
        if self.chunk_remainder > 0:
            return min(len(data), at + int(self.chunk_remainder))
        if self.validate_chunk_end:
            return min(len(data), at + 2 - len(self.chunk_end))
        return len(data)


class _Parser(HTTPRequestParser):
    _refusal: _Refusal | None = None
    _expects = False
    _framed = 0
    body_rcv: Any

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self._head = bytearray()

    def received(self, data: bytes) -> int:
        if not (self.headers_finished or self.completed):
            return self._head_received(data)
        try:
            return self._chunks_received(data) if self.chunked else int(super().received(data))
        except OSError as error:
            LOGGER.error("The body of a request cannot be held in %s: %s", gettempdir(), error)  # noqa: TRY400
            self._refuse(_NoRoom("The body cannot be held."))
            return len(data)

    def _head_received(self, data: bytes) -> int:
        """Collect the head; waitress would search all of it for its end with each piece that comes."""
        before = len(self._head)
        self._head += data
        ends = self._head.find(b"\r\n\r\n", max(0, before - 3)) >= 0
        if not ends and len(self._head) < self.adj.max_request_header_size:
            return len(data)
        head = bytes(self._head)
        self._head.clear()
        if ends and not _BEGINNING.match(head):
            # Something that can be answered, as waitress does with headers that are too long.
            self.parse_header(b"GET / HTTP/1.0\r\n")
            self.headers_finished = True
            self._refuse(BadRequest("A request that does not begin with its method."))
            return len(data)
        return int(super().received(head)) - before

    def _chunks_received(self, data: bytes) -> int:
        # waitress would count what frames the chunks to the body, too.
        self.body_bytes_received = -len(data)
        consumed = int(super().received(data))
        self._framed += consumed
        self.body_bytes_received = len(self.body_rcv)
        longest = self.adj.max_request_body_size
        if self.body_bytes_received >= longest:
            self._refuse(RequestEntityTooLarge("The body is too long."))
        elif self._framed >= longest + _MOST_FRAMING:
            self._refuse(BadRequest("Much more frames the chunks than is in them."))
        # Both are searched for their ends from their beginnings with each piece that comes.
        elif len(self.body_rcv.control_line) > _LONGEST_CHUNK_LINE:
            self._refuse(BadRequest("The size of a chunk is longer than any."))
        elif len(self.body_rcv.trailer) > _LONGEST_TRAILER:
            self._refuse(BadRequest("The trailer is longer than any."))
        return consumed

    def _refuse(self, error: HttpError) -> None:
        self.error = error
        self.completed = True

    def parse_header(self, header_plus: bytes) -> None:
        line = header_plus.partition(b"\r\n")[0]
        if _LONG_METHOD.match(line):
            self._refuse(ServerNotImplemented("A method longer than any."))
        else:
            self._parse_header(header_plus, line)

    def _parse_header(self, header_plus: bytes, line: bytes) -> None:
        if _FOLDED.search(header_plus):
            raise ParsingError("A header that goes on in the next line.")
        if _NO_TARGET.match(line) or _NOT_IN_A_TARGET.search(line):
            # urlsplit() would leave out a part of them, and all that follows a '#'.
            raise ParsingError("A target that is neither path nor address, or no character of one.")
        if len(_HOST.findall(header_plus)) != 1 and line.rstrip().endswith(b"HTTP/1.1"):
            raise ParsingError("No host, or several (RFC 9112, 3.2).")
        found = _CODINGS.findall(header_plus)
        codings = b",".join(found).lower()
        if found and not codings.strip(b" \t,"):
            raise ParsingError("A transfer encoding that is none.")
        if codings.count(b"chunked") > 1 or (found and _LENGTH.search(header_plus)):
            # Whoever stands before us may have believed the other one (RFC 9112, 6.1 and 11.2).
            raise ParsingError("The length of the body is said more than once.")
        try:
            super().parse_header(_escaped(header_plus))
        except ValueError:
            # Of urlsplit() and int(), from which waitress expects none.
            raise ParsingError(
                "The request's target is no address, or a number too long."
            ) from None
        if self.version not in ("1.0", "1.1"):
            raise ParsingError("Another HTTP than 1.0 and 1.1, which are spoken here.")
        if codings and self.version == "1.0":
            raise ParsingError("HTTP 1.0 has no transfer encodings (RFC 9112, 6.1).")
        if self.chunked:
            self.body_rcv = _Chunks(self.body_rcv.getbuf())
        self._settle_connection()

    def _settle_connection(self) -> None:
        """Leave one word of those in ``Connection`` (RFC 9110, 7.6.1): waitress knows no lists."""
        words = {
            word.strip(" \t") for word in self.headers.get("CONNECTION", "").lower().split(",")
        }
        is_last = "close" in words or (self.version == "1.0" and "keep-alive" not in words)
        self.connection_close = is_last
        if "CONNECTION" in self.headers:
            self.headers["CONNECTION"] = "close" if is_last else "keep-alive"

    @property
    def expect_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body: never if there is none to come."""
        return self._expects and self._refusal is None and not self.completed

    @expect_continue.setter
    def expect_continue(self, expects: bool) -> None:
        self._expects = expects

    @property
    def error(self) -> _Refusal | None:
        """Why the request is refused; None if it is not."""
        return self._refusal

    @error.setter
    def error(self, error: HttpError) -> None:
        self._refusal = _Refusal(error.code, error.reason)


def _escaped(header_plus: bytes) -> bytes:
    """A request's head with characters beyond ASCII in its target percent-encoded.

    Clients such as curl send an address as it was typed. It is read as it was meant, UTF-8, here and in a
    PyWPS service of somebody's own.
    """
    line, end, rest = header_plus.partition(b"\r\n")
    method, blank, target = line.partition(b" ")
    target = _BEYOND_ASCII.sub(lambda found: b"%%%02X" % ord(found[0]), target)
    return method + blank + target + end + rest


class _Channel(Channel):
    parser_class = _Parser
    # No WPS request is longer than a few megabytes, and its client has it whole before it sends it.
    body_pause = 20.0
