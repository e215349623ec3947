"""What lists say of jobs, in columns, so that none is made by reading whole records.

Nothing that was there changes. A process of the former release that goes on has no values for the new
columns: its jobs are listed by their records, until this one writes them.
"""

import json
from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_JOBS = sa.table(
    "jobs",
    sa.column("id", sa.String),
    sa.column("record", sa.Text),
    sa.column("image", sa.Text),
    sa.column("reached_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    """Add the columns, and fill them for the jobs that are there."""
    op.add_column("jobs", sa.Column("image", sa.Text, nullable=True))
    op.add_column("jobs", sa.Column("reached_at", sa.DateTime(timezone=True), nullable=True))
    connection = op.get_bind()
    # One at a time: all records are more than memory may hold.
    for job_id in connection.execute(sa.select(_JOBS.c.id)).scalars().all():
        if not _is_plain(job_id):
            continue
        of_job = _JOBS.c.id == job_id
        record = connection.execute(sa.select(_JOBS.c.record).where(of_job)).scalar_one()
        connection.execute(sa.update(_JOBS).where(of_job).values(**_listed(record)))
    op.create_index("ix_jobs_accepted_at", "jobs", ["accepted_at"])
    op.create_index("ix_jobs_owner_accepted_at", "jobs", ["owner", "accepted_at"])


def _is_plain(text: object) -> bool:
    """Whether a column is what all have written into it; SQLite gives what is damaged, too."""
    return isinstance(text, str) and text.isascii()


def _listed(record: str) -> dict[str, object]:
    """A record's values for the columns; nothing of one that is damaged."""
    try:
        job = json.loads(record)
        reached = [datetime.fromisoformat(moment) for moment in job["reached"].values()]
        image = job["request"]["image"]
        return {"image": image if _is_plain(image) else None, "reached_at": max(reached)}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {"image": None, "reached_at": None}
