"""The service's process, as whoever starts it sees it: orders, answers, what it tells, its end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos import service
from chaos.service import Fate
from die_algorithm.models import JobState
from die_algorithm.settings import Settings

_TESTS = Path(__file__).resolve().parents[1]
#: What libraries import when they are first used.
_NEEDED_LATER = (
    "alembic.ddl",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
)
#: Seconds until something that should happen counts as not happening.
PATIENCE = 60.0


class Stuck(Exception):
    """Something that should happen does not."""


class History:
    """What was told of jobs' states, by all processes of one run.

    A state is told again after a crash, but none after a final one.
    """

    def __init__(self) -> None:
        self.states: dict[str, list[JobState]] = {}

    def add(self, job_id: str, state: JobState) -> None:
        """Take what was told."""
        states = self.states.setdefault(job_id, [])
        if not states or states[-1] is not state:
            states.append(state)

    def last(self, job_id: str) -> JobState | None:
        """What was told last."""
        states = self.states.get(job_id)
        return states[-1] if states else None


class ServiceProcess:
    """The service in a process of its own; killed at the end of the block unless it has ended.

    It is forked from a process without threads, which has imported everything already.

    Args:
        settings: the service's.
        fate: what becomes of it.
        history: told of every state.
    """

    def __init__(self, settings: Settings, fate: Fate, history: History) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([service.__name__, *_NEEDED_LATER])
        # Python 3.11's fork server does not get its parent's path in another way.
        os.environ["PYTHONPATH"] = os.pathsep.join((str(_TESTS), str(_TESTS.parent)))
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=service.run,
            args=(settings, fate, theirs),
            kwargs={"chatty": "CHAOS_LOG" in os.environ},
        )
        self._process.start()
        theirs.close()
        self._history = history
        self._answers: deque[object] = deque()
        #: Where it was killed or frozen, once it was.
        self.doomed_at: str | None = None
        self.is_alive = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._connection.close()
        self._process.close()

    # -- orders

    def ask(self, verb: str, *words: object) -> Any:
        """Give an order.

        Returns:
            The answer, an error among them; None if the process dies before it answers.
        """
        self.order(verb, *words)
        return self.answer()

    def order(self, *words: object) -> None:
        """Give an order without waiting for its answer."""
        try:
            self._connection.send(words)
        except OSError:
            self._drain()

    @property
    def has_answered(self) -> bool:
        """Whether an answer has come that nobody has taken."""
        return bool(self._answers)

    def answer(self) -> Any:
        """Wait for an answer; None if the process dies before it."""
        self.until(lambda: bool(self._answers), "answers")
        return self._answers.popleft() if self._answers else None

    # -- what it tells

    def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> bool:
        """Listen until something is so.

        Returns:
            Whether it is so; otherwise the process is dead.

        Raises:
            Stuck: neither comes.
        """
        deadline = time.monotonic() + seconds
        while self.is_alive and not condition():
            if not self.listen(deadline - time.monotonic()):
                raise Stuck(f"the service never {what}")
        return condition()

    def listen(self, seconds: float) -> bool:
        """Take one message; return whether something came."""
        try:
            if not self._connection.poll(max(seconds, 0)):
                return False
            self._take(*self._connection.recv())
        except (EOFError, OSError):
            self._bury()
        return True

    def _drain(self) -> None:
        while self.is_alive and self.listen(PATIENCE):
            pass

    def _take(self, kind: str, *words: Any) -> None:
        if kind == "answer":
            self._answers.append(words[0])
        elif kind == "doomed":
            self.doomed_at = words[0]
        else:
            self._history.add(*words)

    # -- its end

    def until_dead(self, seconds: float = PATIENCE) -> None:
        """Wait for its death.

        Raises:
            Stuck: it lives on.
        """
        self.until(lambda: False, "dies", seconds)

    def freeze(self) -> None:
        """Stop it, as a machine does that hangs."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, wherever it is."""
        if self.is_alive:
            self._process.kill()
            self._drain()

    def stop(self) -> None:
        """Let it end in good order."""
        self.ask("stop")
        self._drain()

    def _signal(self, number: int) -> None:
        if self.is_alive and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def _bury(self) -> None:
        self.is_alive = False
        self._process.join(PATIENCE)
        if self._process.exitcode is None:
            raise Stuck("the service has closed its pipe and does not end")
