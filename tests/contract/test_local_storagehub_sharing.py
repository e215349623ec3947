"""The embedded StorageHub over HTTP: what users see of each other."""

from __future__ import annotations

import pytest
from storagehub_fixture import ALICE, BOB, HubClient


def share(
    owner: HubClient, folder: str, access: str = "WRITE_ALL", users: tuple[str, ...] = (BOB.name,)
) -> int:
    parts = [("defaultAccessType", (None, access)), *(("users", (None, user)) for user in users)]
    return owner.request("PUT", f"/items/{folder}/share", files=parts).status_code


class TestPrivacy:
    @pytest.mark.parametrize(
        ("method", "path", "data"),
        [
            ("GET", "", None),
            ("GET", "/children", None),
            ("GET", "/items/*", None),
            ("GET", "/download", None),
            ("GET", "/publiclink", None),
            ("GET", "/versions", None),
            ("GET", "/anchestors", None),
            ("GET", "/acls", None),
            ("POST", "/create/FOLDER", {"name": "x"}),
            ("PUT", "/rename", {"newName": "x"}),
            ("DELETE", "", None),
        ],
    )
    def test_another_users_item_is_forbidden(
        self,
        alice: HubClient,
        bob: HubClient,
        method: str,
        path: str,
        data: dict[str, str] | None,
    ) -> None:
        folder = alice.create_folder("private")
        file = alice.upload("secret.txt", b"secret", folder)
        for item in (folder, file, alice.root()):
            response = bob.request(method, f"/items/{item}{path}", data=data)
            assert response.status_code == 403
            assert response.json()["exceptionClass"].endswith("UserNotAuthorizedException")
            assert "secret" not in response.text

    def test_nothing_of_others_can_be_moved_or_copied_to_oneself(
        self, alice: HubClient, bob: HubClient
    ) -> None:
        file = alice.upload("secret.txt", b"secret")
        for operation in ("move", "copy"):
            form = {"destinationId": bob.root(), "fileName": "mine"}
            response = bob.request("PUT", f"/items/{file}/{operation}", data=form)
            assert response.status_code == 403


class TestSharedFolder:
    """Reference: storagehub 1.4."""

    def test_a_shared_folder_keeps_its_id_and_is_seen_by_both(
        self, alice: HubClient, bob: HubClient
    ) -> None:
        folder = alice.create_folder("ours")
        file = alice.upload("f.txt", b"x", folder)
        assert share(alice, folder) == 200
        for client in (alice, bob):
            item = client.item(folder)
            assert item["@class"] == "org.gcube.common.storagehub.model.items.SharedFolder"
            assert item["primaryType"] == "nthl:workspaceSharedItem"
            assert str(item["path"]).startswith("/Share/")
            assert item["shared"] is True
            assert item["users"] == {"map": {ALICE.name: "", BOB.name: ""}}
            assert item["parentId"] == client.root()
            assert folder in [child["id"] for child in client.children(client.root())]
            assert str(client.item(file)["path"]).startswith("/Share/")
            assert client.get(f"/items/{file}/rootSharedFolder").json()["item"]["id"] == folder
            path = client.get(f"/items/{file}/anchestors").json()["itemlist"]
            assert [item["id"] for item in path] == [folder, client.root()]
        assert bob.download(file) == b"x"
        assert [i["id"] for i in bob.get("/shared-with-me").json()["itemlist"]].count(folder) == 1
        assert alice.get("/shared-with-me").json()["itemlist"] == []

    @pytest.mark.parametrize(
        ("access", "add", "change_others"),
        [("READ_ONLY", 403, 403), ("WRITE_OWNER", 200, 403), ("WRITE_ALL", 200, 200)],
    )
    def test_access_types_say_what_a_member_may_do(
        self, alice: HubClient, bob: HubClient, access: str, add: int, change_others: int
    ) -> None:
        folder = alice.create_folder("ours")
        file = alice.upload("alices.txt", b"x", folder)
        share(alice, folder, access)
        assert bob.download(file) == b"x"
        made = bob.request("POST", f"/items/{folder}/create/FOLDER", data={"name": "bobs"})
        assert made.status_code == add
        if add == 200:
            response = bob.request("PUT", f"/items/{made.text}/rename", data={"newName": "y"})
            assert response.status_code == 200
        for path, options in (
            ("rename", {"data": {"newName": "z"}}),
            ("metadata", {"json": {"map": {"x": "y"}}}),
        ):
            response = bob.request("PUT", f"/items/{file}/{path}", **options)
            assert response.status_code == change_others, path
        acls = alice.get(f"/items/{file}/acls").json()["acls"]
        assert {"pricipal": BOB.name, "accessTypes": [access]} in acls

    def test_a_shared_folder_is_not_deleted_moved_or_renamed(self, alice: HubClient) -> None:
        outer = alice.create_folder("outer")
        folder = alice.create_folder("ours", outer)
        share(alice, folder)
        for item in (folder, outer):
            assert alice.request("DELETE", f"/items/{item}").status_code == 500
            form = {"destinationId": alice.root()}
            assert alice.request("PUT", f"/items/{item}/move", data=form).status_code == 500
        assert (
            alice.request("PUT", f"/items/{folder}/rename", data={"newName": "x"}).status_code
            == 500
        )

    def test_an_item_does_not_move_out_of_its_shared_folder(
        self, alice: HubClient, bob: HubClient
    ) -> None:
        folder = alice.create_folder("ours")
        share(alice, folder)
        file = bob.upload("f.txt", b"x", folder)
        for client in (alice, bob):
            form = {"destinationId": client.root()}
            assert client.request("PUT", f"/items/{file}/move", data=form).status_code == 400
        sub = bob.create_folder("sub", folder)
        form = {"destinationId": sub}
        assert bob.request("PUT", f"/items/{file}/move", data=form).status_code == 200

    def test_shares_are_not_nested(self, alice: HubClient) -> None:
        outer = alice.create_folder("outer")
        inner = alice.create_folder("inner", outer)
        assert share(alice, outer) == 200
        assert share(alice, inner) == 500
        other = alice.create_folder("other")
        share(alice, alice.create_folder("inner", other))
        assert share(alice, other) == 500

    @pytest.mark.parametrize(
        ("access", "users"), [("ALL", (BOB.name,)), ("READ_ONLY", ("nobody",)), ("READ_ONLY", ())]
    )
    def test_a_wrong_share_is_refused(
        self, alice: HubClient, access: str, users: tuple[str, ...]
    ) -> None:
        folder = alice.create_folder("mine")
        assert share(alice, folder, access, users) == 400
        assert alice.item(folder)["shared"] is False

    def test_only_the_owner_shares(self, alice: HubClient, bob: HubClient) -> None:
        assert share(alice, alice.root()) == 500
        assert share(alice, alice.upload("f", b"")) == 500
        folder = alice.create_folder("mine")
        assert share(bob, folder) == 403
        assert share(alice, folder, "WRITE_ALL") == 200
        assert share(bob, folder) == 403

    def test_an_unshared_folder_is_private_again(self, alice: HubClient, bob: HubClient) -> None:
        folder = alice.create_folder("ours")
        share(alice, folder)
        response = alice.request("PUT", f"/items/{folder}/unshare", files={"x": (None, "")})
        assert (response.status_code, response.text) == (200, folder)
        item = alice.item(folder)
        assert item["primaryType"] == "nthl:workspaceItem"
        assert str(item["path"]).startswith(f"/Home/{ALICE.name}/Workspace/")
        assert bob.get(f"/items/{folder}").status_code == 403
        assert alice.request("PUT", f"/items/{folder}/unshare").status_code == 500

    def test_a_member_can_leave_but_not_put_others_out(
        self, alice: HubClient, bob: HubClient
    ) -> None:
        folder = alice.create_folder("ours")
        share(alice, folder)
        others = {"users": (None, ALICE.name)}
        assert bob.request("PUT", f"/items/{folder}/unshare", files=others).status_code == 403
        assert bob.request("PUT", f"/items/{folder}/unshare").status_code == 200
        assert bob.get(f"/items/{folder}").status_code == 403
        assert alice.item(folder)["shared"] is False

    def test_a_members_deletion_goes_to_the_members_trash(
        self, alice: HubClient, bob: HubClient
    ) -> None:
        folder = alice.create_folder("ours")
        share(alice, folder)
        file = alice.upload("f.txt", b"x", folder)
        assert bob.request("DELETE", f"/items/{file}").status_code == 200
        assert alice.names(folder) == []
        assert bob.item(file)["trashed"] is True
        assert bob.request("PUT", "/trash/restore", data=file).status_code == 200
        assert alice.names(folder) == ["f.txt"]


class TestVreFolder:
    def test_members_see_each_others_files_and_change_their_own(
        self, alice: HubClient, bob: HubClient
    ) -> None:
        vre = alice.get("/vrefolder").json()["item"]["id"]
        file = alice.upload("f.txt", b"x", vre)
        assert bob.download(file) == b"x"
        assert bob.request("DELETE", f"/items/{file}").status_code == 403
        assert bob.request("DELETE", f"/items/{vre}", params={"force": "true"}).status_code in {
            403,
            500,
        }
        assert alice.request("DELETE", f"/items/{file}").status_code == 200
        assert vre not in [child["id"] for child in alice.children(alice.root())]
