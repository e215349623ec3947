"""A result of 1 GB: our stage-out against curl of the same bytes, and what it costs in memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
import urllib.request
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path

from demo_client import WPS, execute_url, fetch

from benchmarks.figure import Figure
from benchmarks.processes import family, memory

_FILES, _FILE_SIZE = 10, 100 * 1000 * 1000
_ROUNDS = 3
_SLEEP = 90


def measure_large_result(facts: dict[str, str]) -> list[Figure]:
    """Let a job's program sleep while its folder is filled; time curl before, us after its end."""
    execute = execute_url(
        facts["service"], facts["token"], "die-tests/probe", f"probe sleep {_SLEEP}", facts["item"]
    )
    location = ET.fromstring(fetch(execute)).attrib["statusLocation"]
    job_id = location.partition("?id=")[2]
    folder = _folder(facts, f"die-{job_id}")
    for number in range(_FILES):
        _upload(facts, folder, f"part-{number}.bin")
    curl = [_curl(facts, folder) for _ in range(_ROUNDS)]
    service = family(int(facts["service_pid"]))
    _wait(facts, location, "ProcessStarted", beyond=30)
    before = memory(service)
    began = time.monotonic()
    _wait(facts, location, "ProcessSucceeded")
    ours = time.monotonic() - began
    growth = (memory(service, "VmHWM") - before) / 1e6
    size = _FILES * _FILE_SIZE
    return [
        Figure(
            what="stage-out of 1 GB ÷ curl of the same bytes (speed)",
            value=statistics.median(curl) / ours,
            aim=0.5,
            at_most=False,
            detail=f"ours {size / ours / 1e6:.0f} MB/s with verification and clean-up, curl "
            f"{size / statistics.median(curl) / 1e6:.0f} MB/s (median of {_ROUNDS})",
        ),
        Figure(
            what="memory growth of the service and its worker meanwhile",
            value=growth,
            aim=64,
            at_most=True,
            unit=" MB",
            detail=f"resident before {before / 1e6:.0f} MB, highest ever "
            f"{memory(service, 'VmHWM') / 1e6:.0f} MB",
        ),
    ]


def _folder(facts: dict[str, str], name: str) -> str:
    """Wait for the job's temp folder and give its id."""
    root = _json_id(facts, "/")
    while True:
        listing = _get(facts, f"/items/{root}/items/{name}")
        if name in listing:
            return listing.partition('"id":')[2].split('"')[1]
        time.sleep(0.05)


def _json_id(facts: dict[str, str], path: str) -> str:
    return _get(facts, path).partition('"id":')[2].split('"')[1]


def _get(facts: dict[str, str], path: str) -> str:
    request = urllib.request.Request(
        facts["storagehub"] + path, headers={"gcube-token": facts["token"]}
    )
    with urllib.request.urlopen(request) as answer:
        return str(answer.read().decode())


def _upload(facts: dict[str, str], folder: str, name: str) -> None:
    """Upload bytes that do not compress."""
    block = os.urandom(1000 * 1000)
    path = Path(f"/dev/shm/die-bench-{uuid.uuid4()}")  # noqa: S108 - not on the disk under test
    try:
        with path.open("wb") as file:
            for _ in range(_FILE_SIZE // len(block)):
                file.write(block)
        subprocess.run(
            [
                *("curl", "-sS", "--fail", "-o", "/dev/null"),
                *("-H", f"gcube-token: {facts['token']}"),
                *("-F", f"name={name}", "-F", f"description={name}", "-F", f"file=@{path}"),
                f"{facts['storagehub']}/items/{folder}/create/FILE",
            ],
            check=True,
        )
    finally:
        path.unlink(missing_ok=True)


def _curl(facts: dict[str, str], folder: str) -> float:
    """Seconds for curl to fetch the folder's zip onto the disk."""
    target = Path(facts["state"]) / "curl.zip"
    began = time.monotonic()
    subprocess.run(
        [
            *("curl", "-sS", "--fail", "-o", target, "-H", f"gcube-token: {facts['token']}"),
            f"{facts['storagehub']}/items/{folder}/download",
        ],
        check=True,
    )
    seconds = time.monotonic() - began
    target.unlink()
    return seconds


def _wait(facts: dict[str, str], location: str, element: str, beyond: int = -1) -> None:
    """Poll until the status shows an element, with more than a percentage if one is given."""
    while True:
        document = ET.fromstring(fetch(location, facts["token"]))
        found = document.find(f".//{WPS}{element}")
        if found is not None and int(found.get("percentCompleted", "100")) > beyond:
            return
        if document.find(f".//{WPS}ProcessFailed") is not None:
            raise RuntimeError("".join(document.itertext()))
        time.sleep(0.02)
