"""Many wait for jobs to end, and one look at the records is for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import pytest

from die_algorithm.waiters import _LOOK_AGAIN, Waiters

#: Seconds that no test lasts: who waits so long was forgotten.
FOR_EVER = 60.0


class Records:
    """Tells which jobs have ended, and remembers who was asked for."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.looks: list[set[str]] = []
        self.looked = threading.Condition()

    def __call__(self, job_ids: Collection[str]) -> set[str]:
        with self.looked:
            self.looks.append(set(job_ids))
            self.looked.notify_all()
        return self.ended & set(job_ids)

    def wait_for(self, jobs: set[str]) -> None:
        """Wait for a look that is for all these jobs."""
        with self.looked:
            assert self.looked.wait_for(lambda: jobs in self.looks, FOR_EVER)


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def waiters(records: Records) -> Waiters:
    return Waiters(records)


def took(waiters: Waiters, job_id: str, timeout: float = FOR_EVER) -> float:
    began = time.monotonic()
    waiters.wait(job_id, timeout)
    return time.monotonic() - began


def test_a_job_that_has_ended_is_not_waited_for(records: Records, waiters: Waiters) -> None:
    records.ended = {"a"}
    assert took(waiters, "a") < FOR_EVER / 2


def test_an_end_without_a_word_is_seen_by_all_in_one_look(
    records: Records, waiters: Waiters
) -> None:
    jobs = {f"job {number}" for number in range(20)}
    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(took, waiters, job) for job in jobs]
        records.wait_for(jobs)
        records.ended = jobs
        assert all(each.result() < FOR_EVER / 2 for each in waiting)


def test_twenty_who_wait_look_no_more_often_than_one(records: Records, waiters: Waiters) -> None:
    jobs = {f"job {number}" for number in range(20)}
    with ThreadPoolExecutor(20) as threads:
        for job in jobs:
            threads.submit(waiters.wait, job, FOR_EVER)
        records.wait_for(jobs)
        began, before = time.monotonic(), len(records.looks)
        with records.looked:
            assert records.looked.wait_for(lambda: len(records.looks) >= before + 5, FOR_EVER)
        seconds = time.monotonic() - began
        waiters.close()
    assert seconds > 4 * _LOOK_AGAIN


def test_a_word_ends_the_wait_for_that_job_alone(records: Records, waiters: Waiters) -> None:
    with ThreadPoolExecutor(2) as threads:
        told, other = (threads.submit(waiters.wait, job, FOR_EVER) for job in "ab")
        records.wait_for({"a", "b"})
        waiters.notify("a")
        told.result(FOR_EVER / 2)
        assert not other.done()
        waiters.close()
        other.result(FOR_EVER / 2)


def test_nobody_waits_longer_than_wanted(waiters: Waiters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("die_algorithm.waiters._LOOK_AGAIN", FOR_EVER)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(took, waiters, "a", 0.01)
        try:
            assert waiting.result(FOR_EVER / 2) >= 0.01
        finally:
            waiters.close()


def test_after_the_close_nobody_waits(waiters: Waiters) -> None:
    waiters.close()
    assert took(waiters, "a") < FOR_EVER / 2


def test_records_that_cannot_be_read_are_told_to_who_waits() -> None:
    def away(_job_ids: Collection[str]) -> set[str]:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        Waiters(away).wait("a", FOR_EVER)
