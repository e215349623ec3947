from __future__ import annotations

import pytest

from die_algorithm import rate_limits
from die_algorithm.rate_limits import RateLimits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_as_many_as_may_within_a_minute_are_let_through_at_once() -> None:
    limits = RateLimits(10, Clock())
    assert [limits.take("a") for _ in range(10)] == [0] * 10
    assert limits.take("a") > 0
    assert limits.take("b") == 0


def test_permissions_come_back_over_the_minute_and_no_more_than_there_were() -> None:
    clock = Clock()
    limits = RateLimits(10, clock)
    for _ in range(10):
        limits.take("a")
    seconds = limits.take("a")
    assert seconds == 6
    clock.now += seconds
    assert limits.take("a") == 0
    assert limits.take("a") > 0
    clock.now += 10_000
    assert [limits.take("a") for _ in range(11)] == [0] * 10 + [6]


def test_to_ask_how_long_to_wait_uses_no_permission() -> None:
    limits = RateLimits(1, Clock())
    assert [limits.wait("a") for _ in range(3)] == [0, 0, 0]
    limits.take("a")
    assert limits.wait("a") == limits.take("a") == 60


def test_none_is_no_limit() -> None:
    limits = RateLimits(0, Clock())
    assert {limits.take("a") for _ in range(1000)} == {0} == {limits.wait("a")}


def test_of_endless_names_the_latest_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_MOST", 100)
    limits = RateLimits(1, Clock())
    for number in range(1000):
        assert limits.take(f"{number}" + "x" * 10_000) == 0
    assert len(limits._buckets) == 100
    assert max(map(len, limits._buckets)) == 200
    assert limits.take("999" + "x" * 10_000) > 0
