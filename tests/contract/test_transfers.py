"""What breaks a transfer off, and what does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from jobs_fixture import make_job

from die_algorithm.errors import StepInterrupted, StoreUnavailable
from die_algorithm.fail_points import FailPoints
from die_algorithm.models import Job
from die_algorithm.runtime import job_store
from die_algorithm.settings import Settings
from die_algorithm.steps import transfers
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.transfers import Transfers
from die_algorithm.stopwatches import Stopwatches


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_LOOK", -1.0)


@pytest.fixture
def job() -> Job:
    return make_job()


@pytest.fixture
def ledger(tmp_path: Path, job: Job) -> Iterator[Ledger]:
    """The records, in which there is the job."""
    settings = Settings(data_dir=tmp_path)
    with closing(job_store(settings)) as store:
        store.add_found(job)
        yield Ledger(settings, store, FailPoints(), Stopwatches())


def test_a_job_of_another_worker_is_transferred_no_further(ledger: Ledger, job: Job) -> None:
    check = Transfers(ledger).interruption(job)
    check()
    former = dataclasses.replace(job, fence=job.fence - 1)
    with pytest.raises(StepInterrupted, match="another worker"):
        Transfers(ledger).interruption(former)()
    with pytest.raises(StepInterrupted, match="another worker"):
        Transfers(ledger).interruption(make_job())()


def test_a_database_that_is_away_breaks_no_transfer_off(
    ledger: Ledger, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = Transfers(ledger).interruptible(job, [b"a", b"b"])
    assert next(pieces) == b"a"

    def away(*_: object) -> None:
        raise StoreUnavailable("The jobs' database cannot be used.")

    monkeypatch.setattr(Ledger, "fresh", away)
    assert next(pieces) == b"b"
