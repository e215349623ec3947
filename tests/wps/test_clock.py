"""A clock that is set while jobs are under way ends none of them; deadlines do, by the clock that runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from job_life.tickets import IMAGE
from job_life.world import Limits, World, wait_until
from service_process import Answer, Submit
from storagehub_fixture import ALICE

from die_algorithm.models import FaultClass, Job, JobState

_HOUR = timedelta(hours=1)
#: Seconds in which the service's clock is set, and the worker then looks at everything several times
#: and renews its lease. (libfaketime reads its file once a second.)
_A_WHILE = 2.5
jumps = pytest.mark.parametrize("jump", ["+5h", "-5h"])


class Clock:
    """The time of day of one process, which a test sets; its monotonic clock is left alone.

    Args:
        library: libfaketime.
        file: tells it what to add to the time.
    """

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.jump("+0")

    def jump(self, offset: str) -> None:
        """Set it, by the time that there really is."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset, encoding="ascii")
        fresh.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        pytest.skip("libfaketime is not installed; 'scripts/bootstrap tests' installs it for root")
    return Clock(libraries[0], tmp_path / "clock")


@pytest.fixture
def world(clock: Clock) -> Iterator[World]:
    """A service with a clock of its own; every deadline and patience is shorter than the jumps."""
    with World(
        Limits(),
        clock.environment,
        start_deadline=_HOUR,
        run_deadline=_HOUR,
        total_deadline=_HOUR,
        outage_patience=_HOUR,
    ) as world:
        world.start_service()
        yield world


@pytest.fixture
def plain_world() -> Iterator[World]:
    """One place, and a clock that nobody sets."""
    with World(Limits(max_running=1)) as world:
        world.start_service()
        yield world


def submit(world: World, command: str, **deadlines: str) -> str:
    headers = {f"{name.title()}-Deadline": value for name, value in deadlines.items()}
    call = Submit(
        token=ALICE.token, image=IMAGE, command=command, item=world.items[ALICE], headers=headers
    )
    assert world.service is not None
    answer = world.service.call(call)
    assert isinstance(answer, Answer), answer
    return answer.job.id


def look(world: World, job_id: str) -> Job:
    assert world.service is not None
    return world.service.look(job_id)


def reach(world: World, job_id: str, state: JobState) -> Job:
    wait_until(lambda: look(world, job_id).state in {state, JobState.FAILED})
    job = look(world, job_id)
    assert job.state is state, job.failure
    return job


def ended(world: World, job_id: str) -> Job:
    assert wait_until(lambda: look(world, job_id).state.is_final)
    return look(world, job_id)


def hours_off(job: Job) -> float:
    """By how many hours the service's clock was wrong when a job got where it is."""
    return (job.updated_at.timestamp() - time.time()) / 3600


@jumps
def test_a_clock_that_is_set_ends_no_running_job(world: World, clock: Clock, jump: str) -> None:
    long, brief = submit(world, "probe forever"), submit(world, "probe sleep 60")
    for job_id in (long, brief):
        reach(world, job_id, JobState.RUNNING)
    clock.jump(jump)
    time.sleep(_A_WHILE)
    world.engine.let_end(brief)
    assert reach(world, brief, JobState.SUCCEEDED)
    assert look(world, long).state is JobState.RUNNING
    # The jump was one, and who comes after it is served.
    later = reach(world, submit(world, "probe noop"), JobState.SUCCEEDED)
    assert round(hours_off(later)) == int(jump.removesuffix("h"))


@jumps
def test_a_clock_that_is_set_ends_no_job_that_waits_for_the_engine(
    world: World, clock: Clock, jump: str
) -> None:
    job_id = submit(world, "probe sleep 60")
    reach(world, job_id, JobState.RUNNING)
    world.engine.away()
    assert wait_until(lambda: look(world, job_id).waiting is not None)
    clock.jump(jump)
    time.sleep(_A_WHILE)
    assert look(world, job_id).waiting is not None
    world.engine.back()
    world.engine.let_end(job_id)
    assert reach(world, job_id, JobState.SUCCEEDED)


@jumps
def test_a_clock_that_is_set_ends_no_job_that_waits_for_storagehub(
    world: World, clock: Clock, jump: str
) -> None:
    job_id = submit(world, "probe sleep 60")
    reach(world, job_id, JobState.RUNNING)
    world.storagehub.stop()
    world.engine.let_end(job_id)
    assert wait_until(lambda: look(world, job_id).waiting is not None)
    clock.jump(jump)
    time.sleep(_A_WHILE)
    assert look(world, job_id).state is JobState.STAGING_OUT
    world.storagehub.start()
    assert reach(world, job_id, JobState.SUCCEEDED)


@jumps
def test_a_clock_that_is_set_ends_no_job_in_the_queue(clock: Clock, jump: str) -> None:
    with World(Limits(max_running=1), clock.environment, total_deadline=_HOUR) as world:
        world.start_service()
        first = submit(world, "probe sleep 60")
        reach(world, first, JobState.RUNNING)
        second = submit(world, "probe noop")
        time.sleep(0.3)
        clock.jump(jump)
        time.sleep(_A_WHILE)
        world.engine.let_end(first)
        assert reach(world, first, JobState.SUCCEEDED)
        job = reach(world, second, JobState.SUCCEEDED)
        assert round(hours_off(job)) == int(jump.removesuffix("h"))


# -- deadlines


def test_a_container_that_does_not_start_in_time_is_given_up(plain_world: World) -> None:
    world = plain_world
    world.engine.hold_pending()
    job = ended(world, submit(world, "probe noop", start="1s"))
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.SYSTEM
    assert job.failure.text == (
        "The container was not started within 1 second because no machine of the Swarm fits or has "
        "room. Submit the job again later, or tell the operator."
    )
    assert world.engine.starts == []
    assert world.engine.services() == []


@pytest.mark.parametrize(("command", "code"), [("probe forever", 143), ("probe ignore-term", 137)])
def test_a_program_that_runs_too_long_is_asked_to_end_and_killed_only_then(
    plain_world: World, command: str, code: int
) -> None:
    world = plain_world
    job = ended(world, submit(world, command, run="1s"))
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.LIMIT
    assert job.failure.text == (
        "The program was stopped because it ran longer than the time limit of 1 second. Give it less "
        "to do, or ask the operator for more time."
    )
    # 143: it heeded SIGTERM; 137: it did not, and got SIGKILL after the grace.
    (end,) = world.engine.ends
    assert (end.exit_code, end.cause) == (code, "stopped")
    assert world.engine.alive() == []
    assert job.log_tail.strip() == "started"
    ran = job.reached[JobState.STAGING_OUT] - job.reached[JobState.RUNNING]
    assert timedelta(seconds=1) <= ran < timedelta(seconds=10)


def test_a_job_that_waits_too_long_for_a_place_is_given_up_and_never_started(
    plain_world: World,
) -> None:
    world = plain_world
    first = submit(world, "probe sleep 60")
    reach(world, first, JobState.RUNNING)
    job = ended(world, submit(world, "probe noop", total="1s"))
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.LIMIT
    assert job.failure.text == (
        "The job was given up because it had not come to its end 1 second after it was accepted, "
        "waiting included. Submit it again, or ask the operator for more time."
    )
    assert {start.job_id for start in world.engine.starts} == {first}
    world.engine.let_end(first)
    assert reach(world, first, JobState.SUCCEEDED)


def test_a_program_is_asked_to_end_at_the_total_deadline(plain_world: World) -> None:
    world = plain_world
    job = ended(world, submit(world, "probe forever", total="2s"))
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.LIMIT
    assert "2 seconds after it was accepted" in job.failure.text
    (end,) = world.engine.ends
    assert (end.exit_code, end.cause) == (143, "stopped")


def test_a_deadline_counts_on_over_a_restart_of_the_service(plain_world: World) -> None:
    world = plain_world
    job_id = submit(world, "probe forever", run="4s")
    running = reach(world, job_id, JobState.RUNNING).reached[JobState.RUNNING]
    world.kill_service()
    wait_until(lambda: datetime.now(UTC) - running > timedelta(seconds=4))
    restarted = datetime.now(UTC)
    world.start_service()
    job = ended(world, job_id)
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.LIMIT
    assert job.reached[JobState.STAGING_OUT] - restarted < timedelta(seconds=4)
