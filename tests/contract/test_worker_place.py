"""The worker's place is one, outlives nobody, and no forked child keeps it."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from die_algorithm import worker_place
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


def name_at(path: Path) -> str:
    """What the worker is called that has the place now."""
    place = WorkerPlace(path)
    assert place.take(threading.Event())
    place.leave()
    return place.name


def test_who_gets_the_place_after_another_goes_by_its_name(path: Path) -> None:
    name = name_at(path)
    assert len(name) == 36
    assert name_at(path) == name


def test_a_copy_has_another_name_than_the_original(path: Path, tmp_path: Path) -> None:
    name = name_at(path)
    copied = shutil.copytree(path.parent, tmp_path / "copy") / path.name
    assert name_at(copied) != name
    assert name_at(copied) == name_at(copied)
    assert name_at(path) == name


def test_after_a_start_of_the_machine_the_name_is_another(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = name_at(path)
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9\n")
    monkeypatch.setattr(worker_place, "_BOOT_ID", boot_id)
    assert name_at(path) != name


@pytest.mark.parametrize("content", ["", "8e03978e-40d5-43dd-bc93-6894a57f9324", "\xff" * 300])
def test_what_a_former_release_or_a_crash_has_left_is_no_name(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content, encoding="latin-1")
    name = name_at(path)
    assert len(name) == 36
    assert name != content
    assert name_at(path) == name
