"""Durations by a clock that nobody sets, since moments by one that is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

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
    watches.forget("a")
    assert watches.elapsed("a", "state", NOON - 2 * HOUR) == 2 * HOUR
