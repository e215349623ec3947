"""A real embedded StorageHub for tests: in this process, on a free port, in a temporary folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests

from die_algorithm.local_storagehub.server import LocalStorageHub

VRE = "/d4science.research-infrastructures.eu/D4Research/AnalyticsLab"


@dataclasses.dataclass(frozen=True)
class HubUser:
    """A user of the embedded StorageHub, with one token."""

    name: str
    token: str
    vre: str = VRE

    @property
    def headers(self) -> dict[str, str]:
        """What carries her token: a JWT has a header of its own."""
        is_jwt = self.token.count(".") == 2
        return {"Authorization": f"Bearer {self.token}"} if is_jwt else {"gcube-token": self.token}


ALICE = HubUser("alice.test", "a11ce000-0000-4000-8000-000000000001-98187548")
BOB = HubUser("bob.test", "b0b00000-0000-4000-8000-000000000002-98187548")


class HubClient:
    """What a user does with her workspace, through bare HTTP requests and nothing of our own client.

    Args:
        base_url: the address with ``/workspace`` at its end.
        user: whose token is sent, in the header that it belongs into.
    """

    def __init__(self, base_url: str, user: HubUser) -> None:
        self.base_url = base_url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(user.headers)

    def request(self, method: str, path: str, **options: object) -> requests.Response:
        """Any request, relative to the base address."""
        return self.session.request(method, self.base_url + path, timeout=60, **options)  # type: ignore[arg-type]

    def get(self, path: str, **params: object) -> requests.Response:
        """A GET with query parameters."""
        return self.request("GET", path, params=params)

    def root(self) -> str:
        """The id of the workspace's root."""
        return str(self.get("/").json()["item"]["id"])

    def create_folder(self, name: str, parent: str | None = None, **fields: str) -> str:
        """Make a folder; returns its id."""
        form = {"name": name, "description": "a folder", **fields}
        path = f"/items/{parent or self.root()}/create/FOLDER"
        return _id(self.request("POST", path, data=form))

    def upload(self, name: str, content: bytes, parent: str | None = None) -> str:
        """Make a file, or a new version of it; returns its id."""
        path = f"/items/{parent or self.root()}/create/FILE"
        form = {"name": name, "description": "a file"}
        return _id(self.request("POST", path, data=form, files={"file": (name, content)}))

    def item(self, item_id: str, **params: object) -> dict[str, object]:
        """The item's JSON."""
        found = self.get(f"/items/{item_id}", **params).json()["item"]
        assert isinstance(found, dict)
        return found

    def children(self, item_id: str, **params: object) -> list[dict[str, object]]:
        """The JSON of what is in a folder."""
        found = self.get(f"/items/{item_id}/children", **params).json()["itemlist"]
        assert isinstance(found, list)
        return found

    def names(self, item_id: str, **params: object) -> list[object]:
        """The names of what is in a folder."""
        return [child["name"] for child in self.children(item_id, **params)]

    def download(self, item_id: str) -> bytes:
        """A file's bytes, or a folder's zip."""
        response = self.get(f"/items/{item_id}/download")
        assert response.status_code == 200, response.text
        return response.content

    def close(self) -> None:
        """Close the connections."""
        self.session.close()


def write_users(path: Path, users: Sequence[HubUser] = (ALICE, BOB)) -> Path:
    """Write the file of users."""
    tables = [
        f"[[users]]\nname = {json.dumps(user.name)}\nfullname = {json.dumps(user.name.title())}\n"
        f"tokens = [{json.dumps(user.token)}]\nvre = {json.dumps(user.vre)}\n"
        for user in users
    ]
    path.write_text("\n".join(tables), encoding="utf-8")
    return path


@contextlib.contextmanager
def local_storagehub(
    folder: Path,
    users: Sequence[HubUser] = (ALICE, BOB),
    *,
    listen: Sequence[str] = ("127.0.0.1:0",),
    public_url: str | None = None,
) -> Iterator[LocalStorageHub]:
    """Run a StorageHub that keeps everything in the folder; the same folder again has it all still.

    ``hub.base_url`` is its address, ``hub.seed(user, name, content)`` puts a file into a workspace.
    """
    folder.mkdir(parents=True, exist_ok=True)
    users_file = write_users(folder / "users.toml", users)
    with LocalStorageHub(folder / "hub", users_file, listen, public_url) as hub:
        yield hub


@contextlib.contextmanager
def hub_client(hub: LocalStorageHub, user: HubUser) -> Iterator[HubClient]:
    """A client for one user."""
    with contextlib.closing(HubClient(hub.base_url, user)) as client:
        yield client


def _id(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return response.text
