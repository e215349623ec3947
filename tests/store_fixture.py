"""Jobs' databases for tests, SQLite's and PostgreSQL's, with other processes beside and a clock to set."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import sqlalchemy as sa
from jobs_fixture import ACCEPTED_AT, make_job

from die_algorithm.job_store import JobStore, QueueLimits
from die_algorithm.models import Job, JobState

LEASE = timedelta(seconds=15)
_PATIENCE = 60
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a store keeps its jobs and its key.

    Args:
        url: SQLAlchemy URL of the database.
        folder: of the key, and of SQLite's files.
        database_folder: what the database's program writes.
    """

    url: str
    folder: Path
    database_folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "token.key"

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def open(self, **limits: int) -> JobStore:
        """A store; ``limits`` are those of its queue."""
        return JobStore(self.url, self.key, QueueLimits(**limits))

    def impatient(self, milliseconds: int = 200) -> Place:
        """The same, for stores that wait only so long for others who write."""
        parsed = sa.make_url(self.url)
        query = (
            {"timeout": str(milliseconds / 1000)}
            if self.is_sqlite
            else {"options": f"-c lock_timeout={milliseconds}ms"}
        )
        url = parsed.update_query_dict(query).render_as_string(hide_password=False)
        return dataclasses.replace(self, url=url)

    def bytes_on_disk(self) -> bytes:
        folders = {self.folder, self.database_folder}
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
        return b"".join(path.read_bytes() for path in files)

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """A transaction beside those of any store."""
        self.folder.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(self.url)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def execute(self, statement: str, **values: object) -> list[sa.Row[Any]]:
        """Run a statement beside any store, committed; returns its rows, if it has any."""
        with self.connection() as connection:
            result = connection.execute(sa.text(statement), values)
            return list(result.all()) if result.returns_rows else []


class DatabaseClock:
    """The clock of one database, to be set; that of the machine stays right.

    PostgreSQL finds a function of ours before its own; SQLite gets ours from each connection.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._skew = 0.0
        if not place.is_sqlite:
            self._shadow_clock()

    def advance(self, seconds: float) -> None:
        """Set it, forwards or backwards."""
        self._skew += seconds
        if not self._place.is_sqlite:
            self._place.execute("UPDATE skew SET seconds = :skew", skew=self._skew)

    def prepare(self, connection: object, _record: object) -> None:
        """Give SQLite our clock; for SQLAlchemy's event."""
        if isinstance(connection, sqlite3.Connection):
            connection.create_function("julianday", 1, self._julian_day)

    def _julian_day(self, _now: str) -> float:
        return (time.time() + self._skew) / 86400 + 2440587.5

    def _shadow_clock(self) -> None:
        for statement in (
            "CREATE TABLE skew (seconds float8)",
            "INSERT INTO skew VALUES (0)",
            "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$"
            " SELECT pg_catalog.clock_timestamp()"
            " + make_interval(secs => (SELECT seconds FROM skew)) $$",
            f"ALTER DATABASE {sa.make_url(self._place.url).database}"
            " SET search_path = public, pg_catalog",
        ):
            self._place.execute(statement)


@contextmanager
def clock_of(place: Place) -> Iterator[DatabaseClock]:
    """The clock of all stores that are opened there from now on."""
    clock = DatabaseClock(place)
    sa.event.listen(sa.Engine, "connect", clock.prepare)
    try:
        yield clock
    finally:
        sa.event.remove(sa.Engine, "connect", clock.prepare)


def python(code: str, place: Place, *arguments: str) -> subprocess.Popen[str]:
    """Another process with our modules on its path, which can open the same store."""
    prelude = (
        "import sys\nfrom contextlib import closing\nfrom pathlib import Path\n"
        "from jobs_fixture import make_job\nfrom die_algorithm.job_store import JobStore\n"
        "url, key, *arguments = sys.argv[1:]\n"
        "def open_store():\n"
        "    return JobStore(url, Path(key))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, place.url, str(place.key), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def run_together(code: str, place: Place, processes: int) -> list[str]:
    """Run code in several processes that begin at the same moment, ready with their imports.

    Returns:
        What each has printed.
    """
    wait = "print('ready', flush=True)\nsys.stdin.readline()\n"
    others = [python(wait + code, place) for _ in range(processes)]
    try:
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
        for other in others:
            assert other.stdin is not None
            other.stdin.write("go\n")
            other.stdin.flush()
    finally:
        said = [other.communicate(timeout=_PATIENCE)[0] for other in others]
    assert [other.returncode for other in others] == [0] * processes
    return said


def at_once(calls: Sequence[Callable[[], _T]]) -> list[_T]:
    """Make calls in threads that begin at the same moment; what each returned."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], _T]) -> _T:
        barrier.wait(_PATIENCE)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def wait_for_lock(place: Place, call: Future[Any]) -> None:
    """Wait until a call, the only one on PostgreSQL, waits for what somebody else has locked."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while place.execute(waiting) != [(1,)]:
        assert not call.done()


def take_all(store: JobStore, worker: str = "worker") -> list[Job]:
    """What a worker holds that begins a lease and takes all it can."""
    store.leases.take(worker, LEASE)
    store.queue.admit(worker)
    store.leases.claim(worker)
    return store.held(worker)


def submit(store: JobStore, owner: str = "alice", *, second: float = 0.0, **changes: Any) -> Job:
    """A new job in the queue, accepted so many seconds after the fixture's moment."""
    accepted_at = ACCEPTED_AT + timedelta(seconds=second)
    return store.add(
        make_job(
            state=JobState.ACCEPTED,
            owner=owner,
            reached={JobState.ACCEPTED: accepted_at},
            **changes,
        )
    )


def finish(store: JobStore, job: Job) -> Job:
    """Let a job end, as its holder would."""
    reached = {**job.reached, JobState.DISMISSED: job.accepted_at}
    changes: dict[str, Any] = {"state": JobState.DISMISSED, "reached": reached, "token": None}
    return store.save(dataclasses.replace(job, **changes))


def current(store: JobStore, job: Job) -> Job:
    """A job as it is by now."""
    found = store.get(job.id)
    assert found is not None
    return found
