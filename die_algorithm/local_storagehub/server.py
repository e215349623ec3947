"""The embedded StorageHub as a running server: in the background of a test, or of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from die_algorithm.errors import SettingsError
from die_algorithm.http_server import HttpServer
from die_algorithm.local_storagehub.app import Application
from die_algorithm.local_storagehub.around import BASE_PATH
from die_algorithm.local_storagehub.changes import Changes
from die_algorithm.local_storagehub.storage import Storage
from die_algorithm.local_storagehub.users import Users

_THREADS = 16
#: Seconds for answers under way when it stops; its clients are used to trying again.
_GRACE = 1.0
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
        self._server: HttpServer | None = None

    def start(self) -> None:
        """Listen, and answer in a background thread. Returns when clients can connect."""
        if self._storage is not None:
            return
        with contextlib.ExitStack() as undo:
            storage = undo.enter_context(
                contextlib.closing(Storage(self._folder, Users.load(self._users_file)))
            )
            self._server = HttpServer(
                Application(storage, self._public_url),
                self._listen,
                threads=_THREADS,
                max_request_body_size=2**50,
                recv_bytes=_MEGABYTE // 4,
                # An answer that the client is slow to take waits in memory, never on disk.
                outbuf_high_watermark=4 * _MEGABYTE,
                outbuf_overflow=16 * _MEGABYTE,
            )
            self._storage = storage
            undo.pop_all()
        self._server.start()

    def stop(self) -> None:
        """Close all connections within seconds, end all threads and let go of the folder."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(_GRACE)
        storage, self._storage = self._storage, None
        if storage is not None:
            storage.close()

    def serve(self) -> None:
        """Start, and stay until :meth:`stop` is called or Ctrl-C pressed."""
        self.start()
        try:
            if self._server is not None:
                self._server.join()
        finally:
            self.stop()

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        if self._public_url:
            return self._public_url
        host, port = self.addresses[0]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (not bound here)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses and ports that are listened on."""
        if self._server is None:
            raise SettingsError("The StorageHub has not been started.")
        return self._server.addresses

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

    def revoke(self, token: str) -> None:
        """Accept a token no more, until the next start."""
        if self._storage is None:
            raise SettingsError("The StorageHub has not been started.")
        self._storage.users.revoke(token)

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
