"""Whose job it is: the token at every door, and what others are told (reference: dataminer-wps, 3)."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import requests
from lxml import etree
from ogc import texts
from quick_fixture import PROBE, Quick, cancel, quick_world, soon, submit
from raw_server import RawServer, json_answer
from relay import Relay
from service_fixture import Service, elements, status_path, text_of
from storagehub_fixture import ALICE, BOB, HubUser

from die_algorithm import callers, janitor, owners
from die_algorithm.models import JobState, UserToken
from die_algorithm.storagehub import StorageHub
from die_algorithm.web import CANCEL_PATH, STATUS_PATH

UNKNOWN = "00000000-0000-4000-8000-000000000000"
WRONG = "00000000-0000-4000-8000-000000000000-98187548"
BROKEN = ("tiny", "--privileged-0000")


@dataclasses.dataclass(frozen=True)
class Jobs:
    """A service and two jobs of alice's: one runs, one has ended."""

    world: Quick
    service: Service
    running: str
    ended: str
    addresses: tuple[str, ...]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    with quick_world(tmp_path_factory.mktemp("world")) as world, world.service() as service:
        running = submit(service, "probe forever", world.item)
        ended = submit(service, "probe write a.txt a", world.item)
        assert service.runtime.engine.wait(ended, 20).state is JobState.SUCCEEDED
        soon(lambda: service.runtime.engine.job(running).state is JobState.RUNNING)
        document = etree.fromstring(service.get(status_path(ended)).content)
        log, zip_address = texts(document, "//ogr:Result/d4science:Data")
        collection = zip_address.removesuffix(".zip") + ".xml"
        yield Jobs(world, service, running, ended, (log, zip_address, collection))


@pytest.fixture(autouse=True)
def _ask_again(jobs: Jobs) -> None:
    forget(jobs.service)


def forget(service: Service) -> None:
    """Let nothing be known of late."""
    service.runtime.engine._callers._owners._answers.clear()


def execute_url(service: Service, item: str, token: str | None = ALICE.token) -> str:
    """The address of an Execute that waits."""
    return service.execute_url(token, Image=PROBE, CommandName="probe noop", FileParam=item)


def carry(place: str, token: str, name: str = "") -> dict[str, dict[str, str]]:
    """The options of a request that has the token in one of its places."""
    basic = base64.b64encode(f"{name}:{token}".encode()).decode()
    return {
        "query": {"params": {"gcube-token": token}},
        "header": {"headers": {"gcube-token": token}},
        "basic": {"headers": {"Authorization": f"Basic {basic}"}},
        "bearer": {"headers": {"Authorization": f"Bearer {token}"}},
    }[place]


each_place = pytest.mark.parametrize("place", ["query", "header", "basic", "bearer"])
each_door = pytest.mark.parametrize("door", [STATUS_PATH, CANCEL_PATH])


def told(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
    """All that a client can tell answers apart by."""
    headers = {name: value for name, value in answer.headers.items() if name != "Date"}
    return answer.status_code, headers, answer.content


# -- status and cancel


@each_place
def test_the_owner_is_let_in_with_the_token_in_any_place(jobs: Jobs, place: str) -> None:
    options = carry(place, ALICE.token, ALICE.name)
    for job_id, word in ((jobs.running, "ProcessStarted"), (jobs.ended, "ProcessSucceeded")):
        answer = jobs.service.get(f"{STATUS_PATH}?id={job_id}", **options)
        assert (answer.status_code, word in answer.text) == (200, True), answer.text
        assert ALICE.token not in answer.text
    answer = jobs.service.get(f"{CANCEL_PATH}?id={jobs.ended}", **options)
    assert "ProcessSucceeded" in answer.text
    for address in jobs.addresses:
        assert jobs.service.get(address, **options).status_code == 200


@each_door
def test_without_token_nobody_is_told_anything(jobs: Jobs, door: str) -> None:
    answers = [
        jobs.service.get(f"{door}?id={job_id}") for job_id in (jobs.running, jobs.ended, UNKNOWN)
    ]
    assert answers[0].status_code == 401
    assert answers[0].headers["WWW-Authenticate"].startswith("Bearer ")
    assert "carries no user token" in answers[0].text
    assert told(answers[0]) == told(answers[1]) == told(answers[2])
    head = requests.head(f"{jobs.service.settings.url}{STATUS_PATH}?id={jobs.ended}", timeout=30)
    assert head.status_code == 401


@each_place
@each_door
def test_a_token_that_storagehub_does_not_accept_is_refused_as_at_the_execute(
    jobs: Jobs, door: str, place: str
) -> None:
    options = carry(place, WRONG)
    execute = jobs.service.get(execute_url(jobs.service, jobs.world.item, None), **options)
    assert execute.status_code == 401
    for job_id in (jobs.running, jobs.ended, UNKNOWN):
        assert told(jobs.service.get(f"{door}?id={job_id}", **options)) == told(execute)


@each_place
@each_door
def test_anothers_job_is_one_that_does_not_exist(jobs: Jobs, door: str, place: str) -> None:
    options = carry(place, BOB.token, BOB.name)
    unknown = jobs.service.get(f"{door}?id={UNKNOWN}", **options)
    assert unknown.status_code == 404
    for job_id in (jobs.running, jobs.ended):
        assert told(jobs.service.get(f"{door}?id={job_id}", **options)) == told(unknown)
    assert jobs.service.runtime.engine.job(jobs.running).state is JobState.RUNNING


@each_door
def test_a_token_under_another_users_name_is_refused(jobs: Jobs, door: str) -> None:
    for name, token in ((BOB.name, ALICE.token), (ALICE.name, BOB.token)):
        options = carry("basic", token, name)
        for job_id in (jobs.running, jobs.ended, UNKNOWN):
            answer = jobs.service.get(f"{door}?id={job_id}", **options)
            assert answer.status_code == 401
            assert "belongs to another user" in answer.text


def test_the_log_of_the_service_shows_no_token(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for token in (ALICE.token, BOB.token, WRONG):
        jobs.service.get(status_path(jobs.ended, token))
        jobs.service.get(f"{jobs.addresses[1]}?gcube-token={token}")
    # The client in this process logs all that it asks for.
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("die_")]
    assert any(STATUS_PATH in line for line in ours)
    assert not any(token in line for token in (ALICE.token, BOB.token, WRONG) for line in ours)


# -- what is asked of StorageHub


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens of which StorageHub is asked whose they are."""
    asked: list[str] = []
    ask = StorageHub.workspace_root

    def counted(storagehub: StorageHub, token: UserToken) -> object:
        asked.append(token.secret)
        return ask(storagehub, token)

    monkeypatch.setattr(StorageHub, "workspace_root", counted)
    return asked


@pytest.mark.parametrize("token", [ALICE.token, BOB.token, WRONG])
def test_who_polls_costs_one_question_a_minute(
    jobs: Jobs, questions: list[str], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        jobs.service.get(status_path(jobs.ended, token))
        jobs.service.get(jobs.addresses[1], headers={"gcube-token": token})
    assert questions == [token]
    monkeypatch.setattr(owners, "_KEPT", 0.0)
    forget(jobs.service)
    for _ in range(3):
        jobs.service.get(status_path(jobs.ended, token))
    assert questions == [token] * 4


def test_a_job_under_way_costs_its_own_token_no_question(jobs: Jobs, questions: list[str]) -> None:
    assert jobs.service.get(status_path(jobs.running)).status_code == 200
    assert questions == []


def test_to_cancel_and_to_execute_it_is_asked_anew(jobs: Jobs, questions: list[str]) -> None:
    jobs.service.get(status_path(jobs.ended))
    cancel(jobs.service, jobs.ended)
    assert questions == [ALICE.token] * 2
    assert jobs.service.get(execute_url(jobs.service, UNKNOWN)).status_code == 400
    assert questions == [ALICE.token] * 3


def test_a_job_that_ends_as_it_is_polled_needs_no_question_of_its_own(
    jobs: Jobs, questions: list[str]
) -> None:
    job_id = submit(jobs.service, "probe sleep 60", jobs.world.item)
    soon(lambda: "is running" in jobs.service.get(status_path(job_id)).text)
    jobs.world.engine.let_end(job_id)
    # The worker asks once, for the folder in which it makes the job's own.
    soon(lambda: "ProcessSucceeded" in jobs.service.get(status_path(job_id)).text)
    assert len(questions) == 2


@pytest.fixture
def away(jobs: Jobs) -> Iterator[None]:
    jobs.world.hub.stop()
    yield
    jobs.world.hub.start()


@pytest.mark.usefixtures("away")
def test_while_storagehub_is_away_only_a_job_under_way_is_shown_to_its_owner(jobs: Jobs) -> None:
    get = jobs.service.get
    assert "ProcessStarted" in get(status_path(jobs.running)).text
    assert get(f"{CANCEL_PATH}?id={jobs.running}&gcube-token={BOB.token}").status_code == 503
    refused = [
        get(status_path(job_id, token))
        for job_id, token in (
            (jobs.ended, ALICE.token),
            (jobs.ended, BOB.token),
            (jobs.running, BOB.token),
            (UNKNOWN, ALICE.token),
        )
    ]
    for answer in refused:
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "StorageHub does not answer at the moment" in answer.text
    assert get(f"{STATUS_PATH}?id={jobs.running}").status_code == 401
    for address in jobs.addresses:
        for token in (ALICE.token, BOB.token, WRONG):
            assert get(address, headers={"gcube-token": token}).status_code == 200


# -- an owner whose name is none


@pytest.mark.parametrize("owner", ["\ud800", "alice\udfff"])
def test_an_owner_who_cannot_be_named_is_told_in_words(quick: Quick, owner: str) -> None:
    root = {"id": "f0", "name": "Workspace", "path": "/", "owner": owner}
    with (
        RawServer(json_answer({"item": root})) as hub,
        quick.service(storagehub_url=hub.url) as service,
    ):
        answers = [
            service.get(execute_url(service, UNKNOWN)),
            service.get(status_path(UNKNOWN)),
            service.get(f"{STATUS_PATH}?id={UNKNOWN}", **carry("basic", ALICE.token, ALICE.name)),
        ]
    for answer in answers:
        assert answer.status_code == 503
        document = etree.fromstring(answer.content)
        said = text_of(document, "//ows:ExceptionText")
        assert said.startswith("StorageHub names the owner of this user token in characters")


# -- open_status


@pytest.fixture(scope="module")
def open_service(jobs: Jobs) -> Iterator[Service]:
    folder = str(jobs.world.folder / "open")
    with jobs.world.service(open_status="true", data_dir=folder) as service:
        yield service


def test_an_open_status_needs_no_token_and_takes_no_wrong_one(
    jobs: Jobs, open_service: Service
) -> None:
    job_id = submit(open_service, "probe write a.txt a", jobs.world.item)
    assert open_service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    bare = open_service.get(f"{STATUS_PATH}?id={job_id}")
    assert bare.status_code == 200
    for token, status in ((ALICE.token, 200), (BOB.token, 404), (WRONG, 401), ("tiny", 401)):
        assert open_service.get(status_path(job_id, token)).status_code == status
    assert open_service.get(f"{STATUS_PATH}?id={job_id}&gcube-token=").status_code == 200
    assert open_service.get(f"{STATUS_PATH}?id={UNKNOWN}").status_code == 404
    assert open_service.get(f"{CANCEL_PATH}?id={job_id}").status_code == 401


# -- results


def test_a_result_is_fetched_by_its_address_alone(jobs: Jobs) -> None:
    log, zip_address, collection = (jobs.service.get(address) for address in jobs.addresses)
    assert log.status_code == 200
    assert zip_address.content.startswith(b"PK")
    assert elements(etree.fromstring(collection.content), "//ogr:Result")


@each_place
def test_a_result_with_anothers_token_is_one_that_does_not_exist(jobs: Jobs, place: str) -> None:
    options = carry(place, BOB.token, BOB.name)
    for address in jobs.addresses:
        key = urlsplit(address).path.split("/")[2]
        unknown = jobs.service.get(address.replace(key, "0" * 32), **options)
        assert unknown.status_code == 404
        assert told(jobs.service.get(address, **options)) == told(unknown)
        # Nor does it tell that there is such a job.
        nobodys = jobs.service.get(address.replace(jobs.ended, UNKNOWN), **options)
        assert told(nobodys) == told(unknown)
        # Nor a part of it, nor its size.
        part = {**options, "headers": {**options.get("headers", {}), "Range": "bytes=0-0"}}
        assert jobs.service.get(address, **part).status_code == 404


@pytest.mark.parametrize("token", [WRONG, *BROKEN])
def test_a_token_that_is_nobodys_does_not_hinder_a_download(jobs: Jobs, token: str) -> None:
    for place in ("query", "header", "basic", "bearer"):
        answer = jobs.service.get(jobs.addresses[1], **carry(place, token))
        assert answer.content.startswith(b"PK")
    assert jobs.service.get(f"{jobs.addresses[1]}?x=%zz").content.startswith(b"PK")


def test_a_storagehub_that_hangs_does_not_hold_up_a_download(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_PATIENCE", 0.3)
    where = urlsplit(quick.hub.base_url)
    assert where.port is not None
    with Relay(where.port) as relay:
        way = f"http://127.0.0.1:{relay.port}{where.path}"
        changes = {"storagehub_url": way, "container_storagehub_url": quick.hub.base_url}
        with quick.service(**changes, storagehub_timeout="60s") as service:
            address = zip_of(service, submit(service, "probe write a.txt a", quick.item))
            forget(service)
            with relay.silence():
                answer = service.get(address, headers={"gcube-token": BOB.token})
                # The question is still open.
                soon(lambda: relay.kept == 1)
            assert answer.content.startswith(b"PK")
            refused: Callable[[], bool] = lambda: (  # noqa: E731
                service.get(address, headers={"gcube-token": BOB.token}).status_code == 404
            )
            soon(refused)


def zip_of(service: Service, job_id: str, user: HubUser = ALICE) -> str:
    assert service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    document = etree.fromstring(service.get(status_path(job_id, user.token)).content)
    return texts(document, "//ogr:Result/d4science:Data")[1]


def test_that_a_result_has_expired_is_told_to_no_other_user(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "_EXPIRE_EVERY", 0.1)
    with quick.service(result_retention="1s") as service:
        address = zip_of(service, submit(service, "probe noop", quick.item))
        soon(lambda: service.get(address).status_code == 410)
        for user, status in ((ALICE, 410), (BOB, 404)):
            answer = service.get(address, headers={"gcube-token": user.token})
            assert answer.status_code == status
