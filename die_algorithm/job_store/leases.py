"""Which worker holds which jobs.

A worker's lease is one row that it renews. A job names its holder, and a number, the fence, that each
change of hands counts up; a write that names an old fence is refused. So a worker that froze and wakes
up when its jobs have gone to another one can write nothing over them (reference: safety, F4, F17, F24).
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from die_algorithm.job_store.database import Database
from die_algorithm.job_store.tables import JOBS, UNDER_WAY, UNFINISHED, WAITS, WORKERS, is_id
from die_algorithm.models import JobState, WorkerReport

#: Seconds for which a worker that has gone is still reported.
_REMEMBERED = 86400.0


class Leases:
    """The workers' leases.

    Every method may raise StoreUnavailable.

    Args:
        database: the jobs' database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, worker: str, duration: timedelta, trouble: str = "") -> None:
        """Begin a lease; what the worker of that name held before is free for whoever claims it.

        Where only one worker can use the database, its forerunner is gone for good, and so are its
        leases. To be called by whoever holds the worker's place on its machine.

        Args:
            worker: whose.
            duration: from now.
            trouble: why the worker cannot work at the moment; empty if it can.
        """
        with self._database.writing() as connection:
            if not self._database.is_shared:
                connection.execute(WORKERS.delete())
            long_gone = WORKERS.c.until < self._database.now - _REMEMBERED
            connection.execute(WORKERS.delete().where((WORKERS.c.id == worker) | long_gone))
            until = self._database.now + duration.total_seconds()
            connection.execute(WORKERS.insert().values(id=worker, until=until, trouble=trouble))
            held = (JOBS.c.holder == worker) & JOBS.c.state.in_(UNFINISHED)
            _lock(connection, held)
            connection.execute(JOBS.update().where(held).values(holder=None))

    def renew(self, worker: str, duration: timedelta, trouble: str = "") -> bool:
        """Prolong a lease that has not run out.

        Args:
            worker: whose.
            duration: from now.
            trouble: as for :meth:`take`.

        Returns:
            Whether it was prolonged; otherwise others may have the worker's jobs already.
        """
        now = self._database.now
        renewal = (
            WORKERS.update()
            .where(WORKERS.c.id == worker, WORKERS.c.until > now)
            .values(until=now + duration.total_seconds(), trouble=trouble)
        )
        with self._database.writing() as connection:
            return connection.execute(renewal).rowcount == 1

    def end(self, worker: str) -> None:
        """Give all jobs back at once, because the worker stops."""
        with self._database.writing() as connection:
            connection.execute(WORKERS.delete().where(WORKERS.c.id == worker))

    def claim(self, worker: str) -> int:
        """Take all jobs that nobody with a lease holds and that have something to be done.

        These are those under way, and of those that wait the cancelled ones and those that have
        waited as long as they may, which are to be ended.

        Returns:
            How many.
        """
        alive = sa.select(WORKERS.c.id).where(WORKERS.c.until > self._database.now)
        free = JOBS.c.holder.is_(None) | JOBS.c.holder.not_in(alive)
        cancelled = JOBS.c.state.in_(UNFINISHED) & JOBS.c.cancel_requested
        overdue = WAITS & (JOBS.c.due_at <= self._database.now)
        wanted = (
            sa.select(JOBS.c.id, JOBS.c.fence)
            .where(UNDER_WAY | cancelled | overdue, free)
            .order_by(JOBS.c.id)
        )
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        found = [row for row in rows if is_id(row.id) and isinstance(row.fence, int)]
        if not found:
            return 0
        # What the former release took from the queue has no such moment.
        waits = JOBS.c.state == JobState.ACCEPTED.value
        admitted_at = sa.case(
            (waits, JOBS.c.admitted_at),
            else_=sa.func.coalesce(JOBS.c.admitted_at, self._database.now),
        )
        claims = (
            JOBS.update()
            .where(
                JOBS.c.id == sa.bindparam("job_id"), JOBS.c.fence == sa.bindparam("fence_before")
            )
            .values(holder=worker, fence=JOBS.c.fence + 1, admitted_at=admitted_at)
        )
        with self._database.writing() as connection:
            return sum(
                connection.execute(claims, {"job_id": job_id, "fence_before": fence}).rowcount
                for job_id, fence in found
            )

    def workers(self) -> list[WorkerReport]:
        """What is known of all workers."""
        alive = (WORKERS.c.until > self._database.now).label("is_alive")
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(WORKERS.c.id, WORKERS.c.trouble, alive)).all()
        return [
            WorkerReport(id=row.id, is_alive=bool(row.is_alive), trouble=row.trouble)
            for row in rows
        ]


def _lock(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> None:
    """Lock jobs in the order in which :meth:`Leases.claim` writes them: two never wait for each other."""
    connection.execute(
        sa.select(JOBS.c.id).where(condition).order_by(JOBS.c.id).with_for_update()
    ).all()
