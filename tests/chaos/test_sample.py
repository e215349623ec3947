"""A part of what ``make chaos`` runs: each kill point once, each freeze point, races of each sort."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest
from postgresql_fixture import PostgresqlServer

from chaos.cancels import all_cancels
from chaos.checker import Finding
from chaos.freezes import Freeze, Thaw
from chaos.ground import stand_in_ground
from chaos.jobs import KINDS, Kind
from chaos.kills import Comeback, Kill
from chaos.lanes import Lanes, Trial
from die_algorithm.fail_points import Point, SecretPoint

_LANES = 3
_RACES = 24
_POINTS = [
    f"{point.value}:{side}" for point in (*Point, *SecretPoint) for side in ("before", "after")
]


@pytest.fixture(scope="module")
def lanes() -> Iterator[Lanes]:
    with Lanes(stand_in_ground, _LANES) as lanes:
        yield lanes


def wrong(lanes: Lanes, trials: Iterable[Trial]) -> list[tuple[str, list[Finding]]]:
    """What is wrong with which of the trials."""
    return [(str(each.trial), each.findings) for each in lanes.outcomes(trials) if each.findings]


def test_a_service_killed_anywhere_loses_nothing_and_runs_nothing_twice(lanes: Lanes) -> None:
    comebacks = itertools.cycle(Comeback)
    kills = [Kill(Kind.SUCCEEDS, point, next(comebacks)) for point in _POINTS]
    for kind in KINDS[1:]:
        ways = [f"{point.value}:after" for point in kind.points]
        kills += [Kill(kind, point, next(comebacks)) for point in ways[1::2]]
    assert wrong(lanes, kills) == []


def test_a_job_cancelled_at_any_step_ends_once_and_runs_no_longer(lanes: Lanes) -> None:
    assert wrong(lanes, all_cancels(_RACES)) == []


@pytest.mark.slow
def test_a_worker_frozen_past_its_lease_does_no_harm(
    lanes: Lanes, postgresql: PostgresqlServer
) -> None:
    postgresql.start()
    thaws = itertools.cycle((*Thaw, *reversed(Thaw)))
    freezes = [
        Freeze(point, next(thaws), postgresql.url(postgresql.create_database()))
        for point in _POINTS[::3]
    ]
    assert wrong(lanes, freezes) == []
