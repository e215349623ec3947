"""The jobs' database, SQLite's and PostgreSQL's, with other connections and processes beside it."""

from __future__ import annotations

import base64
import dataclasses
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs_fixture import ACCEPTED_AT, TOKEN, make_job
from postgresql_fixture import PostgresqlServer, fresh_database

from die_algorithm.errors import SettingsError, StaleJob, StoreUnavailable
from die_algorithm.job_store import JobStore
from die_algorithm.models import (
    Failure,
    FaultClass,
    Job,
    JobState,
    OutputRequest,
    ResponseForm,
    ResultFile,
    UserToken,
    Waiting,
)


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

    def open(self) -> JobStore:
        return JobStore(self.url, self.key)

    def bytes_on_disk(self) -> bytes:
        folders = {self.folder, self.database_folder}
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
        return b"".join(path.read_bytes() for path in files)


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    folder = tmp_path / "data"
    return Place(f"sqlite:///{folder / 'jobs.sqlite'}", folder, folder)


@pytest.fixture
def postgresql_place(
    postgresql: PostgresqlServer, postgresql_database: str, tmp_path: Path
) -> Place:
    return Place(postgresql_database, tmp_path / "data", postgresql.folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each database in turn, empty."""
    found = request.getfixturevalue(f"{request.param}_place")
    assert isinstance(found, Place)
    return found


@pytest.fixture
def store(place: Place) -> Iterator[JobStore]:
    with closing(place.open()) as store:
        yield store


@pytest.fixture
def sqlite_store(sqlite_place: Place) -> Iterator[JobStore]:
    with closing(sqlite_place.open()) as store:
        yield store


@pytest.fixture
def postgresql_store(postgresql_place: Place) -> Iterator[JobStore]:
    with closing(postgresql_place.open()) as store:
        yield store


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


# -- records


JOBS: dict[str, dict[str, Any]] = {
    **{state.value: {"state": state} for state in JobState},
    "everything": {
        "state": JobState.STAGING_OUT,
        "command": ("a", "-b", "c=d"),
        "response_form": ResponseForm(
            raw=OutputRequest(identifier="Result", as_reference=True, mime_type="application/zip"),
            outputs=(OutputRequest(identifier="a"), OutputRequest(identifier="b")),
            store=True,
            status=True,
            lineage=True,
        ),
        "token": UserToken(TOKEN, "алиса:b"),
        "digest": f"sha256:{'0' * 64}",
        "service_id": "s",
        "exit_code": 137,
        "failure": Failure(fault_class=FaultClass.LIMIT, text="Zu groß.", exit_code=137),
        "log_tail": "line\n\N{SNAKE}\ufffd'\"\\ %s {} \t",
        "result": ResultFile(name="x.zip", size=2**40, sha256="0" * 64, files=3, notes=("a", "b")),
        "waiting": Waiting(reason="waiting for Godot", since=ACCEPTED_AT),
        "folder_kept": True,
    },
}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_comes_back_as_it_was_given(store: JobStore, name: str) -> None:
    job = make_job(**JOBS[name])
    store.add(job)
    assert store.get(job.id) == job


# The examples may share a store: each has a job of its own.
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.from_regex(r"[!-~]{8,200}", fullmatch=True),
    st.none() | st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_any_token_comes_back_as_it_was_given(
    store: JobStore, secret: str, username: str | None
) -> None:
    job = make_job(token=UserToken(secret, username))
    store.add(job)
    assert store.get(job.id) == job


def test_an_unknown_job_is_none(store: JobStore) -> None:
    for job_id in ("", "x", "' OR 1=1 --", "%", "a" * 10_000, "\N{SNAKE}", "a\0b"):
        assert store.get(job_id) is None


def test_the_same_job_is_not_added_twice(store: JobStore) -> None:
    job = make_job()
    store.add(job)
    with pytest.raises(StoreUnavailable):
        store.add(dataclasses.replace(job, owner="mallory"))
    assert store.get(job.id) == job


def test_unfinished_jobs_are_listed_the_oldest_first(store: JobStore) -> None:
    jobs = [
        make_job(
            state=state,
            reached={passed: ACCEPTED_AT + timedelta(seconds=-number) for passed in JobState},
        )
        for number, state in enumerate(JobState)
    ]
    for job in jobs:
        store.add(job)
    unfinished = [job for job in reversed(jobs) if not job.state.is_final]
    assert store.unfinished() == unfinished


# -- writes


def test_each_save_counts_up_the_version(store: JobStore) -> None:
    job = make_job()
    store.add(job)
    for version in (1, 2, 3):
        job = store.save(dataclasses.replace(job, exit_code=version))
        assert job.version == version
        assert store.get(job.id) == job


def test_a_save_on_an_old_version_is_refused_and_changes_nothing(store: JobStore) -> None:
    job = make_job()
    store.add(job)
    newer = store.save(dataclasses.replace(job, exit_code=1))
    with pytest.raises(StaleJob):
        store.save(dataclasses.replace(job, exit_code=2))
    assert store.get(job.id) == newer


def test_a_save_of_a_job_that_is_not_there_is_refused(store: JobStore) -> None:
    with pytest.raises(StaleJob):
        store.save(make_job())
    assert store.unfinished() == []


def test_of_many_saves_at_once_one_wins(store: JobStore) -> None:
    job = make_job()
    store.add(job)

    def save(number: int) -> bool:
        try:
            store.save(dataclasses.replace(job, exit_code=number))
        except StaleJob:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(save, range(16)))
    assert won.count(True) == 1
    saved = store.get(job.id)
    assert saved is not None
    assert (saved.exit_code, saved.version) == (won.index(True), 1)


def test_a_cancel_survives_a_save_of_a_job_that_was_read_before(store: JobStore) -> None:
    job = make_job()
    store.add(job)
    store.request_cancel(job.id)
    store.save(dataclasses.replace(job, exit_code=0))
    saved = store.get(job.id)
    assert saved is not None
    assert saved.cancel_requested
    assert saved.exit_code == 0


def test_a_cancel_makes_no_save_stale(store: JobStore) -> None:
    job = make_job()
    store.add(job)
    store.request_cancel(job.id)
    assert store.save(job).version == 1


@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
def test_an_ended_job_cannot_be_cancelled(store: JobStore, state: JobState) -> None:
    job = make_job(state=state)
    store.add(job)
    store.request_cancel(job.id)
    assert store.get(job.id) == job


def test_the_check_changes_nothing(store: JobStore) -> None:
    job = make_job()
    store.add(job)
    store.check()
    assert store.get(job.id) == job


# -- other connections and processes


def test_what_is_committed_is_seen_by_another_connection(store: JobStore, place: Place) -> None:
    with closing(place.open()) as other:
        job = make_job()
        store.add(job)
        assert other.get(job.id) == job
        other.request_cancel(job.id)
        seen = store.get(job.id)
        assert seen is not None
        assert seen.cancel_requested


def test_what_is_committed_is_seen_by_another_process(store: JobStore, place: Place) -> None:
    job = make_job(exit_code=7)
    store.add(job)
    code = "with closing(open_store()) as store: print(store.get(arguments[0]).exit_code)"
    with python(code, place, job.id) as other:
        assert other.communicate(timeout=60)[0] == "7\n"


def test_a_job_that_was_added_survives_kill_9(place: Place) -> None:
    code = (
        "store = open_store()\n"
        "while True:\n"
        "    job = make_job()\n"
        "    store.add(job)\n"
        "    print(job.id, flush=True)\n"
    )
    with python(code, place) as other:
        assert other.stdout is not None
        announced = [other.stdout.readline().strip() for _ in range(20)]
        other.send_signal(signal.SIGKILL)
        announced += other.stdout.read().split()
    with closing(place.open()) as store:
        kept = {job.id: job for job in store.unfinished()}
        assert set(announced) <= set(kept)
        assert all(job.token == UserToken(TOKEN) for job in kept.values())


def test_a_save_that_kill_9_cuts_leaves_the_job_as_it_was_or_as_it_should_be(
    place: Place,
) -> None:
    job = make_job(log_tail="x" * 100_000)
    with closing(place.open()) as store:
        store.add(job)
    code = (
        "import dataclasses\n"
        "store = open_store()\n"
        "job = store.get(arguments[0])\n"
        "while True:\n"
        "    text = str(job.version % 10) * 100_000\n"
        "    job = store.save(dataclasses.replace(job, log_tail=text))\n"
        "    print(job.version, flush=True)\n"
    )
    with python(code, place, job.id) as other:
        assert other.stdout is not None
        versions = [int(other.stdout.readline()) for _ in range(20)]
        other.send_signal(signal.SIGKILL)
        versions += [int(line) for line in other.stdout.read().split()]
    with closing(place.open()) as store:
        saved = store.get(job.id)
    assert saved is not None
    assert saved.version in (versions[-1], versions[-1] + 1)
    assert saved.log_tail == str((saved.version - 1) % 10) * 100_000


def test_a_commit_to_sqlite_is_on_the_disk_before_it_returns(sqlite_store: JobStore) -> None:
    with sqlite_store._engine.connect() as connection:
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"


# -- the token


def test_the_token_is_nowhere_in_clear(store: JobStore, place: Place) -> None:
    job = make_job(token=UserToken(TOKEN, "canary-user-name"))
    store.add(job)
    store.save(job)
    content = place.bytes_on_disk()
    assert job.id.encode() in content
    for secret in (TOKEN, "canary-user-name"):
        encoded = base64.b64encode(secret.encode())
        for form in (secret.encode(), quote(secret).encode(), encoded, encoded[4:-4]):
            assert form not in content


def sealed_token(store: JobStore, job: Job) -> bytes | None:
    query = sa.text("SELECT sealed_token FROM jobs WHERE id = :id")
    with store._engine.connect() as connection:
        sealed: bytes | None = connection.execute(query, {"id": job.id}).scalar_one()
    return sealed


def test_the_token_is_erased_when_the_job_ends(store: JobStore) -> None:
    jobs = [make_job() for _ in range(2)]
    for job in jobs:
        store.add(job)
    assert sealed_token(store, jobs[0])
    store.save(dataclasses.replace(jobs[0], state=JobState.DISMISSED, token=None))
    assert sealed_token(store, jobs[0]) is None
    assert sealed_token(store, jobs[1])


def test_sqlite_keeps_no_trace_of_an_erased_token(sqlite_place: Place) -> None:
    jobs = [make_job() for _ in range(5)]
    with closing(sqlite_place.open()) as store:
        for job in jobs:
            store.add(job)
        sealed = sealed_token(store, jobs[0])
        assert sealed
    assert sealed in sqlite_place.bytes_on_disk()
    with closing(sqlite_place.open()) as store:
        store.save(dataclasses.replace(jobs[0], state=JobState.DISMISSED, token=None))
    # What the row has left on its page must be blank, too.
    assert sealed not in sqlite_place.bytes_on_disk()


def test_only_the_owner_may_read_the_key(store: JobStore, place: Place) -> None:
    store.check()
    assert stat.S_IMODE(place.key.stat().st_mode) == 0o600


def test_processes_that_start_at_once_share_one_key(place: Place) -> None:
    code = (
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "with closing(open_store()) as store: store.add(make_job())\n"
    )
    others = [python(code, place) for _ in range(4)]
    try:
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
        for other in others:
            assert other.stdin is not None
            other.stdin.write("go\n")
            other.stdin.flush()
    finally:
        for other in others:
            other.communicate(timeout=60)
    assert [other.returncode for other in others] == [0] * 4
    with closing(place.open()) as store:
        assert [job.token for job in store.unfinished()] == [UserToken(TOKEN)] * 4
    assert [path.name for path in place.folder.glob("*token.key*")] == ["token.key"]


def test_a_key_that_was_half_made_at_a_crash_is_no_obstacle(place: Place) -> None:
    place.folder.mkdir()
    for number in range(1, 5):
        (place.folder / f".token.key.{number}").write_bytes(b"")
    (place.folder / f".token.key.{os.getpid()}").write_bytes(b"")
    with closing(place.open()) as store:
        store.add(make_job())


def test_a_job_goes_on_without_its_token_when_the_key_was_replaced(place: Place) -> None:
    job = make_job()
    with closing(place.open()) as store:
        store.add(job)
    place.key.unlink()
    with closing(place.open()) as store:
        assert store.get(job.id) == dataclasses.replace(job, token=None)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 44])
def test_a_damaged_key_is_told(place: Place, content: bytes) -> None:
    place.folder.mkdir()
    place.key.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="key") as refused:
        place.open()
    assert str(place.folder) not in str(refused.value)


# -- when it does not work


def refused(store: JobStore, job: Job) -> None:
    for call in (
        lambda: store.add(make_job()),
        lambda: store.save(job),
        lambda: store.request_cancel(job.id),
        store.check,
    ):
        with pytest.raises(StoreUnavailable) as unavailable:
            call()
        assert "sqlite" not in str(unavailable.value)
        assert "postgres" not in str(unavailable.value)
        assert "/" not in str(unavailable.value)


def test_a_locked_sqlite_database_is_unavailable_and_works_again_after(
    sqlite_store: JobStore, sqlite_place: Place
) -> None:
    store = sqlite_store
    store._engine.dispose()
    sa.event.listen(store._engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout=50"))
    job = make_job()
    store.add(job)
    with closing(sqlite3.connect(sqlite_place.folder / "jobs.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused(store, job)
        # Readers do not wait for a writer.
        assert store.get(job.id) == job
        other.rollback()
    store.check()
    assert store.save(job).version == 1


def test_a_sqlite_database_that_is_gone_is_unavailable(
    sqlite_store: JobStore, sqlite_place: Place
) -> None:
    job = make_job()
    sqlite_store.add(job)
    sqlite_store.close()
    for path in sqlite_place.folder.glob("jobs.sqlite*"):
        path.unlink()
    refused(sqlite_store, job)
    with pytest.raises(StoreUnavailable):
        sqlite_store.get(job.id)


def test_a_damaged_sqlite_database_is_unavailable(sqlite_place: Place) -> None:
    sqlite_place.folder.mkdir()
    (sqlite_place.folder / "jobs.sqlite").write_bytes(b"This is no database. " * 1000)
    with pytest.raises(StoreUnavailable):
        sqlite_place.open()


@pytest.mark.parametrize("outage", ["stop", "kill"])
def test_a_postgresql_server_that_is_away_is_unavailable_and_has_everything_after(
    postgresql_store: JobStore, postgresql: PostgresqlServer, outage: str
) -> None:
    job = make_job()
    postgresql_store.add(job)
    getattr(postgresql, outage)()
    refused(postgresql_store, job)
    with pytest.raises(StoreUnavailable):
        postgresql_store.get(job.id)
    postgresql.start()
    assert postgresql_store.get(job.id) == job
    assert postgresql_store.save(job).version == 1


@pytest.mark.parametrize("outage", ["stop", "kill"])
def test_a_restart_of_postgresql_between_two_calls_is_not_noticed(
    postgresql_store: JobStore, postgresql: PostgresqlServer, outage: str
) -> None:
    job = make_job()
    postgresql_store.add(job)
    getattr(postgresql, outage)()
    postgresql.start()
    assert postgresql_store.save(job).version == 1


def test_a_store_is_not_opened_while_postgresql_is_away(
    postgresql_place: Place, postgresql: PostgresqlServer
) -> None:
    postgresql.stop()
    with pytest.raises(StoreUnavailable) as unavailable:
        postgresql_place.open()
    assert "/" not in str(unavailable.value)
    postgresql.start()
    with closing(postgresql_place.open()) as store:
        store.check()


def test_a_postgresql_database_that_is_not_there_is_unavailable(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    with fresh_database(postgresql) as url:
        pass
    with pytest.raises(StoreUnavailable) as unavailable:
        JobStore(url, tmp_path / "token.key")
    assert "/" not in str(unavailable.value)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    below = tmp_path / "file" / "data"
    with pytest.raises(StoreUnavailable, match="database") as unavailable:
        JobStore(f"sqlite:///{below}/jobs.sqlite", tmp_path / "token.key")
    assert str(tmp_path) not in str(unavailable.value)
    with pytest.raises(StoreUnavailable, match="key") as unavailable:
        JobStore(f"sqlite:///{tmp_path}/jobs.sqlite", below / "token.key")
    assert str(tmp_path) not in str(unavailable.value)


@pytest.mark.parametrize(
    "url",
    [
        "jobs.sqlite",
        "nosuch://alice:canary@db/die",
        "sqlite+nosuch:///jobs.sqlite",
        "oracle://alice:canary@db/die",
        "postgresql://alice:canary@db:port/die",
    ],
)
def test_a_database_that_cannot_be_used_at_all_is_the_operators_mistake(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(SettingsError, match="'database'") as mistaken:
        JobStore(url, tmp_path / "token.key")
    assert "canary" not in str(mistaken.value)
    assert mistaken.value.__cause__ is None
