"""One worker process is kept running and listened to, whatever happens to it."""

from __future__ import annotations

import os
import queue
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from die_algorithm import worker_process
from die_algorithm.worker_process import WorkerProcess

#: Seconds after which a worker was forgotten.
FOR_EVER = 30.0
#: Says who it is, as if a job of that id had ended, and waits.
TELLS = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(worker_process, "_LAST_CHANCE", 50)


@contextmanager
def supervised(
    program: str, silence: float = FOR_EVER, handed_over: bytes = b""
) -> Iterator[queue.Queue[str]]:
    """A supervised worker; gives what it says."""
    said: queue.Queue[str] = queue.Queue()
    command = [sys.executable, "-c", program]
    worker = WorkerProcess(command, handed_over, said.put, timedelta(seconds=silence))
    worker.start()
    try:
        yield said
        worker.wake()
    finally:
        worker.stop()


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Have so many open, as a crowd of clients has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * count, before[1]), before[1]))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
    try:
        yield
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_worker_that_ends_is_started_again() -> None:
    with supervised("import os; print(os.getpid())") as said:
        assert said.get(timeout=FOR_EVER) != said.get(timeout=FOR_EVER)


def test_each_worker_is_handed_the_same_and_no_argument_tells_it() -> None:
    program = (
        "import sys; from die_algorithm.worker_process import read_handed_over as read\n"
        "text = read(int(sys.argv[-1]))\n"
        "assert b'sec' + b'ret' not in open('/proc/self/cmdline', 'rb').read()\n"
        "print(len(text), text[:6].decode())"
    )
    handed_over = b"secret" + 200_000 * b"x"  # more than a pipe takes at once
    with supervised(program, handed_over=handed_over) as said:
        for _ in range(2):
            assert said.get(timeout=FOR_EVER) == "200006 secret"


def test_a_silent_worker_is_replaced() -> None:
    with supervised(TELLS, silence=0.2) as said:
        assert said.get(timeout=FOR_EVER) != said.get(timeout=FOR_EVER)


def test_a_worker_that_gives_signs_of_life_is_left_alone() -> None:
    program = "import time\nfor n in range(9): print(flush=True); time.sleep(0.05)\nprint('end')"
    with supervised(program, silence=2) as said:
        assert said.get(timeout=FOR_EVER) == "end"


def test_a_worker_is_heard_beside_more_than_a_thousand_connections() -> None:
    with descriptors(1100), supervised(TELLS) as said:
        assert said.get(timeout=FOR_EVER)


def test_supervision_goes_on_after_what_nobody_foresaw(monkeypatch: pytest.MonkeyPatch) -> None:
    once = iter([ZeroDivisionError()])
    run = WorkerProcess._run_once

    def broken(worker: WorkerProcess) -> str:
        if error := next(once, None):
            raise error
        return run(worker)

    monkeypatch.setattr(WorkerProcess, "_run_once", broken)
    with supervised(TELLS) as said:
        assert said.get(timeout=FOR_EVER)
