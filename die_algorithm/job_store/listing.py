"""What lists say of jobs, from the columns that are kept for them beside the records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from die_algorithm.job_store.tables import JOBS
from die_algorithm.models import Job, JobState, ListedJob

_LISTED = sa.select(
    JOBS.c.id, JOBS.c.owner, JOBS.c.state, JOBS.c.image, JOBS.c.accepted_at, JOBS.c.reached_at
).order_by(JOBS.c.accepted_at.desc(), JOBS.c.id)


def latest_jobs(owner: str | None, most: int) -> sa.Select[Any]:
    """The query for the newest jobs of an owner, or of everybody."""
    query = _LISTED.limit(most)
    return query if owner is None else query.where(JOBS.c.owner == owner)


def listed_row(row: sa.Row[Any]) -> ListedJob | None:
    """One of its rows; None if a former release has written it, which had not all these columns."""
    if row.image is None or row.reached_at is None:
        return None
    return ListedJob(
        id=row.id,
        owner=row.owner,
        state=JobState(row.state),
        image=row.image,
        accepted_at=_in_utc(row.accepted_at),
        reached_at=_in_utc(row.reached_at),
    )


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


def _in_utc(moment: datetime) -> datetime:
    """A moment as a database gives it: SQLite knows no zones, PostgreSQL has one for each client."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
