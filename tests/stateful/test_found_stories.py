"""Stories that once ended wrongly, told in short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from job_life.tickets import IMAGE
from job_life.world import Limits, World, wait_until
from service_process import Answer, Submit
from storagehub_fixture import ALICE

from die_algorithm.models import FaultClass, Job, JobState


@pytest.fixture
def world() -> Iterator[World]:
    with World(Limits()) as world:
        world.start_service()
        yield world


def submit(world: World, command: str) -> str:
    assert world.service is not None
    call = Submit(token=ALICE.token, image=IMAGE, command=command, item=world.items[ALICE])
    answer = world.service.call(call)
    assert isinstance(answer, Answer), answer
    return answer.job.id


def ended(world: World, job_id: str) -> Job:
    service = world.service
    assert service is not None
    assert wait_until(lambda: service.look(job_id).state.is_final)
    return service.look(job_id)


def test_a_crash_of_the_engine_is_not_the_programs_fault_even_if_the_engine_goes_away_again(
    world: World,
) -> None:
    job_id = submit(world, "probe forever")
    assert wait_until(lambda: bool(world.engine.alive()))
    world.engine.lose_next_answer("GET", "/containers/")
    world.engine.lose_next_answer("GET", "/containers/")
    world.engine.restart()
    job = ended(world, job_id)
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.SYSTEM
    assert "restarted" in job.failure.text


@pytest.mark.parametrize("code", [0, 3])
def test_a_program_that_an_engine_stops_when_it_is_back_has_neither_succeeded_nor_failed(
    world: World, code: int
) -> None:
    job_id = submit(world, f"probe give-up {code}")
    assert wait_until(lambda: bool(world.engine.alive()))
    world.engine.restart()
    job = ended(world, job_id)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.SYSTEM


def test_a_missing_command_is_the_images_fault_even_if_the_log_is_lost_once(world: World) -> None:
    world.engine.hold_pending()
    job_id = submit(world, "no-such-command")
    assert wait_until(lambda: any(service.is_started for service in world.engine.services()))
    world.engine.lose_next_answer("GET", "/services/")
    world.engine.release_pending()
    job = ended(world, job_id)
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.IMAGE


def test_what_a_killed_worker_has_written_by_half_goes_with_the_end_of_its_job(
    world: World,
) -> None:
    job_id = submit(world, "probe forever")
    assert wait_until(lambda: bool(world.engine.alive()))
    assert world.service is not None
    folder = world.settings.results_path / world.service.look(job_id).result_key
    world.kill_service()
    folder.mkdir(parents=True)
    (folder / f".die-{job_id}.log.0a1b2c3d").write_text("half")
    world.engine.restart()
    world.start_service()
    assert ended(world, job_id).state is JobState.FAILED
    assert [path.name for path in world.published()] == [f"die-{job_id}.log"]
