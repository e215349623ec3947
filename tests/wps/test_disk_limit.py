"""Containers that fill the machine's disk are stopped, and no others."""

from __future__ import annotations

import pytest
from quick_fixture import Quick, client_of, soon, status, submit
from storagehub_fixture import ALICE

from die_algorithm.models import FaultClass, JobState


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("die_algorithm.steps.disk_watch._EVERY", 0.1)


def test_only_the_container_that_has_written_too_much_is_stopped(quick: Quick) -> None:
    with quick.service(disk_limit="50MiB", stop_grace="1s") as service:
        engine = service.runtime.engine
        modest = submit(service, "probe fill 50", quick.item)
        full = submit(service, "probe fill 51", quick.item)
        job = engine.wait(full, 20)
        assert job.state is JobState.FAILED
        assert job.failure is not None
        assert job.failure.fault_class is FaultClass.LIMIT
        assert "more than 50 MiB to the container's own disk" in status(service, full)
        assert engine.job(modest).state is JobState.RUNNING


def test_what_it_wrote_into_the_workspace_is_kept(quick: Quick) -> None:
    with quick.service(disk_limit="50MiB") as service:
        engine = service.runtime.engine
        quick.engine.hold_pending()
        job_id = submit(service, "probe fill 51", quick.item)
        folder = soon(lambda: engine.job(job_id).folder)
        with client_of(quick, ALICE) as alice:
            alice.upload("half.txt", b"half", parent=folder.id)
        quick.engine.release_pending()
        job = engine.wait(job_id, 20)
        assert job.folder_kept
        assert folder.name in status(service, job_id)


def test_an_engine_that_does_not_tell_stops_nobody(
    quick: Quick, caplog: pytest.LogCaptureFixture
) -> None:
    with quick.service(disk_limit="1MiB") as service:
        engine = service.runtime.engine
        job_id = submit(service, "probe sleep 60", quick.item)
        soon(lambda: engine.job(job_id).state is JobState.RUNNING)
        quick.engine.away()
        soon(lambda: "cannot be told" in caplog.text)
        quick.engine.back()
        quick.engine.let_end(job_id)
        assert engine.wait(job_id, 20).state is JobState.SUCCEEDED
