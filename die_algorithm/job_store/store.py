"""The records of all jobs."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from die_algorithm.credentials import CLOCK_SKEW
from die_algorithm.errors import StaleJob, UnreadableJob, UnwritableJob
from die_algorithm.job_store.database import Database
from die_algorithm.job_store.leases import Leases
from die_algorithm.job_store.listing import latest_jobs, listed_job, listed_row
from die_algorithm.job_store.queue import Queue, QueueLimits, take_turn
from die_algorithm.job_store.tables import INPUTS, JOBS, SEALED, UNFINISHED, is_id
from die_algorithm.job_store.token_key import TokenKey
from die_algorithm.models import Job, ListedJob, UserToken

LOGGER = logging.getLogger(__name__)

# What has a column of its own, or must not be written in clear.
_APART = {"token", "version", "fence", "cancel_requested", "is_admitted"}
_ADAPTER = TypeAdapter(Job)
_AT_ONCE = 100

# As the database gives them: what is damaged in one row must not keep the others from being read.
_RAW: list[sa.ColumnElement[Any]] = [
    sa.type_coerce(column, sa.types.NullType()).label(column.name)
    for column in (
        JOBS.c.id,
        JOBS.c.version,
        JOBS.c.fence,
        JOBS.c.cancel_requested,
        JOBS.c.admitted_at,
        JOBS.c.sealed_token,
        JOBS.c.record,
    )
]
_ROWS = JOBS.select().with_only_columns(*_RAW)
# Asked many times a second; what SQLAlchemy makes of a statement is kept with it.
_BY_ID = _ROWS.where(JOBS.c.id == sa.bindparam("job_id"))
_HELD = (
    sa.select(JOBS.c.id, JOBS.c.version, JOBS.c.fence, JOBS.c.cancel_requested)
    .where(JOBS.c.holder == sa.bindparam("worker"), JOBS.c.state.in_(UNFINISHED))
    .order_by(JOBS.c.accepted_at, JOBS.c.id)
)


class JobStore:
    """The jobs' database.

    Every method may raise StoreUnavailable.

    Args:
        url: SQLAlchemy URL; for SQLite the file's folder is made.
        key_file: where the key of the tokens lies; made at first use, readable by its owner only.
        limits: of the queue; None: none.
        on_token: called with the token of each job that is written or read.

    Raises:
        SettingsError: the URL is none, or its driver is missing.
        StoreUnavailable: the database or the key cannot be used.
    """

    def __init__(
        self,
        url: str,
        key_file: Path,
        limits: QueueLimits | None = None,
        *,
        on_token: Callable[[UserToken], None] = lambda _token: None,
    ) -> None:
        self._on_token = on_token
        # A process before this one may have left some.
        self._leaves_traces = True
        self._unreadable: set[str] = set()
        self._key_file = key_file
        self._database = Database(url, self._read_key)
        self.leases = Leases(self._database)
        self.queue = Queue(self._database, limits or QueueLimits())

    def _read_key(self, connection: sa.Connection) -> None:
        """Read the key of the database that was just opened: it may have gone with the last."""
        self._key = TokenKey(self._key_file, lambda: holds_tokens(connection))

    @property
    def openings(self) -> int:
        """How often the database was opened: it is another one when that has changed."""
        return self._database.openings

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()

    def add(
        self, job: Job, *, idempotency_key: str | None = None, content: bytes | None = None
    ) -> Job:
        """Commit a new job to the queue. When this returns, the job is accepted.

        Args:
            job: the job.
            idempotency_key: of the owner's; a second job with it is not added.
            content: the file that was sent with the request; it is kept until the job ends.

        Returns:
            The job, or the one that was added with that key before.

        Raises:
            QueueFull: too many wait already.
            UnwritableJob: no database takes its text.
            StoreUnavailable: it was not committed.
        """
        digest = _key_digest(job.owner, idempotency_key)
        with self._database.writing() as connection:
            # Nobody else adds one until this transaction ends.
            take_turn(connection)
            if digest and (former := self._with_key(connection, digest)):
                return former
            self.queue.check_room(connection, job.owner)
            connection.execute(JOBS.insert().values(**self._row(job), idempotency=digest))
            if content is not None:
                connection.execute(INPUTS.insert().values(job_id=job.id, content=content))
        return job

    def add_found(self, job: Job) -> None:
        """Commit a job that was found running without a record; it waits for no place."""
        with self._database.writing() as connection:
            admitted_at = job.accepted_at.timestamp()
            connection.execute(JOBS.insert().values(**self._row(job), admitted_at=admitted_at))

    def with_key(self, owner: str, idempotency_key: str) -> Job | None:
        """The job that an owner has submitted with an idempotency key."""
        digest = _key_digest(owner, idempotency_key)
        with self._database.reading() as connection:
            return self._with_key(connection, digest) if digest else None

    def get(self, job_id: str) -> Job | None:
        """Look up a job by its id.

        Raises:
            UnreadableJob: its record is damaged.
        """
        if not is_id(job_id):
            return None  # what a database might not take as text
        with self._database.reading() as connection:
            row = connection.execute(_BY_ID, {"job_id": job_id}).one_or_none()
        return None if row is None else self._job(row)

    def latest(self, owner: str | None, most: int) -> list[ListedJob]:
        """The newest jobs, the newest first, without their records, which may be large.

        Args:
            owner: whose; None: everybody's.
            most: how many at most.
        """
        with self._database.reading() as connection:
            rows = connection.execute(latest_jobs(owner, most)).all()
        jobs = (listed_row(row) or self._listed(row.id) for row in rows)
        return [job for job in jobs if job is not None]

    def _listed(self, job_id: str) -> ListedJob | None:
        job = self._readable(job_id)
        return None if job is None else listed_job(job)

    def content(self, job_id: str) -> bytes | None:
        """The file that was sent with the request of a job that has not ended; None: there is none."""
        query = sa.select(INPUTS.c.content).where(INPUTS.c.job_id == job_id)
        with self._database.reading() as connection:
            content = connection.execute(query).scalar_one_or_none()
        return None if content is None else bytes(content)

    def ended(self, job_ids: Collection[str]) -> set[str]:
        """Which of some jobs have ended; those that do not exist count as well."""
        query = sa.select(JOBS.c.id).where(JOBS.c.id.in_(job_ids), JOBS.c.state.in_(UNFINISHED))
        with self._database.reading() as connection:
            return set(job_ids) - set(connection.execute(query).scalars())

    def held(self, worker: str, known: Mapping[str, Job] | None = None) -> list[Job]:
        """All unfinished jobs that a worker holds, the oldest first.

        Args:
            worker: whose.
            known: jobs by their ids as they were read before; the unchanged are not read again, so
                that a look at hundreds of running jobs costs a few columns of each.
        """
        known = known or {}
        with self._database.reading() as connection:
            rows = connection.execute(_HELD, {"worker": worker}).all()
        jobs = []
        for job_id, *now in rows:
            job = known.get(job_id)
            if job is None or [job.version, job.fence, job.cancel_requested] != now:
                job = self._readable(job_id)
            _version, fence, _cancel_requested = now
            # Between the two looks it may have ended, or gone to another worker, whose fence is not to be
            # used.
            if job is not None and job.fence == fence and not job.state.is_final:
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

    def save(self, job: Job, *, unless_cancelled: bool = False) -> Job:
        """Write a changed job, if nobody else has written or claimed it since it was read.

        Its token stays as :meth:`add` has sealed it, also where it cannot be read, until the job ends.

        Args:
            job: the job.
            unless_cancelled: nor asked for its cancel.

        Returns:
            The job with its new version.

        Raises:
            StaleJob: somebody has.
            UnwritableJob: no database takes its text.
        """
        changed = dataclasses.replace(job, version=job.version + 1)
        values = self._row(changed)
        del values["cancel_requested"]  # set by request_cancel only, which any process may call
        if job.state.is_final:
            values["holder"] = None  # or each look of the worker would pass by all it ever held
        else:
            del values["sealed_token"]
        update = (
            JOBS.update()
            .where(JOBS.c.id == job.id, JOBS.c.version == job.version, JOBS.c.fence == job.fence)
            .values(**values)
        )
        if unless_cancelled:
            update = update.where(sa.not_(JOBS.c.cancel_requested))
        with self._database.writing() as connection:
            if connection.execute(update).rowcount != 1:
                raise StaleJob(f"The job {job.id} was written by somebody else.")
            if job.state.is_final:
                connection.execute(INPUTS.delete().where(INPUTS.c.job_id == job.id))
        self._leaves_traces = self._leaves_traces or job.state.is_final
        return changed

    def erase_traces(self) -> None:
        """Let nothing be left on the disk of what ended jobs have had, their tokens above all."""
        if not self._leaves_traces:
            return
        # Before: a job that ends meanwhile leaves some again.
        self._leaves_traces, is_empty = False, False
        try:
            is_empty = self._database.empty_journal()
        finally:
            self._leaves_traces = self._leaves_traces or not is_empty

    def request_cancel(self, job_id: str) -> None:
        """Note that the owner wants the job stopped; an ended job is left as it is."""
        update = (
            JOBS.update()
            .where(JOBS.c.id == job_id, JOBS.c.state.in_(UNFINISHED))
            .values(cancel_requested=True)
        )
        with self._database.writing() as connection:
            connection.execute(update)

    def due(self) -> list[Job]:
        """Ended jobs of which something is to be removed now, the oldest first, at most a hundred."""
        now = datetime.now(UTC).timestamp()
        # Without a time are those that the former release has ended.
        is_due = (JOBS.c.due_at <= now) | JOBS.c.due_at.is_(None)
        due = sa.select(JOBS.c.id).where(JOBS.c.state.not_in(UNFINISHED), is_due)
        # The record has the last word: the column may be damaged.
        return [
            job for job in self._readable_ones(due.order_by(JOBS.c.due_at)) if job.state.is_final
        ]

    def remove(self, job: Job) -> None:
        """Forget an ended job."""
        with self._database.writing() as connection:
            connection.execute(
                JOBS.delete().where(JOBS.c.id == job.id, JOBS.c.state.not_in(UNFINISHED))
            )

    def unpublished(self, besides: Collection[str] = ()) -> list[Job]:
        """Jobs whose record has changed since their documents were published, at most a hundred.

        Args:
            besides: ids of those that are left out.
        """
        return self._readable_ones(
            sa.select(JOBS.c.id).where(
                JOBS.c.published_version < JOBS.c.version, JOBS.c.id.not_in(besides)
            )
        )

    def mark_published(self, job: Job) -> None:
        """Note that a job's documents were published as they are in this version of its record."""
        update = JOBS.update().where(JOBS.c.id == job.id).values(published_version=job.version)
        with self._database.writing() as connection:
            connection.execute(update)

    def check(self) -> None:
        """Write and read something, to see that the database works."""
        with self._database.writing() as connection:
            connection.execute(JOBS.update().where(JOBS.c.id == "").values(version=0))

    def _readable_ones(self, query: sa.Select[Any]) -> list[Job]:
        with self._database.reading() as connection:
            ids = connection.execute(query.limit(_AT_ONCE)).scalars().all()
        jobs = (self._readable(job_id) for job_id in ids)
        return [job for job in jobs if job is not None]

    def _with_key(self, connection: sa.Connection, digest: str) -> Job | None:
        row = connection.execute(_ROWS.where(JOBS.c.idempotency == digest)).one_or_none()
        return None if row is None else self._job(row)

    def _row(self, job: Job) -> dict[str, Any]:
        if job.token:
            self._on_token(job.token)
        try:
            _check_text(job.owner)
            sealed_token = self._key.seal(job.token)
            record = _ADAPTER.dump_json(job, exclude=_APART).decode()
        except ValueError:  # a lone surrogate; without the cause, which shows the text
            raise UnwritableJob("The job holds characters that no database takes.") from None
        return {
            "id": job.id,
            "owner": job.owner,
            "state": job.state.value,
            "version": job.version,
            "cancel_requested": job.cancel_requested,
            "image": job.request.image,
            "accepted_at": job.accepted_at,
            "reached_at": max(job.reached.values()),
            "updated_at": datetime.now(UTC),
            "due_at": _due_at(job),
            "sealed_token": sealed_token,
            "record": record,
        }

    def _job(self, row: sa.Row[Any]) -> Job:
        recorded = _recorded(row)
        token = self._key.unseal(row.sealed_token)
        if token:
            self._on_token(token)
        return dataclasses.replace(
            recorded,
            token=token,
            version=row.version,
            fence=row.fence,
            cancel_requested=bool(row.cancel_requested),
            is_admitted=row.admitted_at is not None,
        )


def holds_tokens(connection: sa.Connection) -> bool:
    """Whether the database holds a token of a job that has not ended."""
    return connection.execute(sa.select(JOBS.c.id).where(SEALED).limit(1)).first() is not None


def _recorded(row: sa.Row[Any]) -> Job:
    """What stands in a job's record.

    Raises:
        UnreadableJob: it is damaged, or what stands beside it.
    """
    beside = isinstance(row.version, int) and isinstance(row.fence, int)
    with suppress(ValidationError):
        recorded = _ADAPTER.validate_json(row.record)
        if beside and recorded.id == row.id and isinstance(row.sealed_token, bytes | None):
            return recorded
    raise UnreadableJob(f"The record of job {row.id} is damaged.")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("PostgreSQL takes no NUL")


def _due_at(job: Job) -> float | None:
    """What the column of that name says, in seconds of the epoch."""
    if job.expiry is None:
        return min(_ends_of_waiting(job), default=None)
    expiry = job.expiry
    return (expiry.record_at if expiry.files_removed else expiry.files_at).timestamp()


def _ends_of_waiting(job: Job) -> Iterator[float]:
    """When a job that still waits is to be ended: at its deadline, and when its token opens nothing."""
    if job.deadlines:
        yield (job.accepted_at + job.deadlines.total).timestamp()
    if job.token_expires_at:
        # As numbers: the last date that there is takes no addition.
        yield job.token_expires_at.timestamp() + CLOCK_SKEW.total_seconds()


def _key_digest(owner: str, idempotency_key: str | None) -> str | None:
    """What is kept of an idempotency key: nobody can tell it from the database."""
    if idempotency_key is None:
        return None
    text = f"{owner}\0{idempotency_key}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
