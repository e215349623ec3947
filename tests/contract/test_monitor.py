"""What is recorded and logged of a task's end."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jobs_fixture import TOKEN, make_job

from die_algorithm.container_rules import ContainerRules
from die_algorithm.fail_points import FailPoints
from die_algorithm.job_store import JobStore
from die_algorithm.models import Job, JobState, TaskPhase, TaskReport
from die_algorithm.results import Results
from die_algorithm.settings import Settings
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.monitor import Monitor
from die_algorithm.stopwatches import Stopwatches

CREATED = "starting container failed: OCI runtime create failed: /sys/fs/cgroup/x: no space left"


class Swarm:
    """Containers that printed nothing, on machines of which nobody knows anything."""

    def log_tail(self, service_id: str, *, limit: int, timeout: float) -> bytes:
        assert service_id
        assert limit > timeout
        return b""

    def cut_off(self, report: TaskReport) -> None:
        assert report.container_id

    def oom_killed(self, container_id: str) -> None:
        assert container_id


@pytest.fixture
def ended(sqlite_store: JobStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> EndOfTask:
    caplog.set_level(logging.INFO)
    settings = Settings(data_dir=tmp_path)
    ledger = Ledger(settings, sqlite_store, FailPoints(), Stopwatches())
    swarm: object = Swarm()
    monitor = Monitor(
        settings,
        ContainerRules(),
        ledger,
        swarm,  # type: ignore[arg-type]
        Results(settings.results_path),
    )
    return EndOfTask(monitor, sqlite_store, caplog)


class EndOfTask:
    """Tells the monitor of a job whose task has ended."""

    def __init__(self, monitor: Monitor, store: JobStore, caplog: pytest.LogCaptureFixture) -> None:
        self._monitor = monitor
        self._store = store
        self._caplog = caplog

    def __call__(
        self, phase: TaskPhase, message: str, exit_code: int | None = None
    ) -> tuple[Job, str]:
        """The job then, and the one line about the task."""
        job = make_job(state=JobState.DISPATCHED)
        self._store.add(job)
        report = TaskReport(
            job_id=job.id,
            service_id="s",
            phase=phase,
            state=phase.value,
            desired_state="shutdown",
            message=message,
            exit_code=exit_code,
            container_id="c",
            node_id="n",
            created_at=datetime.now(UTC),
            told_at=datetime.now(UTC),
        )
        after = self._monitor.run(job, report)
        (line,) = (text for text in self._caplog.messages if "task ended as" in text)
        return after, line


@pytest.mark.parametrize("phase", [TaskPhase.REJECTED, TaskPhase.FAILED])
def test_the_engines_reason_is_logged_and_not_told_to_the_client(
    ended: EndOfTask, phase: TaskPhase
) -> None:
    job, line = ended(phase, f"preparing: {CREATED}")
    assert line.endswith(f"The engine says: preparing: {CREATED}")
    assert job.failure is not None
    assert "cgroup" not in repr(job)


def test_the_engines_reason_is_one_short_line_without_the_token(ended: EndOfTask) -> None:
    message = f"\x1b[31mfirst\r\nsecond\x00 {TOKEN} " + "x" * 420 + f" {TOKEN} " + "y" * 10**6
    _, line = ended(TaskPhase.REJECTED, message)
    assert "The engine says: first second\ufffd *** xxx" in line
    assert line.endswith("…")
    assert TOKEN[:6] not in line
    assert len(line) < 700


@pytest.mark.parametrize("phase", [TaskPhase.COMPLETE, TaskPhase.LOST])
def test_of_other_ends_nothing_is_added(ended: EndOfTask, phase: TaskPhase) -> None:
    _, line = ended(phase, "finished", 0 if phase is TaskPhase.COMPLETE else None)
    assert "The engine says" not in line
