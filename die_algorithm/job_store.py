"""The jobs' database: one row a job, written whole, never by two at once.

The row holds the frozen :class:`Job` as JSON beside the columns that are searched. The user token is
kept apart, encrypted with a key that lies outside the database, and erased when the job ends.
Every write names the version it was made from; a write on an old version is refused.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from pydantic import TypeAdapter, ValidationError

from die_algorithm.errors import SettingsError, StaleJob, StoreUnavailable, UnreadableJob
from die_algorithm.models import Job, JobState, UserToken

LOGGER = logging.getLogger(__name__)

_METADATA = sa.MetaData()
_JOBS = sa.Table(
    "jobs",
    _METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("published_version", sa.Integer, nullable=False, default=-1),
    sa.Column("sealed_token", sa.LargeBinary, nullable=True),
    sa.Column("record", sa.Text, nullable=False),
)
# What has a column of its own, or must not be written in clear.
_APART = {"token", "version", "cancel_requested"}
_ADAPTER = TypeAdapter(Job)
_UNFINISHED = [state.value for state in JobState if not state.is_final]


class JobStore:
    """The records of all jobs.

    Args:
        url: SQLAlchemy URL; for SQLite the file's folder is made.
        key_file: where the key of the tokens lies; made at first use, readable by its owner only.

    Raises:
        SettingsError: the URL is none, or its driver is missing.
        StoreUnavailable: the database or the key cannot be used.
    """

    def __init__(self, url: str, key_file: Path) -> None:
        self._unreadable: set[str] = set()
        self._engine = _engine(url)
        self._cipher = _cipher(key_file)
        with self._mapped():
            _make_tables(self._engine)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def add(self, job: Job) -> None:
        """Commit a new job. When this returns, the job is accepted.

        Raises:
            StoreUnavailable: it was not committed.
        """
        with self._mapped(), self._engine.begin() as connection:
            connection.execute(_JOBS.insert().values(**self._row(job)))

    def get(self, job_id: str) -> Job | None:
        """Look up a job by its id.

        Raises:
            UnreadableJob: its record is damaged.
        """
        if "\0" in job_id:  # no id has one, and PostgreSQL cannot be asked for it
            return None
        with self._mapped(), self._engine.connect() as connection:
            row = connection.execute(_JOBS.select().where(_JOBS.c.id == job_id)).one_or_none()
        return None if row is None else self._job(row)

    def unfinished(self, known: Mapping[str, Job] | None = None) -> list[Job]:
        """All jobs that have not ended, the oldest first.

        Args:
            known: jobs by their ids as they were read before; the unchanged are not read again, so
                that a look at hundreds of running jobs costs a few columns of each.
        """
        known = known or {}
        columns = sa.select(_JOBS.c.id, _JOBS.c.version, _JOBS.c.cancel_requested)
        query = columns.where(_JOBS.c.state.in_(_UNFINISHED)).order_by(_JOBS.c.accepted_at)
        with self._mapped(), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        jobs = []
        for job_id, version, cancel_requested in rows:
            job = known.get(job_id)
            if job is None or (job.version, job.cancel_requested) != (version, cancel_requested):
                job = self._readable(job_id)
            if job is not None:
                jobs.append(job)
        return jobs

    def _readable(self, job_id: str) -> Job | None:
        try:
            return self.get(job_id)
        except UnreadableJob:
            # One damaged record must not keep all others from going on.
            if job_id not in self._unreadable:
                self._unreadable.add(job_id)
                LOGGER.error("The record of job %s is damaged; it is left alone.", job_id)  # noqa: TRY400
            return None

    def save(self, job: Job) -> Job:
        """Write a changed job, if nobody else has written it since it was read.

        Returns:
            The job with its new version.

        Raises:
            StaleJob: somebody has.
        """
        changed = dataclasses.replace(job, version=job.version + 1)
        values = self._row(changed)
        del values["cancel_requested"]  # set by request_cancel only, which any process may call
        update = (
            _JOBS.update()
            .where(_JOBS.c.id == job.id, _JOBS.c.version == job.version)
            .values(**values)
        )
        with self._mapped(), self._engine.begin() as connection:
            if connection.execute(update).rowcount != 1:
                raise StaleJob(f"The job {job.id} was written by somebody else.")
        return changed

    def request_cancel(self, job_id: str) -> None:
        """Note that the owner wants the job stopped; an ended job is left as it is."""
        update = (
            _JOBS.update()
            .where(_JOBS.c.id == job_id, _JOBS.c.state.in_(_UNFINISHED))
            .values(cancel_requested=True)
        )
        with self._mapped(), self._engine.begin() as connection:
            connection.execute(update)

    def unpublished(self) -> list[Job]:
        """Jobs whose record has changed since their documents were published, at most a hundred."""
        query = sa.select(_JOBS.c.id).where(_JOBS.c.published_version < _JOBS.c.version).limit(100)
        with self._mapped(), self._engine.connect() as connection:
            ids = connection.execute(query).scalars().all()
        jobs = (self._readable(job_id) for job_id in ids)
        return [job for job in jobs if job is not None]

    def mark_published(self, job: Job) -> None:
        """Note that a job's documents were published as they are in this version of its record."""
        update = _JOBS.update().where(_JOBS.c.id == job.id).values(published_version=job.version)
        with self._mapped(), self._engine.begin() as connection:
            connection.execute(update)

    def check(self) -> None:
        """Write and read something, to see that the database works.

        Raises:
            StoreUnavailable: it does not.
        """
        with self._mapped(), self._engine.begin() as connection:
            connection.execute(_JOBS.update().where(_JOBS.c.id == "").values(version=0))

    def _row(self, job: Job) -> dict[str, Any]:
        token = job.token
        sealed = None
        if token is not None:
            # The secret first: a line's end is possible in the user name only.
            sealed = self._cipher.encrypt(f"{token.secret}\n{token.username or ''}".encode())
        return {
            "id": job.id,
            "owner": job.owner,
            "state": job.state.value,
            "version": job.version,
            "cancel_requested": job.cancel_requested,
            "accepted_at": job.accepted_at,
            "updated_at": datetime.now(UTC),
            "sealed_token": sealed,
            "record": _ADAPTER.dump_json(job, exclude=_APART).decode(),
        }

    def _job(self, row: sa.Row[Any]) -> Job:
        try:
            recorded = _ADAPTER.validate_json(row.record)
        except ValidationError:
            raise UnreadableJob(f"The record of job {row.id} is damaged.") from None
        return dataclasses.replace(
            recorded,
            token=self._unsealed(row.sealed_token),
            version=row.version,
            cancel_requested=row.cancel_requested,
        )

    def _unsealed(self, sealed: bytes | None) -> UserToken | None:
        if sealed is None:
            return None
        try:
            secret, _, username = self._cipher.decrypt(sealed).decode().partition("\n")
        except InvalidToken:
            # The key file was replaced: the job goes on as far as it can without its token.
            return None
        return UserToken(secret, username or None)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            # The driver's words may name files; they go to the log with the cause, not to clients.
            raise StoreUnavailable("The jobs' database cannot be used at the moment.") from error


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(parsed, pool_pre_ping=True, hide_parameters=True)
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = sa.create_engine(parsed, connect_args={"timeout": 10}, hide_parameters=True)
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


def _make_tables(engine: sa.Engine) -> None:
    try:
        _METADATA.create_all(engine)
    except sa.exc.DBAPIError:
        # Another process that started at the same moment made them between our look and our try.
        _METADATA.create_all(engine)


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - any DB-API connection
    cursor = connection.cursor()
    # WAL: readers and the writer do not wait for each other. FULL: what is committed survives a
    # power cut. secure_delete: an erased token leaves no trace in the file.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _cipher(key_file: Path) -> Fernet:
    try:
        if not key_file.exists():
            _make_key(key_file)
        return Fernet(key_file.read_bytes())
    except OSError as error:
        raise StoreUnavailable(
            "The key that protects user tokens can be neither read nor made."
        ) from error
    except ValueError:
        raise StoreUnavailable(
            "The key that protects user tokens is damaged. Remove its file: a new one is made, and "
            "the jobs under way end without their tokens."
        ) from None


def _make_key(path: Path) -> None:
    """Make the key, readable by its owner only; of two processes at once both get the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Not the process id: in a container it is the same again after every crash.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
    finally:
        fresh.unlink(missing_ok=True)
