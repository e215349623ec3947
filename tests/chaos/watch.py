"""Somebody who looks at the jobs' records all the time."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from chaos.process import History
from die_algorithm.errors import StoreError
from die_algorithm.job_store import JobStore
from die_algorithm.job_store.tables import JOBS
from die_algorithm.models import JobState
from die_algorithm.runtime import job_store
from die_algorithm.settings import Settings

_EVERY = 0.01


class Watch:
    """Looks at the states of all jobs of a database until the end of the block.

    Args:
        settings: whose database it is.
        history: gets every state, in the order in which they were committed.
    """

    def __init__(self, settings: Settings, history: History) -> None:
        self._store: JobStore = job_store(settings)
        self._history = history
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._store.close()

    def _look(self) -> None:
        while not self._is_over.wait(_EVERY):
            try:
                with self._store._database.reading() as connection:
                    rows = connection.execute(sa.select(JOBS.c.id, JOBS.c.state)).all()
            except StoreError:
                continue  # somebody writes for too long; the next look tells
            for job_id, state in rows:
                self._history.add(job_id, JobState(state))
