"""A registry that does not answer is left alone, and asked by one at a time; the others are not held up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from die_algorithm import registry_rests
from die_algorithm.errors import (
    ImageDoubtful,
    ImageNotFound,
    RegistryLimits,
    RegistryUnavailable,
    SwarmUnavailable,
)
from die_algorithm.registry_rests import RegistryRests

HUB, OTHER = "docker.io", "registry.example.org"
AWAY = RegistryUnavailable("It is away.")


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(registry_rests, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def ask(rests: RegistryRests, registry: str = HUB, error: Exception | None = None) -> None:
    with rests.turn(registry):
        if error:
            raise error


def fail(rests: RegistryRests, error: Exception = AWAY) -> None:
    with pytest.raises(type(error)):
        ask(rests, error=error)


@contextmanager
def asking(rests: RegistryRests, error: Exception | None = None) -> Iterator[None]:
    """Somebody else's question is under way in the block."""
    begun, may_end = threading.Event(), threading.Event()

    def question() -> None:
        with rests.turn(HUB):
            begun.set()
            may_end.wait(20)
            if error:
                raise error

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(question)
        assert begun.wait(20)
        try:
            yield
        finally:
            may_end.set()
        assert type(asked.exception(20)) is type(error)


def is_asked(rests: RegistryRests) -> bool:
    try:
        ask(rests)
    except RegistryUnavailable:
        return False
    return True


def test_a_registry_that_did_not_answer_is_asked_again_after_a_rest_of_chance(clock: Clock) -> None:
    rests = set()
    for _ in range(50):
        known, began = RegistryRests(), clock.now
        fail(known)
        while not is_asked(known):
            assert known.rests(HUB)
            clock.now += 0.25
        rests.add(clock.now - began)
    assert 10 <= min(rests) < max(rests) <= 30.25
    assert len(rests) > 10


@pytest.mark.parametrize(
    ("asks", "least", "most"), [(1, 10, 30), (100, 100, 110), (9999, 300, 330)]
)
def test_a_registry_may_ask_for_a_longer_rest_but_not_for_hours(
    clock: Clock, asks: float, least: float, most: float
) -> None:
    rests = RegistryRests()
    fail(rests, RegistryLimits("It limits.", asks))
    clock.now = least - 0.1
    assert not is_asked(rests)
    clock.now = most + 0.1
    assert is_asked(rests)


@pytest.mark.usefixtures("clock")
def test_meanwhile_all_are_told_what_it_said_each_by_an_error_of_their_own() -> None:
    rests, told = RegistryRests(), []
    fail(rests, RegistryLimits("It limits."))
    for _ in range(2):
        with pytest.raises(RegistryLimits, match=r"^It limits\.$") as caught:
            ask(rests)
        told.append(caught.value)
    assert told[0] is not told[1]
    ask(rests, OTHER)


@pytest.mark.parametrize("error", [None, ImageNotFound("There is none.")])
def test_an_answer_ends_it(clock: Clock, error: Exception | None) -> None:
    rests = RegistryRests()
    fail(rests)
    clock.now += 31
    if error:
        fail(rests, error)
    else:
        ask(rests)
    assert not rests.rests(HUB)
    with asking(rests):
        clock.now += 3
        with pytest.raises(RegistryUnavailable, match="takes long"):  # and not what it once said
            ask(rests)


def test_an_engine_that_is_away_tells_nothing_of_a_registry() -> None:
    rests = RegistryRests()
    fail(rests, SwarmUnavailable("It is away."))
    assert is_asked(rests)


def test_after_the_rest_one_asks_and_the_others_are_told_at_once_what_it_said(clock: Clock) -> None:
    rests = RegistryRests()
    fail(rests)
    clock.now += 31
    with asking(rests, AWAY), pytest.raises(RegistryUnavailable, match="It is away"):
        ask(rests)


def test_questions_to_a_registry_that_answers_wait_for_each_other() -> None:
    rests, under_way, most = RegistryRests(), [], []

    def question(number: int) -> None:
        with rests.turn(HUB):
            under_way.append(number)
            most.append(len(under_way))
            time.sleep(0.01)
            under_way.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(question, range(20)))
    assert most == [1] * 20


def test_who_waited_for_a_question_takes_its_failure() -> None:
    rests, told = RegistryRests(), []

    def wait() -> None:
        with pytest.raises(RegistryUnavailable) as caught:
            ask(rests)
        told.append(str(caught.value))

    with ThreadPoolExecutor(3) as pool, asking(rests, AWAY):
        for _ in range(3):
            pool.submit(wait)
        time.sleep(0.2)
    assert told == ["It is away."] * 3


def test_a_registry_that_hangs_holds_up_only_who_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_rests, "_TURN_PATIENCE", 0.2)
    rests = RegistryRests()
    with asking(rests):
        ask(rests, OTHER)
        for _ in range(2):
            with pytest.raises(RegistryUnavailable, match="takes long"):
                ask(rests)
    assert is_asked(rests)


def test_a_registry_that_is_wrong_about_one_image_does_not_rest() -> None:
    rests = RegistryRests()
    with pytest.raises(ImageDoubtful), rests.turn("docker.io"):
        raise ImageDoubtful("half an image")
    assert not rests.rests("docker.io")
    with rests.turn("docker.io"):
        pass
