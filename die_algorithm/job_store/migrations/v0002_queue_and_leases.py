"""Queue, leases, idempotency keys and retention.

Nothing that was there changes, and what is new may be left out, so that the former release can still
work on the database.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what workers share; jobs under way are taken as admitted."""
    if op.get_bind().dialect.name != "sqlite":  # which does not count letters
        op.alter_column("jobs", "owner", type_=sa.Text)
    op.add_column("jobs", sa.Column("admitted_at", sa.Float, nullable=True))
    op.add_column("jobs", sa.Column("holder", sa.String(36), nullable=True))
    op.add_column("jobs", sa.Column("fence", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("idempotency", sa.String(64), nullable=True))
    op.add_column("jobs", sa.Column("due_at", sa.Float, nullable=True))
    op.create_index("ix_jobs_holder", "jobs", ["holder"])
    op.create_index("ix_jobs_owner_admitted_at", "jobs", ["owner", "admitted_at"])
    op.create_index("ix_jobs_idempotency", "jobs", ["idempotency"], unique=True)
    op.create_index("ix_jobs_due_at", "jobs", ["due_at"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("trouble", sa.Text, nullable=False, server_default=""),
    )
    turn = op.create_table(
        "turn",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
    )
    op.bulk_insert(turn, [{"id": 1, "number": 0}])
    op.execute("UPDATE jobs SET admitted_at = 0 WHERE state <> 'accepted'")
