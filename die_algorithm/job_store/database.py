"""The connection to the database, and what becomes of its library's exceptions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from die_algorithm.errors import SettingsError, StoreUnavailable
from die_algorithm.job_store.database_file import DatabaseFile
from die_algorithm.job_store.migration import is_up_to_date, migrate
from die_algorithm.job_store.tables import JOBS

LOGGER = logging.getLogger(__name__)

_UNUSABLE = "The jobs' database cannot be used at the moment."

#: Seconds to wait for another process that writes, and for a connection.
_LOCK_PATIENCE = 10
#: Kept open; more are opened, and closed again, if so many are in use. A server has to share its own
#: among all machines; those to a file cost nothing.
_CONNECTIONS_TO_FILE, _CONNECTIONS_TO_SERVER = 16, 5
_MAY_MAKE_TABLES = sa.select(
    sa.func.has_schema_privilege(sa.func.current_schema(), "CREATE"),
)
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": _LOCK_PATIENCE},
    # A server that hangs, or has gone without a word, must not hang us (libpq's parameters); nor must
    # one of us that froze within a transaction hang the others: its locks go before their patience ends.
    "postgresql": {
        "connect_timeout": _LOCK_PATIENCE,
        "tcp_user_timeout": 30_000,
        "options": f"-c lock_timeout={_LOCK_PATIENCE}s -c statement_timeout=30s "
        f"-c idle_in_transaction_session_timeout={_LOCK_PATIENCE // 2}s",
    },
}


class Database:
    """A database that is up to date, SQLite or PostgreSQL.

    An SQLite file that was removed or replaced while it was open is noticed at the next use, and the
    one that is there now is taken; if there is none, an empty one is made.

    Args:
        url: SQLAlchemy URL; for SQLite the file's folder is made. Time-outs and options of PostgreSQL
            that it names count before ours.
        on_open: called with a connection when it was brought up to date, and whenever it is opened anew.

    Raises:
        SettingsError: the URL is none, or its driver is missing.
        StoreUnavailable: the database cannot be used, or was written by a newer release.
    """

    def __init__(
        self, url: str, on_open: Callable[[sa.Connection], None] = lambda _connection: None
    ) -> None:
        self._engine = _engine(url)
        self._file = _file(self._engine.url)
        self._on_open = on_open
        self._lock = threading.Lock()
        self._writer = threading.Lock()
        #: How often it was opened.
        self.openings = 0
        try:
            self._open()
        except StoreUnavailable:
            self._engine.dispose()
            raise

    def _open(self) -> None:
        try:
            with _mapped(), self._file.opening() if self._file else nullcontext():
                migrate(self._engine)
                with self._engine.connect() as connection:
                    self._on_open(connection)
            self.openings += 1
        except OSError as error:
            raise StoreUnavailable("The jobs' database can be neither opened nor made.") from error

    def _look_after_file(self) -> None:
        if self._file is None or self._file.is_the_opened_one:
            return
        with self._lock:
            if not self._file.is_the_opened_one:
                LOGGER.error("The jobs' database was removed or replaced; it is opened anew.")
                self._engine.dispose()
                self._open()

    @property
    def is_shared(self) -> bool:
        """Whether several workers can use it."""
        return self._engine.dialect.name != "sqlite"

    @property
    def now(self) -> sa.ColumnElement[float]:
        """The database's own clock, in seconds of the epoch, as an expression."""
        if self._engine.dialect.name == "sqlite":
            return sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Float)
        return sa.literal_column("extract(epoch FROM clock_timestamp())::float8", sa.Float)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def empty_journal(self) -> bool:
        """Empty SQLite's journal, which keeps what was erased until it is written over.

        Returns:
            Whether it is empty: nobody who reads or writes just then is waited for. A server looks
            after its own.
        """
        if self.is_shared:
            return True
        self._look_after_file()
        with self._turn(), _mapped(), self._engine.connect() as connection:
            patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
            connection.exec_driver_sql("PRAGMA busy_timeout=0")
            try:
                is_busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
            finally:
                # Others get it next, from the pool, and they do wait.
                connection.exec_driver_sql(f"PRAGMA busy_timeout={patience}")
        return not is_busy

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read from."""
        self._look_after_file()
        with _mapped(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let the writers of this process wait in line.

        SQLite has one writer at a time, and lets the others sleep before they try again, in the end
        for a tenth of a second.
        """
        if self.is_shared:
            yield
            return
        if not self._writer.acquire(timeout=_LOCK_PATIENCE):
            raise StoreUnavailable(_UNUSABLE, "others of this process have written for too long")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction, committed at the end of the block unless that raises."""
        self._look_after_file()
        with self._turn(), _mapped(), self._engine.begin() as connection:
            yield connection
        if self._file and not self._file.is_the_opened_one:
            raise StoreUnavailable("The jobs' database was removed while it was written.")


def look_at_database(
    url: str, look: Callable[[sa.Connection], None] = lambda _connection: None
) -> Path | None:
    """See whether a database could be written, and make or change nothing.

    Args:
        url: SQLAlchemy URL.
        look: called with a connection if the database is up to date.

    Returns:
        The file of an SQLite database that is not there yet; None otherwise.

    Raises:
        SettingsError: the URL is none, or its driver is missing.
        StoreUnavailable: the database cannot be used, or was written by a newer release.
        OSError: the file cannot be looked at.
    """
    engine = _engine(url)
    path = _path(engine.url)
    if path and not path.exists():
        return path
    try:
        with _mapped(), engine.connect() as connection:
            _try_to_write(connection)
            if is_up_to_date(connection):
                look(connection)
            connection.rollback()
    finally:
        engine.dispose()
    return None


def _try_to_write(connection: sa.Connection) -> None:
    """Write in a transaction that is to be rolled back."""
    if is_up_to_date(connection):
        connection.execute(JOBS.update().where(JOBS.c.id == "").values(version=0))
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif not connection.execute(_MAY_MAKE_TABLES).scalar():
        raise StoreUnavailable(_UNUSABLE, "no tables may be made in it")


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        # The driver's words may name files; they go to the log, not to clients.
        reason = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error)
        raise StoreUnavailable(_UNUSABLE, reason) from error


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        engine = sa.create_engine(
            parsed,
            pool_size=_CONNECTIONS_TO_FILE if is_sqlite else _CONNECTIONS_TO_SERVER,
            pool_pre_ping=not is_sqlite,
            hide_parameters=True,
            connect_args=_arguments(parsed),
        )
    except (sa.exc.ArgumentError, ValueError, ImportError):
        # Without the cause: it shows the address, and with it a password.
        raise SettingsError(
            "The setting 'database' is no address of a database that can be used here: give a "
            "SQLAlchemy URL, and install the driver that it names."
        ) from None
    if is_sqlite:
        sa.event.listen(engine, "do_connect", _make_no_file)
        sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _arguments(url: sa.URL) -> dict[str, Any]:
    """What the driver is told beside the address, which has the last word."""
    ours = _ARGUMENTS.get(url.get_backend_name(), {})
    arguments: dict[str, Any] = {
        name: value for name, value in ours.items() if name not in url.query
    }
    if options := url.query.get("options"):
        theirs = [options] if isinstance(options, str) else options
        arguments["options"] = " ".join([ours.get("options", ""), *theirs])
    return arguments


def _file(url: sa.URL) -> DatabaseFile | None:
    """The database's file, if it is an SQLite database in a file."""
    path = _path(url)
    return DatabaseFile(path) if path else None


def _path(url: sa.URL) -> Path | None:
    name = url.database or ""
    if url.get_backend_name() != "sqlite" or name.startswith((":memory:", "file:")) or not name:
        return None
    return Path(name)


def _make_no_file(
    _dialect: object, _record: object, arguments: list[str], options: dict[str, Any]
) -> None:
    """Connect to a file that is there: one that SQLite made in place of a lost one would be empty."""
    name = arguments[0]
    if not options.get("uri") and not name.startswith(":memory:"):
        arguments[0] = f"file:{quote(name)}?mode=rw"
        options["uri"] = True


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - any DB-API connection
    # One damaged byte must not keep the other rows from being read. It is not replaced either: a record
    # with it is to be seen as damaged.
    connection.text_factory = lambda text: text.decode(errors="surrogateescape")
    cursor = connection.cursor()
    # WAL: readers and the writer do not wait for each other. FULL: what is committed survives a
    # power cut. secure_delete: an erased token leaves no trace in the file.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
