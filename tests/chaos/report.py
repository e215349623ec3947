"""The table of what was run and what went wrong."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable

from chaos.checker import Sort
from chaos.lanes import Outcome

_HEAD = ("what", "scenarios", "runs", *(sort.value for sort in Sort), "95 % bound")
_WIDTHS = (56, 10, 7, *(max(8, len(sort.value) + 2) for sort in Sort), 11)
#: Of the rule of three: none seen in n runs means less than 3/n, with 95 % certainty.
_THREE = 3
_EVERY = 20.0


@dataclasses.dataclass
class Row:
    """One line of the table."""

    what: str
    scenarios: set[str] = dataclasses.field(default_factory=set)
    runs: int = 0
    wrong: Counter[Sort] = dataclasses.field(default_factory=Counter)

    def count(self, outcome: Outcome) -> None:
        """Take one run."""
        self.scenarios.add(str(outcome.trial))
        self.runs += 1
        self.wrong.update({finding.sort for finding in outcome.findings})

    def __str__(self) -> str:
        bound = f"{100 * _THREE / self.runs:.2f} %" if self.runs and not self.wrong else "-"
        wrong = (self.wrong[sort] for sort in Sort)
        return _line(self.what, len(self.scenarios), self.runs, *wrong, bound)


class Report:
    """Counts outcomes, tells each that is wrong at once, and ends in a table."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._told_at = time.monotonic()
        self._began = self._told_at
        self.findings = 0

    def take(self, title: str, outcomes: Iterable[Outcome]) -> None:
        """Count what comes of some runs."""
        for outcome in outcomes:
            what = f"{title}: {outcome.trial.group}"
            self._rows.setdefault(what, Row(what)).count(outcome)
            self.findings += len(outcome.findings)
            for finding in outcome.findings:
                print(f"{title}: {outcome.trial}: {finding.sort.value}: {finding.text}", flush=True)
            self._tell_progress(what)

    def _tell_progress(self, what: str) -> None:
        if time.monotonic() - self._told_at > _EVERY:
            self._told_at = time.monotonic()
            print(
                f"  {self._told_at - self._began:5.0f} s  {self._runs()} runs  {what}", flush=True
            )

    def _runs(self) -> int:
        return sum(row.runs for row in self._rows.values())

    def __str__(self) -> str:
        total = Row("all")
        for row in self._rows.values():
            total.scenarios |= {f"{row.what} {name}" for name in row.scenarios}
            total.runs += row.runs
            total.wrong += row.wrong
        seconds = time.monotonic() - self._began
        lines = [_line(*_HEAD), *map(str, self._rows.values()), str(total)]
        return "\n".join([*lines, f"in {seconds / 60:.1f} minutes"])


def _line(what: str, *cells: object) -> str:
    padded = (str(cell).rjust(width) for cell, width in zip(cells, _WIDTHS[1:], strict=True))
    return what.ljust(_WIDTHS[0]) + "".join(padded)
