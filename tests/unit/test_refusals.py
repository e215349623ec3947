from __future__ import annotations

import pytest

from die_algorithm import refusals
from die_algorithm.refusals import _BORNE, Refusals


def test_a_loop_is_told_from_a_client_that_is_refused_now_and_then() -> None:
    counted = Refusals()
    found = [counted.are_too_many("a") for _ in range(_BORNE + 2)]
    assert found == [False] * _BORNE + [True] * 2


def test_each_status_is_counted_for_itself() -> None:
    counted = Refusals()
    for _ in range(_BORNE + 1):
        counted.are_too_many("a")
    assert not counted.are_too_many("b")


def test_what_is_past_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Refusals()
    for _ in range(_BORNE + 1):
        counted.are_too_many("a")
    monkeypatch.setattr(refusals, "_WITHIN", -1.0)
    assert not counted.are_too_many("a")


def test_not_more_than_some_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_MOST", 3)
    counted = Refusals()
    for number in range(10):
        counted.are_too_many(str(number))
    assert list(counted._counts) == ["7", "8", "9"]
