"""The operator's own tokens, and the list of jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from quick_fixture import PROBE, Quick, cancel, soon, submit
from service_fixture import Service, status_path
from storagehub_fixture import ALICE, BOB, HubUser

from die_algorithm.admin_tokens import AdminTokens
from die_algorithm.errors import SettingsError
from die_algorithm.models import JobState, UserToken
from die_algorithm.web import JOBS_PATH

ADMIN = HubUser("admin", "0123456789abcdef0123456789abcdef")
DIGEST = hashlib.sha256(ADMIN.token.encode()).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "admins"
    path.write_text(f"# of the operators\n\n{DIGEST}  -\n")
    return path


@pytest.fixture
def service(quick: Quick, file: Path) -> Iterator[Service]:
    with quick.service(admin_tokens_file=str(file)) as service:
        yield service


def listed(service: Service, user: HubUser = ALICE, query: str = "") -> requests.Response:
    return service.get(f"{JOBS_PATH}{query}", headers={"gcube-token": user.token})


def test_an_administrator_sees_and_cancels_any_job_and_starts_none(
    service: Service, quick: Quick
) -> None:
    job = submit(service, "probe forever", quick.item)
    assert service.get(status_path(job, ADMIN.token)).status_code == 200
    assert service.get(status_path("0" * 8 + job[8:], ADMIN.token)).status_code == 404
    url = service.execute_url(ADMIN.token, Image=PROBE, CommandName="x", FileParam=quick.item)
    refused = service.get(url)
    assert (refused.status_code, "administrator" in refused.text) == (401, True)
    assert cancel(service, job, ADMIN).status_code == 200
    assert service.runtime.engine.wait(job, 30).state is JobState.DISMISSED


@pytest.mark.parametrize("text", [DIGEST, "half a line", "", None])
def test_an_administrators_token_is_never_sent_to_storagehub(
    service: Service, quick: Quick, file: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    job = submit(service, "probe noop", quick.item)
    assert service.runtime.engine.wait(job, 20).state is JobState.SUCCEEDED
    asked: list[UserToken] = []
    monkeypatch.setattr(service.runtime.engine._callers._storagehub, "workspace_root", asked.append)
    # The file has been good when the service started, and never since.
    file.unlink() if text is None else file.write_text(text)
    service.get(status_path(job, ADMIN.token))
    cancel(service, job, ADMIN)
    listed(service, ADMIN)
    url = service.execute_url(ADMIN.token, Image=PROBE, CommandName="x", FileParam=quick.item)
    service.get(url)
    found = service.runtime.engine.job(job)
    links = service.application._links
    assert service.get(links.zip(found), headers={"gcube-token": ADMIN.token}).status_code == 200
    assert service.get(JOBS_PATH, headers={"gcube-token": BOB.token}).status_code != 200
    assert [token.secret for token in asked] == [BOB.token]


def test_who_is_taken_out_of_the_file_is_out(service: Service, quick: Quick, file: Path) -> None:
    job = submit(service, "probe noop", quick.item)
    assert service.get(status_path(job, ADMIN.token)).status_code == 200
    file.write_text("")
    assert service.get(status_path(job, ADMIN.token)).status_code == 401
    file.unlink()
    assert service.get(status_path(job, ADMIN.token)).status_code == 401
    assert service.get(status_path(job)).status_code == 200


def test_without_a_file_nobody_is_an_administrator() -> None:
    assert not AdminTokens(None).hold(UserToken(ADMIN.token))
    assert not AdminTokens(None).hold(UserToken(""))


@pytest.mark.parametrize("text", [ADMIN.token, f"{DIGEST}0", "ü" * 64, f"{DIGEST}\nx"])
def test_a_file_of_something_else_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "admins"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"Line [12] of the file") as caught:
        AdminTokens(path).check()
    assert ADMIN.token not in str(caught.value)
    assert not AdminTokens(path).hold(UserToken(ADMIN.token))
    with pytest.raises(SettingsError, match="cannot be read"):
        AdminTokens(tmp_path / "none").check()


@pytest.mark.parametrize("damage", ["no digest", None])
def test_while_the_file_cannot_be_used_what_it_said_last_holds(
    tmp_path: Path, damage: str | None
) -> None:
    path = tmp_path / "admins"
    path.write_text(DIGEST)
    tokens = AdminTokens(path)
    assert tokens.hold(UserToken(ADMIN.token))
    path.unlink()
    if damage:
        path.write_text(damage)
    assert tokens.hold(UserToken(ADMIN.token))
    path.write_text("")
    assert not tokens.hold(UserToken(ADMIN.token))


def test_each_user_lists_her_own_jobs_the_newest_first(service: Service, quick: Quick) -> None:
    jobs = [submit(service, "probe noop", quick.item) for _ in range(3)]
    shown = listed(service).json()
    assert [job["id"] for job in shown["jobs"]] == jobs[::-1]
    assert shown["more"] is False
    job = shown["jobs"][0]
    assert set(job) == {"id", "state", "image", "accepted", "updated", "status"}
    assert job["image"].startswith(f"docker.io/{PROBE}")
    assert service.get(job["status"], headers={"gcube-token": ALICE.token}).status_code == 200
    assert listed(service, BOB).json() == {"jobs": [], "more": False}
    few = listed(service, query="?limit=2").json()
    assert ([job["id"] for job in few["jobs"]], few["more"]) == (jobs[:0:-1], True)
    everybodys = listed(service, ADMIN).json()["jobs"]
    assert [job["owner"] for job in everybodys] == [ALICE.name] * 3
    soon(lambda: {job["state"] for job in listed(service).json()["jobs"]} == {"succeeded"})


def test_nobody_lists_jobs_without_a_token(service: Service) -> None:
    assert service.get(JOBS_PATH).status_code == 401
    unknown = {"gcube-token": "00000000-0000-4000-8000-000000000000"}
    assert service.get(JOBS_PATH, headers=unknown).status_code == 401
