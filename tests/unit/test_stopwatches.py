"""What has passed since a moment, whatever is done to the clock meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.stopwatches import Stopwatches

START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NOTHING = timedelta()


class Clocks:
    """A wall clock that is set, and one that is not; their watches outlive no restart."""

    def __init__(self) -> None:
        self.wall = START
        self.monotonic = 1000.0
        self.watches = self.restarted()

    def restarted(self) -> Stopwatches:
        self.watches = Stopwatches(lambda: self.wall, lambda: self.monotonic)
        return self.watches

    def wait(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.monotonic += seconds

    def set(self, jump: timedelta) -> None:
        self.wall += jump

    def elapsed(self, since: datetime, job_id: str = "job", what: str = "run") -> timedelta:
        return self.watches.elapsed(job_id, what, since)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_a_watch_counts_from_its_moment(clocks: Clocks) -> None:
    assert clocks.elapsed(START) == NOTHING
    clocks.wait(10)
    assert clocks.elapsed(START) == 10 * SECOND
    clocks.wait(0.5)
    assert clocks.elapsed(START) == 10.5 * SECOND


def test_a_moment_that_was_before_the_first_look_counts_by_the_time_of_day(clocks: Clocks) -> None:
    assert clocks.elapsed(START - timedelta(hours=2)) == timedelta(hours=2)


@pytest.mark.parametrize("hours", [5, -5])
def test_a_clock_that_is_set_meanwhile_changes_nothing(clocks: Clocks, hours: int) -> None:
    clocks.elapsed(START)
    clocks.wait(60)
    clocks.set(timedelta(hours=hours))
    assert clocks.elapsed(START) == 60 * SECOND
    clocks.wait(60)
    assert clocks.elapsed(START) == 120 * SECOND
    clocks.set(timedelta(hours=-hours))
    assert clocks.elapsed(START) == 120 * SECOND


def test_a_restart_takes_the_time_of_day(clocks: Clocks) -> None:
    clocks.elapsed(START)
    clocks.wait(60)
    clocks.monotonic = 3.0  # another machine's, or this one's after it was booted
    clocks.restarted()
    assert clocks.elapsed(START) == 60 * SECOND
    clocks.wait(1)
    assert clocks.elapsed(START) == 61 * SECOND


def test_a_new_moment_starts_anew(clocks: Clocks) -> None:
    clocks.elapsed(START)
    clocks.wait(60)
    later = START + 50 * SECOND
    assert clocks.elapsed(later) == 10 * SECOND
    clocks.set(timedelta(hours=5))
    assert clocks.elapsed(later) == 10 * SECOND


def test_the_same_moment_in_another_time_zone_is_no_new_one(clocks: Clocks) -> None:
    clocks.elapsed(START)
    clocks.set(timedelta(hours=5))
    assert clocks.elapsed(START.astimezone(timezone(timedelta(hours=2)))) == NOTHING


@pytest.mark.parametrize("hours", [1, 5000])
def test_a_moment_that_lies_ahead_counts_from_now(clocks: Clocks, hours: int) -> None:
    ahead = START + timedelta(hours=hours)
    assert clocks.elapsed(ahead) == NOTHING
    clocks.wait(7)
    assert clocks.elapsed(ahead) == 7 * SECOND


def test_the_moments_of_one_job_and_of_others_are_told_apart(clocks: Clocks) -> None:
    clocks.elapsed(START, "a", "run")
    clocks.elapsed(START, "a", "total")
    clocks.wait(5)
    clocks.set(timedelta(hours=5))
    assert clocks.elapsed(START + 5 * SECOND, "b", "run") == timedelta(hours=5)
    assert clocks.elapsed(START, "a", "run") == 5 * SECOND
    assert clocks.elapsed(START, "a", "total") == 5 * SECOND


def test_what_is_forgotten_counts_by_the_time_of_day_again(clocks: Clocks) -> None:
    for job_id in "ab":
        clocks.elapsed(START, job_id)
    clocks.set(timedelta(hours=5))
    clocks.watches.forget("a")
    clocks.watches.forget("never seen")
    assert clocks.elapsed(START, "a") == timedelta(hours=5)
    assert clocks.elapsed(START, "b") == NOTHING


@given(
    since=st.timedeltas(timedelta(days=-400), timedelta(days=400)),
    events=st.lists(
        st.tuples(st.floats(0, 1e6), st.timedeltas(-timedelta(days=3650), timedelta(days=3650)))
    ),
)
def test_no_clock_makes_it_negative_or_run_backwards(
    since: timedelta, events: list[tuple[float, timedelta]]
) -> None:
    clocks = Clocks()
    last = clocks.elapsed(START + since)
    assert last >= NOTHING
    for seconds, jump in events:
        clocks.wait(seconds)
        clocks.set(jump)
        now = clocks.elapsed(START + since)
        assert abs((now - last).total_seconds() - seconds) < 1e-3
        assert now >= last
        last = now


def test_with_the_clocks_of_the_machine_it_counts_seconds() -> None:
    watches = Stopwatches()
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    elapsed = [watches.elapsed("job", "run", hour_ago) for _ in range(3)]
    assert elapsed == sorted(elapsed)
    assert timedelta(hours=1) <= elapsed[0] < timedelta(hours=1, minutes=1)


def test_threads_may_ask_and_forget_at_once() -> None:
    watches = Stopwatches()
    now = datetime.now(UTC)

    def use(number: int) -> timedelta:
        watches.forget(str(number % 5))
        return watches.elapsed(str(number % 3), str(number % 7), now)

    with ThreadPoolExecutor(8) as pool:
        assert all(NOTHING <= passed < 60 * SECOND for passed in pool.map(use, range(2000)))
