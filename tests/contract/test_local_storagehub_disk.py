"""The embedded StorageHub and its machine: restarts, kills, large files, many clients, memory."""

from __future__ import annotations

import contextlib
import http.client
import io
import subprocess
import sys
import threading
import urllib.parse
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from storagehub_fixture import (
    ALICE,
    HubClient,
    hub_client,
    local_storagehub,
    write_users,
)

from die_algorithm.errors import SettingsError
from die_algorithm.local_storagehub.server import LocalStorageHub

MEGABYTE = 1024 * 1024

SERVER = """
import sys
from pathlib import Path
from die_algorithm.local_storagehub.server import LocalStorageHub

hub = LocalStorageHub(Path(sys.argv[1]), Path(sys.argv[2]))
hub.start()
print(hub.base_url, flush=True)
hub.serve()
"""


@contextlib.contextmanager
def hub_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], HubClient]]:
    """A server in a process of its own, in the same folders as ``local_storagehub``'s."""
    users = write_users(folder / "users.toml")
    command = [sys.executable, "-c", SERVER, str(folder / "hub"), str(users)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with contextlib.closing(HubClient(process.stdout.readline().strip(), ALICE)) as client:
                yield process, client
        finally:
            process.kill()


def peak_memory(process: subprocess.Popen[str]) -> int:
    """The most bytes that the process has had resident (Linux)."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def post_zeros(client: HubClient, folder: str, name: str, size: int) -> str:
    """Upload a file of zeros that exists nowhere before."""
    head = (
        f'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'
        '--b\r\nContent-Disposition: form-data; name="description"\r\n\r\nzeros\r\n'
        '--b\r\nContent-Disposition: form-data; name="file"; filename="zeros"\r\n\r\n'
    ).encode()
    tail = b"\r\n--b--\r\n"
    url = urllib.parse.urlsplit(client.base_url)
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=120)
    with contextlib.closing(connection):
        connection.putrequest("POST", f"{url.path}/items/{folder}/create/FILE")
        connection.putheader("gcube-token", ALICE.token)
        connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        connection.putheader("Content-Length", str(len(head) + size + len(tail)))
        connection.endheaders(head)
        for _ in range(size // MEGABYTE):
            connection.send(bytes(MEGABYTE))
        connection.send(tail)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    with local_storagehub(tmp_path) as hub, hub_client(hub, ALICE) as alice:
        folder = alice.create_folder("kept")
        file = alice.upload("f.txt", b"one", folder)
        alice.upload("f.txt", b"two", folder)
        link = alice.get(f"/items/{file}/publiclink").json()
        before = alice.item(file)
    with local_storagehub(tmp_path) as hub, hub_client(hub, ALICE) as alice:
        assert alice.item(file) == before
        assert alice.download(file) == b"two"
        assert alice.get(f"/items/{file}/versions/1.0/download").content == b"one"
        resolved = requests.get(hub.url + urllib.parse.urlsplit(link).path, timeout=10)
        assert resolved.content == b"two"


def test_what_was_answered_outlives_a_kill(tmp_path: Path) -> None:
    confirmed: dict[str, bytes] = {}
    with hub_process(tmp_path) as (process, client):
        folder = client.create_folder("kept")
        enough = threading.Event()

        def upload_until_killed(worker: int) -> None:
            with contextlib.closing(HubClient(client.base_url, ALICE)) as own:
                for number in range(100_000):
                    content = f"{worker}-{number}".encode() * 1000
                    try:
                        item = own.upload(f"{worker}-{number}", content, folder)
                    except requests.RequestException:
                        return
                    confirmed[item] = content
                    if len(confirmed) >= 40:
                        enough.set()

        with ThreadPoolExecutor(4) as pool:
            uploads = [pool.submit(upload_until_killed, worker) for worker in range(4)]
            assert enough.wait(60)
            process.kill()
            for upload in uploads:
                upload.result(60)
    with local_storagehub(tmp_path) as hub, hub_client(hub, ALICE) as alice:
        for item, content in confirmed.items():
            assert alice.download(item) == content
        listed = alice.children(folder)
        # What was written but not answered is whole, or not there at all.
        for child in listed:
            described = child["content"]
            assert isinstance(described, dict)
            assert len(alice.download(str(child["id"]))) == described["size"]
        assert not list((tmp_path / "hub" / "incoming").iterdir())
        assert len(list((tmp_path / "hub" / "blobs").glob("*/*"))) == len(listed)


def test_one_folder_serves_one_server(tmp_path: Path) -> None:
    with local_storagehub(tmp_path):
        second = LocalStorageHub(tmp_path / "hub", tmp_path / "users.toml")
        with pytest.raises(SettingsError, match="Another StorageHub"):
            second.start()


def test_an_address_in_use_is_told_and_the_folder_let_go(tmp_path: Path) -> None:
    with local_storagehub(tmp_path / "first") as hub:
        address = hub.url.removeprefix("http://")
        users = write_users(tmp_path / "users.toml")
        second = LocalStorageHub(tmp_path / "second", users, (address,))
        threads = threading.active_count()
        with pytest.raises(SettingsError, match="Cannot listen"):
            second.start()
        assert threading.active_count() == threads
    with LocalStorageHub(tmp_path / "second", users):
        pass


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "[::1:0"])
def test_an_address_that_is_none_is_told(tmp_path: Path, address: str) -> None:
    hub = LocalStorageHub(tmp_path / "hub", write_users(tmp_path / "users.toml"), (address,))
    with pytest.raises(SettingsError, match="Cannot listen"):
        hub.start()


def test_a_stopped_server_has_ended_its_threads_and_can_start_again(tmp_path: Path) -> None:
    users = write_users(tmp_path / "users.toml")
    hub = LocalStorageHub(tmp_path / "hub", users)
    before = threading.active_count()
    for _ in range(3):
        with hub:
            assert requests.get(hub.base_url, timeout=10).status_code == 401
            assert threading.active_count() > before
        assert threading.active_count() == before


def test_a_server_stops_while_clients_hang_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with local_storagehub(tmp_path) as hub, hub_client(hub, ALICE) as alice:
        folder = alice.create_folder("big")
        # So large that it is not compressed, and more than the buffers of both sides hold.
        post_zeros(alice, folder, "zeros", 64 * MEGABYTE)
        with alice.request("GET", f"/items/{folder}/download", stream=True) as response:
            assert response.raw.read(1)
            hub.stop()
    # waitress warns of threads that do not end.
    assert not [record for record in caplog.records if record.name == "waitress"]


def test_clients_at_once_lose_nothing(tmp_path: Path) -> None:
    with local_storagehub(tmp_path) as hub, hub_client(hub, ALICE) as alice:
        folder = alice.create_folder("busy")

        def work(number: int) -> tuple[str, str]:
            with hub_client(hub, ALICE) as own:
                made = own.create_folder("same", folder)
                return made, own.upload("same.txt", str(number).encode(), folder)

        with ThreadPoolExecutor(16) as pool:
            folders, files = zip(*pool.map(work, range(64)), strict=True)
        assert len(set(folders)) == 64
        assert len(set(files)) == 1
        expected = ["same", *(f"same({number})" for number in range(1, 64)), "same.txt"]
        assert alice.names(folder) == sorted(expected)
        assert len(alice.get(f"/items/{files[0]}/versions").json()["itemlist"]) == 64


def test_the_zip_of_a_deep_and_wide_folder_opens_with_unzip(tmp_path: Path) -> None:
    with local_storagehub(tmp_path) as hub, hub_client(hub, ALICE) as alice:
        top = parent = alice.create_folder("top")
        for _ in range(60):
            parent = alice.create_folder("d", parent)
        alice.upload("deep é ☃.txt", b"deep", parent)
        for number in range(200):
            alice.upload(f"{number}.txt", b"x" * number, top)
        zipped = tmp_path / "top.zip"
        zipped.write_bytes(alice.download(top))
    subprocess.run(["unzip", "-tqq", str(zipped)], check=True)
    with zipfile.ZipFile(zipped) as archive:
        assert len(archive.namelist()) == 1 + 60 + 1 + 200
        assert archive.read("top/" + "d/" * 60 + "deep é ☃.txt") == b"deep"


def test_a_file_whose_bytes_are_lost_is_left_out_of_the_zip(tmp_path: Path) -> None:
    with local_storagehub(tmp_path) as hub, hub_client(hub, ALICE) as alice:
        folder = alice.create_folder("f")
        lost = alice.upload("lost.txt", b"x", folder)
        alice.upload("safe.txt", b"x", folder)
        content = alice.item(lost)["content"]
        assert isinstance(content, dict)
        (blob,) = (tmp_path / "hub" / "blobs").glob(f"*/{content['storageId']}")
        blob.unlink()
        with zipfile.ZipFile(io.BytesIO(alice.download(folder))) as archive:
            assert archive.namelist() == ["f/", "f/safe.txt"]
        assert alice.get(f"/items/{lost}/download").status_code == 500


def test_memory_does_not_grow_with_the_size_of_files(tmp_path: Path) -> None:
    size = 256 * MEGABYTE
    with hub_process(tmp_path) as (process, client):
        folder = client.create_folder("big")
        post_zeros(client, folder, "warm-up", MEGABYTE)
        client.download(folder)
        before = peak_memory(process)
        file = post_zeros(client, folder, "zeros", size)
        for item, at_least in ((file, size), (folder, size)):
            with client.request("GET", f"/items/{item}/download", stream=True) as response:
                received = sum(len(chunk) for chunk in response.iter_content(MEGABYTE))
            assert received >= at_least
        # Buffers of the two sockets and of the zip: the same 20 to 35 MB for any size.
        assert peak_memory(process) - before < 64 * MEGABYTE
