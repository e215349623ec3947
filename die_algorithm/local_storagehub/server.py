"""The embedded StorageHub as a running server: in the background of a test, or of its own."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from waitress.server import BaseWSGIServer, create_server

from die_algorithm.errors import SettingsError
from die_algorithm.local_storagehub.app import Application
from die_algorithm.local_storagehub.around import BASE_PATH
from die_algorithm.local_storagehub.changes import Changes
from die_algorithm.local_storagehub.storage import Storage
from die_algorithm.local_storagehub.users import Users

_THREADS = 16
_MEGABYTE = 1024 * 1024


class LocalStorageHub:
    """An embedded StorageHub. As a context manager it runs from begin to end of the block.

    Args:
        folder: where everything is kept; created if it does not exist.
        users_file: TOML file of the users, see ``users``.
        listen: where to listen, each ``address:port``; port 0 takes a free one.
        public_url: the server's address as clients see it; None: what they ask for.

    Raises:
        SettingsError: on ``start``: a file, the folder or an address cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        users_file: Path,
        listen: Sequence[str] = ("127.0.0.1:0",),
        public_url: str | None = None,
    ) -> None:
        self._folder = folder
        self._users_file = users_file
        self._listen = tuple(listen)
        self._public_url = public_url.rstrip("/") if public_url else None
        self._storage: Storage | None = None
        self._sockets: dict[int, BaseWSGIServer] = {}
        self._left: list[BaseWSGIServer] = []
        self._servers: list[BaseWSGIServer] = []
        self._thread: threading.Thread | None = None
        self._stopping = threading.Lock()

    def start(self) -> None:
        """Listen, and answer in a background thread. Returns when clients can connect."""
        if self._storage is not None:
            return
        with contextlib.ExitStack() as undo:
            listeners = [undo.enter_context(_listener(address)) for address in self._listen]
            self._storage = Storage(self._folder, Users.load(self._users_file))
            # All went well: the server closes the sockets from here on.
            undo.pop_all()
        server = create_server(
            Application(self._storage, self._public_url),
            map=self._sockets,
            sockets=listeners,
            threads=_THREADS,
            ident=None,
            max_request_body_size=2**50,
            recv_bytes=_MEGABYTE // 4,
            # An answer that the client is slow to take waits in memory, never on disk.
            outbuf_high_watermark=4 * _MEGABYTE,
            outbuf_overflow=16 * _MEGABYTE,
            clear_untrusted_proxy_headers=True,
        )
        self._servers = [s for s in self._sockets.values() if isinstance(s, BaseWSGIServer)]
        self._thread = threading.Thread(target=server.run, name="local-storagehub", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections, end all threads and let go of the folder."""
        with self._stopping:
            self._stop()

    def _stop(self) -> None:
        if self._thread is not None:
            # Only the server's own thread may touch its sockets. The clients' go first, so that no
            # answer is waiting to be taken; the rest when no thread needs it to end its work.
            self._servers[0].trigger.pull_trigger(self._close_clients)
            self._servers[0].task_dispatcher.shutdown()
            self._servers[0].trigger.pull_trigger(self._let_go)
            self._thread.join()
            self._thread = None
            for left in self._left:
                left.close()
        if self._storage is not None:
            self._storage.close()
            self._storage = None

    def serve(self) -> None:
        """Start, and stay until :meth:`stop` is called or Ctrl-C pressed."""
        self.start()
        try:
            if self._thread is not None:
                self._thread.join()
        finally:
            self.stop()

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        if self._public_url:
            return self._public_url
        if not self._servers:
            raise SettingsError("The StorageHub has not been started.")
        host, port = self._servers[0].effective_host, self._servers[0].effective_port
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (not bound here)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """The address of the workspace API, as clients are configured with it."""
        return self.url + BASE_PATH

    def seed(self, user: str, name: str, content: bytes) -> str:
        """Put a file into the root of a user's workspace, unless it is there with this content.

        Returns:
            The file's id, the same for the same name each time.
        """
        if self._storage is None:
            raise SettingsError("The StorageHub has not been started.")
        workspace = self._storage.workspace(user)
        root = workspace.root.id
        there = workspace.catalogue.child(root, name)
        if there is not None and there.content is not None:
            with workspace.blobs.open(there.content.blob) as file:
                if there.content.size == len(content) and file.read() == content:
                    return there.id
        with workspace.blobs.receive() as incoming:
            incoming.write(content)
            return Changes(workspace).create_file(root, name, incoming, description=name).id

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _close_clients(self) -> None:
        for server in self._servers:
            server.accepting = False
            for channel in list(server.active_channels.values()):
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
