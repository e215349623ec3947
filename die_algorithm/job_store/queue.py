"""The waiting jobs: how many there may be, and which are taken next."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from die_algorithm.errors import QueueFull
from die_algorithm.job_store.database import Database
from die_algorithm.job_store.tables import HAS_TURN, JOBS, TURN, UNDER_WAY, WAITS, is_id
from die_algorithm.turns import in_turn

#: Seconds that tell two turns apart: the least that a float of the epoch holds with room to spare.
_INSTANT = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueLimits:
    """How many jobs there may be, in all and of one owner; without a number, as many as come."""

    running: int = sys.maxsize
    running_per_owner: int = sys.maxsize
    waiting: int = sys.maxsize
    waiting_per_owner: int = sys.maxsize


class Queue:
    """The jobs that wait for a free place.

    Every method may raise StoreUnavailable.

    Args:
        database: the jobs' database.
        limits: the operator's.
    """

    def __init__(self, database: Database, limits: QueueLimits) -> None:
        self._database = database
        self._limits = limits

    def check_room(self, connection: sa.Connection, owner: str) -> None:
        """Refuse one more job if too many wait.

        Args:
            connection: in a transaction that has taken its turn.
            owner: of the job.

        Raises:
            QueueFull: too many wait.
        """
        waiting = _count_by_owner(connection, WAITS)
        if sum(waiting.values()) >= self._limits.waiting:
            raise QueueFull("Too many jobs wait already.")
        if waiting.get(owner, 0) >= self._limits.waiting_per_owner:
            raise QueueFull("Too many jobs of yours wait already.")

    def admit(self, worker: str) -> int:
        """Give free places to waiting jobs, in turn; the worker holds them from then on.

        Returns:
            How many.
        """
        with self._database.reading() as connection:
            if connection.execute(sa.select(JOBS.c.id).where(WAITS).limit(1)).first() is None:
                return 0
            if _free(connection, self._limits) <= 0:
                return 0
        with self._database.writing() as connection:
            take_turn(connection)
            free = _free(connection, self._limits)
            order = _order(connection, per_owner=self._limits.running_per_owner)
            chosen = list(itertools.islice(order, max(free, 0)))
            moment = self._next_turn(connection)
            admitted = 0
            # In the order of their ids, as everybody writes several.
            for job_id, number in sorted((job_id, number) for number, job_id in enumerate(chosen)):
                update = (
                    JOBS.update()
                    .where(JOBS.c.id == job_id, WAITS)  # unless it was cancelled meanwhile
                    .values(
                        admitted_at=moment + number * _INSTANT,
                        holder=worker,
                        fence=JOBS.c.fence + 1,
                    )
                )
                admitted += connection.execute(update).rowcount
            return admitted

    def _next_turn(self, connection: sa.Connection) -> float:
        """A moment after all turns so far, also when a clock was set back: the order is what counts."""
        query = sa.select(self._database.now, sa.func.max(JOBS.c.admitted_at)).where(HAS_TURN)
        now, last = connection.execute(query).one()
        return max(float(now), (last or 0.0) + _INSTANT)

    def places(self) -> Mapping[str, int]:
        """For each waiting job, how many others get a place before it."""
        with self._database.reading() as connection:
            return {job_id: number for number, job_id in enumerate(_order(connection))}


def take_turn(connection: sa.Connection) -> None:
    """Wait until nobody else looks at the queue to change it, until the transaction ends."""
    connection.execute(TURN.update().values(number=TURN.c.number + 1))


def _free(connection: sa.Connection, limits: QueueLimits) -> int:
    under_way = sa.select(sa.func.count()).select_from(JOBS).where(UNDER_WAY)
    return limits.running - int(connection.execute(under_way).scalar_one())


def _order(connection: sa.Connection, *, per_owner: int | None = None) -> Iterator[str]:
    waiting = sa.select(JOBS.c.id, JOBS.c.owner).where(WAITS)
    rows = connection.execute(waiting.order_by(JOBS.c.accepted_at, JOBS.c.id)).all()
    owners = sa.select(JOBS.c.owner).where(WAITS)
    last = (
        sa.select(JOBS.c.owner, sa.func.max(JOBS.c.admitted_at))
        .where(JOBS.c.owner.in_(owners), HAS_TURN)
        .group_by(JOBS.c.owner)
    )
    last_turn = {owner: float(moment) for owner, moment in connection.execute(last)}
    running = _count_by_owner(connection, UNDER_WAY)
    pairs = ((row.id, row.owner) for row in rows if is_id(row.id))
    return in_turn(pairs, running, last_turn, per_owner=per_owner)


def _count_by_owner(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> dict[str, int]:
    count = sa.select(JOBS.c.owner, sa.func.count()).where(condition).group_by(JOBS.c.owner)
    return {owner: int(number) for owner, number in connection.execute(count)}
