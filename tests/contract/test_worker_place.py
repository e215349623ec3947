"""The worker's place is one, outlives nobody, and no forked child keeps it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from die_algorithm.worker_place import WorkerPlace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "worker.lock"


def test_one_at_a_time_has_the_place(path: Path) -> None:
    first, second = WorkerPlace(path), WorkerPlace(path)
    never, stopping = threading.Event(), threading.Event()
    assert first.take(never)
    waiting = threading.Thread(target=lambda: results.append(second.take(stopping)))
    results: list[bool] = []
    waiting.start()
    stopping.wait(0.2)
    assert results == []
    first.leave()
    waiting.join(10)
    assert results == [True]
    second.leave()


def test_who_is_stopped_while_waiting_gets_nothing(path: Path) -> None:
    first, second = WorkerPlace(path), WorkerPlace(path)
    stopping = threading.Event()
    assert first.take(stopping)
    stopping.set()
    assert not second.take(stopping)
    first.leave()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_place_of_its_parent(path: Path) -> None:
    never = threading.Event()
    parent = WorkerPlace(path)
    assert parent.take(never)
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        parent.leave()
        next_one = WorkerPlace(path)
        deadline = threading.Event()
        timer = threading.Timer(10, deadline.set)
        timer.start()
        assert next_one.take(deadline)
        timer.cancel()
        next_one.leave()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
