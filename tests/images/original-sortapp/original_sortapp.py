#!/usr/bin/env python3
"""An image with the habits of the first one ever written for the executor.

They must go on working (reference: storagehub 3.2): StorageHub looked up over plain HTTP at a
fixed host, the token in queries and printed, every field of the upload sent as a file, the whole
job done twice.
"""

from __future__ import annotations

import sys
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

DIRECTORY = (
    "http://registry.d4science.org/icproxy/gcube/service/GCoreEndpoint/DataAccess/StorageHub"
)
ENDPOINT = "Resource/Profile/AccessPoint/RunningInstanceInterfaces/Endpoint"
STORAGEHUB = "org.gcube.data.access.storagehub.StorageHub"
BOUNDARY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
RESULT = "elements.txt"


def main() -> None:
    _, token, item, folder = sys.argv
    say(f"gcubeToken: {token}")
    query = f"gcube-token={token}"
    tree = ET.fromstring(request(f"{DIRECTORY}?{query}"))
    (base,) = (e.text for e in tree.findall(ENDPOINT) if e.get("EntryName") == STORAGEHUB)
    text = request(f"{base}/items/{item}/download?{query}").decode()
    Path(RESULT).write_text("\n".join(sorted(text.splitlines())), encoding="utf-8")
    say(request(f"{base}/items/{folder}/create/FILE?{query}", form()).decode())


def form() -> bytes:
    """Return a form whose three fields all claim to be files."""
    parts = (
        ("name", "name", RESULT),
        ("description", "description", "sorted elements"),
        ("file", "file", Path(RESULT).read_text(encoding="utf-8")),
    )
    body = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"\r\n{value}\r\n"
        for name, filename, value in parts
    )
    return f"{body}--{BOUNDARY}--\r\n".encode()


def request(url: str, body: bytes | None = None) -> bytes:
    """Return the answer's body; anything but 200 ends the program with a traceback."""
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"} if body else {}
    say(url)
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        if answer.status != 200:
            raise RuntimeError(url)
        return bytes(answer.read())


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


main()
if __name__ == "__main__":
    main()
