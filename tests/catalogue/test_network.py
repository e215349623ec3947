"""What is asked of other hosts in all of this: nothing (the catalogue's A1, A2, A9)."""

from __future__ import annotations

import subprocess
import sys

from catalogue import test_inputs, test_xml
from catalogue.asking import Row, execute1, literal, post
from catalogue.world import METADATA, World

_CONNECT = (
    "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)"
)


def rows() -> list[Row]:
    numbers = ("X10", "X14", "X16", "X17", "X31", "X38", "I11", "I13", "FP7", "FP8", "FP9")
    return [
        row
        for row in (*test_xml.ROWS, *test_inputs.IMAGES, *test_inputs.FILES)
        if row.name.startswith(numbers)
    ]


def test_no_request_of_any_row_reaches_an_inner_address(catalogue: World) -> None:
    before, asked = catalogue.listeners.count(), catalogue.links.asked
    played = rows()
    for row in played:
        catalogue.ask(row.ask)
    assert len(played) > 200
    assert catalogue.listeners.count() == before
    assert catalogue.strayed() == 0
    # Those that led to a trusted host were asked for, and what it said was read.
    assert catalogue.links.asked - asked >= 10


def test_whoever_did_connect_would_be_counted(catalogue: World) -> None:
    before, strayed = catalogue.listeners.count(), catalogue.strayed()
    for host in (METADATA, "127.0.0.1"):
        for port in ("80", "5000", "8081"):
            command = [*catalogue.network.enter(), sys.executable, "-c", _CONNECT, host, port]
            subprocess.run(command, check=True)
    assert catalogue.listeners.count() == before + 6
    assert catalogue.strayed() > strayed
    reset = [*catalogue.network.enter(), "iptables", "--zero", "OUTPUT"]
    subprocess.run(reset, check=True)
    catalogue.untouched = catalogue.left()


def test_a_name_that_leads_inside_is_resolved_by_the_service_as_by_others(catalogue: World) -> None:
    # Or the rows with such names would show nothing.
    pid = catalogue.process.pid
    command = ["nsenter", f"--target={pid}", "--mount", "--net", "getent", "hosts", "metadata.test"]
    assert METADATA in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answer = catalogue.ask(post(execute1(FileParam=literal("FileParam", "http://metadata.test/"))))
    assert answer.status == 400
