"""The zip and a record of what was run, saved in the owner's workspace if the operator wants that."""

from __future__ import annotations

import json
import threading

import pytest
from quick_fixture import Quick, soon, status, submit
from service_fixture import Service
from storagehub_fixture import ALICE, BOB, HubClient, hub_client

from die_algorithm.errors import ItemUnusable, StorageHubUnavailable
from die_algorithm.models import Item, Job, JobState, UserToken
from die_algorithm.storagehub import StorageHub
from die_algorithm.worker import driver

_FOLDERS = ["Computations", "Output Data Sets"]


def end(service: Service, job_id: str) -> Job:
    job = service.runtime.engine.wait(job_id, 20)
    assert job.state.is_final
    return job


def below(alice: HubClient, *names: str) -> dict[str, str]:
    """The ids of what is in a folder of the workspace, by name."""
    folder = alice.root()
    for name in names:
        folder = below_id(alice, folder)[name]
    return below_id(alice, folder)


def below_id(alice: HubClient, folder: str) -> dict[str, str]:
    return {str(child["name"]): str(child["id"]) for child in alice.children(folder)}


def test_zip_and_record_are_saved_and_the_status_says_where(quick: Quick) -> None:
    with quick.service(save_results="true") as service, hub_client(quick.hub, ALICE) as alice:
        ids = [submit(service, "probe write a.txt x", quick.item) for _ in range(2)]
        jobs = [end(service, job_id) for job_id in ids]
        outputs = below(alice, "DataMiner", "Output Data Sets")
        assert sorted(outputs) == sorted(f"{job.folder_name}.zip" for job in jobs)
        records = below(alice, "DataMiner", "Computations")
        assert sorted(below(alice, "DataMiner")) == _FOLDERS
        for job in jobs:
            where = f"DataMiner/Output Data Sets/{job.folder_name}.zip"
            assert f"It is saved in your workspace as {where}." in status(service, job.id)
            published = service.runtime.engine.job(job.id).result
            assert published is not None
            content = alice.download(outputs[f"{job.folder_name}.zip"])
            assert len(content) == published.size
            record = json.loads(alice.download(records[f"{job.folder_name}.json"]))
            assert record["command"] == ["probe", "write", "a.txt", "x"]
            assert record["digest"] == job.digest
            assert ALICE.token not in json.dumps(record)
        quick.assert_nothing_left()


def test_of_a_failed_job_nothing_is_saved(quick: Quick) -> None:
    with quick.service(save_results="true") as service, hub_client(quick.hub, ALICE) as alice:
        end(service, submit(service, "probe exit 3", quick.item))
        assert "DataMiner" not in below(alice)


def test_while_storagehub_is_away_the_job_waits_and_saves_after(quick: Quick) -> None:
    with quick.service(save_results="true") as service, hub_client(quick.hub, ALICE) as alice:
        job_id = submit(service, "probe sleep 60", quick.item)
        soon(lambda: "The program is running." in status(service, job_id))
        quick.hub.stop()
        quick.engine.let_end(job_id)
        soon(lambda: "waiting for StorageHub" in status(service, job_id))
        quick.hub.start()
        job = end(service, job_id)
        assert job.saved_as
        assert f"{job.folder_name}.zip" in below(alice, "DataMiner", "Output Data Sets")
        quick.assert_nothing_left()


@pytest.mark.parametrize(
    "error", [StorageHubUnavailable("away"), ItemUnusable("forbidden"), ZeroDivisionError()]
)
def test_a_copy_that_cannot_be_made_hinders_nothing(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_arguments: object, **_options: object) -> str:
        raise error

    monkeypatch.setattr(StorageHub, "upload", refuse)
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.1)
    with quick.service(save_results="true", outage_patience="100ms") as service:
        job = end(service, submit(service, "probe noop", quick.item))
        assert job.state is JobState.SUCCEEDED
        assert job.saved_as == ""
        quick.assert_nothing_left()


def test_folders_that_another_worker_has_just_made_are_taken(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = StorageHub.create_folder

    def second(self: StorageHub, token: UserToken, parent_id: str, name: str, text: str) -> str:
        if not name.startswith("die-"):
            create(self, token, parent_id, name, text)
        return create(self, token, parent_id, name, text)

    monkeypatch.setattr(StorageHub, "create_folder", second)
    with quick.service(save_results="true") as service, hub_client(quick.hub, ALICE) as alice:
        job = end(service, submit(service, "probe noop", quick.item))
        assert_shared(alice, [job])


def test_jobs_of_one_user_that_look_for_the_folders_at_once_share_them(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, both_have_looked = StorageHub.find_child, threading.Barrier(2)
    first_looks = [1, 2]

    def looks(self: StorageHub, token: UserToken, parent_id: str, name: str) -> Item | None:
        found = find(self, token, parent_id, name)
        if name == "DataMiner" and first_looks:
            first_looks.pop()
            both_have_looked.wait(20)
        return found

    monkeypatch.setattr(StorageHub, "find_child", looks)
    with quick.service(save_results="true") as service, hub_client(quick.hub, ALICE) as alice:
        ids = [submit(service, "probe noop", quick.item) for _ in range(2)]
        assert_shared(alice, [end(service, job_id) for job_id in ids])


def assert_shared(alice: HubClient, jobs: list[Job]) -> None:
    """There is one folder of each kind, in which all are that say so."""
    root = below(alice)
    assert [name for name in root if name.startswith("DataMiner")] == ["DataMiner"]
    assert sorted(below_id(alice, root["DataMiner"])) == _FOLDERS
    outputs = below(alice, "DataMiner", "Output Data Sets")
    assert sorted(job.saved_as for job in jobs) == sorted(
        f"DataMiner/Output Data Sets/{name}" for name in outputs
    )
    assert len(below(alice, "DataMiner", "Computations")) == len(jobs)


def test_a_users_slow_workspace_keeps_nobody_elses_copy_waiting(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, asked, go_on = StorageHub.find_child, threading.Event(), threading.Event()

    def slow(self: StorageHub, token: UserToken, parent_id: str, name: str) -> Item | None:
        if name == "DataMiner" and token.secret == ALICE.token:
            asked.set()
            assert go_on.wait(30)
        return find(self, token, parent_id, name)

    monkeypatch.setattr(StorageHub, "find_child", slow)
    with quick.service(save_results="true") as service, hub_client(quick.hub, BOB) as bob:
        alices = submit(service, "probe noop", quick.item)
        assert asked.wait(20)
        item = bob.upload("b.txt", b"b")
        assert end(service, submit(service, "probe noop", item, BOB)).saved_as
        go_on.set()
        assert end(service, alices).saved_as


def test_without_the_setting_nothing_is_saved(quick: Quick) -> None:
    with quick.service() as service, hub_client(quick.hub, ALICE) as alice:
        assert end(service, submit(service, "probe noop", quick.item)).result
        assert "DataMiner" not in below(alice)
