"""Trouble of one job, or of one outside thing, is no other's."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from quick_fixture import PROBE, Quick, soon
from storagehub_fixture import ALICE

from die_algorithm.engine import Engine
from die_algorithm.errors import StorageHubUnavailable, StoreUnavailable, SwarmUnavailable
from die_algorithm.janitor import Findings, Janitor
from die_algorithm.models import EngineFacts, Job, JobState, ResponseForm, TaskReport, UserToken
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings
from die_algorithm.storagehub import StorageHub
from die_algorithm.swarm import Swarm
from die_algorithm.worker import driver, watch, worker


@contextmanager
def running(quick: Quick, publish: Callable[[Job, Settings], None] | None) -> Iterator[Engine]:
    runtime = Runtime(quick.settings, publish)
    try:
        yield runtime.engine
    finally:
        runtime.stop()


def submit(engine: Engine, item: str) -> str:
    inputs = {"Image": [PROBE], "CommandName": ["probe noop"], "FileParam": [item]}
    return engine.submit(inputs, UserToken(ALICE.token), ResponseForm(store=True, status=True)).id


def test_documents_that_cannot_be_made_keep_no_job_from_its_end(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_PUBLISH_AGAIN", 0.1)
    odd: list[str] = []
    is_odd, published = [True], set()

    def publish(job: Job, _: Settings) -> None:
        odd.append(job.id)
        if job.id == odd[0] and is_odd:
            raise ValueError("unforeseen")
        published.add((job.id, job.state))

    with running(quick, publish) as engine:
        first, second = submit(engine, quick.item), submit(engine, quick.item)
        for job_id in (first, second):
            assert engine.wait(job_id, 20).state is JobState.SUCCEEDED
        other = ({first, second} - {odd[0]}).pop()
        soon(lambda: (other, JobState.SUCCEEDED) in published)
        assert odd[0] not in {job_id for job_id, _ in published}
        is_odd.clear()
        soon(lambda: (odd[0], JobState.SUCCEEDED) in published)


@pytest.mark.parametrize(
    ("kind", "call", "error", "looks"),
    [
        (StorageHub, "create_folder", StorageHubUnavailable("away"), 1),
        (Swarm, "create_service", SwarmUnavailable("away"), 2),
    ],
)
def test_an_engine_is_asked_anew_what_it_is_after_its_own_outage_only(
    quick: Quick,
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    call: str,
    error: Exception,
    looks: int,
) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.1)
    facts, asked = Swarm.facts, []
    original = getattr(kind, call)
    errors: list[Exception] = []

    def counted(self: Swarm) -> EngineFacts:
        asked.append(1)
        return facts(self)

    def fails(*arguments: object) -> object:
        if errors:
            raise errors.pop()
        return original(*arguments)

    monkeypatch.setattr(Swarm, "facts", counted)
    monkeypatch.setattr(kind, call, fails)
    with running(quick, None) as engine:
        assert engine.wait(submit(engine, quick.item), 20).state is JobState.SUCCEEDED
        errors.append(error)
        assert engine.wait(submit(engine, quick.item), 20).state is JobState.SUCCEEDED
    assert errors == []
    assert len(asked) == looks


def test_a_swarm_counts_as_away_until_it_has_answered(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while there are no jobs, when it is looked at now and then only."""
    monkeypatch.setattr(watch, "_AWAY", 0.1)
    monkeypatch.setattr(watch, "_IDLE", 0.05)
    caplog.set_level(logging.INFO, watch.LOGGER.name)
    task_reports, sweep = Swarm.task_reports, Janitor.sweep
    swept = threading.Event()
    failed: list[SwarmUnavailable] = []

    def asked(self: Swarm) -> list[TaskReport]:
        try:
            return task_reports(self)
        except SwarmUnavailable as error:
            failed.append(error)
            raise

    def seen(self: Janitor, *arguments: object) -> Findings:
        findings = sweep(self, *arguments)  # type: ignore[arg-type]
        swept.set()
        return findings

    monkeypatch.setattr(Swarm, "task_reports", asked)
    monkeypatch.setattr(Janitor, "sweep", seen)
    with quick.service() as service:
        assert swept.wait(20)
        quick.engine.away()
        soon(lambda: len(failed) >= 3 and service.runtime.worker_reports()[0].trouble)
        quick.engine.back()
        soon(lambda: not service.runtime.worker_reports()[0].trouble)
    away, back = (record.message for record in caplog.records if record.name == watch.LOGGER.name)
    assert away.startswith("The Swarm cannot be watched: ")
    assert back == "The Swarm can be watched again."


@pytest.mark.parametrize("is_slow", [True, False])
def test_what_expires_keeps_no_job_from_its_end(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, *, is_slow: bool
) -> None:
    asked, done = threading.Event(), threading.Event()

    def expire(_: Janitor) -> None:
        asked.set()
        if not is_slow:
            raise StoreUnavailable("locked")
        assert done.wait(30)

    monkeypatch.setattr(Janitor, "expire", expire)
    with running(quick, None) as engine:
        assert asked.wait(20)
        assert engine.wait(submit(engine, quick.item), 10).state is JobState.SUCCEEDED
        done.set()


#: ``die worker`` whose loop ends after its first turn, or hangs in that or the next one.
ODD_WORKER = """
import sys, time
from die_algorithm.cli import main
from die_algorithm.commands import worker as command
from die_algorithm import runtime
from die_algorithm.worker import worker
def ends(_): raise MemoryError
def hangs(_):
    if _.turns > 1: time.sleep(30)
    return 0.0
def begins_hanging(_): time.sleep(30)
runtime._HOPELESS_LOOKS = 2
command._LOOK_AGAIN, command._STEPS_END_BY = 0.1, 0.2
worker.Worker._turn = globals()[sys.argv[1]]
main(["worker"])
"""


@pytest.mark.parametrize("how", ["ends", "hangs", "begins_hanging"])
def test_a_worker_that_works_no_more_ends_so_that_it_is_started_again(
    quick: Quick, how: str
) -> None:
    environment = {**os.environ, **quick.environment()}
    ended = subprocess.run(
        [sys.executable, "-c", ODD_WORKER, how],
        check=False,
        env=environment,
        capture_output=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert b"The worker has stopped working" in ended.stderr
