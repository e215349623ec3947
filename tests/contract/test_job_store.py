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
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs_fixture import ACCEPTED_AT, TOKEN, make_job
from postgresql_fixture import PostgresqlServer, fresh_database
from store_fixture import LEASE, Place, current, finish, python, run_together, submit, take_all

from die_algorithm.errors import (
    SettingsError,
    StaleJob,
    StoreError,
    StoreUnavailable,
    UnreadableJob,
    UnwritableJob,
)
from die_algorithm.job_store import JobStore
from die_algorithm.job_store.token_key import TokenKey
from die_algorithm.models import (
    Expiry,
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
        "result": ResultFile(
            name="x.zip", size=2**40, sha256="0" * 64, files=3, notes=("a", "b"), left_out=2
        ),
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
    for job_id in ("", "x", "' OR 1=1 --", "%", "a" * 10_000, "\N{SNAKE}", "a\0b", "\ud83d"):
        assert store.get(job_id) is None


def test_of_some_jobs_those_have_ended_that_are_final_or_unknown(store: JobStore) -> None:
    jobs = {state: make_job(state=state) for state in JobState}
    for job in jobs.values():
        store.add(job)
    unknown = str(uuid.uuid4())
    asked = [job.id for job in jobs.values()]
    final = {job.id for state, job in jobs.items() if state.is_final}
    assert store.ended([*asked, unknown]) == {*final, unknown}
    assert store.ended(asked[:1]) == set()
    assert store.ended([]) == set()


def test_the_same_job_is_not_added_twice(store: JobStore) -> None:
    job = make_job()
    store.add(job)
    with pytest.raises(StoreUnavailable):
        store.add(dataclasses.replace(job, owner="mallory"))
    assert store.get(job.id) == job


def test_held_jobs_are_listed_the_oldest_first(store: JobStore) -> None:
    jobs = [
        make_job(
            state=state,
            reached={passed: ACCEPTED_AT + timedelta(seconds=-number) for passed in JobState},
        )
        for number, state in enumerate(JobState)
    ]
    for job in jobs:
        store.add_found(job)
    unfinished = [job for job in reversed(jobs) if not job.state.is_final]
    expected = [dataclasses.replace(job, fence=1, is_admitted=True) for job in unfinished]
    assert take_all(store) == expected


def test_a_job_that_ends_between_two_looks_is_held_no_more(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store)
    (job,) = take_all(store)
    read = store.get

    def end_and_read(job_id: str) -> Job | None:
        finish(store, job)
        return read(job_id)

    monkeypatch.setattr(store, "get", end_and_read)
    assert store.held("worker") == []


def test_of_held_jobs_only_those_are_read_again_that_have_changed(store: JobStore) -> None:
    jobs = [make_job() for _ in range(5)]
    for job in jobs:
        store.add_found(job)
    known = {job.id: job for job in take_all(store)}
    saved, cancelled, taken, damaged, unknown = sorted(known)
    store.save(dataclasses.replace(known[saved], exit_code=7))
    store.request_cancel(cancelled)
    with store._database.writing() as connection:
        change = sa.text("UPDATE jobs SET fence = fence + 1 WHERE id = :id")
        connection.execute(change, {"id": taken})
        # Nobody can read this one again, and nobody has to.
        connection.execute(sa.text("UPDATE jobs SET record = '' WHERE id = :id"), {"id": damaged})
    del known[unknown]
    held = {job.id: job for job in store.held("worker", known)}
    assert set(held) == {saved, cancelled, taken, damaged, unknown}
    assert held[saved].exit_code == 7
    assert held[cancelled].cancel_requested
    assert held[taken].fence == 2
    assert held[damaged] is known[damaged]


def test_a_damaged_record_keeps_no_other_job_from_going_on(store: JobStore) -> None:
    jobs = [make_job() for _ in range(2)]
    for job in jobs:
        store.add_found(job)
    with store._database.writing() as connection:
        damage = sa.text("UPDATE jobs SET record = '{}' WHERE id = :id")
        connection.execute(damage, {"id": jobs[0].id})
    assert [job.id for job in take_all(store)] == [jobs[1].id]
    assert [job.id for job in store.unpublished()] == [jobs[1].id]
    assert store.unpublished(besides=[jobs[1].id]) == []
    with pytest.raises(UnreadableJob):
        store.get(jobs[0].id)


#: What a fault of the disk may leave in a column; SQLite takes anything anywhere.
DAMAGES = [
    "id = cast(x'ff' || id AS text)",
    "id = x'00'",
    "record = cast(replace(record, 'accepted', cast(x'ff' AS text)) AS text)",
    "record = x'ff00'",
    "owner = cast(x'ff' AS text)",
    "owner = x'ff'",
    "state = cast(x'ff' AS text)",
    "version = 'x'",
    "fence = cast(x'ff' AS text)",
    "cancel_requested = cast(x'ff' AS text)",
    "accepted_at = cast(x'ff' AS text)",
    "updated_at = '2026-13-99'",
    "admitted_at = cast(x'ff' AS text)",
    "holder = cast(x'ff' AS text)",
    "sealed_token = cast(x'ff' AS text)",
    "due_at = cast(x'ff' AS text)",
    "published_version = cast(x'ff' AS text)",
]


@pytest.mark.parametrize("waits", [False, True], ids=["under way", "waits"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_column_keeps_no_other_job_from_going_on(
    sqlite_store: JobStore, sqlite_place: Place, damage: str, *, waits: bool
) -> None:
    store = sqlite_store
    damaged, whole = (submit(store) for _ in range(2))
    if not waits:
        assert {job.id for job in take_all(store)} == {damaged.id, whole.id}
    sqlite_place.execute(f"UPDATE jobs SET {damage} WHERE id = :id", id=damaged.id)  # noqa: S608
    last = submit(store)
    expected, harmed = {whole.id, last.id}, {damaged.id}
    assert set(store.queue.places()) - harmed == (expected if waits else {last.id})
    assert {job.id for job in take_all(store)} - harmed == expected
    assert {job.id for job in store.latest(None, 10)} - harmed == expected
    assert {job.id for job in store.latest(whole.owner, 10)} - harmed == expected
    assert {job.id for job in store.unpublished()} - harmed == expected
    assert store.due() == []
    finish(store, next(job for job in store.held("worker") if job.id == whole.id))
    assert store.ended([whole.id]) == {whole.id}


def test_a_record_with_a_damaged_byte_is_not_taken_for_another_one(
    sqlite_store: JobStore, sqlite_place: Place
) -> None:
    job = make_job(command=("weigh", "1kg"))
    sqlite_store.add(job)
    sqlite_place.execute("UPDATE jobs SET record = cast(replace(record, '1kg', x'ff6b67') AS text)")
    with pytest.raises(UnreadableJob):
        sqlite_store.get(job.id)


# -- text that no database takes

SURROGATE = "half a \ud83d"


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": SURROGATE},
        {"owner": "a\0b"},
        {"command": (SURROGATE,)},
        {"log_tail": SURROGATE},
        {"token": UserToken("x" * 8, SURROGATE)},
    ],
)
@pytest.mark.parametrize("key", [None, "key"])
def test_text_that_no_database_takes_is_refused_without_being_shown(
    store: JobStore, changes: dict[str, Any], key: str | None
) -> None:
    job = make_job(**changes)
    with pytest.raises(UnwritableJob) as unwritable:
        store.add(job, idempotency_key=key)
    assert "half" not in str(unwritable.value)
    assert unwritable.value.__suppress_context__
    assert store.get(job.id) is None
    # A StoreError would be tried again for ever.
    assert not isinstance(unwritable.value, StoreError)


def test_a_save_of_such_text_is_refused_and_changes_nothing(store: JobStore) -> None:
    job = store.add(make_job())
    with pytest.raises(UnwritableJob):
        store.save(dataclasses.replace(job, log_tail=SURROGATE))
    assert store.get(job.id) == job


def test_a_nul_in_a_command_comes_back_as_it_was_given(store: JobStore) -> None:
    job = store.add(make_job(command=("a\0b",)))
    assert store.get(job.id) == job


def test_nobody_with_such_a_name_has_used_a_key(store: JobStore) -> None:
    assert store.with_key(SURROGATE, "key") is None
    assert store.with_key("a\0b", "key") is None


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
    assert take_all(store) == []


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


def test_a_save_that_a_cancel_forbids_is_refused_after_one_and_changes_nothing(
    store: JobStore,
) -> None:
    job = make_job()
    store.add(job)
    job = store.save(dataclasses.replace(job, exit_code=1), unless_cancelled=True)
    store.request_cancel(job.id)
    with pytest.raises(StaleJob):
        store.save(dataclasses.replace(job, exit_code=2), unless_cancelled=True)
    assert store.get(job.id) == dataclasses.replace(job, cancel_requested=True)


def test_of_a_cancel_and_a_save_that_it_forbids_the_first_wins(store: JobStore) -> None:
    for _ in range(20):
        job = make_job()
        store.add(job)
        outcome = dataclasses.replace(job, exit_code=1)

        def end(outcome: Job = outcome) -> bool:
            try:
                store.save(outcome, unless_cancelled=True)
            except StaleJob:
                return False
            return True

        def cancel(job: Job = job) -> bool:
            """As who asks for it and looks at once; whether there was no outcome yet."""
            store.request_cancel(job.id)
            seen = store.get(job.id)
            assert seen is not None
            assert seen.cancel_requested
            return seen.exit_code is None

        with ThreadPoolExecutor(2) as pool:
            was_saved, was_open = pool.submit(end), pool.submit(cancel)
        assert was_saved.result() is not was_open.result()


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


# -- retention


def ended(*, files: float, record: float, files_removed: bool = False) -> Job:
    """An ended job of which something is to be removed so many seconds from now."""
    now = datetime.now(UTC)
    return make_job(
        state=JobState.FAILED,
        expiry=Expiry(
            files_at=now + timedelta(seconds=files),
            record_at=now + timedelta(seconds=record),
            folder_at=now,
            files_removed=files_removed,
        ),
    )


def test_a_job_is_due_when_its_files_or_its_record_expire(store: JobStore) -> None:
    expired = [
        ended(files=-1, record=100),
        ended(files=-100, record=-1, files_removed=True),
        ended(files=-100, record=-50),
        make_job(state=JobState.SUCCEEDED),  # of the former release, which knew no expiry
    ]
    others = [
        ended(files=100, record=200),
        ended(files=-100, record=100, files_removed=True),
        make_job(),
    ]
    for job in [*others, *expired]:
        store.add_found(job)
    assert {job.id for job in store.due()} == {job.id for job in expired}


def test_a_job_whose_files_were_removed_is_due_again_with_its_record(store: JobStore) -> None:
    job = ended(files=-100, record=100)
    store.add_found(job)
    (due,) = store.due()
    assert due.expiry is not None
    expiry = dataclasses.replace(due.expiry, files_removed=True)
    job = store.save(dataclasses.replace(due, expiry=expiry))
    assert store.due() == []
    expiry = dataclasses.replace(expiry, record_at=datetime.now(UTC))
    store.save(dataclasses.replace(job, expiry=expiry))
    assert [job.id for job in store.due()] == [job.id]


def test_what_is_due_is_told_in_portions_the_oldest_first(store: JobStore) -> None:
    jobs = [ended(files=-number, record=100) for number in range(1, 106)]
    for job in jobs:
        store.add_found(job)
    first = [job.id for job in store.due()]
    assert first == [job.id for job in reversed(jobs)][:100]
    for job in jobs[5:]:
        store.remove(job)
    assert {job.id for job in store.due()} == {job.id for job in jobs[:5]}


@pytest.mark.parametrize("state", JobState)
def test_an_ended_job_can_be_removed_and_an_unfinished_one_never(
    store: JobStore, state: JobState
) -> None:
    job, other = make_job(state=state), make_job(state=JobState.FAILED)
    for added in (job, other):
        store.add(added)
    store.remove(job)
    assert (store.get(job.id) is None) == state.is_final
    assert store.get(other.id) == other


def test_a_job_that_was_removed_cannot_come_back_by_a_late_save(store: JobStore) -> None:
    job = store.add(make_job(state=JobState.FAILED))
    store.remove(job)
    with pytest.raises(StaleJob):
        store.save(job)
    assert store.get(job.id) is None


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
        kept = {job.id: job for job in take_all(store)}
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


def test_who_opens_a_sqlite_database_twice_keeps_its_journal_from_being_removed(
    sqlite_store: JobStore, sqlite_place: Place
) -> None:
    """The last one to close a database removes its journal, and who has lost his locks is overlooked."""
    sqlite_place.open().close()  # as who asks whether the service is ready
    path = sqlite_place.folder / "jobs.sqlite"
    look = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT id FROM jobs').close()"
    )
    subprocess.run([sys.executable, "-c", look, path], check=True)
    job = sqlite_store.add(make_job())
    count = (
        "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT id FROM jobs'))"
    )
    seen = subprocess.run([sys.executable, "-c", count, path], check=True, capture_output=True)
    assert job.id in seen.stdout.decode()


def test_a_commit_to_sqlite_is_on_the_disk_before_it_returns(sqlite_store: JobStore) -> None:
    with sqlite_store._database.reading() as connection:
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
    with store._database.reading() as connection:
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


def test_a_store_that_stays_open_erases_the_traces_of_tokens_as_soon_as_nobody_is_in_the_way(
    sqlite_place: Place,
) -> None:
    job = make_job()
    with closing(sqlite_place.open()) as store:
        store.add(job)
        sealed = sealed_token(store, job)
        assert sealed
        store.save(dataclasses.replace(job, state=JobState.DISMISSED, token=None))
        path = sqlite_place.folder / "jobs.sqlite"
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM jobs").fetchone()
            store.erase_traces()  # does not wait
            assert sealed in sqlite_place.bytes_on_disk()
        store.erase_traces()
        assert sealed not in sqlite_place.bytes_on_disk()
        store.add(make_job())


@pytest.mark.parametrize("fails", [False, True])
def test_who_erases_traces_takes_nobody_the_patience_to_wait(
    sqlite_store: JobStore, sqlite_place: Place, *, fails: bool
) -> None:
    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if fails and "checkpoint" in statement:
            raise sqlite3.OperationalError("disk I/O error")

    engine = sqlite_store._database._engine
    sa.event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(StoreUnavailable) if fails else nullcontext():
        sqlite_store.erase_traces()
    with sqlite_store._database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 10_000
    impatient = sqlite_place.impatient(50)
    with closing(impatient.open()) as store:
        store.erase_traces()
        with store._database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 50


def test_only_the_owner_may_read_the_key(store: JobStore, place: Place) -> None:
    store.check()
    assert stat.S_IMODE(place.key.stat().st_mode) == 0o600


def test_only_the_owner_may_read_the_database_in_a_folder_that_is_open(
    sqlite_place: Place,
) -> None:
    sqlite_place.folder.mkdir(parents=True, exist_ok=True)
    sqlite_place.folder.chmod(0o755)
    with closing(sqlite_place.open()) as store:
        store.add(make_job())
        files = sorted(sqlite_place.folder.glob("jobs.sqlite*"))
        assert [file.name[11:] for file in files] == ["", "-shm", "-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_processes_that_start_at_once_share_one_key(place: Place) -> None:
    run_together("with closing(open_store()) as store: store.add(make_job())\n", place, 4)
    with closing(place.open()) as store:
        assert [job.token for job in take_all(store)] == [UserToken(TOKEN)] * 4
    assert [path.name for path in place.folder.glob("*token.key*")] == ["token.key"]


def test_a_key_that_was_half_made_at_a_crash_is_no_obstacle(place: Place) -> None:
    place.folder.mkdir()
    for number in range(1, 5):
        (place.folder / f".token.key.{number}").write_bytes(b"")
    (place.folder / f".token.key.{os.getpid()}").write_bytes(b"")
    with closing(place.open()) as store:
        store.add(make_job())
    with closing(place.open()) as store:
        assert [job.token for job in take_all(store)] == [UserToken(TOKEN)]


def test_a_job_goes_on_without_its_token_when_the_key_was_replaced(place: Place) -> None:
    job = make_job()
    with closing(place.open()) as store:
        store.add(job)
    replace_key(place)
    with closing(place.open()) as store:
        assert store.get(job.id) == dataclasses.replace(job, token=None)


def replace_key(place: Place) -> bytes:
    """Put another key in the place of the right one, which is given back."""
    right = place.key.read_bytes()
    place.key.write_bytes(Fernet.generate_key())
    return right


def test_a_token_that_cannot_be_read_is_kept_until_its_job_ends(place: Place) -> None:
    job = make_job()
    with closing(place.open()) as store:
        store.add(job)
    right = replace_key(place)
    with closing(place.open()) as store:
        store.save(dataclasses.replace(current(store, job), exit_code=7))
    wrong = place.key.read_bytes()
    place.key.write_bytes(right)
    with closing(place.open()) as store:
        assert (current(store, job).exit_code, current(store, job).token) == (7, job.token)
    place.key.write_bytes(wrong)
    with closing(place.open()) as store:
        finish(store, current(store, job))
        assert sealed_token(store, job) is None


def test_that_tokens_cannot_be_read_is_logged_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [make_job() for _ in range(3)]
    with closing(place.open()) as store:
        for job in jobs:
            store.add(job)
    replace_key(place)
    with closing(place.open()) as store:
        for job in jobs * 2:
            store.get(job.id)
    assert "".join(caplog.messages).count("sealed with another key") == 1


def test_a_key_that_tokens_were_sealed_with_is_replaced_by_nobody_but_the_operator(
    place: Place,
) -> None:
    with closing(place.open()) as store:
        job = store.add(make_job())
    right = place.key.read_bytes()
    place.key.unlink()
    with pytest.raises(StoreUnavailable, match="is not there") as refused:
        place.open()
    assert str(place.folder) not in refused.value.for_operator
    assert "make another one" in refused.value.for_operator
    assert "openssl" not in str(refused.value)
    assert not place.key.exists()
    place.key.write_bytes(right)
    with closing(place.open()) as store:
        assert current(store, job) == job
    # As the sentence says.
    subprocess.run(["sh", "-c", "openssl rand -base64 32 | tr /+ _- > $0", place.key], check=True)
    with closing(place.open()) as store:
        assert current(store, job).token is None
        finish(store, current(store, job))
    place.key.unlink()
    with closing(place.open()) as store:
        job = store.add(make_job())
        assert current(store, job) == job


def test_a_key_that_another_process_makes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    made: list[TokenKey] = []

    def seal() -> bool:
        made.append(TokenKey(path))
        return True

    key = TokenKey(path, seal)
    assert key.unseal(made[0].seal(UserToken(TOKEN))) == UserToken(TOKEN)


def test_a_database_put_in_place_of_another_is_not_used_without_its_key(
    sqlite_place: Place, tmp_path: Path
) -> None:
    with closing(sqlite_place.open()) as store:
        job = store.add(make_job())
        with (
            closing(sqlite3.connect(sqlite_place.folder / "jobs.sqlite")) as source,
            closing(sqlite3.connect(tmp_path / "backup")) as target,
        ):
            source.backup(target)
        (tmp_path / "backup").replace(sqlite_place.folder / "jobs.sqlite")
        key = sqlite_place.key.rename(tmp_path / "key")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="key"):
                store.get(job.id)
        key.rename(sqlite_place.key)
        assert current(store, job) == job


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 44])
def test_a_damaged_key_is_told(place: Place, content: bytes) -> None:
    place.folder.mkdir()
    place.key.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="key") as refused:
        place.open()
    assert str(place.folder) not in str(refused.value)


# -- when it does not work


def writes(store: JobStore, job: Job) -> list[Callable[[], object]]:
    return [
        lambda: store.add(make_job()),
        lambda: store.add(make_job(), idempotency_key="key"),
        lambda: store.add_found(make_job()),
        lambda: store.save(job),
        lambda: store.request_cancel(job.id),
        lambda: store.remove(job),
        lambda: store.mark_published(job),
        lambda: store.leases.take("worker", LEASE),
        lambda: store.leases.renew("worker", LEASE),
        lambda: store.leases.end("worker"),
        lambda: store.leases.claim("worker"),
        lambda: store.queue.admit("worker"),
        store.check,
    ]


def reads(store: JobStore, job: Job) -> list[Callable[[], object]]:
    return [
        lambda: store.get(job.id),
        lambda: store.held("worker"),
        lambda: store.with_key("alice", "key"),
        store.due,
        store.unpublished,
        store.queue.places,
        store.leases.workers,
    ]


def refused(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        with pytest.raises(StoreUnavailable) as unavailable:
            call()
        assert "sqlite" not in str(unavailable.value)
        assert "postgres" not in str(unavailable.value)
        assert "/" not in str(unavailable.value)


def test_a_locked_sqlite_database_is_unavailable_and_works_again_after(
    sqlite_place: Place,
) -> None:
    job = make_job()
    with closing(sqlite_place.impatient(50).open()) as store:
        store.add(job)
        waiting = submit(store)  # or there would be nothing to admit
        with closing(sqlite3.connect(sqlite_place.folder / "jobs.sqlite")) as other:
            other.execute("BEGIN EXCLUSIVE")
            refused(writes(store, job))
            # Readers do not wait for a writer.
            for call in reads(store, job):
                call()
            assert store.get(job.id) == job
            other.rollback()
        store.check()
        assert store.save(job).version == 1
        assert store.queue.places() == {waiting.id: 0}


@pytest.mark.parametrize(
    "lock",
    ["LOCK TABLE jobs", "SELECT id FROM jobs FOR UPDATE", "SELECT number FROM turn FOR UPDATE"],
)
def test_what_somebody_else_has_locked_in_postgresql_is_unavailable_soon_and_works_again_after(
    postgresql_place: Place, lock: str
) -> None:
    with closing(postgresql_place.impatient(100).open()) as store:
        job = submit(store)
        calls: dict[str, list[Callable[[], object]]] = {
            "SELECT id": [lambda: store.save(job), lambda: store.queue.admit("worker")],
            "SELECT number": [
                lambda: store.add(make_job()),
                lambda: store.queue.admit("worker"),
            ],
            "LOCK": [lambda: store.add(make_job()), lambda: store.get(job.id)],
        }
        with postgresql_place.connection() as other:
            other.exec_driver_sql(lock)
            refused(next(calls[key] for key in calls if lock.startswith(key)))
        assert store.save(job).version == 1
        assert store.queue.admit("worker") == 1


def test_the_patience_with_postgresql_has_an_end_unless_the_address_says_otherwise(
    postgresql_place: Place,
) -> None:
    def shown(place: Place, name: str) -> object:
        with closing(place.open()) as store, store._database.reading() as connection:
            return connection.exec_driver_sql(f"SHOW {name}").scalar()

    assert shown(postgresql_place, "lock_timeout") == "10s"
    assert shown(postgresql_place, "statement_timeout") == "30s"
    assert shown(postgresql_place.impatient(100), "lock_timeout") == "100ms"
    assert shown(postgresql_place.impatient(100), "statement_timeout") == "30s"


def test_a_sqlite_database_that_was_removed_is_made_anew(
    sqlite_store: JobStore, sqlite_place: Place
) -> None:
    job, other = make_job(), make_job()
    sqlite_store.add(job)
    for path in sqlite_place.folder.glob("jobs.sqlite*"):
        path.unlink()
    assert sqlite_store.get(job.id) is None
    sqlite_store.add(other)
    with closing(sqlite_place.open()) as second:
        assert second.get(other.id) == other


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
    refused([*reads(postgresql_store, job), *writes(postgresql_store, job)])
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
