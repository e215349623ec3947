"""What a researcher's script does: one asynchronous Execute over HTTP, nothing but the standard library."""

from __future__ import annotations

import io
import time
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable

WPS = "{http://www.opengis.net/wps/1.0.0}"
PROCESS = (
    "org.gcube.dataanalysis.wps.statisticalmanager.synchserver.mappedclasses.transducerers."
    "DOCKER_IMAGE_EXECUTOR"
)


def execute_url(
    service: str, token: str, image: str, command: str, item: str, *, asynchronous: bool = True
) -> str:
    """The address of an Execute."""
    inputs = {"Image": image, "CommandName": command, "FileParam": item}
    query = {
        "service": "WPS",
        "version": "1.0.0",
        "request": "Execute",
        "gcube-token": token,
        "Identifier": PROCESS,
        "DataInputs": ";".join(
            f"{name}={urllib.parse.quote(value, safe='')}" for name, value in inputs.items()
        ),
    }
    if asynchronous:
        query |= {"storeExecuteResponse": "true", "status": "true"}
    return f"{service}?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}"


def fetch(url: str, token: str | None = None) -> bytes:
    """The body of an address; an HTTP error is raised with the reason that the service gives."""
    headers = {"gcube-token": token} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the service's own links
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise RuntimeError("".join(ET.fromstring(error.read()).itertext()).strip()) from None  # noqa: S314


def run(execute: str, token: str, show: Callable[[str], None]) -> tuple[str, bytes]:
    """Send the Execute, follow it to its end and fetch the result.

    Args:
        execute: the address of the Execute.
        token: whose job it is; the status is shown to nobody else.
        show: is told what happens.

    Returns:
        The address of the zip, and the zip.

    Raises:
        RuntimeError: the job failed; says why.
    """
    document = ET.fromstring(fetch(execute))  # noqa: S314 - the service's own document
    location = document.attrib["statusLocation"]
    show(f"Status document: {location}")
    shown = ""
    while document.find(f"{WPS}ProcessOutputs") is None:
        status = document.find(f"{WPS}Status")
        words = " ".join("".join(status.itertext()).split()) if status is not None else ""
        if status is not None and status.find(f"{WPS}ProcessFailed") is not None:
            raise RuntimeError(words)
        if words != shown:
            show(f"  {words}")
            shown = words
        time.sleep(0.2)
        document = ET.fromstring(fetch(location, token))  # noqa: S314
    reference = document.find(f".//{WPS}Output/{WPS}Reference")
    if reference is None:
        raise RuntimeError("The answer names no result.")
    return reference.attrib["href"], fetch(reference.attrib["href"])


def files_in(result: bytes) -> dict[str, str]:
    """The text files of a result zip by their names."""
    with zipfile.ZipFile(io.BytesIO(result)) as archive:
        return {
            info.filename: archive.read(info).decode()
            for info in archive.infolist()
            if not info.is_dir()
        }
