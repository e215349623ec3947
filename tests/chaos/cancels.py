"""A cancel against each step and against the end of the job, from several sides at once."""

from __future__ import annotations

import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from storagehub_fixture import ALICE

from chaos.checker import (
    Finding,
    Sort,
    check_job,
    check_left,
    check_secrecy,
    records,
    remove_kept,
)
from chaos.ground import Ground
from chaos.jobs import IMAGE, Kind, Wish, stubborn_wish, wish
from chaos.process import PATIENCE, History
from chaos.service import short_pauses, submit, token_files
from die_algorithm.fail_points import FailPoints, Point
from die_algorithm.models import JobState, UserToken
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings

#: In place of a point: at any moment of the job's life.
ANY_MOMENT = "any moment"

_LOOK_AGAIN = 0.002
#: How long a program runs: longer where it was not seen running, as in ``kills``.
_SECONDS = (0.05, 1.0, 10.0)
#: How long the whole job takes.
_LIFE = 0.6
#: How many cancel at once: mostly few, so that each has its part in the race.
_HANDS = (1, 1, 2, 4, 1, 1, 2, 50)
#: Before its id is told nobody can cancel a job.
_RACED = [point for point in Point if point not in (Point.REQUEST_PARSED, Point.ACCEPTED)]
#: As far as a program comes that never ends.
_UNTIL_RUNNING = _RACED[: _RACED.index(Point.RUNNING_RECORDED) + 1]


@dataclasses.dataclass(frozen=True)
class Cancel:
    """One race.

    Args:
        point: the worker is there when the cancels go off, or :data:`ANY_MOMENT`.
        hands: how many cancel.
        stubborn: the program does not end when it is asked to.
        number: of the race; makes it different from others of the kind.
    """

    point: str
    hands: int
    stubborn: bool = False
    number: int = 0

    @property
    def group(self) -> str:
        """The row of the table that it counts in."""
        if self.stubborn:
            return "a program that ignores SIGTERM"
        return "at any moment" if self.point == ANY_MOMENT else "against each step"

    def __str__(self) -> str:
        return f"{self.point}, {self.hands} at once{', stubborn' if self.stubborn else ''}"

    def play(self, ground: Ground) -> list[Finding]:
        """Run the race, and say what is wrong at the end."""
        findings: list[Finding] = []
        for seconds in _SECONDS:
            with ground.fresh() as settings, short_pauses(), token_files():
                findings = list(_Race(ground, settings, self, seconds).findings())
            remove_kept(ground)
            if Sort.VOID not in {finding.sort for finding in findings}:
                break
        return findings


def all_cancels(count: int) -> list[Cancel]:
    """So many races, spread over all that there are."""
    sides = ("before", "after")
    steps = [Cancel(f"{point.value}:{side}", 1) for point in _RACED for side in sides]
    stubborn = [
        Cancel(f"{point.value}:{side}", 1, stubborn=True)
        for point in _UNTIL_RUNNING
        for side in sides
    ]
    kinds = itertools.cycle([*steps, *stubborn, *[Cancel(ANY_MOMENT, 1)] * len(stubborn)])
    return [
        dataclasses.replace(kind, hands=_HANDS[number % len(_HANDS)], number=number)
        for number, kind in zip(range(count), kinds, strict=False)
    ]


class _Starter:
    """Lets all hands go off when the worker is at the point; who comes there again is not held."""

    def __init__(self, race: Cancel) -> None:
        self._point = race.point
        self._barrier = threading.Barrier(race.hands + 1)
        self._lock = threading.Lock()
        self.has_started = race.point == ANY_MOMENT

    def reached(self, name: str) -> None:
        if name != self._point:
            return
        with self._lock:
            if self.has_started:
                return
            self.has_started = True
        self._barrier.wait(PATIENCE)

    def wait(self, delay: float) -> None:
        """Be one of the hands."""
        if self._point == ANY_MOMENT:
            time.sleep(delay)
        else:
            self._barrier.wait(PATIENCE)

    def give_up(self) -> None:
        """The worker never comes: let all hands go."""
        self._barrier.abort()


class _Race:
    """One race: hands that cancel, an eye that looks all the time, and the worker between them."""

    def __init__(self, ground: Ground, settings: Settings, cancel: Cancel, seconds: float) -> None:
        self._ground = ground
        self._settings = settings
        self._cancel = cancel
        self._starter = _Starter(cancel)
        self._history = History()
        self._random = random.Random(cancel.number)
        self._runtime = Runtime(lambda: settings, fail_points=FailPoints(self._starter.reached))
        self._wish: Wish = (
            stubborn_wish()
            if cancel.stubborn
            else wish(Kind.CANCELLED, seconds, ends_by_itself=True)
        )

    def findings(self) -> Iterator[Finding]:
        """Play it to its end."""
        with ThreadPoolExecutor(self._cancel.hands + 1) as pool:
            try:
                job_id = submit(self._runtime, IMAGE, self._wish.command, self._ground.item).id
                over = threading.Event()
                eye = pool.submit(self._look, job_id, over)
                hands = [pool.submit(self._hand, job_id) for _ in range(self._cancel.hands)]
                yield from self._watch(job_id, hands)
                over.set()
                eye.result()
            finally:
                self._starter.give_up()
                self._runtime.stop()
        yield from self._check(job_id)

    def _watch(self, job_id: str, hands: Sequence[Future[None]]) -> Iterator[Finding]:
        """Wait for the end, and look what is there in that very moment."""
        state = self._runtime.engine.wait(job_id, PATIENCE).state
        if not state.is_final:
            yield Finding(Sort.LOSS, f"it is {state.value} after a minute")
        if state is JobState.DISMISSED and job_id in self._ground.engine.alive():
            yield Finding(Sort.LEFT, "its container runs when it is dismissed")
        if not self._starter.has_started:
            yield Finding(Sort.VOID, f"the worker never came along {self._cancel.point}")
            self._starter.give_up()
            return
        for hand in hands:
            hand.result(PATIENCE)
        yield from check_left(self._ground, self._settings, [self._settings.data_dir])

    def _check(self, job_id: str) -> Iterator[Finding]:
        jobs = {job.id: job for job in records(self._settings)}
        job = jobs.get(job_id)
        yield from check_job(self._ground, self._settings, self._wish, job, self._history)
        yield from check_secrecy(self._settings, [self._settings.data_dir])

    def _hand(self, job_id: str) -> None:
        self._starter.wait(self._random.uniform(0, _LIFE))
        self._runtime.engine.cancel(job_id, UserToken(ALICE.token))

    def _look(self, job_id: str, over: threading.Event) -> None:
        while not over.wait(_LOOK_AGAIN):
            self._history.add(job_id, self._runtime.engine.job(job_id).state)
