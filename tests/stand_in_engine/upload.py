"""How a program writes: StorageHub's form for a new file, sent as sortapp sends it."""

from __future__ import annotations

import http.client
import uuid
from collections.abc import Mapping
from urllib.parse import urlsplit

from stand_in_engine.program import Write

_TIMEOUT = 60


def upload(storagehub: str, token: str, item: str, folder: str, write: Write) -> bool:
    """Put a file into a folder of the workspace; return whether StorageHub took it.

    Args:
        storagehub: its address, as in ``STORAGEHUB_URL``.
        token: the user's.
        item: the id of the item that the program gets.
        folder: the id of the folder.
        write: the file.
    """
    url = urlsplit(f"{storagehub.rstrip('/')}/items/{folder}/create/FILE")
    boundary = uuid.uuid4().hex
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", **_proof(token)}
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=_TIMEOUT)
    try:
        content = write.text.encode() if write.text is not None else b""
        if write.text is None:
            base = url.path.rpartition("/items/")[0]
            connection.request("GET", f"{base}/items/{item}/download", headers=_proof(token))
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                return False
        connection.request("POST", url.path, _form(write.name, content, boundary), headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _proof(token: str) -> Mapping[str, str]:
    is_jwt = token.count(".") == 2
    return {"Authorization": f"Bearer {token}"} if is_jwt else {"gcube-token": token}


def _form(name: str, content: bytes, boundary: str) -> bytes:
    fields = {"name": name, "description": "written by a test"}
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: text/plain\r\n\r\n"
    )
    return "".join(parts).encode() + content + f"\r\n--{boundary}--\r\n".encode()
