"""The token as a file, for images that ask for it: made before the service, and gone after it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_fixture import PROBE, Quick, quick_world, soon, status, submit
from service_fixture import Service
from service_process import Answer, Submit, end_after_death
from storagehub_fixture import ALICE

from die_algorithm import images, janitor
from die_algorithm.fail_points import Point, SecretPoint
from die_algorithm.models import ImageFacts, Job, JobState
from die_algorithm.runtime import Runtime
from die_algorithm.service_spec import JOB_LABEL
from die_algorithm.swarm import Swarm

#: What a registry tells about an image that asks for the file; the stand-in engine has no labels.
WithFile = functools.partial(ImageFacts, wants_token_file=True)


class SubmitWithFile(Submit):
    """Submit a job whose image asks for the token as a file."""

    def run(self, runtime: Runtime) -> Answer:
        vars(images)["ImageFacts"] = WithFile
        return super().run(runtime)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quick]:
    with quick_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return {"data_dir": str(tmp_path / "data"), "instance": "here"}


@pytest.fixture
def wants_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ImageFacts", WithFile)


def ends(service: Service, job_id: str) -> Job:
    return soon(lambda: j if (j := service.runtime.engine.job(job_id)).state.is_final else None)


@pytest.mark.usefixtures("wants_file")
def test_the_secret_lives_as_long_as_the_service(world: Quick, data: dict[str, str]) -> None:
    with world.service(**data) as service:
        job_id = submit(service, "probe sleep 60", world.item)
        soon(lambda: "is running" in status(service, job_id))
        assert world.engine.secrets() == [f"die-{job_id}"]
        world.engine.let_end(job_id)
        assert ends(service, job_id).state is JobState.SUCCEEDED
        world.assert_nothing_left()


def test_a_job_without_it_makes_no_call_about_secrets(
    world: Quick, data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.service(**data) as service:
        soon(lambda: not service.runtime.worker_reports()[0].trouble)
        ends(service, submit(service, "probe noop", world.item))  # the janitor has looked by now

        def call(*_: object) -> None:
            pytest.fail("it was called")

        for name in ("create_secret", "remove_secret", "job_secrets"):
            monkeypatch.setattr(Swarm, name, call)
        assert ends(service, submit(service, "probe noop", world.item)).failure is None


@pytest.mark.parametrize("point", [*SecretPoint, Point.SERVICE_CREATED, Point.SERVICE_REMOVED])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_service_killed_around_the_secret_goes_on_and_leaves_none(
    world: Quick, tmp_path: Path, data: dict[str, str], point: Point | SecretPoint, side: str
) -> None:
    settings = world.settings(**data)
    key = {"Idempotency-Key": "the-same"}
    call = SubmitWithFile(
        token=ALICE.token, image=PROBE, command="probe noop", item=world.item, headers=key
    )
    job = end_after_death(settings, tmp_path / "log", call, f"{point.value}:{side}")
    assert job.state is JobState.SUCCEEDED, job.failure
    assert [start.job_id for start in world.engine.starts].count(job.id) == 1
    world.assert_nothing_left()


@pytest.mark.usefixtures("wants_file")
def test_the_secret_of_a_job_whose_record_was_lost_goes_with_its_service(
    world: Quick, data: dict[str, str], tmp_path: Path
) -> None:
    with world.service(**data) as service:
        job_id = submit(service, "probe sleep 60", world.item)
        soon(lambda: "is running" in status(service, job_id))
    (tmp_path / "data").rename(tmp_path / "lost")
    with world.service(**data) as service:
        soon(lambda: "is running" in status(service, job_id))
        assert service.runtime.engine.job(job_id).token_file
        world.engine.let_end(job_id)
        assert ends(service, job_id).state is JobState.SUCCEEDED
    world.assert_nothing_left()


def test_the_janitor_removes_secrets_of_ours_that_nobody_needs(
    world: Quick, data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "_SWEEP_EVERY", 0.1)
    monkeypatch.setattr(janitor, "_SECRETS_EVERY", 0.1)
    engine = Swarm(world.engine.docker_host)
    with world.service(**data) as service:
        ended = ends(service, submit(service, "probe noop", world.item))
        for name, job_id, instance in (
            ("ended", ended.id, "here"), ("lost", "no-such-job", "here"), ("theirs", "x", "there"),
        ):  # fmt: skip
            labels = {JOB_LABEL: job_id, "die.service": instance}
            engine.create_secret({"Name": name, "Labels": labels, "Data": "eA=="})
        soon(lambda: world.engine.secrets() == ["theirs"])
        monkeypatch.setattr(images, "ImageFacts", WithFile)
        running = submit(service, "probe sleep 1", world.item)
        assert ends(service, running).state is JobState.SUCCEEDED
        assert world.engine.secrets() == ["theirs"]
    engine.remove_secret("theirs")
    engine.close()
