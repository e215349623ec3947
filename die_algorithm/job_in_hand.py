"""Which job a thread works for, so that each line of the log can say it.

Modules that know nothing of jobs log, too: those that speak to StorageHub and the Swarm, and those that
make the zip. Many work at once, and their lines are told apart by this.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

# No state of the module: a variable's value belongs to the thread or context that has set it, and to be
# found by them all, it has to stand in a module (Python's library, ``contextvars``).
_JOB_ID: ContextVar[str] = ContextVar("job_id", default="")


@contextlib.contextmanager
def job_in_hand(job_id: str) -> Iterator[None]:
    """What this thread logs in the block is about a job."""
    token = _JOB_ID.set(job_id)
    try:
        yield
    finally:
        _JOB_ID.reset(token)


class JobMark(logging.Filter):
    """Writes ``job=<id>`` before the message of a record that does not name its job itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark a record; it is kept in any case."""
        job_id = _JOB_ID.get()
        if job_id and job_id not in f"{record.msg} {record.args}":
            mark = f"job={job_id}"
            # The arguments are still to be filled in, and an id may come from a label of anybody's.
            record.msg = f"{mark.replace('%', '%%') if record.args else mark} {record.msg}"
        return True
