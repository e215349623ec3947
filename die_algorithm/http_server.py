"""waitress, started and stopped: one loop for all connections, a thread only while one is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Idle and slow connections cost a socket each; this many are held.
_CONNECTIONS = 8192


class HttpServer:
    """A WSGI application behind sockets.

    Args:
        application: what answers.
        listen: where, each ``address:port``; port 0 takes a free one.
        threads: how many requests are answered at once.
        channel: what reads requests off a connection.
        options: further adjustments of waitress.

    Raises:
        OSError: an address cannot be listened on.
    """

    def __init__(
        self,
        application: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]],
        listen: Sequence[str],
        *,
        threads: int,
        channel: type[HTTPChannel] = HTTPChannel,
        **options: object,
    ) -> None:
        self._sockets: dict[int, Any] = {}
        self._server = create_server(
            application,
            map=self._sockets,
            listen=" ".join(listen),
            threads=threads,
            connection_limit=_CONNECTIONS,
            asyncore_use_poll=True,
            clear_untrusted_proxy_headers=True,
            ident=None,
            **options,
        )
        self._listeners = [s for s in self._sockets.values() if isinstance(s, BaseWSGIServer)]
        for listener in self._listeners:
            listener.channel_class = channel
        self._thread = threading.Thread(target=self._server.run, name="http-server", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """The first address and port that are listened on."""
        return self._listeners[0].effective_host, int(self._listeners[0].effective_port)

    def start(self) -> None:
        """Answer in the background from now on."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the server is stopped."""
        self._thread.join()

    def stop(self) -> None:
        """Close all connections and end all threads; requests under way get a few seconds."""
        if not self._thread.is_alive():
            self._close_sockets()
            return
        # Only the server's own thread may touch its sockets.
        self._listeners[0].trigger.pull_trigger(self._close_sockets)
        self._thread.join()
        self._listeners[0].task_dispatcher.shutdown()

    def _close_sockets(self) -> None:
        for socket in list(self._sockets.values()):
            if isinstance(socket, HTTPChannel):
                socket.handle_close()
            else:
                socket.close()
