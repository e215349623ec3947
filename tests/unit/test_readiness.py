"""Looks at what the service needs: one at a time, for all who ask."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from die_algorithm.check import Check, Level
from die_algorithm.readiness import Readiness
from die_algorithm.readiness.database import database_check
from die_algorithm.runtime import job_store
from die_algorithm.settings import Settings

FOUND = [Check(name="StorageHub", level=Level.OK, text="It answers.")]


class Hanging:
    """A look that takes as long as the test wants."""

    def __init__(self) -> None:
        self.looks = 0
        self.begun = threading.Event()
        self.goes_on = threading.Event()

    def __call__(self) -> list[Check]:
        self.looks += 1
        self.begun.set()
        assert self.goes_on.wait(60)
        return FOUND


def test_a_hundred_who_ask_at_once_cost_one_look() -> None:
    look = Hanging()
    readiness = Readiness(look)
    with ThreadPoolExecutor(100) as pool:
        answers = [pool.submit(readiness.look) for _ in range(100)]
        assert look.begun.wait(60)
        look.goes_on.set()
        assert all(answer.result(60) == FOUND for answer in answers)
    assert look.looks == 1


def test_while_a_look_hangs_the_last_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    look = Hanging()
    look.goes_on.set()
    readiness = Readiness(look)
    assert readiness.look() == FOUND
    monkeypatch.setattr("die_algorithm.readiness.readiness._TOLD_FOR", 0.0)
    look.goes_on.clear()
    look.begun.clear()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(readiness.look)
        assert look.begun.wait(60)
        assert [readiness.look() for _ in range(100)] == [FOUND] * 100
        assert not waits.done()
        look.goes_on.set()
    assert look.looks == 2


def test_what_is_older_than_a_moment_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    look = Hanging()
    look.goes_on.set()
    readiness = Readiness(look)
    readiness.look()
    monkeypatch.setattr("die_algorithm.readiness.readiness._TOLD_FOR", 0.0)
    readiness.look()
    assert look.looks == 2


def test_who_asks_while_a_look_hangs_is_answered_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("die_algorithm.readiness.readiness._PATIENCE", 0.05)
    look = Hanging()
    readiness = Readiness(look)
    with ThreadPoolExecutor(1) as pool:
        hangs = pool.submit(readiness.look)
        assert look.begun.wait(60)
        (check,) = readiness.look()
        assert not check.passed
        assert "does not come back" in check.text
        look.goes_on.set()
        assert hangs.result(60) == readiness.look() == FOUND


def test_a_web_process_that_keeps_all_elsewhere_needs_no_folder_of_its_own(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "nowhere" / "data",
        database=f"sqlite:///{tmp_path}/jobs.sqlite",
        key_file=tmp_path / "token.key",
    )
    job_store(settings).close()
    assert database_check(settings).level is Level.OK
    assert not settings.data_dir.exists()
