"""What lists say of jobs, from the columns that are kept for them beside the records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from die_algorithm.job_store.tables import JOBS, is_id
from die_algorithm.models import Job, JobState, ListedJob

# As the database gives them: what is damaged in one row must not keep the others from being listed.
_LISTED: list[sa.ColumnElement[Any]] = [
    sa.type_coerce(column, sa.types.NullType()).label(column.name)
    for column in (
        JOBS.c.id,
        JOBS.c.owner,
        JOBS.c.state,
        JOBS.c.image,
        JOBS.c.accepted_at,
        JOBS.c.reached_at,
    )
]


def latest_jobs(owner: str | None, most: int) -> sa.Select[Any]:
    """The query for the newest jobs of an owner, or of everybody."""
    newest = (JOBS.c.accepted_at.desc(), JOBS.c.id)
    query = sa.select(*_LISTED).order_by(*newest).limit(most)
    return query if owner is None else query.where(JOBS.c.owner == owner)


def listed_row(row: sa.Row[Any]) -> ListedJob | None:
    """One of its rows; None if not all stands in it, as where a former release has written it."""
    if not is_id(row.id) or not all(isinstance(word, str) for word in (row.owner, row.image)):
        return None
    try:
        return ListedJob(
            id=row.id,
            owner=row.owner,
            state=JobState(row.state),
            image=row.image,
            accepted_at=_moment(row.accepted_at),
            reached_at=_moment(row.reached_at),
        )
    except (TypeError, ValueError):
        return None


def listed_job(job: Job) -> ListedJob:
    """What its columns would say of a job that was read whole."""
    return ListedJob(
        id=job.id,
        owner=job.owner,
        state=job.state,
        image=job.request.image,
        accepted_at=job.accepted_at,
        reached_at=max(job.reached.values()),
    )


def _moment(given: Any) -> datetime:  # noqa: ANN401 - whatever stands there
    """A moment as a database gives it: SQLite as text without a zone, PostgreSQL in each client's."""
    moment = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
