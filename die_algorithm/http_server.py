"""waitress, started and stopped: one loop for all connections, a thread only while one is answered."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

from die_algorithm.errors import SettingsError

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
        SettingsError: an address cannot be listened on.
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
        with contextlib.ExitStack() as undo:
            listeners = [undo.enter_context(_listener(address)) for address in listen]
            # All went well: the server closes the sockets from here on.
            undo.pop_all()
        self._sockets: dict[int, Any] = {}
        self._left: list[Any] = []
        self._server = create_server(
            application,
            map=self._sockets,
            sockets=listeners,
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
        self._stopping = threading.Lock()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses and ports that are listened on."""
        return [(item.effective_host, int(item.effective_port)) for item in self._listeners]

    def start(self) -> None:
        """Answer in the background from now on."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the server is stopped."""
        self._thread.join()

    def stop(self) -> None:
        """Close all connections and end all threads; requests under way get a few seconds."""
        with self._stopping:
            if self._thread.is_alive():
                # Only the server's own thread may touch its sockets. The clients' go first, so that no
                # answer is waiting to be taken; the rest when no thread needs it to end its work.
                self._listeners[0].trigger.pull_trigger(self._close_clients)
                self._listeners[0].task_dispatcher.shutdown()
                self._listeners[0].trigger.pull_trigger(self._let_go)
                self._thread.join()
            for left in self._left or list(self._sockets.values()):
                left.close()

    def _close_clients(self) -> None:
        for listener in self._listeners:
            listener.accepting = False
            for channel in list(listener.active_channels.values()):
                channel.handle_close()

    def _let_go(self) -> None:
        # Without sockets the loop ends. They are closed after it, the one that woke it included.
        self._left = list(self._sockets.values())
        self._sockets.clear()


def _listener(address: str) -> socket.socket:
    """A socket that listens at ``address:port``; IPv6 addresses stand in brackets."""
    match = re.fullmatch(r"([^\s:\[\]]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", address, re.ASCII)
    if match is None or int(match[2]) > 65535:
        raise SettingsError(f"Cannot listen on {address!r}: it is not address:port.")
    host = match[1].strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(match[2])), family=family, backlog=1024)
    except OSError as error:
        raise SettingsError(f"Cannot listen on {address}: {error}") from None
