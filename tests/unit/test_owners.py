from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from die_algorithm import owners
from die_algorithm.models import UserToken
from die_algorithm.owners import Owners

ALICE = UserToken("a11ce000-0000-4000-8000-000000000001")
NOBODY = UserToken("00000000-0000-4000-8000-000000000000")


class Hub:
    """Knows one token, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_away = False
        self._lock = threading.Lock()

    def __call__(self, token: UserToken) -> str | None:
        with self._lock:
            self.asked += 1
        if self.is_away:
            raise OSError("away")
        return "alice" if token.secret == ALICE.secret else None


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.mark.parametrize(("token", "owner"), [(ALICE, "alice"), (NOBODY, None)])
def test_an_answer_counts_for_who_reads_and_not_for_who_acts(
    hub: Hub, token: UserToken, owner: str | None
) -> None:
    known = Owners(hub)
    assert [known.of_late(token) for _ in range(5)] == [owner] * 5
    assert hub.asked == 1
    assert known.now(token) == owner
    assert hub.asked == 2


def test_an_old_answer_does_not_count(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_KEPT", 0.0)
    known = Owners(hub)
    assert [known.of_late(ALICE) for _ in range(3)] == ["alice"] * 3
    assert hub.asked == 3


def test_what_is_asked_now_is_known_of_late(hub: Hub) -> None:
    known = Owners(hub)
    known.now(ALICE)
    hub.is_away = True
    assert known.of_late(ALICE) == "alice"


def test_that_nobody_answers_is_not_remembered(hub: Hub) -> None:
    known = Owners(hub)
    hub.is_away = True
    with pytest.raises(OSError, match="away"):
        known.of_late(ALICE)
    hub.is_away = False
    assert known.of_late(ALICE) == "alice"


def test_the_user_name_makes_no_other_token(hub: Hub) -> None:
    known = Owners(hub)
    for name in (None, "alice", "bob"):
        known.of_late(UserToken(ALICE.secret, name))
    assert hub.asked == 1


def test_the_oldest_answers_go_when_there_are_too_many(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "_MOST", 3)
    known = Owners(hub)
    tokens = [UserToken(f"token-{number}") for number in range(5)]
    for token in tokens:
        known.of_late(token)
    known.of_late(tokens[-1])
    assert hub.asked == 5
    known.of_late(tokens[0])
    assert hub.asked == 6
    assert len(known._answers) == 3


def test_no_token_is_kept(hub: Hub) -> None:
    known = Owners(hub)
    known.of_late(ALICE)
    assert ALICE.secret.encode() not in b"".join(known._answers)


def test_many_threads_may_ask(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_MOST", 2)
    known = Owners(hub)
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(
            known.of_late, [ALICE if n % 2 else UserToken(f"token-{n % 6}") for n in range(2000)]
        )
        assert list(found) == [None, "alice"] * 1000


def test_what_was_somebodys_is_known_until_it_is_nobodys(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Owners(hub)
    assert not known.was_somebodys(ALICE)
    known.now(ALICE)
    known.now(NOBODY)
    monkeypatch.setattr(owners, "_MOST", 3)
    for number in range(10):
        known.now(UserToken(f"token-{number}"))
    hub.is_away = True
    assert known.was_somebodys(UserToken(ALICE.secret, "alice"))
    assert not known.was_somebodys(NOBODY)
    assert ALICE.secret.encode() not in b"".join(known._somebodys)
    known._ask = lambda _token: None
    known.now(ALICE)
    assert not known.was_somebodys(ALICE)


def test_that_a_token_was_somebodys_counts_for_hours(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "_REMEMBERED", 0.0)
    known = Owners(hub)
    known.now(ALICE)
    assert not known.was_somebodys(ALICE)
