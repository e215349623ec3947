"""A former release's database is brought up to date, once, and it can still work on it."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from jobs_fixture import ACCEPTED_AT, make_job
from store_fixture import LEASE, Place, current, run_together, submit, take_all

from die_algorithm.errors import StoreUnavailable
from die_algorithm.job_store import JobStore, unmade_files
from die_algorithm.job_store.listing import listed_job
from die_algorithm.job_store.tables import METADATA
from die_algorithm.job_store.token_key import TokenKey
from die_algorithm.models import JobState

#: As release 0.1 made it, which had no versions of its schema.
FORMER = sa.MetaData()
FORMER_JOBS = sa.Table(
    "jobs",
    FORMER,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("published_version", sa.Integer, nullable=False, default=-1),
    sa.Column("sealed_token", sa.LargeBinary, nullable=True),
    sa.Column("record", sa.Text, nullable=False),
)
#: What it wrote into "record", letter by letter.
FORMER_RECORD = """
{"id":"%(id)s","owner":"%(owner)s","request":{"image":"docker.io/d4science/sortapp:latest",
"command":["sortapp"],"item_id":"item-0001","item_parameter":"FileParam",
"given_image":"docker.io/d4science/sortapp:latest","given_command":"sortapp",
"given_item":"item-0001"},"response_form":{"raw":null,"outputs":[],"store":false,"status":false,
"lineage":false},"state":"%(state)s","reached":%(reached)s,
"result_key":"00000000000000000000000000000000","folder":%(folder)s,"digest":null,
"service_id":null,"exit_code":null,"failure":null,"log_tail":"","result":%(result)s,
"waiting":null,"folder_kept":false}
"""
RUNNING = "11111111-1111-4111-8111-111111111111"
ENDED = "22222222-2222-4222-8222-222222222222"
ACCEPTED = "33333333-3333-4333-8333-333333333333"
JOBS = {
    RUNNING: make_job(id=RUNNING, state=JobState.RUNNING),
    ENDED: make_job(id=ENDED, state=JobState.SUCCEEDED, owner="bob"),
    ACCEPTED: make_job(id=ACCEPTED, state=JobState.ACCEPTED, owner="carol"),
}


def former_row(place: Place, job_id: str) -> dict[str, Any]:
    job = JOBS[job_id]
    record = FORMER_RECORD.replace("\n", "") % {
        "id": job_id,
        "owner": job.owner,
        "state": job.state.value,
        "reached": json.dumps({s.value: f"{at:%FT%TZ}" for s, at in job.reached.items()}),
        "folder": json.dumps(job.folder and dataclasses.asdict(job.folder)),
        "result": json.dumps(job.result and dataclasses.asdict(job.result)),
    }
    return {
        "id": job_id,
        "owner": job.owner,
        "state": job.state.value,
        "version": 0,
        "accepted_at": ACCEPTED_AT,
        "updated_at": datetime.now(UTC),
        "sealed_token": TokenKey(place.key).seal(job.token),
        "record": record,
    }


@pytest.fixture
def former(place: Place) -> Place:
    """A database that the former release has left: a job runs, one has ended, one is new."""
    with place.connection() as connection:
        FORMER.create_all(connection)
        for job_id in JOBS:
            connection.execute(FORMER_JOBS.insert().values(**former_row(place, job_id)))
    return place


def database_file(place: Place) -> Path:
    return Path(sa.make_url(place.url).database or "")


def versions(place: Place) -> list[str]:
    return [version for (version,) in place.execute("SELECT version_num FROM alembic_version")]


# -- up to date


def test_the_jobs_of_the_former_release_are_what_they_were(former: Place) -> None:
    with closing(former.open()) as store:
        for job_id, job in JOBS.items():
            expected = dataclasses.replace(job, is_admitted=job_id != ACCEPTED)
            assert store.get(job_id) == expected
        assert current(store, JOBS[RUNNING]).token == JOBS[RUNNING].token


def test_a_running_job_of_the_former_release_is_held_by_the_worker_that_claims(
    former: Place,
) -> None:
    with closing(former.open()) as store:
        store.leases.take("worker", LEASE)
        assert store.leases.claim("worker") == 1
        (job,) = store.held("worker")
        assert (job.id, job.fence) == (RUNNING, 1)
        assert store.save(dataclasses.replace(job, exit_code=0)).version == 1


def test_an_accepted_job_of_the_former_release_waits_for_its_place(former: Place) -> None:
    with closing(former.open(running=2)) as store:
        assert store.queue.places() == {ACCEPTED: 0}
        assert {job.id for job in take_all(store)} == {RUNNING, ACCEPTED}


def test_the_jobs_of_the_former_release_are_listed(former: Place) -> None:
    damaged = "UPDATE jobs SET record = '{' WHERE id = :id"
    former.execute(damaged, id=RUNNING)
    with closing(former.open()) as store:
        listed = {job.id: job for job in store.latest(None, 10)}
        # The records are not needed any more.
        for job_id in JOBS:
            former.execute(damaged, id=job_id)
        assert listed == {job.id: job for job in store.latest(None, 10)}
    assert listed == {job_id: listed_job(JOBS[job_id]) for job_id in (ENDED, ACCEPTED)}


def test_a_job_that_a_former_release_adds_while_it_goes_on_is_listed_by_its_record(
    place: Place,
) -> None:
    with closing(place.open()) as store, place.connection() as connection:
        connection.execute(FORMER_JOBS.insert().values(**former_row(place, ENDED)))
        connection.commit()
        assert store.latest(None, 10) == [listed_job(JOBS[ENDED])]


def test_an_ended_job_of_the_former_release_can_be_removed(former: Place) -> None:
    with closing(former.open()) as store:
        assert [job.id for job in store.due()] == [ENDED]
        store.remove(JOBS[ENDED])
        assert store.get(ENDED) is None


@pytest.mark.parametrize("kind", ["empty", "former"])
def test_the_migrated_schema_is_that_of_the_tables(
    request: pytest.FixtureRequest, place: Place, kind: str
) -> None:
    if kind == "former":
        request.getfixturevalue("former")
    place.open().close()
    with place.connection() as connection:
        # SQLite does not count letters: there the owner is as long as it was. And Alembic cannot
        # read its default of an empty text.
        options = {
            "compare_type": not place.is_sqlite,
            "compare_server_default": not place.is_sqlite,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
        assert place.execute("SELECT id, number FROM turn") == [(1, 0)]


def test_an_owner_may_have_a_longer_name_than_before(former: Place) -> None:
    with closing(former.open()) as store:
        job = submit(store, "o" * 1000)
        assert current(store, job).owner == job.owner


def test_a_database_that_is_up_to_date_is_left_alone(place: Place) -> None:
    with closing(place.open()) as store:
        job = submit(store)
        number = place.execute("SELECT number FROM turn")
    with closing(place.open()) as store:
        assert store.get(job.id) == job
        assert place.execute("SELECT number FROM turn") == number
        assert len(versions(place)) == 1


# -- once


def test_processes_that_start_at_once_migrate_once(former: Place) -> None:
    code = (
        "import logging\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
        "with closing(open_store()) as store: print('jobs', len(store.queue.places()))\n"
    )
    said = run_together(code, former, 4)
    assert [text.count("jobs 1\n") for text in said] == [1] * 4
    assert "".join(said).count("database is brought from version None to") == 1
    assert len(versions(former)) == 1
    assert former.execute("SELECT id FROM turn") == [(1,)]


def test_a_migration_that_fails_changes_nothing(
    former: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic.op import create_table  # the last step but two

    def fail(*_: object, **__: object) -> None:
        raise sa.exc.OperationalError("CREATE TABLE", {}, Exception("disk full"))

    monkeypatch.setattr("alembic.op.create_table", fail)
    with pytest.raises(StoreUnavailable):
        former.open()
    with former.connection() as connection:
        assert sa.inspect(connection).get_table_names() == ["jobs"]
        columns = {column["name"] for column in sa.inspect(connection).get_columns("jobs")}
    assert columns == set(FORMER_JOBS.c.keys())
    monkeypatch.setattr("alembic.op.create_table", create_table)
    with closing(former.open()) as store:
        assert store.get(RUNNING) is not None


def test_while_another_migrates_a_store_waits_with_an_end(former: Place) -> None:
    impatient = former.impatient(100)
    with former.connection() as other:
        lock = "BEGIN IMMEDIATE" if former.is_sqlite else "LOCK TABLE jobs"
        other.exec_driver_sql(lock)
        with pytest.raises(StoreUnavailable):
            impatient.open()
    impatient.open().close()


# -- a newer release


@pytest.mark.parametrize("kind", ["empty", "present"])
def test_a_database_of_a_newer_release_is_left_alone_and_told(place: Place, kind: str) -> None:
    if kind == "present":
        with closing(place.open()) as store:
            job = submit(store)
        place.execute("UPDATE alembic_version SET version_num = '9999'")
    else:
        place.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        place.execute("INSERT INTO alembic_version VALUES ('9999')")
    with pytest.raises(StoreUnavailable) as refused:
        place.open()
    assert str(refused.value) == (
        "The jobs' database was written by a newer release of this service. Install that one again, "
        "or newer."
    )
    assert versions(place) == ["9999"]
    if kind == "present":
        assert place.execute("SELECT id FROM jobs") == [(job.id,)]


# -- nothing but a look


def test_a_look_at_an_empty_place_makes_nothing(place: Place) -> None:
    unmade = unmade_files(place.url, place.key)
    assert unmade == [*([database_file(place)] if place.is_sqlite else []), place.key]
    assert not place.key.exists()
    if place.is_sqlite:
        assert not database_file(place).exists()
    else:
        assert place.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


def test_a_look_brings_no_database_up_to_date(former: Place) -> None:
    with former.connection() as connection:
        before = sa.inspect(connection).get_table_names()
    assert unmade_files(former.url, former.key) == []
    with former.connection() as connection:
        assert sa.inspect(connection).get_table_names() == before


def test_a_look_finds_what_is_made_and_what_is_lost(place: Place) -> None:
    place.open().close()
    assert unmade_files(place.url, place.key) == []
    place.key.unlink()
    assert unmade_files(place.url, place.key) == [place.key]
    assert not place.key.exists()


def test_a_look_tells_that_a_key_is_lost_which_is_needed(place: Place) -> None:
    with closing(place.open()) as store:
        submit(store)
    place.key.unlink()
    with pytest.raises(StoreUnavailable, match="key"):
        unmade_files(place.url, place.key)


def test_a_look_tells_a_newer_release(place: Place) -> None:
    place.open().close()
    place.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="written by a newer release"):
        unmade_files(place.url, place.key)


# -- the former release goes on


def former_unfinished(place: Place) -> set[str]:
    columns = sa.select(FORMER_JOBS.c.id, FORMER_JOBS.c.version, FORMER_JOBS.c.cancel_requested)
    unfinished = [state.value for state in JobState if not state.is_final]
    query = columns.where(FORMER_JOBS.c.state.in_(unfinished)).order_by(FORMER_JOBS.c.accepted_at)
    with place.connection() as connection:
        return {row.id for row in connection.execute(query)}


def former_save(place: Place, job_id: str, state: JobState) -> int:
    update = (
        FORMER_JOBS.update()
        .where(FORMER_JOBS.c.id == job_id, FORMER_JOBS.c.version == 0)
        .values(version=1, state=state.value, updated_at=datetime.now(UTC))
    )
    with place.connection() as connection:
        return connection.execute(update).rowcount


def test_the_statements_of_the_former_release_still_work(place: Place) -> None:
    place.open().close()
    with place.connection() as connection:
        FORMER.create_all(connection)
        for job_id in JOBS:
            connection.execute(FORMER_JOBS.insert().values(**former_row(place, job_id)))
    assert former_unfinished(place) == {RUNNING, ACCEPTED}
    assert former_save(place, ENDED, JobState.SUCCEEDED) == 1
    with place.connection() as connection:
        row = connection.execute(FORMER_JOBS.select().where(FORMER_JOBS.c.id == ENDED)).one()
    assert row.version == 1


def test_jobs_that_the_former_release_has_taken_meanwhile_go_on_with_this_one(
    place: Place,
) -> None:
    place.open().close()
    with place.connection() as connection:
        for job_id in JOBS:
            connection.execute(FORMER_JOBS.insert().values(**former_row(place, job_id)))
    assert former_save(place, RUNNING, JobState.STAGING_OUT) == 1
    with closing(place.open()) as store:
        assert {job.id for job in take_all(store)} == {RUNNING, ACCEPTED}


def test_the_former_release_reads_what_this_one_has_added(store: JobStore, place: Place) -> None:
    job = submit(store)
    assert former_unfinished(place) == {job.id}
    with place.connection() as connection:
        row = connection.execute(FORMER_JOBS.select().where(FORMER_JOBS.c.id == job.id)).one()
    assert TokenKey(place.key).unseal(row.sealed_token) == job.token
    names = ("id", "owner", "state", "reached", "folder", "result")
    wanted = json.loads(FORMER_RECORD % dict.fromkeys(names, "0"))
    assert set(wanted) <= set(json.loads(row.record))
