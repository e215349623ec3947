"""The client against a real StorageHub: the embedded one, over HTTP."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from raw_server import RawServer, http
from storagehub_fixture import ALICE, BOB, HubClient, hub_client

from die_algorithm.archive import build_archive
from die_algorithm.errors import ItemUnusable, StepInterrupted, TokenRejected
from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.models import ResultFile, UserToken
from die_algorithm.storagehub import StorageHub

TOKEN = UserToken(ALICE.token)
BOBS = UserToken(BOB.token)
UNKNOWN = UserToken("00000000-0000-4000-8000-000000000000-98187548")


@pytest.fixture
def storagehub(hub: LocalStorageHub) -> Iterator[StorageHub]:
    with StorageHub(
        hub.base_url, timeout=timedelta(seconds=10), pause=timedelta(milliseconds=1)
    ) as client:
        yield client


@pytest.fixture
def alice(hub: LocalStorageHub) -> Iterator[HubClient]:
    """What the user or a program does, past our client."""
    with hub_client(hub, ALICE) as client:
        yield client


@pytest.fixture
def folder(storagehub: StorageHub) -> str:
    """A folder of its own for each test."""
    root = storagehub.workspace_root(TOKEN).id
    return storagehub.create_folder(TOKEN, root, f"die-{uuid.uuid4()}", "Results")


def content(storagehub: StorageHub, item_id: str) -> bytes:
    with storagehub.download(TOKEN, item_id) as download:
        return b"".join(download)


def paths(storagehub: StorageHub, folder: str) -> list[str]:
    return sorted(
        "/".join(listed.path) for listed in storagehub.walk(TOKEN, folder, max_items=10_000)
    )


# -- who may


@pytest.mark.parametrize("auth", ["auto", "header", "query", "bearer"])
def test_each_way_of_the_token_opens_the_owners_workspace(hub: LocalStorageHub, auth: Any) -> None:
    with StorageHub(hub.base_url, auth=auth) as storagehub:
        root = storagehub.workspace_root(TOKEN)
    assert root.owner == ALICE.name
    assert root.is_folder
    assert root.path == f"/Home/{ALICE.name}/Workspace"


@pytest.mark.parametrize("auth", ["auto", "header", "query", "bearer"])
def test_a_token_that_is_not_known_is_rejected(hub: LocalStorageHub, auth: Any) -> None:
    with StorageHub(hub.base_url, auth=auth) as storagehub:
        with pytest.raises(TokenRejected):
            storagehub.workspace_root(UNKNOWN)
        with pytest.raises(TokenRejected):
            storagehub.item(UNKNOWN, str(uuid.uuid4()))


def test_the_address_may_end_with_a_slash(hub: LocalStorageHub) -> None:
    with StorageHub(hub.base_url + "/") as storagehub:
        assert storagehub.workspace_root(TOKEN).owner == ALICE.name


def test_ping_reaches_it(storagehub: StorageHub) -> None:
    storagehub.ping()


def test_ping_sends_no_token_though_another_call_has_sent_one() -> None:
    with (
        RawServer(http("401 Unauthorized"), http()) as server,
        StorageHub(server.url) as storagehub,
    ):
        with pytest.raises(TokenRejected):
            storagehub.workspace_root(TOKEN)
        storagehub.ping()
    *others, ping = server.requests
    assert all(TOKEN.secret.encode() in request.raw for request in others)
    assert TOKEN.secret.encode() not in ping.raw
    assert not {"authorization", "gcube-token", "cookie"} & ping.headers.keys()


def test_an_item_that_is_not_there_is_unusable_in_every_way(storagehub: StorageHub) -> None:
    missing = str(uuid.uuid4())
    with pytest.raises(ItemUnusable):
        storagehub.item(TOKEN, missing)
    for fetching in (
        lambda: content(storagehub, missing),
        lambda: storagehub.walk(TOKEN, missing, max_items=10),
    ):
        with pytest.raises(ItemUnusable) as caught:
            fetching()
        assert caught.type is ItemUnusable  # it is certain
    with pytest.raises(ItemUnusable):
        storagehub.create_folder(TOKEN, missing, "n", "d")
    with pytest.raises(ItemUnusable):
        storagehub.upload(TOKEN, missing, "n", io.BytesIO(b"x"), "d")


def test_an_item_exists_whoever_may_have_it_and_when_it_was_removed_no_more(
    storagehub: StorageHub, folder: str
) -> None:
    assert storagehub.exists(TOKEN, folder)
    assert storagehub.exists(BOBS, folder)
    storagehub.delete(TOKEN, folder)
    assert not storagehub.exists(TOKEN, folder)


def test_another_users_item_is_unusable(storagehub: StorageHub, folder: str) -> None:
    with pytest.raises(ItemUnusable):
        storagehub.item(BOBS, folder)
    with pytest.raises(ItemUnusable), storagehub.download(BOBS, folder) as download:
        list(download)


def test_a_file_is_no_place_for_a_folder(storagehub: StorageHub, folder: str) -> None:
    file = storagehub.upload(TOKEN, folder, "a", io.BytesIO(b"x"), "d")
    with pytest.raises(ItemUnusable):
        storagehub.create_folder(TOKEN, file, "n", "d")


# -- making and finding


def test_a_name_that_is_taken_gives_a_new_folder_of_another_name(
    storagehub: StorageHub, folder: str
) -> None:
    first = storagehub.create_folder(TOKEN, folder, "same", "d")
    second = storagehub.create_folder(TOKEN, folder, "same", "d")
    assert first != second
    assert storagehub.item(TOKEN, first).name == "same"
    assert storagehub.item(TOKEN, second).name == "same(1)"
    found = storagehub.find_child(TOKEN, folder, "same")
    assert found is not None
    assert found.id == first


def test_find_child_sees_hidden_items_and_no_trash(
    storagehub: StorageHub, folder: str, alice: HubClient
) -> None:
    hidden = alice.create_folder("hidden", folder, hidden="true")
    trashed = alice.create_folder("trashed", folder)
    assert alice.request("DELETE", f"/items/{trashed}").status_code == 200
    found = storagehub.find_child(TOKEN, folder, "hidden")
    assert found is not None
    assert (found.id, found.hidden) == (hidden, True)
    assert storagehub.find_child(TOKEN, folder, "trashed") is None
    assert storagehub.find_child(TOKEN, folder, "hid*") is None
    assert storagehub.item(TOKEN, trashed).trashed


@pytest.mark.parametrize("name", ["grüße 漢字.txt", 'quo"te;=&.txt', "a%41.txt", "+ .txt"])
def test_an_upload_comes_back_under_its_name(
    storagehub: StorageHub, folder: str, name: str
) -> None:
    item_id = storagehub.upload(TOKEN, folder, name, io.BytesIO(b"\0\r\n--x\xff"), "")
    item = storagehub.item(TOKEN, item_id)
    assert (item.name, item.size, item.is_folder) == (name, 7, False)
    assert item.parent_id == folder
    assert content(storagehub, item_id) == b"\0\r\n--x\xff"


def test_an_upload_of_the_same_name_is_a_new_version(storagehub: StorageHub, folder: str) -> None:
    first = storagehub.upload(TOKEN, folder, "a", io.BytesIO(b"one"), "d")
    assert storagehub.upload(TOKEN, folder, "a", io.BytesIO(b"second"), "d") == first
    assert content(storagehub, first) == b"second"


def test_an_upload_starts_where_the_file_stands(storagehub: StorageHub, folder: str) -> None:
    stream = io.BytesIO(b"skipped kept")
    stream.seek(8)
    assert content(storagehub, storagehub.upload(TOKEN, folder, "a", stream, "d")) == b"kept"


def test_an_empty_and_a_large_file_come_back(
    storagehub: StorageHub, folder: str, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 100_000)
    with large.open("rb") as stream:
        large_id = storagehub.upload(TOKEN, folder, "large", stream, "d")
    empty_id = storagehub.upload(TOKEN, folder, "empty", io.BytesIO(b""), "d")
    assert content(storagehub, large_id) == large.read_bytes()
    assert content(storagehub, empty_id) == b""
    with storagehub.download(TOKEN, large_id, marked=True) as download:
        assert download.size == 25_600_000
    with storagehub.download(TOKEN, folder, marked=True) as download:
        assert download.size is None
        assert zipfile.ZipFile(io.BytesIO(b"".join(download))).testzip() is None


# -- listing


def test_walk_lists_all_levels_with_hidden_items_and_without_trash(
    storagehub: StorageHub, folder: str, alice: HubClient
) -> None:
    sub = alice.create_folder("sub", folder)
    secret = alice.create_folder(".secret", sub, hidden="true")
    alice.upload("a.txt", b"a", folder)
    alice.upload("b.txt", b"b", secret)
    trashed = alice.upload("c.txt", b"c", sub)
    alice.request("DELETE", f"/items/{trashed}")
    assert paths(storagehub, folder) == ["a.txt", "sub", "sub/.secret", "sub/.secret/b.txt"]


def test_walk_reads_page_after_page_and_stops_at_the_limit(
    storagehub: StorageHub, folder: str, alice: HubClient
) -> None:
    names = [f"f{number:04}" for number in range(603)]
    for name in names:
        alice.upload(name, b"", folder)
    assert paths(storagehub, folder) == names
    assert len(storagehub.walk(TOKEN, folder, max_items=10)) == 11


def test_walk_lists_items_with_descriptions_of_any_length_and_keeps_their_ends(
    storagehub: StorageHub, folder: str, alice: HubClient
) -> None:
    names = [f"f{number:02}" for number in range(36)]
    for name in names:
        form = {"name": name, "description": "d" * 500_000 + f" end of {name}"}
        answer = alice.request(
            "POST", f"/items/{folder}/create/FILE", data=form, files={"file": ("f", b"x")}
        )
        assert answer.status_code == 200
    found = storagehub.walk(TOKEN, folder, max_items=100)
    assert [listed.item.name for listed in found] == names
    for listed in found:
        assert listed.item.description.endswith(f"d end of {listed.item.name}")
        assert len(listed.item.description) == 200


def test_walk_can_be_broken_off_before_each_page(storagehub: StorageHub, folder: str) -> None:
    storagehub.create_folder(TOKEN, folder, "sub", "d")
    pages = 0

    def enough() -> None:
        nonlocal pages
        pages += 1
        if pages == 3:
            raise StepInterrupted

    with pytest.raises(StepInterrupted):
        storagehub.walk(TOKEN, folder, max_items=10, before_page=enough)
    assert pages == 3


def test_an_empty_folder_walks_to_nothing(storagehub: StorageHub, folder: str) -> None:
    assert storagehub.walk(TOKEN, folder, max_items=1) == []


# -- deleting


def test_delete_is_for_good_and_may_be_repeated(
    storagehub: StorageHub, folder: str, alice: HubClient
) -> None:
    alice.upload("a", b"x", alice.create_folder("sub", folder))
    storagehub.delete(TOKEN, folder)
    with pytest.raises(ItemUnusable):
        storagehub.item(TOKEN, folder)
    storagehub.delete(TOKEN, folder)


def test_delete_takes_an_item_out_of_the_trash_too(
    storagehub: StorageHub, folder: str, alice: HubClient
) -> None:
    alice.request("DELETE", f"/items/{folder}")
    assert storagehub.item(TOKEN, folder).trashed
    storagehub.delete(TOKEN, folder)
    with pytest.raises(ItemUnusable):
        storagehub.item(TOKEN, folder)


def test_delete_with_a_rejected_token_says_so(storagehub: StorageHub, folder: str) -> None:
    with pytest.raises(TokenRejected):
        storagehub.delete(UNKNOWN, folder)
    assert storagehub.item(TOKEN, folder).id == folder


# -- the way of a result


def result_of(storagehub: StorageHub, folder: str, destination: Path) -> ResultFile:
    return build_archive(
        destination,
        top=storagehub.item(TOKEN, folder).name,
        listing=lambda: storagehub.walk(TOKEN, folder, max_items=1000),
        folder_zip=lambda: storagehub.download(TOKEN, folder),
        single_file=lambda item: storagehub.download(TOKEN, item.id),
        max_size=10**9,
        max_files=1000,
    )


def test_storagehubs_zip_is_published_unchanged(
    storagehub: StorageHub, folder: str, alice: HubClient, tmp_path: Path
) -> None:
    name = storagehub.item(TOKEN, folder).name
    sub = alice.create_folder("grüße", folder)
    alice.create_folder("empty", folder)
    alice.upload("elements.txt", b"b\na\n", folder)
    alice.upload("zero", b"", sub)
    alice.upload("plot.png", bytes(range(256)) * 1000, sub)
    alice.upload("big.nc", bytes(20_000_000), sub)
    result = result_of(storagehub, folder, tmp_path / "r.zip")
    assert result.notes == ()
    assert result.files == 4
    assert (tmp_path / "r.zip").read_bytes() == alice.download(folder)
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        assert archive.read(f"{name}/grüße/plot.png") == bytes(range(256)) * 1000


def test_an_empty_folder_gives_a_valid_zip(
    storagehub: StorageHub, folder: str, tmp_path: Path
) -> None:
    result = result_of(storagehub, folder, tmp_path / "r.zip")
    assert result.files == 0
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        assert archive.testzip() is None


def test_hidden_items_are_in_the_result(
    storagehub: StorageHub, folder: str, alice: HubClient, tmp_path: Path
) -> None:
    name = storagehub.item(TOKEN, folder).name
    hidden = alice.create_folder(".cache", folder, hidden="true")
    alice.upload("seen", b"seen", folder)
    alice.upload("unseen", b"unseen", hidden)
    result_of(storagehub, folder, tmp_path / "r.zip")
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        assert archive.read(f"{name}/.cache/unseen") == b"unseen"
        assert archive.read(f"{name}/seen") == b"seen"


def test_what_is_neither_file_nor_folder_stays_behind(
    storagehub: StorageHub, folder: str, alice: HubClient, tmp_path: Path
) -> None:
    name = storagehub.item(TOKEN, folder).name
    alice.upload("a.txt", b"a", folder)
    document = {"name": "record", "description": "d", "itemType": "t", "creator": ALICE.name}
    created = alice.request("POST", f"/items/{folder}/create/GCUBEITEM", json=document)
    record = storagehub.item(TOKEN, created.text)
    assert not record.has_content
    with pytest.raises(ItemUnusable):
        content(storagehub, record.id)
    result = result_of(storagehub, folder, tmp_path / "r.zip")
    assert (result.files, result.left_out) == (1, 1)
    assert '"record"' in result.notes[0]
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        assert archive.namelist() == [f"{name}/", f"{name}/a.txt"]


def test_case_twins_are_told_apart(
    storagehub: StorageHub, folder: str, alice: HubClient, tmp_path: Path
) -> None:
    name = storagehub.item(TOKEN, folder).name
    for twin in ("readme.txt", "README.txt"):
        alice.upload(twin, twin.encode(), folder)
    result = result_of(storagehub, folder, tmp_path / "r.zip")
    assert len(result.notes) == 1
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        assert len({entry.casefold() for entry in archive.namelist()}) == 3
        assert {archive.read(entry) for entry in archive.namelist() if entry != f"{name}/"} == {
            b"readme.txt",
            b"README.txt",
        }


# -- threads


def test_threads_share_one_client(storagehub: StorageHub, folder: str) -> None:
    def use(number: int) -> list[bool]:
        same = []
        for turn in range(5):
            data = f"{number}-{turn}".encode() * 1000
            item_id = storagehub.upload(TOKEN, folder, f"f{number}", io.BytesIO(data), "d")
            same.append(content(storagehub, item_id) == data)
        return same

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(use, range(6))) == [[True] * 5] * 6
    assert len(paths(storagehub, folder)) == 6
