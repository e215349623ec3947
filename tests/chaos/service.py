"""The service under test: engine and worker in a process of its own, which may kill or freeze itself.

It does what comes through its pipe and tells what happens: a list of tuples, the first word of which
says what they are.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from storagehub_fixture import ALICE

from die_algorithm import images, janitor
from die_algorithm.errors import DieError
from die_algorithm.fail_points import FailPoints
from die_algorithm.job_options import JobOptions
from die_algorithm.models import ImageFacts, Job, ResponseForm, UserToken
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings
from die_algorithm.worker import driver, held_jobs, watch, worker

#: In place of a name: the first point that is reached.
ANY = "any"

_TOKEN = UserToken(ALICE.token)
#: Less than in production, so that thousands of runs take minutes.
_PAUSES = {
    worker: {"_TURN_AGAIN": 0.2},
    held_jobs: {"_ADMIT_EVERY": 0.03, "_CLAIM_EVERY": 0.1},
    watch: {"_LOOK": 0.02, "_LOOK_PER_JOB": 0.0, "_IDLE": 0.03, "_IDLE_LOOK": 0.1},
    driver: {"_OUTAGE_PAUSE": 0.2, "_START_AGAIN": 0.5},
    janitor: {"_SWEEP_EVERY": 0.2, "_SECRETS_EVERY": 0.2, "_EXPIRE_EVERY": 0.2},
}


@dataclasses.dataclass(frozen=True)
class Fate:
    """What becomes of the process.

    Args:
        point: where, ``<name>:before`` or ``<name>:after``; empty: nothing does.
        signal: by which signal.
        marker: of several processes with the same file here, it becomes of the first only.
    """

    point: str = ""
    signal: int = signal.SIGKILL
    marker: Path | None = None


class Refusal(str):
    """The answer to an order that the service refused: the error's name and text."""

    __slots__ = ()


class _Voice:
    """Tells what happens, from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def say(self, *words: object) -> None:
        with self._lock, suppress(BrokenPipeError):
            self._connection.send(words)

    def published(self, job: Job, _settings: Settings) -> None:
        self.say("state", job.id, job.state)


class _Doom:
    """Lets the process have its fate."""

    def __init__(self, fate: Fate, voice: _Voice) -> None:
        self._fate = fate
        self._voice = voice
        self._lock = threading.Lock()
        self._is_done = False

    def reached(self, name: str) -> None:
        if self._fate.point not in (name, ANY):
            return
        with self._lock:
            if self._is_done or not self._is_first():
                return
            self._is_done = True
            self._voice.say("doomed", name)
            os.kill(os.getpid(), self._fate.signal)

    def _is_first(self) -> bool:
        if self._fate.marker is None:
            return True
        try:
            self._fate.marker.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


#: What a registry tells about an image that asks for the token as a file.
_WithTokenFile = functools.partial(ImageFacts, wants_token_file=True)


def run(settings: Settings, fate: Fate, connection: Connection, *, chatty: bool) -> None:
    """Be the service until ``stop`` comes, or the pipe ends."""
    logging.basicConfig(level=logging.INFO if chatty else logging.CRITICAL + 1)
    voice = _Voice(connection)
    with short_pauses(), token_files():
        doom = _Doom(fate, voice)
        runtime = Runtime(lambda: settings, voice.published, fail_points=FailPoints(doom.reached))
        runtime.start()
        while (order := _next_order(connection))[0] != "stop":
            voice.say("answer", _obey(runtime, *order))
        runtime.stop()
    voice.say("answer", "stopped")


def token_files() -> AbstractContextManager[object]:
    """Let each image ask for the token as a file.

    The way of a job without that file is a part of the way of one with it.
    """
    return mock.patch.object(images, "ImageFacts", _WithTokenFile)


@contextmanager
def short_pauses() -> Iterator[None]:
    """Let the worker of this process look around more often."""
    with ExitStack() as stack:
        for module, pauses in _PAUSES.items():
            for name, seconds in pauses.items():
                stack.enter_context(mock.patch.object(module, name, seconds))
        yield


def _next_order(connection: Connection) -> tuple[Any, ...]:
    try:
        order: tuple[Any, ...] = connection.recv()
    except EOFError:
        return ("stop",)
    return order


def _obey(runtime: Runtime, verb: str, *words: Any) -> object:
    try:
        match verb:
            case "submit":
                return submit(runtime, *words).id
            case "cancel":
                return runtime.engine.cancel(words[0], _TOKEN).state
            case "look":
                return runtime.engine.job(words[0]).state
    except DieError as error:
        return Refusal(f"{type(error).__name__}: {error}")
    raise AssertionError(f"no order {verb!r}")


def submit(runtime: Runtime, image: str, command: str, item: str, key: str | None = None) -> Job:
    """Let alice submit a job."""
    inputs = {"Image": [image], "CommandName": [command], "FileParam": [item]}
    form = ResponseForm(store=True, status=True)
    return runtime.engine.submit(inputs, _TOKEN, form, JobOptions(idempotency_key=key))
