"""Brings a database's schema up to date, with Alembic and without its configuration files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from die_algorithm.errors import StoreUnavailable

LOGGER = logging.getLogger(__name__)

_MIGRATIONS = Path(__file__).with_name("migrations")
#: Any number of our own, which those that migrate at once wait for.
_ADVISORY_LOCK = 0x646965
_NEWER = (
    "The jobs' database was written by a newer release of this service. Install that one again, or "
    "newer."
)


def migrate(engine: sa.Engine) -> None:
    """Take the migrations that the database lacks, in one transaction, one process at a time.

    Raises:
        StoreUnavailable: a newer release has written the database.
        sqlalchemy.exc.SQLAlchemyError: it cannot be used.
    """
    script = ScriptDirectory(str(_MIGRATIONS), version_locations=[str(_MIGRATIONS)])
    newest = script.get_current_head()
    with engine.connect() as connection:
        if _version(connection) == newest:
            return
        connection.rollback()
        _lock(connection)
        version = _version(connection)
        if version != newest:
            LOGGER.info("The jobs' database is brought from version %s to %s.", version, newest)
            _upgrade(connection, script)
        connection.commit()


def is_up_to_date(connection: sa.Connection) -> bool:
    """Whether a database lacks no migration. Nothing is changed.

    Raises:
        StoreUnavailable: a newer release has written it.
    """
    script = ScriptDirectory(str(_MIGRATIONS), version_locations=[str(_MIGRATIONS)])
    version = _version(connection)
    if version is not None and version not in {each.revision for each in script.walk_revisions()}:
        raise StoreUnavailable(_NEWER)
    return version == script.get_current_head()


def _version(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _lock(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")


def _upgrade(connection: sa.Connection, script: ScriptDirectory) -> None:
    def steps(revision: Any, _context: MigrationContext) -> Any:  # noqa: ANN401 - Alembic's own types
        return script._upgrade_revs("head", revision)  # noqa: SLF001 - as Alembic's commands do

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        try:
            environment.run_migrations()
        except CommandError:
            raise StoreUnavailable(_NEWER) from None
