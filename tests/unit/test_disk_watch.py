"""When and for whom the disks of containers are looked at."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from jobs_fixture import make_job

from die_algorithm.container_rules import ContainerRules
from die_algorithm.errors import SwarmUnavailable
from die_algorithm.models import Job, TaskPhase, TaskReport
from die_algorithm.settings import Settings
from die_algorithm.steps import DiskWatch


class Swarm:
    """Containers that have written so much; ``None`` for those that the engine does not tell of."""

    def __init__(self, written: Mapping[str, int | None], *, at_once: bool = True) -> None:
        self._written = written
        self._at_once = at_once
        self.asked: list[str] = []
        self.takes = 0.0

    def written(self) -> Mapping[str, int | None]:
        self.asked.append("all")
        time.sleep(self.takes)
        if not self._at_once:
            raise SwarmUnavailable("too slow")
        return self._written

    def written_by(self, container_id: str) -> int:
        self.asked.append(container_id)
        size = self._written[container_id]
        if size is None:
            raise SwarmUnavailable("too slow")
        return size


def watch_of(swarm: Swarm, limit: str = "1KiB") -> DiskWatch:
    return DiskWatch(Settings(disk_limit=limit), ContainerRules(), swarm)  # type: ignore[arg-type]


def running(*containers: str) -> tuple[dict[str, TaskReport], dict[str, Job]]:
    jobs = [make_job() for _ in containers]
    reports = {
        job.id: TaskReport(
            job_id=job.id,
            service_id="s",
            phase=TaskPhase.RUNNING,
            state="running",
            desired_state="running",
            message="",
            exit_code=None,
            container_id=container,
            node_id="n",
            created_at=datetime.now(UTC),
            told_at=datetime.now(UTC),
        )
        for job, container in zip(jobs, containers, strict=True)
    }
    return reports, {job.id: job for job in jobs}


def test_only_those_above_the_limit_are_found() -> None:
    reports, jobs = running("a", "b", "elsewhere")
    swarm = Swarm({"a": 1024, "b": 1025, "another": 10**9})
    assert watch_of(swarm).look(reports, jobs) == [list(jobs.values())[1]]
    assert swarm.asked == ["all"]


def test_without_a_limit_and_without_containers_nobody_is_asked() -> None:
    swarm = Swarm({"a": 10**12})
    assert watch_of(swarm, "0").look(*running("a")) == []
    assert watch_of(swarm).look(*running()) == []
    assert swarm.asked == []


def test_one_that_cannot_be_told_hides_no_other() -> None:
    reports, jobs = running("a", "b", "c")
    swarm = Swarm({"a": None, "b": 2000, "c": 0}, at_once=False)
    assert watch_of(swarm).look(reports, jobs) == [list(jobs.values())[1]]


def test_an_engine_that_tells_of_none_is_left_alone() -> None:
    reports, jobs = running(*(f"c{number}" for number in range(20)))
    swarm = Swarm({f"c{number}": None for number in range(20)}, at_once=False)
    assert watch_of(swarm).look(reports, jobs) == []
    assert len(swarm.asked) == 4


def test_the_next_look_is_far_if_the_engine_needs_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("die_algorithm.steps.disk_watch._EVERY", 0.01)
    swarm = Swarm({"a": 0})
    swarm.takes = 0.05
    watch = watch_of(swarm)
    assert watch.is_due
    watch.look(*running("a"))
    time.sleep(0.1)  # ten times the least distance, and a fifth of what this look has cost
    assert not watch.is_due
