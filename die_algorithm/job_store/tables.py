"""The tables, as the newest migration leaves them."""

from __future__ import annotations

import sqlalchemy as sa

from die_algorithm.models import JobState

METADATA = sa.MetaData()

JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("published_version", sa.Integer, nullable=False, default=-1),
    sa.Column("sealed_token", sa.LargeBinary, nullable=True),
    sa.Column("record", sa.Text, nullable=False),
    #: When a worker took it from the queue, in seconds of the epoch by the database's clock, and later
    #: than any before; None while it waits, and for what a former release has taken.
    sa.Column("admitted_at", sa.Float, nullable=True),
    #: The worker that carries it, and how many have before.
    sa.Column("holder", sa.String(36), nullable=True, index=True),
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    #: Digest of owner and idempotency key.
    sa.Column("idempotency", sa.String(64), nullable=True, index=True, unique=True),
    #: In seconds of the epoch: when something of an ended job is to be removed next; when one that
    #: waits for a place has waited as long as it may.
    sa.Column("due_at", sa.Float, nullable=True, index=True),
    #: For lists, as the record has them: what was asked to be run, and when the state was reached.
    sa.Column("image", sa.Text, nullable=True),
    sa.Column("reached_at", sa.DateTime(timezone=True), nullable=True),
    sa.Index("ix_jobs_owner_admitted_at", "owner", "admitted_at"),
    sa.Index("ix_jobs_owner_accepted_at", "owner", "accepted_at"),
)

WORKERS = sa.Table(
    "workers",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    #: End of its lease, in seconds of the epoch by the database's clock.
    sa.Column("until", sa.Float, nullable=False),
    sa.Column("trouble", sa.Text, nullable=False, server_default=""),
)

#: Files that were sent with the Execute, each until its job has ended.
INPUTS = sa.Table(
    "inputs",
    METADATA,
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

#: One row, written first by whoever adds to the queue or takes from it, so that one does at a time.
TURN = sa.Table(
    "turn",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)

#: Taken from the queue at a time that is one. SQLite takes anything in any column, and puts text after all
#: numbers.
HAS_TURN = JOBS.c.admitted_at < 1e12

UNFINISHED = tuple(state.value for state in JobState if not state.is_final)

#: Accepted, and not taken from the queue yet.
WAITS = (
    (JOBS.c.state == JobState.ACCEPTED.value)
    & JOBS.c.admitted_at.is_(None)
    & sa.not_(JOBS.c.cancel_requested)
)
#: Taken from the queue, and not ended. A former release, which knows no queue, notes no moment.
UNDER_WAY = JOBS.c.state.in_(UNFINISHED) & (
    JOBS.c.admitted_at.is_not(None) | (JOBS.c.state != JobState.ACCEPTED.value)
)

#: Jobs with a token that the key is needed for.
SEALED = JOBS.c.state.in_(UNFINISHED) & JOBS.c.sealed_token.is_not(None)


def is_id(value: object) -> bool:
    """Whether a job can be asked for by what stands in its row as its id."""
    return isinstance(value, str) and value.isascii() and "\0" not in value
