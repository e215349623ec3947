"""Durations by a clock that nobody sets, since moments by one that is set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.stopwatches import Stopwatches

HOUR = timedelta(hours=1)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


class Clocks:
    """A wall clock and a monotonic one."""

    def __init__(self) -> None:
        self.wall = NOON
        self.monotonic = 1000.0

    def pass_time(self, duration: timedelta) -> None:
        self.wall += duration
        self.monotonic += duration.total_seconds()

    def stopwatches(self) -> Stopwatches:
        return Stopwatches(lambda: self.wall, lambda: self.monotonic)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize("jump", [5 * HOUR, -5 * HOUR])
def test_a_jump_does_not_count_for_a_moment_that_was_seen(clocks: Clocks, jump: timedelta) -> None:
    watches = clocks.stopwatches()
    assert watches.elapsed("a", "state", NOON - HOUR) == HOUR
    clocks.wall += jump
    clocks.pass_time(HOUR)
    assert watches.elapsed("a", "state", NOON - HOUR) == 2 * HOUR


def test_a_jump_forward_does_not_count_for_an_earlier_moment_seen_after_it(clocks: Clocks) -> None:
    watches = clocks.stopwatches()
    clocks.pass_time(HOUR)
    clocks.wall += 5 * HOUR
    assert watches.elapsed("b", "accepted", NOON) == HOUR
    assert watches.elapsed("c", "accepted", clocks.wall) == timedelta(0)
    clocks.pass_time(HOUR)
    assert watches.elapsed("d", "accepted", NOON) == 2 * HOUR
    assert watches.elapsed("e", "accepted", clocks.wall - HOUR) == HOUR


def test_a_moment_in_the_future_has_just_been(clocks: Clocks) -> None:
    watches = clocks.stopwatches()
    clocks.wall -= 5 * HOUR
    assert watches.elapsed("a", "accepted", NOON) == timedelta(0)
    clocks.pass_time(HOUR)
    assert watches.elapsed("a", "accepted", NOON) == HOUR


def test_another_moment_starts_the_watch_anew(clocks: Clocks) -> None:
    watches = clocks.stopwatches()
    assert watches.elapsed("a", "state", NOON - HOUR) == HOUR
    assert watches.elapsed("a", "state", NOON) == timedelta(0)
    watches.keep_only("b")
    assert watches.elapsed("a", "state", NOON - 2 * HOUR) == 2 * HOUR


def test_what_is_kept_is_not_forgotten(clocks: Clocks) -> None:
    watches = clocks.stopwatches()
    watches.elapsed("a", "state", NOON - HOUR)
    clocks.wall += 5 * HOUR
    watches.keep_only({"a"})
    assert watches.elapsed("a", "state", NOON - HOUR) == HOUR


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
    watches = clocks.stopwatches()
    last = watches.elapsed("a", "state", NOON + since)
    assert last >= timedelta(0)
    for seconds, jump in events:
        clocks.pass_time(timedelta(seconds=seconds))
        clocks.wall += jump
        now = watches.elapsed("a", "state", NOON + since)
        assert now >= last
        assert abs((now - last).total_seconds() - seconds) < 1e-3
        last = now


def test_threads_may_ask_and_forget_at_once() -> None:
    watches = Stopwatches()
    now = datetime.now(UTC)

    def use(number: int) -> timedelta:
        watches.keep_only(str(number % 5))
        return watches.elapsed(str(number % 3), str(number % 7), now)

    with ThreadPoolExecutor(8) as pool:
        assert all(timedelta(0) <= passed < HOUR for passed in pool.map(use, range(2000)))
