"""What an image written for the original does with the embedded StorageHub.

The steps of d4science/sortapp, told again from the reference (storagehub 3.2) with ``requests`` and the
standard library alone: discovery, download, sort, upload with every part as a file — and all of it twice.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import requests
from storagehub_fixture import ALICE, hub_client, local_storagehub

DISCOVERY = "/icproxy/gcube/service/GCoreEndpoint/DataAccess/StorageHub"
ENTRY_NAME = "org.gcube.data.access.storagehub.StorageHub"


def sortapp(registry: str, token: str, item_id: str, folder_id: str) -> None:
    response = requests.get(f"{registry}{DISCOVERY}?gcube-token={token}", timeout=10)
    assert response.status_code == 200
    path = "Resource/Profile/AccessPoint/RunningInstanceInterfaces/Endpoint"
    base = next(
        endpoint.text
        for endpoint in ET.fromstring(response.text).findall(path)
        if endpoint.attrib["EntryName"] == ENTRY_NAME
    )
    response = requests.get(f"{base}/items/{item_id}/download?gcube-token={token}", timeout=10)
    assert response.status_code == 200
    result = "\n".join(sorted(response.text.splitlines()))
    response = requests.post(
        f"{base}/items/{folder_id}/create/FILE?gcube-token={token}",
        files=[
            ("name", "elements.txt"),
            ("description", "sorted elements"),
            ("file", ("file", io.BytesIO(result.encode()))),
        ],
        timeout=10,
    )
    assert response.status_code == 200


def test_sortapp_run_twice_leaves_one_sorted_file(tmp_path: Path) -> None:
    with local_storagehub(tmp_path) as hub, hub_client(hub, ALICE) as alice:
        item = hub.seed(ALICE.name, "sortableelements.txt", b"pear\napple\nfig\n")
        folder = alice.create_folder("die-tmp", hidden="true")
        for _ in range(2):
            sortapp(hub.url, ALICE.token, item, folder)
        with zipfile.ZipFile(io.BytesIO(alice.download(folder))) as archive:
            assert archive.namelist() == ["die-tmp/", "die-tmp/elements.txt"]
            assert archive.read("die-tmp/elements.txt") == b"apple\nfig\npear"
        (file,) = alice.children(folder)
        versions = alice.get(f"/items/{file['id']}/versions").json()["itemlist"]
        assert [version["name"] for version in versions] == ["1.0", "1.1"]


def test_a_seeded_file_is_made_once_and_follows_its_content(tmp_path: Path) -> None:
    with local_storagehub(tmp_path) as hub, hub_client(hub, ALICE) as alice:
        first = hub.seed(ALICE.name, "a.txt", b"one")
        assert hub.seed(ALICE.name, "a.txt", b"one") == first
        assert len(alice.get(f"/items/{first}/versions").json()["itemlist"]) == 1
        assert hub.seed(ALICE.name, "a.txt", b"two") == first
        assert alice.download(first) == b"two"
