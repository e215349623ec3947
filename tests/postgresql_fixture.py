"""A private PostgreSQL server for tests: in a temporary folder, reached by a Unix socket only."""

from __future__ import annotations

import itertools
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql

_ADMINISTRATOR = "postgres"
_PATIENCE = 60.0
_SHOWN_LINES = 20


class PostgresqlServer:
    """One server with databases of its own; the host's clusters and their port are left alone.

    It trusts whoever reaches its socket, which lies in a folder that only its user and root enter.

    Args:
        folder: where everything of it is; it must belong to the user whom ``private_postgresql``
            runs it as.
        programs: the folder of ``initdb`` and ``postgres``.
        user: the name of that user; None: the one who runs the tests.
        fsync: whether a commit survives a power cut too, as in production; a killed server keeps
            all commits without it.
    """

    def __init__(
        self, folder: Path, programs: Path, user: str | None = None, *, fsync: bool = False
    ) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self._programs = programs
        self._user = user
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    @property
    def is_running(self) -> bool:
        """Whether the server's first process runs."""
        return self._process is not None and self._process.poll() is None

    def make_cluster(self) -> None:
        """Write the files of an empty cluster.

        Raises:
            RuntimeError: it did not work; holds the end of the log.
        """
        command = (
            "initdb", "--pgdata=data", "--auth=trust", f"--username={_ADMINISTRATOR}",
            "--no-locale", "--encoding=UTF8", "--no-sync", "--no-instructions",
        )  # fmt: skip
        if self._popen(command).wait() != 0:
            raise RuntimeError(f"No PostgreSQL cluster could be made. {self._said()}")

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers.

        Raises:
            RuntimeError: it ended, or did not answer in time; holds the end of the log.
        """
        if self.is_running:
            return
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self._fsync else "off",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self._process = self._popen(("postgres", "-D", "data", *words))
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if not self.is_running or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"The PostgreSQL server did not start. {self._said()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it as an administrator does: all clients are disconnected, what they did is undone."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Let it die as in a crash, with all its processes; ``start`` recovers what was committed."""
        if self._process is None or not self.is_running:
            return
        self._process.send_signal(signal.SIGSTOP)  # so that it makes no more of them meanwhile
        with ExitStack() as stack:
            children = list(_pidfds(_children(self._process.pid), stack))
            self._process.kill()
            self._process.wait()
            for child in children:
                _kill(child)
        self._process = None

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        url = sa.URL.create(
            "postgresql+psycopg",
            username=_ADMINISTRATOR,
            database=database,
            query={"host": str(self.folder)},
        )
        return url.render_as_string(hide_password=False)

    def create_database(self) -> str:
        """Make an empty database with a name that was not there before; returns the name."""
        name = f"test_{next(self._numbers)}"
        self._administer(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, even if somebody is connected to it still, or it is gone."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._administer(statement.format(sql.Identifier(name)))

    def _administer(self, statement: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder), user=_ADMINISTRATOR, dbname="postgres", autocommit=True
        )

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _popen(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program as the server's user; not in a shell's group, whose Ctrl-C would end it."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self._programs / command[0], *command[1:]],
                cwd=self.folder, env=_environment(), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                user=self._user, group=None if self._user is None else _group(self._user),
                extra_groups=None if self._user is None else (),
            )  # fmt: skip

    def _said(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(["The end of its log:", *lines[-_SHOWN_LINES:]])


def postgresql_programs() -> Path | None:
    """The folder of the newest ``initdb`` and ``postgres`` of this host, or None without any."""
    # Debian keeps them out of PATH, in a folder for each version.
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: [int(n) for n in re.findall(r"\d+", str(folder))])
    program = shutil.which("initdb")
    return None if program is None else Path(program).resolve().parent


@contextmanager
def private_postgresql(programs: Path, *, fsync: bool = False) -> Iterator[PostgresqlServer]:
    """Run a server in a new folder under ``/tmp``; stop it and remove the folder at the end.

    Args:
        programs: the folder of ``initdb`` and ``postgres``.
        fsync: see ``PostgresqlServer``.
    """
    # Not in pytest's folder: the server's user may not enter it, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="die-postgresql-", dir="/tmp"))
    try:
        user = _server_user()
        if user is not None:
            shutil.chown(folder, user, _group(user))
        server = PostgresqlServer(folder, programs, user, fsync=fsync)
        try:
            server.make_cluster()
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def fresh_database(server: PostgresqlServer) -> Iterator[str]:
    """An empty database's SQLAlchemy URL; a server that a test has left stopped is started again."""
    server.start()
    name = server.create_database()
    try:
        yield server.url(name)
    finally:
        server.start()
        server.drop_database(name)


def _server_user() -> str | None:
    """Whom the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return _ADMINISTRATOR if _ADMINISTRATOR in names else "nobody"


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _environment() -> dict[str, str]:
    """Ours, without what would lead the programs to another server or language."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _pidfds(pids: Sequence[int], stack: ExitStack) -> Iterator[int]:
    """Handles of processes: they name no other process, even when the id is used again."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        stack.callback(os.close, handle)
        yield handle


def _kill(handle: int) -> None:
    """Kill a process and wait until it has ended."""
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    ended.poll(_PATIENCE * 1000)
