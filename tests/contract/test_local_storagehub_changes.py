"""The embedded StorageHub over HTTP: creating, changing and removing items, and downloads."""

from __future__ import annotations

import io
import tarfile
import uuid
import zipfile

import pytest
import requests
from storagehub_fixture import ALICE, HubClient

from die_algorithm.local_storagehub.server import LocalStorageHub

MODEL = "org.gcube.common.storagehub.model.items"


@pytest.fixture
def folder(alice: HubClient) -> str:
    """A folder of its own for each test."""
    return alice.create_folder("test")


class TestCreateFolder:
    def test_a_taken_name_gets_a_number(self, alice: HubClient, folder: str) -> None:
        names = [
            alice.item(alice.create_folder(name, folder))["name"]
            for name in ("run", "run", "run", "v1.2", "v1.2")
        ]
        assert names == ["run", "run(1)", "run(2)", "v1.2", "v1(1).2"]

    def test_the_answer_is_the_bare_id(self, alice: HubClient, folder: str) -> None:
        response = alice.request("POST", f"/items/{folder}/create/FOLDER", data={"name": "x"})
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/plain")
        assert response.text == str(uuid.UUID(response.text))

    def test_a_multipart_form_is_taken_too(self, alice: HubClient, folder: str) -> None:
        parts = {"name": (None, "multi"), "description": (None, "d"), "hidden": (None, "true")}
        response = alice.request("POST", f"/items/{folder}/create/FOLDER", files=parts)
        assert alice.item(response.text)["hidden"] is True

    @pytest.mark.parametrize(
        "name", ["", "..", ".", "a/../b", "/abs", "a//b", "nul\0", "line\nbreak", "x" * 256]
    )
    def test_a_name_that_no_item_can_have_is_refused(
        self, alice: HubClient, folder: str, name: str
    ) -> None:
        response = alice.request("POST", f"/items/{folder}/create/FOLDER", data={"name": name})
        assert response.status_code == 400
        assert response.json()["exceptionClass"].endswith("InvalidCallParameters")
        assert alice.names(folder) == []

    def test_an_item_cannot_be_made_in_a_file(self, alice: HubClient, folder: str) -> None:
        file = alice.upload("f", b"", folder)
        response = alice.request("POST", f"/items/{file}/create/FOLDER", data={"name": "x"})
        assert response.status_code == 500
        assert response.json()["exceptionClass"].endswith("InvalidItemException")

    def test_external_folders_are_refused(self, alice: HubClient, folder: str) -> None:
        assert alice.request("POST", f"/items/{folder}/create/EXTERNALFOLDER").status_code == 400


class TestCreateFile:
    def test_content_comes_back_as_it_was_sent(self, alice: HubClient, folder: str) -> None:
        content = bytes(range(256)) * 4096 + b"\r\n--boundary\r\n\r\n"
        assert alice.download(alice.upload("bytes", content, folder)) == content

    def test_an_empty_file_comes_back_empty(self, alice: HubClient, folder: str) -> None:
        response = alice.get(f"/items/{alice.upload('empty', b'', folder)}/download")
        assert (response.content, response.headers["Content-Length"]) == (b"", "0")

    def test_all_parts_may_be_sent_as_files(self, alice: HubClient, folder: str) -> None:
        parts = {"name": "n.txt", "description": "d", "file": ("other.txt", b"data")}
        response = alice.request("POST", f"/items/{folder}/create/FILE", files=parts)
        item = alice.item(response.text)
        assert (item["name"], item["description"]) == ("n.txt", "d")
        assert alice.download(response.text) == b"data"

    def test_the_file_may_be_sent_as_a_text(self, alice: HubClient, folder: str) -> None:
        parts = {"name": (None, "n"), "description": (None, "d"), "file": (None, b"\xff\0data")}
        response = alice.request("POST", f"/items/{folder}/create/FILE", files=parts)
        assert alice.download(response.text) == b"\xff\0data"

    @pytest.mark.parametrize(
        ("part", "is_empty"),
        [
            *(("name", False), ("name", True), ("description", False), ("description", True)),
            ("file", False),
        ],
    )
    def test_a_missing_or_empty_part_is_refused(
        self, alice: HubClient, folder: str, part: str, is_empty: bool
    ) -> None:
        parts = {"name": (None, "n"), "description": (None, "d"), "file": ("f", b"x")}
        if is_empty:
            parts[part] = (None, "")
        else:
            del parts[part]
        response = alice.request("POST", f"/items/{folder}/create/FILE", files=parts)
        assert response.status_code == 400
        assert part in response.json()["message"]
        assert alice.names(folder) == []

    @pytest.mark.parametrize("body", [b"", b"--x\r\n", b"--x\r\nfoo\r\n\r\nbar\r\n--x--\r\n"])
    def test_a_damaged_form_is_refused(self, alice: HubClient, folder: str, body: bytes) -> None:
        response = alice.request(
            "POST",
            f"/items/{folder}/create/FILE",
            data=body,
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert response.status_code == 400

    def test_a_form_without_end_is_given_up(self, alice: HubClient, folder: str) -> None:
        response = alice.request(
            "POST",
            f"/items/{folder}/create/FILE",
            data=b"x" * 3_000_000,
            headers={"Content-Type": "multipart/form-data; boundary=never"},
        )
        assert response.status_code == 413

    def test_the_same_name_again_is_a_new_version_with_the_same_id(
        self, alice: HubClient, folder: str
    ) -> None:
        first = alice.upload("f.txt", b"one", folder)
        assert alice.upload("f.txt", b"two!", folder) == first
        assert alice.names(folder) == ["f.txt"]
        assert alice.download(first) == b"two!"
        assert alice.item(first)["lastAction"] == "UPDATED"
        versions = alice.get(f"/items/{first}/versions").json()["itemlist"]
        assert [(v["name"], v["current"]) for v in versions] == [("1.0", False), ("1.1", True)]

    def test_a_folder_of_that_name_is_not_replaced(self, alice: HubClient, folder: str) -> None:
        alice.create_folder("taken", folder)
        parts = {"name": (None, "taken"), "description": (None, "d"), "file": ("f", b"x")}
        response = alice.request("POST", f"/items/{folder}/create/FILE", files=parts)
        assert response.status_code == 400
        assert response.json()["exceptionClass"].endswith("ItemAlreadyExistsException")


class TestDownload:
    """Reference: storagehub 1.5."""

    def test_the_headers_of_a_file_are_those_of_storagehub(
        self, alice: HubClient, folder: str
    ) -> None:
        response = alice.get(f"/items/{alice.upload('my file.txt', b'abc', folder)}/download")
        assert response.headers["content-disposition"] == "attachment; filename = my file.txt"
        assert response.headers["Content-Length"] == "3"
        assert response.headers["Content-Type"] == "text/plain"

    def test_a_version_is_downloaded_by_its_name(self, alice: HubClient, folder: str) -> None:
        file = alice.upload("f.txt", b"one", folder)
        alice.upload("f.txt", b"two", folder)
        old = alice.get(f"/items/{file}/versions/1.0/download")
        assert old.content == b"one"
        assert old.headers["content-disposition"] == "attachment; filename = f_v1.0.txt"
        assert alice.get(f"/items/{file}/versions/9.9/download").status_code == 500
        assert alice.get(f"/items/{folder}/versions").status_code == 500

    def test_a_folder_is_a_zip_that_begins_with_its_name(
        self, alice: HubClient, folder: str
    ) -> None:
        top = alice.create_folder("top é", folder)
        sub = alice.create_folder("sub", top)
        alice.create_folder("empty", sub)
        alice.upload("b.txt", b"b", sub)
        alice.upload("a.txt", b"a" * 1000, top)
        alice.upload("image.png", b"png" * 1000, top)
        hidden = alice.create_folder("hidden", top, hidden="true")
        alice.upload("inside", b"", hidden)
        response = alice.get(f"/items/{top}/download")
        assert response.headers["Content-Type"] == "application/zip"
        assert "Content-Length" not in response.headers
        name = response.headers["content-disposition"].encode("latin-1").decode()
        assert name == "attachment; filename = top é.zip"
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [
                "top é/",
                "top é/a.txt",
                "top é/image.png",
                "top é/sub/",
                "top é/sub/b.txt",
                "top é/sub/empty/",
            ]
            assert archive.read("top é/a.txt") == b"a" * 1000
            assert archive.read("top é/sub/b.txt") == b"b"

    def test_excluded_items_are_not_in_the_zip(self, alice: HubClient, folder: str) -> None:
        sub = alice.create_folder("sub", folder)
        alice.upload("deep", b"", sub)
        file, kept = alice.upload("no", b"", folder), alice.upload("yes", b"", folder)
        response = alice.get(f"/items/{folder}/download", exclude=[sub, file])
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            names = archive.namelist()
        assert [name.partition("/")[2] for name in names] == ["", "yes"]
        assert kept

    def test_the_whole_workspace_downloads_without_its_trash(self, alice: HubClient) -> None:
        alice.request("DELETE", f"/items/{alice.upload('gone', b'', alice.root())}")
        with zipfile.ZipFile(io.BytesIO(alice.download(alice.root()))) as archive:
            names = archive.namelist()
        assert names[0] == "Workspace/"
        assert not [name for name in names if name.startswith("Workspace/Trash")]


class TestPublicLink:
    @staticmethod
    def _link(alice: HubClient, item: str, **params: str) -> str:
        response = alice.get(f"/items/{item}/publiclink", **params)
        assert response.headers["Content-Type"] == "application/json"
        assert response.text[0] == response.text[-1] == '"'
        return str(response.json())

    def test_a_link_opens_the_file_without_a_token(
        self, hub: LocalStorageHub, alice: HubClient, folder: str
    ) -> None:
        file = alice.upload("f.txt", b"public", folder)
        link = self._link(alice, file)
        assert link.startswith(f"{hub.url}/shub/E_")
        assert file not in link
        response = requests.get(link, timeout=10)
        assert response.content == b"public"
        assert response.headers["content-disposition"] == "attachment; filename = f.txt"
        assert alice.get(f"/items/publiclink/{link.rpartition('/')[2]}").content == b"public"

    def test_a_link_may_name_a_version(self, alice: HubClient, folder: str) -> None:
        file = alice.upload("f.txt", b"one", folder)
        link = self._link(alice, file, version="1.0")
        alice.upload("f.txt", b"two", folder)
        assert requests.get(link, timeout=10).content == b"one"
        assert requests.get(self._link(alice, file), timeout=10).content == b"two"
        assert alice.get(f"/items/{file}/publiclink", version="7.0").status_code == 400

    def test_a_folder_has_no_link(self, alice: HubClient, folder: str) -> None:
        response = alice.get(f"/items/{folder}/publiclink")
        assert response.status_code == 400
        assert response.json()["message"] == "the choosen item is not a File"

    def test_a_link_that_was_not_made_here_opens_nothing(
        self, hub: LocalStorageHub, alice: HubClient, folder: str
    ) -> None:
        file = alice.upload("f.txt", b"x", folder)
        link = self._link(alice, file)
        altered = link[:-10] + ("A" if link[-10] != "A" else "B") + link[-9:]
        for wrong in (altered, f"{hub.url}/shub/E_", f"{hub.url}/shub/{file}"):
            assert requests.get(wrong, timeout=10).status_code == 404
        alice.request("DELETE", f"/items/{file}", params={"force": "true"})
        assert requests.get(link, timeout=10).status_code == 404


class TestMoveCopyRename:
    def test_a_file_moves_and_keeps_its_id(self, alice: HubClient, folder: str) -> None:
        target = alice.create_folder("target", folder)
        alice.upload("f.txt", b"there", target)
        file = alice.upload("f.txt", b"here", folder)
        response = alice.request("PUT", f"/items/{file}/move", data={"destinationId": target})
        assert (response.status_code, response.text) == (200, file)
        assert alice.names(target) == ["f(1).txt", "f.txt"]
        assert alice.item(file)["lastAction"] == "MOVED"

    @pytest.mark.parametrize("destination", ["itself", "below", "file", "nowhere"])
    def test_a_folder_does_not_move_where_it_cannot_be(
        self, alice: HubClient, folder: str, destination: str
    ) -> None:
        moved = alice.create_folder("moved", folder)
        target = {
            "itself": moved,
            "below": alice.create_folder("below", moved),
            "file": alice.upload("f", b"", folder),
            "nowhere": str(uuid.uuid4()),
        }[destination]
        response = alice.request("PUT", f"/items/{moved}/move", data={"destinationId": target})
        assert response.status_code == 500
        assert alice.item(moved)["parentId"] == folder

    def test_a_copy_has_the_content_and_an_id_of_its_own(
        self, alice: HubClient, folder: str
    ) -> None:
        file = alice.upload("f.txt", b"data", folder)
        form = {"destinationId": folder, "fileName": "copy.txt"}
        response = alice.request("PUT", f"/items/{file}/copy", data=form)
        copy = response.text
        assert copy != file
        alice.request("DELETE", f"/items/{file}", params={"force": "true"})
        assert alice.download(copy) == b"data"
        assert alice.item(copy)["lastAction"] == "CLONED"

    def test_a_folder_is_not_copied(self, alice: HubClient, folder: str) -> None:
        form = {"destinationId": folder, "fileName": "x"}
        assert alice.request("PUT", f"/items/{folder}/copy", data=form).status_code == 500

    def test_a_new_name_is_taken_or_numbered(self, alice: HubClient, folder: str) -> None:
        alice.upload("taken.txt", b"", folder)
        file = alice.upload("f.txt", b"", folder)
        response = alice.request("PUT", f"/items/{file}/rename", data={"newName": "taken.txt"})
        assert (response.status_code, response.text) == (200, file)
        assert alice.item(file)["name"] == "taken(1).txt"
        assert alice.request("PUT", f"/items/{file}/rename", data={}).status_code == 400

    def test_metadata_is_kept(self, alice: HubClient, folder: str) -> None:
        metadata = {"map": {"run": "42", "é": [1, {"x": None}]}}
        response = alice.request("PUT", f"/items/{folder}/metadata", json=metadata)
        assert (response.status_code, response.text) == (200, folder)
        assert alice.item(folder)["metadata"] == metadata
        assert alice.request("PUT", f"/items/{folder}/metadata", data=b"{").status_code == 400

    def test_a_gcube_item_keeps_its_properties(self, alice: HubClient, folder: str) -> None:
        document = {
            "name": "analysis",
            "description": "a run",
            "scopes": ["/x"],
            "itemType": "Computation",
            "property": {"map": {"operator": "DIE"}},
        }
        response = alice.request("POST", f"/items/{folder}/create/GCUBEITEM", json=document)
        item = alice.item(response.text)
        assert item["@class"] == f"{MODEL}.GCubeItem"
        assert item["property"] == {"map": {"operator": "DIE"}}
        assert item["creator"] == ALICE.name
        assert alice.get(f"/items/{response.text}/download").status_code == 500


class TestArchive:
    @staticmethod
    def _upload(alice: HubClient, folder: str, archive: bytes) -> requests.Response:
        parts = {"parentFolderName": (None, "unpacked"), "file": ("a", archive)}
        return alice.request("POST", f"/items/{folder}/create/ARCHIVE", files=parts)

    @staticmethod
    def _zip(*members: tuple[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members:
                archive.writestr(name, content)
        return buffer.getvalue()

    @staticmethod
    def _tar(mode: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
            file = tarfile.TarInfo("d/f.txt")
            file.size = 4
            archive.addfile(file, io.BytesIO(b"data"))
            link = tarfile.TarInfo("d/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        return buffer.getvalue()

    def test_a_zip_is_unpacked_into_a_new_folder(self, alice: HubClient, folder: str) -> None:
        archive = self._zip(("a.txt", b"a"), ("d/e/", b""), ("d/f/b.txt", b"b"))
        top = self._upload(alice, folder, archive)
        assert top.status_code == 200
        with zipfile.ZipFile(io.BytesIO(alice.download(top.text))) as unpacked:
            assert unpacked.namelist() == [
                *("unpacked/", "unpacked/a.txt", "unpacked/d/", "unpacked/d/e/", "unpacked/d/f/"),
                "unpacked/d/f/b.txt",
            ]
        again = self._upload(alice, folder, archive)
        assert alice.item(again.text)["name"] == "unpacked(1)"

    @pytest.mark.parametrize("mode", ["w", "w:gz"])
    def test_a_tar_is_unpacked_without_its_links(
        self, alice: HubClient, folder: str, mode: str
    ) -> None:
        top = self._upload(alice, folder, self._tar(mode))
        with zipfile.ZipFile(io.BytesIO(alice.download(top.text))) as unpacked:
            assert unpacked.namelist() == ["unpacked/", "unpacked/d/", "unpacked/d/f.txt"]

    @pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil"])
    def test_an_archive_that_leads_outside_leaves_nothing(
        self, alice: HubClient, folder: str, name: str
    ) -> None:
        response = self._upload(alice, folder, self._zip(("good", b""), (name, b"x")))
        assert response.status_code == 400
        assert alice.names(folder) == []

    @pytest.mark.parametrize("archive", [b"", b"no archive", b"PK\x05\x06" + b"\xff" * 18])
    def test_what_is_no_archive_is_refused(
        self, alice: HubClient, folder: str, archive: bytes
    ) -> None:
        assert self._upload(alice, folder, archive).status_code == 400
        assert alice.names(folder) == []

    @pytest.mark.slow
    def test_a_very_deep_tree_comes_back_and_can_be_deleted(
        self, alice: HubClient, folder: str
    ) -> None:
        deep = "d/" * 1010 + "f.txt"
        top = self._upload(alice, folder, self._zip((deep, b"deep"))).text
        with zipfile.ZipFile(io.BytesIO(alice.download(top))) as unpacked:
            assert unpacked.read(f"unpacked/{deep}") == b"deep"
        force = {"force": "true"}
        assert alice.request("DELETE", f"/items/{top}", params=force).status_code == 200
        assert alice.names(folder) == []

    def test_a_damaged_archive_leaves_nothing(self, alice: HubClient, folder: str) -> None:
        archive = bytearray(self._zip(("a.txt", b"a" * 1000)))
        archive[100] ^= 0xFF
        assert self._upload(alice, folder, bytes(archive)).status_code == 400
        assert alice.names(folder) == []


class TestTrash:
    def test_a_deleted_item_is_trashed_and_keeps_its_id(
        self, alice: HubClient, folder: str
    ) -> None:
        sub = alice.create_folder("sub", folder)
        file = alice.upload("f.txt", b"x", sub)
        response = alice.request("DELETE", f"/items/{sub}")
        assert (response.status_code, response.content) == (200, b"")
        assert alice.names(folder) == []
        assert alice.item(sub)["trashed"] is True
        assert alice.item(file)["trashed"] is True

    def test_the_trash_tells_where_an_item_came_from(self, alice: HubClient, folder: str) -> None:
        alice.request("DELETE", "/trash/empty")
        file = alice.upload("f.txt", b"xyz", folder)
        alice.request("DELETE", f"/items/{file}")
        (item,) = alice.children(alice.get("/trash").json()["item"]["id"])
        assert item["@class"] == f"{MODEL}.TrashItem"
        assert (item["name"], item["originalParentId"]) == ("f.txt", folder)
        assert (item["deletedBy"], item["folder"], item["lenght"]) == (ALICE.name, False, 3)
        assert item["deletedFrom"] == alice.item(folder)["path"]
        assert [c["id"] for c in alice.children(str(item["id"]))] == [file]

    @pytest.mark.parametrize("which", ["wrapper", "item"])
    def test_a_trashed_item_can_be_restored(
        self, alice: HubClient, folder: str, which: str
    ) -> None:
        file = alice.upload("f.txt", b"old", folder)
        alice.request("DELETE", f"/items/{file}")
        alice.upload("f.txt", b"new", folder)
        wrapper = str(alice.item(file)["parentId"])
        response = alice.request(
            "PUT",
            "/trash/restore",
            data=wrapper if which == "wrapper" else file,
            headers={"Content-Type": "text/plain"},
        )
        assert (response.status_code, response.text) == (200, file)
        assert alice.names(folder) == ["f(1).txt", "f.txt"]
        assert alice.item(file)["trashed"] is False
        assert alice.get(f"/items/{wrapper}").status_code == 404

    def test_an_item_whose_folder_is_gone_is_restored_to_the_root(
        self, alice: HubClient, folder: str
    ) -> None:
        name = f"{uuid.uuid4()}.txt"
        file = alice.upload(name, b"", folder)
        alice.request("DELETE", f"/items/{file}")
        alice.request("DELETE", f"/items/{folder}", params={"force": "true"})
        alice.request("PUT", "/trash/restore", data=file)
        assert alice.item(file)["parentId"] == alice.root()

    def test_nothing_is_put_into_the_trash_but_by_deleting(
        self, alice: HubClient, folder: str
    ) -> None:
        trash = alice.get("/trash").json()["item"]["id"]
        form = {"name": "x", "destinationId": trash}
        for method, path in (
            ("POST", f"/items/{trash}/create/FOLDER"),
            ("PUT", f"/items/{folder}/move"),
        ):
            assert alice.request(method, path, data=form).status_code == 500

    def test_what_is_not_in_the_trash_is_not_restored(self, alice: HubClient, folder: str) -> None:
        assert alice.request("PUT", "/trash/restore", data=folder).status_code == 500

    @pytest.mark.parametrize("how", ["force", "twice", "empty"])
    def test_an_item_can_be_removed_for_good(
        self, hub: LocalStorageHub, alice: HubClient, folder: str, how: str
    ) -> None:
        sub = alice.create_folder("sub", folder)
        file = alice.upload("f.txt", b"x", sub)
        alice.upload("f.txt", b"y", sub)
        blobs = {path.name for path in (hub._folder / "blobs").glob("*/*")}
        if how == "force":
            alice.request("DELETE", f"/items/{sub}", params={"force": "true"})
        else:
            alice.request("DELETE", f"/items/{sub}")
            second = f"/items/{sub}" if how == "twice" else "/trash/empty"
            assert alice.request("DELETE", second).status_code == 200
        assert alice.get(f"/items/{sub}").status_code == 404
        assert alice.get(f"/items/{file}").status_code == 404
        left = {path.name for path in (hub._folder / "blobs").glob("*/*")}
        assert len(blobs - left) >= 2

    @pytest.mark.parametrize("which", ["root", "trash"])
    def test_the_workspace_itself_stays(self, alice: HubClient, which: str) -> None:
        item = alice.root() if which == "root" else alice.get("/trash").json()["item"]["id"]
        for params in ({}, {"force": "true"}):
            assert alice.request("DELETE", f"/items/{item}", params=params).status_code == 500
        assert (
            alice.request("PUT", f"/items/{item}/rename", data={"newName": "x"}).status_code == 500
        )
        assert alice.item(item)
