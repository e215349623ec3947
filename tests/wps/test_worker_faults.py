"""What nobody foresees, or only the gloomy: every job ends all the same, once, and shows no token."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet
from service_fixture import Service, connect, elements, running_service
from storagehub_fixture import ALICE, HubClient
from swarm_fixture import PROBE, registry_outage

from die_algorithm.engine import Engine
from die_algorithm.links import Links
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import Job, JobState, ResponseForm, UserToken
from die_algorithm.results import Results, log_name
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings
from die_algorithm.storagehub import StorageHub
from die_algorithm.swarm import Swarm
from die_algorithm.worker import driver, worker


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.2)
    monkeypatch.setattr(worker, "_TURN_AGAIN", 0.2)


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"data_dir": tmp_path / "own", "max_sync": 1})


def submit(engine: Engine, command: str, item: str) -> str:
    inputs = {"Image": [PROBE], "CommandName": [command], "FileParam": [item]}
    return engine.submit(inputs, UserToken(ALICE.token), ResponseForm(store=True, status=True)).id


def wait_for(engine: Engine, job_id: str, state: JobState) -> Job:
    while (job := engine.wait(job_id, 0.05)).state is not state:
        assert not job.state.is_final, job.failure
    return job


def test_a_lost_key_never_publishes_a_log_that_cannot_be_masked(
    own: Settings, item: str, alice: HubClient, swarm: LocalSwarm
) -> None:
    first = Runtime(lambda: own)
    with registry_outage(swarm):  # so that the job stays where it is
        job_id = submit(first.engine, "probe print-token", item)
        wait_for(first.engine, job_id, JobState.STAGED_IN)
        first.stop()
    (own.data_dir / "token.key").write_bytes(Fernet.generate_key())
    second = Runtime(lambda: own)
    try:
        job = second.engine.wait(job_id, 60)
        assert job.state is JobState.FAILED
        assert job.log_tail == ""
        # Without the token the folder cannot be removed, so it is named.
        assert job.folder_kept
        assert job.folder is not None
        alice.request("DELETE", f"/items/{job.folder.id}", params={"force": "true"})
        for path in own.data_dir.rglob("*"):
            assert not path.is_file() or ALICE.token.encode() not in path.read_bytes()
    finally:
        second.stop()


def test_an_unforeseen_error_in_the_clean_up_is_overcome(
    own: Settings, item: str, swarm: LocalSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, calls = Swarm.remove_service, []

    def fails_twice(self: Swarm, name: str) -> None:
        calls.append(name)
        if len(calls) < 3:
            raise TypeError("unforeseen")
        remove(self, name)

    monkeypatch.setattr(Swarm, "remove_service", fails_twice)
    with running_service(own) as service:
        document = service.run(ALICE.token, PROBE, "probe noop", item)
    assert elements(document, "//wps:ProcessSucceeded")
    assert len(calls) == 3
    assert swarm.engine.docker("service", "ls", "--quiet").strip() == ""


def test_a_cancel_while_the_job_is_prepared_keeps_its_program_from_starting(
    own: Settings, item: str, alice: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, entered, go_on = StorageHub.create_folder, threading.Event(), threading.Event()

    def held_up(self: StorageHub, *arguments: object) -> str:
        entered.set()
        assert go_on.wait(30)
        return create(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(StorageHub, "create_folder", held_up)
    runtime = Runtime(lambda: own)
    try:
        job_id = submit(runtime.engine, "probe noop", item)
        assert entered.wait(30)
        runtime.engine.cancel(job_id, UserToken(ALICE.token))
        go_on.set()
        job = runtime.engine.wait(job_id, 60)
        assert job.state is JobState.DISMISSED
        assert JobState.DISPATCHED not in job.reached
    finally:
        runtime.stop()
    assert not [name for name in alice.names(alice.root(), showHidden=True) if "die-" in str(name)]


@pytest.fixture
def slow_download(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Results trickle in for ever, until the event is set."""
    download, full_speed, begun = StorageHub.download, threading.Event(), threading.Event()

    class Trickle:
        def __init__(self, inner: object) -> None:
            self._inner = inner

        def __enter__(self) -> Iterator[bytes]:
            chunks = iter(self._inner.__enter__())  # type: ignore[attr-defined]

            def trickle() -> Iterator[bytes]:
                begun.set()
                while not full_speed.wait(0.05):
                    yield b""
                yield from chunks

            return trickle()

        def __exit__(self, *error: object) -> object:
            return self._inner.__exit__(*error)  # type: ignore[attr-defined]

    def trickling(self: StorageHub, *arguments: Any, **options: Any) -> Trickle:
        return Trickle(download(self, *arguments, **options))

    monkeypatch.setattr(StorageHub, "download", trickling)
    full_speed.begun = begun  # type: ignore[attr-defined]
    yield full_speed
    full_speed.set()


def test_a_stop_breaks_off_a_transfer_and_the_next_start_repeats_it(
    own: Settings, item: str, slow_download: threading.Event
) -> None:
    first = Runtime(lambda: own)
    job_id = submit(first.engine, "probe noop", item)
    assert slow_download.begun.wait(60)  # type: ignore[attr-defined]
    stopping = threading.Thread(target=first.stop)
    stopping.start()
    stopping.join(timeout=20)
    assert not stopping.is_alive()
    slow_download.set()
    second = Runtime(lambda: own)
    try:
        assert second.engine.wait(job_id, 60).state is JobState.SUCCEEDED
    finally:
        second.stop()


def test_a_cancel_breaks_off_a_transfer(
    own: Settings, item: str, slow_download: threading.Event
) -> None:
    runtime = Runtime(lambda: own)
    try:
        job_id = submit(runtime.engine, "probe noop", item)
        assert slow_download.begun.wait(60)  # type: ignore[attr-defined]
        runtime.engine.cancel(job_id, UserToken(ALICE.token))
        assert runtime.engine.wait(job_id, 60).state is JobState.DISMISSED
    finally:
        runtime.stop()


def test_a_place_that_cannot_be_taken_is_tried_again(own: Settings, item: str) -> None:
    obstacle = own.data_dir / "worker.lock"
    obstacle.mkdir(parents=True)
    runtime = Runtime(lambda: own)
    try:
        job_id = submit(runtime.engine, "probe noop", item)
        assert runtime.engine.wait(job_id, 0.5).state is JobState.ACCEPTED
        obstacle.rmdir()
        assert runtime.engine.wait(job_id, 60).state is JobState.SUCCEEDED
    finally:
        runtime.stop()


def test_what_could_not_be_published_is_published_later(own: Settings, item: str) -> None:
    published: list[JobState] = []
    full = threading.Event()
    full.set()

    def publish(job: Job, _settings: Settings) -> None:
        if full.is_set():
            raise OSError(28, "No space left on device")
        published.append(job.state)

    runtime = Runtime(lambda: own, publish)
    try:
        job_id = submit(runtime.engine, "probe noop", item)
        assert runtime.engine.wait(job_id, 60).state is JobState.SUCCEEDED
        assert published == []
        full.clear()
        deadline = time.monotonic() + 30
        while published != [JobState.SUCCEEDED]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        runtime.stop()


def test_a_client_that_leaves_gives_its_place_to_the_next(own: Settings, item: str) -> None:
    with running_service(own) as service:
        url = service.execute_url(
            ALICE.token, Image=PROBE, CommandName="probe sleep 30", FileParam=item
        )
        with connect(service) as connection:
            path = url.removeprefix(service.settings.url)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert_busy(service, item)
        deadline = time.monotonic() + 20
        while (answer := quick_job(service, item)).status_code == 503:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert answer.status_code == 200


def quick_job(service: Service, item: str) -> requests.Response:
    return service.get(
        service.execute_url(ALICE.token, Image=PROBE, CommandName="probe noop", FileParam=item)
    )


def assert_busy(service: Service, item: str) -> None:
    """The one place is taken, as soon as the job of whoever has it is there."""
    deadline = time.monotonic() + 20
    while not service.runtime.engine.latest_jobs(UserToken(ALICE.token), 1)[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    answer = quick_job(service, item)
    assert answer.status_code == 503
    assert 'exceptionCode="ServerBusy"' in answer.text
    assert int(answer.headers["Retry-After"]) > 0


def test_a_range_beyond_the_end_is_told_as_such(service: Service, item: str) -> None:
    job_id = service.submit(ALICE.token, PROBE, "probe args", item)
    job = service.runtime.engine.wait(job_id, 60)
    links = Links(service="", status_prefix="", status_suffix="", results="/results")
    size = Results(service.settings.results_path).zip_path(job).stat().st_size
    answer = service.get(links.zip(job), headers={"Range": f"bytes={size}-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{size}"
    assert service.get(links.log(job)).text.startswith("args")
    assert links.log(job).endswith(log_name(job))
