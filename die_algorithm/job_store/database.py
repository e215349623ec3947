"""The connection to the database, and what becomes of its library's exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from die_algorithm.errors import SettingsError, StoreUnavailable
from die_algorithm.job_store.migration import migrate

#: Seconds to wait for another process that writes, and for a connection.
_LOCK_PATIENCE = 10
#: A server that hangs, or has gone without a word, must not hang us (libpq's parameters); nor must one
#: of us that froze within a transaction hang the others: its locks go before their patience ends.
_POSTGRESQL = {
    "connect_timeout": _LOCK_PATIENCE,
    "tcp_user_timeout": 30_000,
    "options": f"-c lock_timeout={_LOCK_PATIENCE}s -c statement_timeout=30s "
    f"-c idle_in_transaction_session_timeout={_LOCK_PATIENCE // 2}s",
}


class Database:
    """A database that is up to date, SQLite or PostgreSQL.

    Args:
        url: SQLAlchemy URL; for SQLite the file's folder is made.

    Raises:
        SettingsError: the URL is none, or its driver is missing.
        StoreUnavailable: the database cannot be used, or was written by a newer release.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        try:
            with _mapped():
                migrate(self._engine)
        except StoreUnavailable:
            self._engine.dispose()
            raise

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

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read from."""
        with _mapped(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction, committed at the end of the block unless that raises."""
        with _mapped(), self._engine.begin() as connection:
            yield connection


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        # The driver's words may name files; they go to the log with the cause, not to clients.
        raise StoreUnavailable("The jobs' database cannot be used at the moment.") from error


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            is_postgresql = parsed.get_backend_name() == "postgresql"
            arguments = _POSTGRESQL if is_postgresql else {}
            return sa.create_engine(
                parsed, pool_pre_ping=True, hide_parameters=True, connect_args=arguments
            )
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = sa.create_engine(
            parsed, connect_args={"timeout": _LOCK_PATIENCE}, hide_parameters=True
        )
    except (sa.exc.ArgumentError, ValueError, ImportError):
        # Without the cause: it shows the address, and with it a password.
        raise SettingsError(
            "The setting 'database' is no address of a database that can be used here: give a "
            "SQLAlchemy URL, and install the driver that it names."
        ) from None
    except OSError as error:
        raise StoreUnavailable("The folder of the jobs' database cannot be made.") from error
    sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - any DB-API connection
    cursor = connection.cursor()
    # WAL: readers and the writer do not wait for each other. FULL: what is committed survives a
    # power cut. secure_delete: an erased token leaves no trace in the file.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
