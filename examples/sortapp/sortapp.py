#!/usr/bin/env python3
"""Sort the lines of a file of the workspace: an example of an image for the Docker Image Executor.

    sortapp <token> <file-item-id> <temp-dir-item-id>

It fetches the file from StorageHub, sorts its lines and uploads them as ``elements.txt`` into the
temp folder, which the researcher gets as a zip. It needs nothing but Python 3 itself.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
import uuid
import xml.etree.ElementTree as ET
from http.client import HTTPException

RESULT = "elements.txt"
ICPROXY = "https://registry.d4science.org/icproxy/gcube/service"
STORAGEHUB = "org.gcube.data.access.storagehub.StorageHub"
TIMEOUT = 60  # seconds without a byte


class SortappError(Exception):
    """The job cannot be done; the message says why."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: the token in the request's header would go along."""

    def redirect_request(self, *_args: object, **_options: object) -> None:
        """Return no request, so that the redirect counts as an error."""


OPENER = urllib.request.build_opener(NoRedirect)


def main(arguments: list[str]) -> int:
    """Do the job; return the exit code: 0 done, 1 not possible, 2 wrong arguments."""
    if len(arguments) != 3:
        print("usage: sortapp <token> <file-item-id> <temp-dir-item-id>", file=sys.stderr)
        return 2
    token, item, folder = arguments
    try:
        storagehub = os.environ.get("STORAGEHUB_URL", "").rstrip("/") or discover(token)
        lines = fetch(token, f"{storagehub}/items/{item}/download", "The file").splitlines()
        upload(token, f"{storagehub}/items/{folder}/create/FILE", b"\n".join(sorted(lines)))
    except SortappError as error:
        print(f"sortapp: {error}", file=sys.stderr)
        return 1
    print(f"Sorted {len(lines)} lines into {RESULT}.")
    return 0


def discover(token: str, icproxy: str = ICPROXY) -> str:
    """Ask the infrastructure's directory for StorageHub's address.

    An image need not do this: the executor sets STORAGEHUB_URL.
    """
    reply = fetch(token, f"{icproxy}/GCoreEndpoint/DataAccess/StorageHub", "StorageHub's address")
    try:
        endpoints = list(ET.fromstring(reply).iter("Endpoint"))  # noqa: S314  (a trusted host's)
    except ET.ParseError:
        raise SortappError("The directory's answer is no XML.") from None
    for endpoint in endpoints:
        if endpoint.get("EntryName") == STORAGEHUB and endpoint.text:
            return endpoint.text.strip().rstrip("/")
    raise SortappError("The directory names no StorageHub.")


def upload(token: str, url: str, content: bytes) -> None:
    """Send the result as a multipart form with the fields StorageHub requires."""
    boundary = uuid.uuid4().hex
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("name", RESULT), ("description", "The lines in order"))
    )
    head += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{RESULT}"\r\n'
        "Content-Type: text/plain\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    fetch(token, url, "The upload", body, f"multipart/form-data; boundary={boundary}")


def fetch(
    token: str, url: str, what: str, body: bytes | None = None, content_type: str = ""
) -> bytes:
    """Send one request with the token and return the answer's body.

    Raises:
        SortappError: there is no good answer; ``what`` begins the message.
    """
    headers = {"Content-Type": content_type} if body is not None else {}
    if token.count(".") == 2:  # a JSON Web Token; otherwise a gCube token
        headers["Authorization"] = f"Bearer {token}"
    else:
        headers["gcube-token"] = token
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with OPENER.open(request, timeout=TIMEOUT) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise SortappError(f"{what}: the server answered {error.code}.") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise SortappError(f"{what}: the server cannot be reached ({reason}).") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
