"""Two workers on one database, one of them stopped past its lease in the middle of a step."""

from __future__ import annotations

import dataclasses
import enum
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

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
from chaos.jobs import IMAGE, KINDS, Kind, Wish, wish
from chaos.kills import NotReached
from chaos.process import PATIENCE, History, ServiceProcess, Stuck
from chaos.service import Fate, Refusal
from chaos.watch import Watch
from die_algorithm.fail_points import Point
from die_algorithm.models import JobState
from die_algorithm.runtime import job_store
from die_algorithm.settings import Settings

_LEASE = timedelta(seconds=2)
_TURN = 0.01
#: As in ``kills``: long enough to be seen running, also by a worker that has just taken over.
_SECONDS = (0.6, 3.0, 15.0)


class Thaw(enum.Enum):
    """When the frozen worker goes on."""

    TAKEN_OVER = "goes on as soon as its jobs are taken"
    ENDED = "goes on when all is over"


@dataclasses.dataclass(frozen=True)
class Freeze:
    """One worker that freezes, while one job of each kind is under way.

    Args:
        point: where; whichever of the two workers gets there first does.
        thaw: when it goes on.
        database: SQLAlchemy URL of an empty PostgreSQL database.
    """

    point: str
    thaw: Thaw
    database: str = dataclasses.field(repr=False)

    @property
    def group(self) -> str:
        """The row of the table that it counts in."""
        return self.thaw.value

    def __str__(self) -> str:
        return f"{self.point}, {self.thaw.name.lower()}"

    def play(self, ground: Ground) -> list[Finding]:
        """Freeze one, let the other take over, and say what is wrong at the end."""
        told = ""
        for seconds in _SECONDS:
            try:
                return self._play(ground, seconds)
            except NotReached as error:
                told = str(error)
        return [Finding(Sort.VOID, told)]

    def _play(self, ground: Ground, seconds: float) -> list[Finding]:
        with ground.fresh(database=self.database, worker_lease=_LEASE) as settings:
            try:
                return list(_Run(ground, settings, self, seconds).findings())
            except Stuck as error:
                return [Finding(Sort.LOSS, str(error))]
            finally:
                remove_kept(ground)


def all_freezes(new_database: Callable[[], str]) -> Iterator[Freeze]:
    """Each point, with each moment to go on."""
    for thaw in Thaw:
        for point in Point:
            for side in ("before", "after"):
                yield Freeze(f"{point.value}:{side}", thaw, new_database())


class _Run:
    """One run: two services, and a client who talks to the one that answers."""

    def __init__(self, ground: Ground, settings: Settings, freeze: Freeze, seconds: float) -> None:
        self._ground = ground
        self._freeze = freeze
        self._history = History()
        folder = settings.data_dir.parent
        shared = {"key_file": folder / "token.key", "results_dir": folder / "results"}
        self._marker = folder / "frozen"
        self._places = [folder / "one", folder / "two", folder / "results"]
        self._settings = [
            settings.model_copy(update={**shared, "data_dir": place}) for place in self._places[:2]
        ]
        self._wishes = [wish(kind, seconds) for kind in KINDS]
        self._jobs: dict[Wish, str] = {}
        self._services: list[ServiceProcess] = []
        self._late: list[Callable[[Any], None]] = []
        self._is_cancelled = False
        self._is_asking = False

    def findings(self) -> Iterator[Finding]:
        """Play it to its end."""
        fate = Fate(self._freeze.point, signal.SIGSTOP, self._marker)
        one, two = self._settings
        with (
            Watch(one, self._history),
            ServiceProcess(one, fate, History()) as first,
            ServiceProcess(two, fate, History()) as second,
        ):
            self._services = [first, second]
            self._until(lambda: len(self._alive()) == len(self._services), "works")
            self._submit_all()
            left = self._carry()
        yield from left
        yield from self._check_jobs()
        yield from check_secrecy(one, self._places)

    def _carry(self) -> list[Finding]:
        """Go through freeze, take-over and thaw until nothing moves any more."""
        self._until(lambda: bool(self._frozen()) or self._all_ended(), "freezes")
        frozen = self._frozen()
        if not frozen:
            raise NotReached(f"nobody came along {self._freeze.point}")
        name = self._name_of(frozen[0])
        self._until(lambda: not self._holds_any(name), "takes the jobs of the frozen one")
        if self._freeze.thaw is Thaw.ENDED:
            self._until(self._all_ended, "ends the jobs of the frozen one")
        shown = list(check_secrecy(self._settings[0], self._places))
        frozen[0].thaw()
        for take in self._late:
            take(frozen[0].answer())
        self._until(self._all_ended, "ends all jobs")
        self._until(lambda: name in self._alive(), "works again")
        return shown + self._stop(frozen[0])

    def _stop(self, thawed: ServiceProcess) -> list[Finding]:
        """Let the one that was frozen finish what it is at, and the other tidy up after it."""
        thawed.stop()
        left = check_left(self._ground, self._settings[0], self._places)
        for service in self._services:
            if service is not thawed:
                service.stop()
        return left

    def _check_jobs(self) -> Iterator[Finding]:
        jobs = {job.id: job for job in records(self._settings[0])}
        if set(jobs) != set(self._jobs.values()):
            yield Finding(Sort.LEFT, f"{len(jobs)} jobs, and {len(self._jobs)} were submitted")
        for each, job_id in self._jobs.items():
            job, settings = jobs.get(job_id), self._settings[0]
            for finding in check_job(self._ground, settings, each, job, self._history):
                yield dataclasses.replace(finding, text=f"{each.kind.value}: {finding.text}")

    # -- the client

    def _submit_all(self) -> None:
        for each in self._wishes:
            self._submit(each)

    def _submit(self, each: Wish) -> None:
        """Submit a job, and again if that is refused."""

        def take(answer: Any) -> None:
            if isinstance(answer, Refusal):
                self._submit(each)
            else:
                self._jobs[each] = answer

        self._ask(take, "submit", IMAGE, each.command, self._ground.item, None)

    def _cancel(self) -> None:
        """Cancel the job that is to be cancelled, once it runs, and again if that is refused."""

        def take(answer: Any) -> None:
            self._is_cancelled = not isinstance(answer, Refusal)

        for each, job_id in self._jobs.items():
            if each.kind is Kind.CANCELLED and self._history.last(job_id) is JobState.RUNNING:
                self._is_cancelled = True
                self._ask(take, "cancel", job_id)

    def _ask(self, take: Callable[[Any], None], *order: object) -> None:
        """Ask the one that answers; if it freezes over it, the answer is taken when it goes on."""
        service = self._awake()[0]
        service.order(*order)
        self._is_asking = True
        self._until(lambda: service.has_answered or bool(service.doomed_at), "answers")
        self._is_asking = False
        if service.has_answered:
            take(service.answer())
        else:
            self._late.append(take)

    # -- what there is to see

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise Stuck(f"nobody {what}: {self._told()}")
            for service in self._services:
                service.listen(_TURN)
            if not (self._is_cancelled or self._is_asking):
                self._cancel()

    def _told(self) -> str:
        """What became of each job so far."""
        states = self._history.states
        return "; ".join(
            f"{each.kind.name.lower()} {job_id}: "
            + ", ".join(state.value for state in states.get(job_id, []))
            for each, job_id in self._jobs.items()
        )

    def _frozen(self) -> list[ServiceProcess]:
        return [service for service in self._services if service.doomed_at]

    def _awake(self) -> list[ServiceProcess]:
        return [service for service in self._services if not service.doomed_at]

    def _all_ended(self) -> bool:
        states = [self._history.last(job_id) for job_id in self._jobs.values()]
        return all(state is not None and state.is_final for state in states)

    def _name_of(self, service: ServiceProcess) -> str:
        place = self._places[self._services.index(service)]
        return Path(place / "worker.lock").read_text().partition(" ")[0]

    def _holds_any(self, worker: str) -> bool:
        """Whether a worker's lease is good, or nobody has taken its jobs."""
        if worker in self._alive():
            return True
        with closing(job_store(self._settings[0])) as store:
            return bool(store.held(worker))

    def _alive(self) -> set[str]:
        with closing(job_store(self._settings[0])) as store:
            return {report.id for report in store.leases.workers() if report.is_alive}
