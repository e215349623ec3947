"""Whatever is asked: an answer in its proper form, no fault of ours, and no memory that is never given back.

``make fuzz`` asks a hundred thousand times; a sample runs with the tests (``DOOR_FUZZ_REQUESTS``).
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import re
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from catalogue.asking import Ask
from catalogue.world import Answer
from hypothesis import HealthCheck, Phase, given, settings
from ogc import assert_valid
from quick_fixture import Processes, quick_world
from storagehub_fixture import ALICE

from fuzz.requests_of_chance import asks

REQUESTS = int(os.environ.get("DOOR_FUZZ_REQUESTS", "600"))
#: Memory at the end to that after the first twentieth: what is kept for speed is there by then.
GROWTH = 1.25
#: Requests of which a twentieth has had every thread and buffer used.
WARM = 10_000
_NEVER_SHOWN = ("Traceback", "die_algorithm", "site-packages", "/tmp/", ALICE.token)


class Door:
    """A connection to a service that is kept as long as it goes, and what came of it."""

    def __init__(self, processes: Processes, process: subprocess.Popen[bytes]) -> None:
        self._processes = processes
        self._process = process
        self._where = urlsplit(processes.settings.url)
        self._connection = self._new()
        self.statuses: collections.Counter[int] = collections.Counter()
        self.memory: list[int] = []
        #: Seconds, and what was asked.
        self.slowest: tuple[float, Ask | None] = (0.0, None)

    def _new(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(str(self._where.hostname), self._where.port, timeout=60)

    def ask(self, ask: Ask) -> Answer:
        began = time.monotonic()
        try:
            self._connection.request(ask.method, ask.target, ask.body, dict(ask.headers))
            response = self._connection.getresponse()
            body = response.read()
        except (http.client.HTTPException, ConnectionError, BrokenPipeError):
            # The server may have closed it after its last answer; a second time is a fault.
            self._connection.close()
            self._connection = self._new()
            self._connection.request(ask.method, ask.target, ask.body, dict(ask.headers))
            response = self._connection.getresponse()
            body = response.read()
        seconds = time.monotonic() - began
        self.statuses[response.status] += 1
        if seconds > self.slowest[0]:
            self.slowest = (seconds, ask)
        if sum(self.statuses.values()) % max(1, REQUESTS // 20) == 0:
            self.memory.append(self._resident())
        return Answer(response.status, response.msg, body, seconds)

    def close(self) -> None:
        self._connection.close()

    def _resident(self) -> int:
        ids = [self._process.pid, *self._processes.children(self._process)]
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in ids)
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def hold(answer: Answer, ask: Ask) -> None:
    """See that an answer is one: of the right kind, whole, and of our own words."""
    assert answer.status < 500 or answer.status in (501, 503), answer.text
    assert not [word for word in _NEVER_SHOWN if word in answer.text], answer.text
    if ask.method == "HEAD" or answer.status in (204, 304):
        return
    match answer.headers.get_content_type():
        case "text/xml":
            assert_valid(answer.body)
        case "application/json":
            json.loads(answer.body)
        case "text/plain":
            answer.body.decode()
        case other:
            pytest.fail(f"an answer of type {other}")


def test_whatever_is_asked_is_answered_in_good_form(tmp_path: Path) -> None:
    changes = dict.fromkeys(
        ("max_requests_per_minute", "max_refused_tokens_per_minute", "max_executes_per_minute"), "0"
    )
    with quick_world(tmp_path) as world, world.processes(**changes) as processes:
        door = Door(processes, processes.serve())

        @settings(
            max_examples=REQUESTS,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(asks())
        def play(ask: Ask) -> None:
            hold(door.ask(ask), ask)

        with contextlib.closing(door):
            play()
        log = processes.log.read_text()
        growth = door.memory[-1] / door.memory[0]
        # As the service has it: this process takes long over its own requests, too.
        seen = max(int(each) for each in re.findall(r" (\d+) ms$", log, re.MULTILINE))
        jobs = len(world.engine.starts)
    print(
        f"\n{sum(door.statuses.values())} requests, {jobs} jobs run; answers {dict(sorted(door.statuses.items()))}; "
        f"slowest {door.slowest[0]:.2f} s, by the service's log {seen} ms; memory {door.memory[0] / 2**20:.0f} → {door.memory[-1] / 2**20:.0f} MB"
    )
    print(f"the slowest: {door.slowest[1]}"[:2000])
    assert "Traceback" not in log
    assert ALICE.token not in log
    if REQUESTS >= WARM:
        assert growth <= GROWTH, door.memory
