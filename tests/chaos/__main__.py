"""``python -m chaos``: all of it, and a table at the end; the exit code says whether it is clean."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence

from postgresql_fixture import postgresql_programs, private_postgresql

from chaos.cancels import all_cancels
from chaos.freezes import all_freezes
from chaos.ground import stand_in_ground
from chaos.kills import all_kills
from chaos.lanes import outcomes
from chaos.report import Report

_SEED = 7
#: Each has two services with their connections to one PostgreSQL server.
_FREEZE_LANES = 4


def main(words: Sequence[str]) -> int:
    """Run what the command line asks for."""
    options = _options(words)
    report = Report()
    if "kills" in options.suites:
        _kills(report, options)
    if "cancels" in options.suites:
        cancels = [each for each in all_cancels(options.races) if options.only in str(each)]
        report.take("cancelled", outcomes(cancels, stand_in_ground, options.lanes))
    if "freezes" in options.suites:
        _freezes(report, options)
    print(report)
    return 1 if report.findings else 0


def _kills(report: Report, options: argparse.Namespace) -> None:
    kills = [kill for kill in all_kills() if options.only in str(kill)] * options.repeats
    random.Random(_SEED).shuffle(kills)
    report.take("killed", outcomes(kills, stand_in_ground, options.lanes))


def _freezes(report: Report, options: argparse.Namespace) -> None:
    programs = postgresql_programs()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed; 'scripts/bootstrap tests' installs it")
    with private_postgresql(programs) as server:
        freezes = all_freezes(lambda: server.url(server.create_database()))
        wanted = (freeze for freeze in freezes if options.only in str(freeze))
        report.take("frozen", outcomes(wanted, stand_in_ground, min(options.lanes, _FREEZE_LANES)))


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    suites = ["kills", "cancels", "freezes"]
    parser.add_argument("suites", nargs="*", default=suites, help=f"of {', '.join(suites)}")
    parser.add_argument("--repeats", type=int, default=10, help="of each kill on the stand-in")
    parser.add_argument("--races", type=int, default=1000, help="of a cancel")
    parser.add_argument("--lanes", type=int, default=6, help="runs side by side")
    parser.add_argument("--only", default="", help="runs whose description holds this text")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
