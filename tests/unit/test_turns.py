"""Whose job is next: everyone's turn comes, and one with many jobs delays no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.turns import in_turn

Waiting = list[tuple[str, str]]

OWNERS = "abcd"
#: Jobs with ids that tell their order, each of somebody.
queues = st.lists(st.sampled_from(OWNERS), max_size=25).map(
    lambda owners: [(f"{number:02}", owner) for number, owner in enumerate(owners)]
)
counts = st.dictionaries(st.sampled_from(OWNERS), st.integers(0, 5))
turns = st.dictionaries(st.sampled_from(OWNERS), st.floats(0, 2e9))


def jobs(owners: str) -> Waiting:
    """Waiting jobs of these owners, the oldest first: the first one's are ``a1``, ``a2`` …"""
    seen: Counter[str] = Counter()
    waiting = []
    for owner in owners:
        seen[owner] += 1
        waiting.append((f"{owner}{seen[owner]}", owner))
    return waiting


def order(
    waiting: Iterable[tuple[str, str]],
    running: Mapping[str, int] | None = None,
    last_turn: Mapping[str, float] | None = None,
    per_owner: int | None = None,
) -> str:
    return " ".join(in_turn(waiting, running or {}, last_turn or {}, per_owner=per_owner))


# -- by example


def test_nobody_waits() -> None:
    assert order([]) == ""


def test_one_owners_jobs_come_in_the_order_of_their_acceptance() -> None:
    assert order(jobs("aaa"), {"a": 7}, {"a": 3.0}) == "a1 a2 a3"


def test_owners_alternate_however_many_jobs_one_has() -> None:
    assert order(jobs("aaaaabb")) == "a1 b1 a2 b2 a3 a4 a5"


def test_the_owner_with_the_fewest_jobs_under_way_is_first() -> None:
    assert order(jobs("aabbc"), {"a": 2, "b": 1}) == "c1 b1 a1 b2 a2"


def test_of_owners_with_as_many_the_one_whose_turn_is_the_longest_ago_is_first() -> None:
    assert order(jobs("abc"), {}, {"a": 3.0, "b": 1.0, "c": 2.0}) == "b1 c1 a1"


def test_who_never_had_a_turn_is_before_those_who_had() -> None:
    assert order(jobs("abc"), {}, {"a": 0.0, "b": -5.0}) == "c1 b1 a1"


def test_of_several_who_never_had_a_turn_the_one_who_has_waited_longest_is_first() -> None:
    assert order(jobs("cab")) == "c1 a1 b1"


def test_a_job_that_was_just_given_a_place_counts_as_a_turn() -> None:
    # By the last turns alone, "a" would come before "b" again, and so for ever.
    assert order(jobs("aabb"), {"a": 0, "b": 1}, {"a": 1.0, "b": 2.0}) == "a1 b1 a2 b2"


def test_an_owner_at_its_limit_is_left_out_with_its_other_jobs() -> None:
    assert order(jobs("aaabbc"), {"a": 1, "c": 2}, per_owner=2) == "b1 a1 b2"


@pytest.mark.parametrize("number", [1, 500, 5000])
def test_however_many_jobs_one_owner_has_another_waits_for_one_place_at_most(number: int) -> None:
    waiting = [*jobs("a" * number), ("b1", "b")]
    for running, last_turn in (({}, {}), ({"a": 1}, {"a": 1.0}), ({"a": 1, "b": 1}, {"b": 9.0})):
        assert list(in_turn(waiting, running, last_turn)).index("b1") <= 1


# -- whatever waits


@given(queues, counts, turns)
def test_every_waiting_job_is_in_the_order_once(
    waiting: Waiting, running: dict[str, int], last_turn: dict[str, float]
) -> None:
    ordered = list(in_turn(waiting, running, last_turn))
    assert sorted(ordered) == sorted(job_id for job_id, _ in waiting)


@given(queues, counts, turns, st.integers(0, 6))
def test_no_owner_gets_beyond_its_limit_and_everybody_up_to_it(
    waiting: Waiting, running: dict[str, int], last_turn: dict[str, float], per_owner: int
) -> None:
    owner_of = dict(waiting)
    given_places = Counter(
        owner_of[job_id] for job_id in in_turn(waiting, running, last_turn, per_owner=per_owner)
    )
    wanted = Counter(owner_of.values())
    assert given_places == {
        owner: taken
        for owner in wanted
        if (taken := min(wanted[owner], max(per_owner - running.get(owner, 0), 0)))
    }


@given(queues, counts, turns, st.integers(0, 6))
def test_a_limit_per_owner_leaves_jobs_out_and_changes_no_order(
    waiting: Waiting, running: dict[str, int], last_turn: dict[str, float], per_owner: int
) -> None:
    limited = list(in_turn(waiting, running, last_turn, per_owner=per_owner))
    assert list(in_turn(waiting, running, last_turn))[: len(limited)] == limited


@given(queues, counts, turns)
def test_each_owners_jobs_keep_their_order(
    waiting: Waiting, running: dict[str, int], last_turn: dict[str, float]
) -> None:
    ordered = list(in_turn(waiting, running, last_turn))
    for owner in OWNERS:
        own = [job_id for job_id, whose in waiting if whose == owner]
        assert [job_id for job_id in ordered if job_id in own] == own


@given(queues, counts, turns)
def test_a_place_never_goes_to_an_owner_who_has_more_than_another_who_waits(
    waiting: Waiting, running: dict[str, int], last_turn: dict[str, float]
) -> None:
    owner_of = dict(waiting)
    left = Counter(owner_of.values())
    under_way = Counter(running)
    for job_id in in_turn(waiting, running, last_turn):
        owner = owner_of[job_id]
        assert under_way[owner] == min(under_way[other] for other in left if left[other])
        left[owner] -= 1
        under_way[owner] += 1


@given(queues, turns)
def test_with_one_place_for_all_nobody_gets_it_twice_while_another_waits(
    waiting: Waiting, last_turn: dict[str, float]
) -> None:
    """The jobs end one by one; the rule is asked anew for each place, with the turns so far."""
    moment = max(last_turn.values(), default=0.0)
    served: list[str] = []
    while waiting:
        job_id = next(in_turn(waiting, {}, last_turn))
        owner = dict(waiting)[job_id]
        since = served[len(served) - served[::-1].index(owner) :] if owner in served else None
        # Since the owner's last turn, all others who wait have had theirs.
        assert since is None or {whose for _, whose in waiting} - {owner} <= set(since)
        served.append(owner)
        moment += 1
        last_turn = {**last_turn, owner: moment}
        waiting = [(waits, whose) for waits, whose in waiting if waits != job_id]


@given(queues, turns)
def test_what_is_told_of_one_place_for_all_is_what_comes(
    waiting: Waiting, last_turn: dict[str, float]
) -> None:
    told = list(in_turn(waiting, {}, last_turn))
    moment = max(last_turn.values(), default=0.0)
    for expected in told:
        assert next(in_turn(waiting, {}, last_turn)) == expected
        moment += 1
        last_turn = {**last_turn, dict(waiting)[expected]: moment}
        waiting = [(waits, whose) for waits, whose in waiting if waits != expected]
