"""The embedded StorageHub over HTTP: who may come in, and what can be read.

What is claimed is the contract in reference: storagehub, section by section.
"""

from __future__ import annotations

import json
import urllib.parse
import uuid
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import requests
from storagehub_fixture import ALICE, BOB, VRE, HubClient, HubUser, local_storagehub

from die_algorithm.errors import SettingsError
from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.local_storagehub.users import Users

MODEL = "org.gcube.common.storagehub.model.items"


@pytest.fixture
def folder(alice: HubClient) -> str:
    """A folder of its own for each test."""
    return alice.create_folder("test")


class TestAuthentication:
    """Reference: storagehub 1.2."""

    @pytest.mark.parametrize(
        "options",
        [
            {"params": {"gcube-token": ALICE.token}},
            {"headers": {"gcube-token": ALICE.token}},
            {"headers": {"Authorization": f"Bearer {ALICE.token}"}},
            {"auth": (ALICE.name, ALICE.token)},
            {
                "params": {"gcube-token": ALICE.token},
                "headers": {"gcube-token": "nobody's", "Authorization": "Bearer nobody's"},
            },
        ],
        ids=["query", "header", "bearer", "basic", "query-first"],
    )
    def test_each_way_of_giving_a_token_is_taken(
        self, hub: LocalStorageHub, options: dict[str, dict[str, str]]
    ) -> None:
        response = requests.get(hub.base_url, timeout=10, **options)  # type: ignore[arg-type]
        assert response.status_code == 200
        assert response.json()["item"]["owner"] == ALICE.name

    @pytest.mark.parametrize(
        ("options", "status", "word"),
        [
            ({}, 401, "authorization required"),
            ({"params": {"gcube-token": "unknown"}}, 400, "invalid token"),
            ({"headers": {"gcube-token": "unknown"}}, 400, "invalid token"),
            ({"headers": {"Authorization": "Bearer unknown"}}, 401, "not valid"),
            ({"auth": (BOB.name, ALICE.token)}, 401, "not of the user"),
            ({"auth": (ALICE.name, "unknown")}, 400, "invalid token"),
            ({"headers": {"Authorization": "Basic ???"}}, 401, "authorization required"),
        ],
    )
    def test_a_request_without_a_valid_token_is_refused(
        self, hub: LocalStorageHub, options: dict[str, dict[str, str]], status: int, word: str
    ) -> None:
        response = requests.get(hub.base_url, timeout=10, **options)  # type: ignore[arg-type]
        assert response.status_code == status
        assert word in response.json()["message"]
        assert ALICE.token not in response.text

    def test_a_jwt_opens_the_workspace_as_bearer_and_in_no_other_way(self, tmp_path: Path) -> None:
        carol = HubUser("carol.test", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYXJvbC50ZXN0In0.c2ln")
        token = {"gcube-token": carol.token}
        with local_storagehub(tmp_path, (ALICE, carol)) as hub:
            bearer = {"Authorization": f"Bearer {carol.token}"}
            assert requests.get(hub.base_url, headers=bearer, timeout=10).status_code == 200
            for refused in (
                requests.get(hub.base_url, params=token, timeout=10),
                requests.get(hub.base_url, headers=token, timeout=10),
                requests.get(hub.base_url, headers=token | bearer, timeout=10),
                requests.get(hub.base_url, auth=(carol.name, carol.token), timeout=10),
            ):
                assert refused.status_code == 400
                assert "invalid token: a JWT" in refused.json()["message"]
                assert carol.token not in refused.text

    def test_the_profile_tells_whose_token_it_is(self, hub: LocalStorageHub) -> None:
        for prefix in ("", "/social-networking-library-ws"):
            response = requests.get(
                f"{hub.url}{prefix}/rest/2/people/profile",
                params={"gcube-token": BOB.token},
                timeout=10,
            )
            assert response.json() == {
                "success": True,
                "message": None,
                "result": {"username": BOB.name, "fullname": "Bob.Test"},
            }


class TestAddresses:
    """Reference: storagehub 1.1."""

    @pytest.mark.parametrize("base", ["/storagehub/workspace", "/workspace"])
    @pytest.mark.parametrize("path", ["", "/", "//", "/items//{id}", "/items/{id}/"])
    def test_both_generations_of_addresses_lead_to_the_same_api(
        self, hub: LocalStorageHub, alice: HubClient, base: str, path: str
    ) -> None:
        url = hub.url + base + path.format(id=alice.root())
        response = requests.get(url, headers={"gcube-token": ALICE.token}, timeout=10)
        assert response.status_code == 200
        assert response.json()["item"]["id"] == alice.root()
        assert not response.history

    def test_discovery_names_the_address_that_was_asked(self, hub: LocalStorageHub) -> None:
        response = requests.get(
            f"{hub.url}/icproxy/gcube/service/GCoreEndpoint/DataAccess/StorageHub",
            params={"gcube-token": ALICE.token},
            headers={"Host": "registry.d4science.org"},
            timeout=10,
        )
        path = "Resource/Profile/AccessPoint/RunningInstanceInterfaces/Endpoint"
        endpoints = ET.fromstring(response.content).findall(path)
        assert [(e.get("EntryName"), e.text) for e in endpoints] == [
            (
                "org.gcube.data.access.storagehub.StorageHub",
                "http://registry.d4science.org/storagehub/workspace",
            )
        ]

    def test_discovery_names_the_public_address_if_one_is_set(self, tmp_path: Path) -> None:
        public = "https://hub.example.org/x"
        with local_storagehub(tmp_path, public_url=public + "/") as hub:
            assert hub.base_url == f"{public}/storagehub/workspace"
            port = hub.addresses[0][1]
            response = requests.get(
                f"http://127.0.0.1:{port}/icproxy/gcube/service/GCoreEndpoint/DataAccess/StorageHub",
                params={"gcube-token": ALICE.token},
                timeout=10,
            )
        assert f">{public}/storagehub/workspace</Endpoint>" in response.text

    def test_several_addresses_are_listened_on(self, tmp_path: Path) -> None:
        with local_storagehub(tmp_path, listen=("127.0.0.1:0", "127.0.0.1:0")) as hub:
            assert len(hub.addresses) == 2
            for _, port in hub.addresses:
                url = f"http://127.0.0.1:{port}/workspace"
                assert requests.get(url, timeout=10).status_code == 401

    def test_an_unknown_path_or_method_is_told_in_json(self, alice: HubClient) -> None:
        assert alice.get("/nowhere").status_code == 404
        refused = alice.request("DELETE", f"/items/{alice.root()}/children")
        assert refused.status_code == 405
        assert "GET" in refused.headers["Allow"]
        assert refused.headers["Content-Type"] == "application/json"


class TestItemJson:
    """Reference: storagehub 1.4."""

    def test_a_folder_has_the_fields_of_a_folder_item(self, alice: HubClient, folder: str) -> None:
        item = alice.item(alice.create_folder("sub", folder, hidden="true"))
        parent = alice.item(folder)
        assert item["@class"] == f"{MODEL}.FolderItem"
        assert item["primaryType"] == "nthl:workspaceItem"
        assert (item["name"], item["title"], item["description"]) == ("sub", "sub", "a folder")
        assert item["path"] == f"{parent['path']}/sub"
        assert str(item["path"]).startswith(f"/Home/{ALICE.name}/Workspace/")
        assert (item["parentId"], item["parentPath"]) == (folder, parent["path"])
        assert (item["owner"], item["lastModifiedBy"]) == (ALICE.name, ALICE.name)
        assert item["lastAction"] == "CREATED"
        assert [item[flag] for flag in ("trashed", "shared", "locked", "hidden")] == [
            *(False, False, False, True)
        ]
        assert item["metadata"] == {"map": {}}
        assert item["accounting"] == {"entries": []}
        assert "content" not in item

    @pytest.mark.parametrize(
        ("name", "content", "mime_type", "type_names"),
        [
            ("a.txt", b"x", "text/plain", ("GenericFileItem", "nthl:externalFile")),
            ("a.csv", b"x", "text/csv", ("GenericFileItem", "nthl:externalFile")),
            ("a.pdf", b"x", "application/pdf", ("PDFFileItem", "nthl:externalPdf")),
            ("a.png", b"x", "image/png", ("ImageFile", "nthl:externalImage")),
            ("a.csv.gz", b"x", "application/gzip", ("GenericFileItem", "nthl:externalFile")),
            ("text", "é".encode(), "text/plain", ("GenericFileItem", "nthl:externalFile")),
            ("bytes", b"\0", "application/octet-stream", ("GenericFileItem", "nthl:externalFile")),
            ("empty", b"", "application/octet-stream", ("GenericFileItem", "nthl:externalFile")),
        ],
    )
    def test_a_file_is_typed_by_its_name_or_content(
        self,
        alice: HubClient,
        name: str,
        content: bytes,
        mime_type: str,
        type_names: tuple[str, str],
    ) -> None:
        item = alice.item(alice.upload(name, content, alice.create_folder("types")))
        assert (item["@class"], item["primaryType"]) == (f"{MODEL}.{type_names[0]}", type_names[1])
        described = item["content"]
        assert isinstance(described, dict)
        assert (described["size"], described["mimeType"]) == (len(content), mime_type)
        assert described["storageId"]
        assert described["remotePath"] == item["path"]

    def test_times_are_epoch_milliseconds(self, alice: HubClient, folder: str) -> None:
        before = alice.item(folder)["creationTime"]
        after = alice.item(alice.create_folder("later", folder))["creationTime"]
        assert isinstance(before, int)
        assert isinstance(after, int)
        # Between 2001 and 2286 milliseconds have 13 digits.
        assert len(str(before)) == 13
        assert before <= after

    def test_exclude_leaves_fields_out(self, alice: HubClient, folder: str) -> None:
        item = alice.item(folder, exclude=["hl:accounting", "hl:metadata"])
        assert "accounting" not in item
        assert "metadata" not in item


class TestListings:
    """Reference: storagehub 1.3."""

    def test_children_are_listed_without_hidden_ones(self, alice: HubClient, folder: str) -> None:
        alice.create_folder("seen", folder)
        alice.create_folder("unseen", folder, hidden="true")
        alice.upload("file.txt", b"", folder)
        assert alice.names(folder) == ["file.txt", "seen"]
        assert alice.names(folder, showHidden="true") == ["file.txt", "seen", "unseen"]
        count = alice.get(f"/items/{folder}/children/count")
        assert (count.text, count.headers["Content-Type"]) == ("2", "application/json")
        assert alice.get(f"/items/{folder}/children/count", showHidden="true").text == "3"

    def test_only_type_selects_by_the_repository_type(self, alice: HubClient, folder: str) -> None:
        alice.create_folder("folder", folder)
        alice.upload("a.txt", b"", folder)
        alice.upload("a.pdf", b"", folder)
        assert alice.names(folder, onlyType="nthl:workspaceItem") == ["folder"]
        assert alice.names(folder, onlyType="nthl:externalFile") == ["a.txt"]
        assert alice.names(folder, onlyType="nthl:workspaceLeafItem") == ["a.pdf", "a.txt"]

    def test_pages_add_up_to_the_listing(self, alice: HubClient, folder: str) -> None:
        for number in range(5):
            alice.create_folder(f"f{number}", folder)
        pages = [
            alice.get(f"/items/{folder}/children/paged", start=start, limit=2).json()["itemlist"]
            for start in (0, 2, 4, 6)
        ]
        assert [len(page) for page in pages] == [2, 2, 1, 0]
        assert [item["name"] for page in pages for item in page] == alice.names(folder)
        assert alice.get(f"/items/{folder}/children/paged", start="x").status_code == 400

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("a1.txt", ["a1.txt"]),
            ("a*", ["a1.txt", "a2.csv"]),
            ("*.txt", ["a1.txt", "b.txt"]),
            ("1", []),
            ("with space?.txt", ["with space?.txt"]),
        ],
    )
    def test_items_are_found_by_name(
        self, alice: HubClient, folder: str, pattern: str, found: list[str]
    ) -> None:
        for name in ("a1.txt", "a2.csv", "b.txt", "with space?.txt"):
            alice.upload(name, b"", folder)
        path = f"/items/{folder}/items/{urllib.parse.quote(pattern)}"
        items = alice.get(path).json()["itemlist"]
        expected = ["a1.txt", "b.txt", "with space?.txt"] if pattern == "*.txt" else found
        assert [item["name"] for item in items] == expected

    def test_ancestors_lead_to_the_root(self, alice: HubClient, folder: str) -> None:
        sub = alice.create_folder("sub", folder)
        file = alice.upload("f", b"", sub)
        path = alice.get(f"/items/{file}/anchestors").json()["itemlist"]
        assert [item["id"] for item in path] == [sub, folder, alice.root()]

    def test_the_root_listing_hides_the_trash(self, alice: HubClient) -> None:
        assert "Trash" not in alice.names(alice.root(), showHidden="true")
        assert alice.get("/trash").json()["item"]["name"] == "Trash"

    def test_a_path_below_the_root_can_be_asked_for(self, alice: HubClient, folder: str) -> None:
        sub = alice.create_folder("deep down", folder)
        name = alice.item(folder)["name"]
        assert alice.get("/", relPath=f"{name}/deep down").json()["item"]["id"] == sub
        assert alice.get("/", relPath="no/such/path").status_code == 500

    def test_acls_of_a_private_item_name_its_owner(self, alice: HubClient, folder: str) -> None:
        acls = alice.get(f"/items/{folder}/acls").json()
        assert acls == {"acls": [{"pricipal": ALICE.name, "accessTypes": ["ADMINISTRATOR"]}]}

    def test_the_vre_folder_is_that_of_the_token(self, alice: HubClient) -> None:
        item = alice.get("/vrefolder").json()["item"]
        assert item["@class"] == f"{MODEL}.VreFolder"
        assert item["primaryType"] == "nthl:workspaceVreItem"
        assert item["context"] == VRE
        assert item["vreFolder"] is True
        assert item["path"].startswith("/Share/")
        for path in ("/vrefolders", "/vrefolders/paged"):
            assert [i["id"] for i in alice.get(path).json()["itemlist"]] == [item["id"]]

    def test_recent_files_of_the_vre_are_listed_latest_first(self, alice: HubClient) -> None:
        vre = alice.get("/vrefolder").json()["item"]["id"]
        for name in ("one", "two", "one"):
            alice.upload(name, b"", vre)
        recent = alice.get("/vrefolder/recents").json()["itemlist"]
        assert {item["name"] for item in recent} == {"one", "two"}
        times = [item["lastModificationTime"] for item in recent]
        assert times == sorted(times, reverse=True)


class TestQuery:
    """A subset of the Java client's expressions."""

    @staticmethod
    def _search(alice: HubClient, expression: object, **params: object) -> list[str]:
        response = alice.get("/query", e=json.dumps(expression), **params)
        assert response.status_code == 200, response.text
        return [item["name"] for item in response.json()["itemlist"]]

    def test_text_and_logic_select_items(self, alice: HubClient, folder: str) -> None:
        for name in ("quake_1.csv", "quake_2.csv", "quiet.txt"):
            alice.upload(name, b"", folder)
        package = "org.gcube.common.storagehub.model.expressions"
        title = {"type": "java.lang.String", "name": "jcr:title"}
        inside = {"@class": f"{package}.logical.ISDescendant", "path": alice.item(folder)["path"]}
        like = {"@class": f"{package}.text.Like", "searchableField": title, "value": "quake%"}
        has_2 = {"@class": f"{package}.text.Contains", "searchableField": title, "value": "2"}
        quakes = {"@class": f"{package}.logical.And", "expressions": [inside, like]}
        order = {"o": "[jcr:title] DESC"}
        assert self._search(alice, quakes, **order) == ["quake_2.csv", "quake_1.csv"]
        assert self._search(alice, quakes, l=1, f=1, **order) == ["quake_1.csv"]
        both = {"@class": f"{package}.logical.And", "expressions": [quakes, has_2]}
        assert self._search(alice, both, n="nthl:externalFile") == ["quake_2.csv"]
        none = {"@class": f"{package}.logical.Not", "expression": like}
        rest = {"@class": f"{package}.logical.And", "expressions": [inside, none]}
        assert self._search(alice, rest) == ["quiet.txt"]
        either = {"@class": f"{package}.logical.Or", "expressions": [rest, both]}
        assert sorted(self._search(alice, either)) == ["quake_2.csv", "quiet.txt"]

    @pytest.mark.parametrize(
        "expression",
        [
            *("{", "[]", '{"@class":"x.Unknown"}', '{"@class":"And"}'),
            '{"@class":"Not","expression":' * 900 + "{}" + "}" * 900,
        ],
        ids=["no-json", "no-object", "unknown", "incomplete", "deep"],
    )
    def test_what_is_not_of_the_subset_is_refused(self, alice: HubClient, expression: str) -> None:
        assert alice.get("/query", e=expression).status_code == 400


class TestErrors:
    """Reference: storagehub 1.5, Errors."""

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "", 404),
            ("GET", "/children", 404),
            ("GET", "/children/paged", 404),
            ("GET", "/children/count", 404),
            ("GET", "/items/x", 404),
            ("GET", "/download", 500),
            ("GET", "/publiclink", 500),
            ("GET", "/versions", 500),
            ("GET", "/versions/1.0/download", 500),
            ("GET", "/anchestors", 500),
            ("GET", "/rootSharedFolder", 500),
            ("GET", "/acls", 500),
            ("DELETE", "", 500),
        ],
    )
    def test_an_id_that_does_not_exist_is_told_as_storagehub_does(
        self, alice: HubClient, method: str, path: str, status: int
    ) -> None:
        for item_id in (str(uuid.uuid4()), "no-id", "%00", "..%2f..%2fetc"):
            response = alice.request(method, f"/items/{item_id}{path}")
            if "/" not in urllib.parse.unquote(item_id):
                assert response.status_code == status, item_id
                body = response.json()
                assert set(body) == {"id", "message", "exceptionClass", "encodedTrace"}
                assert body["exceptionClass"].startswith("org.gcube.common.storagehub.model")
                assert response.headers["ETag"] == '"gxError"'
            else:
                assert response.status_code in {404, 405, 500}

    def test_errors_show_no_path_of_the_server(self, alice: HubClient, tmp_path: Path) -> None:
        text = alice.get(f"/items/{uuid.uuid4()}/download").text
        assert str(tmp_path.parents[1]) not in text
        assert "Traceback" not in text


class TestUsersFile:
    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("", "users"),
            ("users = 1", "users"),
            ("[[users]", "cannot be read"),
            ('[[users]]\nname = "a b"\ntokens = ["secret-token"]', "name"),
            ('[[users]]\nname = "a"\ntokens = []', "tokens"),
            ('[[users]]\nname = "a"\ntokens = ["secret-token", 1]', "tokens"),
            ('[[users]]\nname = "a"\ntokens = ["secret-token"]\nvre = "x"', "vre"),
            ('[[users]]\nname = "a"\ntokens = ["secret-token"]\nwho = "x"', "who"),
            (
                '[[users]]\nname = "a"\ntokens = ["secret-token"]\n'
                '[[users]]\nname = "b"\ntokens = ["secret-token"]',
                "twice",
            ),
            (
                '[[users]]\nname = "a"\ntokens = ["secret-token"]\n'
                '[[users]]\nname = "a"\ntokens = ["b"]',
                "same name",
            ),
        ],
    )
    def test_a_wrong_file_is_told_without_its_tokens(
        self, tmp_path: Path, text: str, word: str
    ) -> None:
        path = tmp_path / "users.toml"
        path.write_text(text)
        with pytest.raises(SettingsError, match=word) as caught:
            Users.load(path)
        assert "secret-token" not in str(caught.value)

    def test_a_missing_file_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read"):
            Users.load(tmp_path / "none.toml")

    def test_a_user_shows_no_token_in_its_repr(self, tmp_path: Path) -> None:
        path = tmp_path / "users.toml"
        path.write_text('[[users]]\nname = "a"\ntokens = ["secret-token"]\nvre = ["/x/y", "/z"]')
        users = Users.load(path)
        assert "secret-token" not in repr(list(users))
        assert users.vres == {"/x/y": ["a"], "/z": ["a"]}
