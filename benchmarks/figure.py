"""One figure of a benchmark, with its aim."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured, and how it compares with what was aimed at."""

    what: str
    value: float
    aim: float
    #: Whether the aim is a ceiling (else a floor).
    at_most: bool
    unit: str = ""
    #: The parts that the figure was made of.
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the aim is met."""
        return self.value <= self.aim if self.at_most else self.value >= self.aim

    def __str__(self) -> str:
        sign = "≤" if self.at_most else "≥"
        verdict = "met" if self.met else "MISSED"
        return (
            f"{self.what}: {self.value:.2f}{self.unit} (aim {sign} {self.aim:g}{self.unit}: {verdict})"
            f"\n    {self.detail}"
        )
