"""What steps may write of a job; what others repeat of a token does not get into its record."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest
from jobs_fixture import TOKEN, make_job

from die_algorithm.errors import StaleJob
from die_algorithm.fail_points import FailPoints
from die_algorithm.job_store import JobStore
from die_algorithm.models import (
    Failure,
    FaultClass,
    Folder,
    Job,
    JobState,
    ResultFile,
    SingleFile,
)
from die_algorithm.settings import Settings
from die_algorithm.steps.ledger import JobChanges, Ledger
from die_algorithm.stopwatches import Stopwatches


@pytest.fixture
def ledger(store: JobStore, tmp_path: Path) -> Ledger:
    return Ledger(Settings(data_dir=tmp_path), store, FailPoints(), Stopwatches())


def test_what_can_be_written_is_what_a_job_has_and_of_its_type() -> None:
    assert get_type_hints(JobChanges).items() <= get_type_hints(Job).items()


@pytest.mark.parametrize("outcome", ["failure", "result"])
def test_a_job_gets_no_outcome_after_it_was_cancelled(
    ledger: Ledger, store: JobStore, outcome: str
) -> None:
    changes: dict[str, JobChanges] = {
        "failure": {"failure": Failure(fault_class=FaultClass.USER, text="")},
        "result": {"result": ResultFile(name="die-1.zip", size=1, sha256="", files=1)},
    }
    job = make_job(state=JobState.STAGING_OUT)
    store.add(job)
    store.request_cancel(job.id)
    with pytest.raises(StaleJob):
        ledger.write(job, **changes[outcome])
    late = make_job(state=JobState.STAGING_OUT)
    store.add(late)
    late = ledger.write(late, **changes[outcome])
    store.request_cancel(late.id)
    ledger.write(late, saved_as="DataMiner")
    assert getattr(store.get(late.id), outcome) is not None


def test_what_engine_and_storagehub_repeat_is_masked(ledger: Ledger, store: JobStore) -> None:
    job = make_job(state=JobState.ACCEPTED)
    store.add(job)
    folder = Folder(id="f", name="die-1", path=f"/Home/{TOKEN}/die-1")
    picture = SingleFile(path=f"a/{TOKEN}.png", size=1, media_type="image/png")
    written = ledger.write(
        job,
        folder=folder,
        failure=Failure(fault_class=FaultClass.IMAGE, text=f"There is no command '{TOKEN}'."),
        result=ResultFile(
            name="die-1.zip", size=1, sha256="", files=1, notes=(f"{TOKEN} is now x.", "y"),
            single_files=(picture,),
        ),
    )  # fmt: skip
    kept = store.get(job.id)
    assert kept == written
    assert kept is not None
    assert kept.token == job.token
    assert TOKEN not in repr(kept)
    assert kept.failure is not None
    assert kept.failure.text == "There is no command '***'."
    assert kept.result is not None
    assert kept.result.notes == ("*** is now x.", "y")
    assert kept.result.single_files == ()
    assert kept.folder == Folder(id="f", name="die-1", path="/Home/***/die-1")
