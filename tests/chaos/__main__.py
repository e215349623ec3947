"""``python -m chaos``: all of it, and a table at the end; the exit code says whether it is clean."""

from __future__ import annotations

import argparse
import functools
import random
import sys
from collections.abc import Sequence
from typing import TypeVar

from postgresql_fixture import postgresql_programs, private_postgresql
from swarm_fixture import ROOT, private_swarm

from chaos.cancels import all_cancels
from chaos.freezes import all_freezes
from chaos.ground import docker_ground, stand_in_ground
from chaos.kills import all_kills
from chaos.lanes import Lanes
from chaos.report import Report

_SEED = 7
#: Each has two services with their connections to one PostgreSQL server.
_FREEZE_LANES = 4
_REAL_LANES, _REAL_RACES = 3, 20
#: So many races of the list lie between two of them: a number that meets all sorts.
_REAL_RACES_APART = 7


def main(words: Sequence[str]) -> int:
    """Run what the command line asks for."""
    options = _options(words)
    report = Report()
    try:
        for suite in options.suites:
            _SUITES[suite](report, options)
    except KeyboardInterrupt:
        print(report)
        return 130
    print(report)
    return 1 if report.findings else 0


def _kills(report: Report, options: argparse.Namespace) -> None:
    kills = _wanted(all_kills() * options.repeats, options)
    random.Random(_SEED).shuffle(kills)
    with Lanes(stand_in_ground, options.lanes) as lanes:
        report.take("killed", lanes.outcomes(kills))


def _cancels(report: Report, options: argparse.Namespace) -> None:
    cancels = _wanted(all_cancels(options.races), options)
    with Lanes(stand_in_ground, options.lanes) as lanes:
        report.take("cancelled", lanes.outcomes(cancels))


def _freezes(report: Report, options: argparse.Namespace) -> None:
    programs = postgresql_programs()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed; 'scripts/bootstrap tests' installs it")
    with (
        private_postgresql(programs) as server,
        Lanes(stand_in_ground, min(options.lanes, _FREEZE_LANES)) as lanes,
    ):
        freezes = all_freezes(lambda: server.url(server.create_database()))
        wanted = (freeze for freeze in freezes if options.only in str(freeze))
        report.take("frozen", lanes.outcomes(wanted))


def _real(report: Report, options: argparse.Namespace) -> None:
    """On a real engine: each kill once, and some cancels."""
    with private_swarm(ROOT / ".die" / "tests" / "swarm") as swarm:
        ground = functools.partial(docker_ground, swarm.docker_host, swarm.host_address)
        with Lanes(ground, min(options.lanes, _REAL_LANES)) as lanes:
            kills = _wanted(all_kills(), options)
            report.take("killed, real engine", lanes.outcomes(kills))
            races = all_cancels(_REAL_RACES * _REAL_RACES_APART)[::_REAL_RACES_APART]
            cancels = _wanted(races, options)
            report.take("cancelled, real engine", lanes.outcomes(cancels))


_T = TypeVar("_T")
_SUITES = {"kills": _kills, "cancels": _cancels, "freezes": _freezes, "real": _real}


def _wanted(trials: Sequence[_T], options: argparse.Namespace) -> list[_T]:
    return [trial for trial in trials if options.only in str(trial)]


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("suites", nargs="*", default=list(_SUITES), help=f"of {', '.join(_SUITES)}")
    parser.add_argument("--repeats", type=int, default=10, help="of each kill on the stand-in")
    parser.add_argument("--races", type=int, default=1000, help="of a cancel")
    parser.add_argument("--lanes", type=int, default=6, help="runs side by side")
    parser.add_argument("--only", default="", help="runs whose description holds this text")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
