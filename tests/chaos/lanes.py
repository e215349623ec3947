"""Many runs side by side: each lane is a process with a ground of its own, one run at a time on it."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Protocol, Self

from chaos.checker import Finding, Sort
from chaos.ground import Ground

MakeGround = Callable[[], AbstractContextManager[Ground]]


class Trial(Protocol):
    """What can be run."""

    @property
    def group(self) -> str:
        """The row of the table that it counts in."""

    def play(self, ground: Ground) -> list[Finding]:
        """Run it, and say what is wrong."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One run and what is wrong."""

    trial: Trial
    findings: list[Finding]
    seconds: float


class LaneDied(Exception):
    """A lane is gone, and nobody knows what became of its run."""


class Lanes:
    """Some lanes, until the end of the block.

    Args:
        make_ground: called in each lane.
        count: how many.
    """

    def __init__(self, make_ground: MakeGround, count: int) -> None:
        self._make_ground = make_ground
        self._count = count
        self._stack = ExitStack()
        self._lanes: list[Connection] = []

    def __enter__(self) -> Self:
        self._lanes = [_lane(self._make_ground, self._stack) for _ in range(self._count)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def outcomes(self, trials: Iterable[Trial]) -> Iterator[Outcome]:
        """Run the trials; the outcomes come as they are known."""
        waiting = iter(trials)
        busy = [lane for lane in self._lanes if _give_next(lane, waiting)]
        while busy:
            for lane in wait(busy):
                assert isinstance(lane, Connection)
                yield _outcome(lane)
                if not _give_next(lane, waiting):
                    busy.remove(lane)


def _lane(make_ground: MakeGround, stack: ExitStack) -> Connection:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(make_ground, theirs))
    process.start()
    theirs.close()
    stack.callback(process.join)
    stack.callback(ours.close)
    return ours


def _give_next(lane: Connection, waiting: Iterator[Trial]) -> bool:
    trial = next(waiting, None)
    if trial is not None:
        lane.send(trial)
    return trial is not None


def _outcome(lane: Connection) -> Outcome:
    try:
        outcome: Outcome = lane.recv()
    except EOFError:
        raise LaneDied("a lane has died; what it says stands above") from None
    return outcome


def _work(make_ground: MakeGround, orders: Connection) -> None:
    """Be a lane until the pipe ends. What went wrong on a ground does not spoil the next run."""
    logging.disable()
    is_over = False
    while not is_over:
        with make_ground() as ground:
            is_over = _work_on(ground, orders)


def _work_on(ground: Ground, orders: Connection) -> bool:
    while True:
        try:
            trial: Trial = orders.recv()
        except EOFError:
            return True
        begun = time.monotonic()
        try:
            findings = trial.play(ground)
        except Exception:  # noqa: BLE001 - the other runs shall be told of all the same
            findings = [Finding(Sort.VOID, traceback.format_exc())]
        orders.send(Outcome(trial, findings, time.monotonic() - begun))
        if findings:
            return False
