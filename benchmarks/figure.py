"""One figure of a benchmark, with its aim."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured, and how it compares with what was aimed at."""

    what: str
    value: float
    #: None: the figure is told, and nothing was aimed at.
    aim: float | None
    #: Whether the aim is a ceiling (else a floor).
    at_most: bool
    unit: str = ""
    #: The parts that the figure was made of.
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the aim is met."""
        if self.aim is None:
            return True
        return self.value <= self.aim if self.at_most else self.value >= self.aim

    def __str__(self) -> str:
        return f"{self.what}: {self.value:.2f}{self.unit}{self._verdict}\n    {self.detail}"

    @property
    def _verdict(self) -> str:
        if self.aim is None:
            return ""
        sign = "≤" if self.at_most else "≥"
        return f" (aim {sign} {self.aim:g}{self.unit}: {'met' if self.met else 'MISSED'})"
