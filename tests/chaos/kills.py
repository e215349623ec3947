"""Death at each kill point, by every way to come back."""

from __future__ import annotations

import dataclasses
import enum
import time
import uuid
from collections.abc import Iterator

from chaos.checker import (
    Finding,
    Sort,
    check_job,
    check_left,
    check_secrecy,
    records,
    remove_kept,
    wait_until,
)
from chaos.ground import Ground
from chaos.jobs import IMAGE, KINDS, Kind, wish
from chaos.process import PATIENCE, History, ServiceProcess, Stuck
from chaos.service import ANY, Fate, Refusal
from die_algorithm.fail_points import Point
from die_algorithm.models import JobState
from die_algorithm.settings import Settings

#: Many looks of the worker at the Swarm.
_LATER = 0.4
#: How long a program runs: where the machine is slow its end comes before the worker has seen it run,
#: and nobody dies of that; then it is tried with a longer one.
_SECONDS = (0.15, 1.5, 10.0)
_BEFORE_COMMIT = (
    f"{Point.REQUEST_PARSED.value}:before",
    f"{Point.REQUEST_PARSED.value}:after",
    f"{Point.ACCEPTED.value}:before",
)


class NotReached(Exception):
    """The process did not come along where it was to die."""


class Comeback(enum.Enum):
    """What happens after the death."""

    AT_ONCE = "restart at once"
    LATER = "restart later"
    ENDED = "restart after the task's end"
    NEXT = "second death, next point"
    AGAIN = "second death, same point"


@dataclasses.dataclass(frozen=True)
class Kill:
    """One way to die, and to come back."""

    kind: Kind
    point: str
    comeback: Comeback

    @property
    def group(self) -> str:
        """The row of the table that it counts in."""
        return self.comeback.value

    def __str__(self) -> str:
        return f"{self.kind.name.lower()}, {self.point}, {self.comeback.name.lower()}"

    def play(self, ground: Ground) -> list[Finding]:
        """Kill, come back, and say what is wrong at the end."""
        for seconds in _SECONDS:
            try:
                return self._play(ground, seconds)
            except NotReached as error:
                told = str(error)
        return [Finding(Sort.VOID, told)]

    def _play(self, ground: Ground, seconds: float) -> list[Finding]:
        with ground.fresh() as settings:
            try:
                return list(_Run(ground, settings, self, seconds).findings())
            except Stuck as error:
                return [Finding(Sort.LOSS, str(error))]
            finally:
                remove_kept(ground)


def all_kills() -> list[Kill]:
    """Each kill point that a kind of job comes along, with each comeback."""
    return [
        Kill(kind, f"{point.value}:{side}", comeback)
        for comeback in Comeback
        for kind in KINDS
        for point in kind.points
        for side in ("before", "after")
    ]


class _Run:
    """One run: a client who submits until she is told a job, and a service that dies meanwhile."""

    def __init__(self, ground: Ground, settings: Settings, kill: Kill, seconds: float) -> None:
        self._ground = ground
        self._settings = settings
        self._kill = kill
        self._history = History()
        self._wish = wish(kill.kind, seconds, ends_by_itself=kill.comeback is Comeback.ENDED)
        # Who fails or cancels sends no key, and does not ask again.
        self._key = uuid.uuid4().hex if kill.kind is Kind.SUCCEEDS else None
        self._told: str | None = None
        self._job_id: str | None = None
        self._is_cancelled = False

    def findings(self) -> Iterator[Finding]:
        """Play it to its end."""
        died_at = self._live(Fate(self._kill.point), is_certain=True)
        if died_at != self._kill.point:
            self._clear()
            raise NotReached(f"it did not die at {self._kill.point}, but: {died_at}")
        yield from self._check_dead()
        self._wait_for_restart()
        match self._kill.comeback:
            case Comeback.NEXT:
                self._live(Fate(ANY))
            case Comeback.AGAIN:
                self._live(Fate(self._kill.point))
        yield from self._check_end()

    def _check_dead(self) -> Iterator[Finding]:
        """Before the commit there is no job; after it there is one, whether anybody was told or not."""
        found = [job.id for job in records(self._settings)]
        if self._kill.point in _BEFORE_COMMIT:
            if found or self._ground.folders() or self._ground.engine.services():
                yield Finding(Sort.LEFT, "something is there of a job that was not accepted")
        elif len(found) != 1:
            yield Finding(Sort.LOSS, f"{len(found)} records of a job that was committed")
        yield from check_secrecy(self._settings, [self._settings.data_dir])
        if self._key is None and found:
            self._job_id = found[0]  # goes on, even if nobody asks for it

    def _wait_for_restart(self) -> None:
        if self._kill.comeback is Comeback.LATER:
            time.sleep(_LATER)
        elif self._kill.comeback is Comeback.ENDED:
            engine = self._ground.engine
            wait_until(lambda: not any(engine.services().values()) or self._has_ended(), PATIENCE)

    def _has_ended(self) -> bool:
        engine = self._ground.engine
        return bool(set(engine.starts()) & set(engine.services())) and not engine.alive()

    def _check_end(self) -> Iterator[Finding]:
        places = [self._settings.data_dir]
        with ServiceProcess(self._settings, Fate(), self._history) as service:
            self._carry(service)
            left = check_left(self._ground, self._settings, places)
            service.stop()
        yield from left
        if self._told and self._told != self._job_id:
            yield Finding(Sort.LOSS, "the job is another one than the client was told")
        jobs = {job.id: job for job in records(self._settings)}
        if set(jobs) != {self._job_id}:
            yield Finding(Sort.LEFT, f"{len(jobs)} jobs for one")
        with ServiceProcess(self._settings, Fate(), self._history) as service:
            if (state := service.ask("look", self._job_id)) != jobs[str(self._job_id)].state:
                yield Finding(Sort.DOUBLE, f"after one more restart it is {state}")
        job = jobs.get(str(self._job_id))
        yield from check_job(self._ground, self._settings, self._wish, job, self._history)
        yield from check_secrecy(self._settings, places)

    # -- one life

    def _live(self, fate: Fate, *, is_certain: bool = False) -> str | None:
        """Let the service live until it dies of itself, or the job has ended.

        Args:
            fate: of the service.
            is_certain: it is to die of it.

        Returns:
            Where it died.
        """
        with ServiceProcess(self._settings, fate, self._history) as service:
            self._carry(service)
            if is_certain and service.is_alive and self._is_at_the_end:
                service.until(lambda: service.doomed_at is not None, "reaches that point")
            return service.doomed_at

    @property
    def _is_at_the_end(self) -> bool:
        """Whether the job's end may be told before the one who wrote it dies."""
        return self._kill.point == f"{Point.END_REACHED.value}:after"

    def _clear(self) -> None:
        """Let the job end, so that nothing of it is left for the next run."""
        with ServiceProcess(self._settings, Fate(), self._history) as service:
            self._carry(service)
            check_left(self._ground, self._settings, [self._settings.data_dir])

    def _carry(self, service: ServiceProcess) -> None:
        """Do what the client does, as long as the service lives."""
        if self._job_id is None and not self._submit(service):
            return
        job_id = str(self._job_id)
        state = service.ask("look", job_id)
        if isinstance(state, Refusal):
            raise Stuck(f"a job that was accepted is not known: {state}")
        if isinstance(state, JobState):
            self._history.add(job_id, state)
        if self._kill.kind is Kind.CANCELLED and not self._is_cancelled:
            self._cancel(service, job_id)
        service.until(lambda: self._has(job_id, final=True), "ends the job")

    def _submit(self, service: ServiceProcess) -> bool:
        words = (IMAGE, self._wish.command, self._ground.item, self._key)
        answer = service.ask("submit", *words)
        if isinstance(answer, Refusal):
            raise Stuck(f"a job is refused: {answer}")
        self._told = self._job_id = answer
        return answer is not None

    def _cancel(self, service: ServiceProcess, job_id: str) -> None:
        if service.until(lambda: self._has(job_id, final=False), "runs the job"):
            self._is_cancelled = service.ask("cancel", job_id) is not None

    def _has(self, job_id: str, *, final: bool) -> bool:
        """Whether the job has ended, or at least its container was seen."""
        state = self._history.last(job_id)
        seen = (JobState.RUNNING, JobState.STAGING_OUT)
        return state is not None and (state.is_final or (not final and state in seen))
