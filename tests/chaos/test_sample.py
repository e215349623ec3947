"""A part of what ``make chaos`` runs: each kill point once, each freeze point, races of each sort."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from postgresql_fixture import PostgresqlServer

from chaos.cancels import all_cancels
from chaos.checker import Finding
from chaos.freezes import Freeze, Thaw
from chaos.ground import stand_in_ground
from chaos.kills import all_kills
from chaos.lanes import Trial, outcomes
from die_algorithm.fail_points import Point

_LANES = 4
_RACES = 48


def wrong(trials: Iterable[Trial], lanes: int = _LANES) -> list[tuple[str, list[Finding]]]:
    """What is wrong with which of the trials."""
    ran = outcomes(trials, stand_in_ground, lanes)
    return [(str(each.trial), each.findings) for each in ran if each.findings]


def test_a_service_killed_anywhere_loses_nothing_and_runs_nothing_twice() -> None:
    kills = all_kills()
    # A step that is prime to the numbers of points and kinds meets them all, in turn.
    sample = kills[::7]
    assert {kill.point for kill in sample} == {kill.point for kill in kills}
    assert {kill.comeback for kill in sample} == {kill.comeback for kill in kills}
    assert wrong(sample) == []


def test_a_job_cancelled_at_any_step_ends_once_and_runs_no_longer() -> None:
    assert wrong(all_cancels(_RACES)) == []


@pytest.mark.parametrize("thaw", Thaw)
def test_a_worker_frozen_past_its_lease_does_no_harm(
    postgresql: PostgresqlServer, thaw: Thaw
) -> None:
    postgresql.start()
    sides = ("after", "before") if thaw is Thaw.ENDED else ("before", "after")
    freezes = [
        Freeze(
            f"{point.value}:{sides[number % 2]}", thaw, postgresql.url(postgresql.create_database())
        )
        for number, point in enumerate(Point)
        if number % 3 == (thaw is Thaw.ENDED)
    ]
    assert wrong(freezes) == []
