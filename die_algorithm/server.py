"""The HTTP server: waitress, whose one loop holds any number of idle or slow connections.

A thread is taken only while a request is answered, and files are sent by the loop. What waitress itself
refuses (a body too large, a broken header) is answered as an OWS exception like everything else.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer, create_server

from die_algorithm.documents import exception_report
from die_algorithm.errors import FileSizeExceeded, MalformedRequest
from die_algorithm.settings import Settings
from die_algorithm.web import WebApplication

_CONNECTIONS = 8192
#: Seconds after which a silent connection is closed.
_SILENCE = 60


class Server:
    """The service's HTTP server.

    Args:
        settings: the operator's.
        application: what answers.

    Raises:
        OSError: an address cannot be listened on.
    """

    def __init__(self, settings: Settings, application: WebApplication) -> None:
        # Room for the request line of a document posted as XML is not needed: bodies are separate.
        self._server: Any = create_server(
            application,
            map={},
            listen=" ".join(settings.listen),
            threads=settings.threads,
            connection_limit=_CONNECTIONS,
            channel_timeout=_SILENCE,
            # waitress refuses bodies of this size and above.
            max_request_body_size=settings.max_request_size + 1,
            asyncore_use_poll=True,
            expose_tracebacks=False,
            clear_untrusted_proxy_headers=True,
            ident=None,
        )
        for listener in self._listeners():
            listener.channel_class = _Channel

    def _listeners(self) -> list[Any]:
        if isinstance(self._server, BaseWSGIServer):
            return [self._server]
        return [item for item in self._server.map.values() if isinstance(item, BaseWSGIServer)]

    @property
    def port(self) -> int:
        """The port of the first address; useful where it was given as 0."""
        return int(self._listeners()[0].effective_port)

    def run(self) -> None:
        """Serve until :meth:`stop` or, in the main thread, SIGTERM or SIGINT."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _leave)
        self._server.run()

    def stop(self) -> None:
        """Close the sockets; :meth:`run` returns."""
        self._server.close()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit


class _Refusal:
    """An error of waitress's parser, told in our own words."""

    def __init__(self, code: int, reason: str) -> None:
        self._status = f"{code} {reason}"
        self._too_large = code == 413

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """What waitress sends: status, headers, body."""
        del ident
        error = (
            FileSizeExceeded("The request is larger than this service accepts.")
            if self._too_large
            else MalformedRequest("The request is not proper HTTP.")
        )
        return self._status, [("Content-Type", "text/xml; charset=utf-8")], exception_report(error)


class _Parser(HTTPRequestParser):  # type: ignore[misc] # waitress has no types
    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.error is not None and not isinstance(self.error, _Refusal):
            self.error = _Refusal(self.error.code, self.error.reason)
        return consumed


class _Channel(HTTPChannel):  # type: ignore[misc] # waitress has no types
    parser_class = _Parser
