"""Puts the parts together for one operating-system process, when they are first needed.

PyWPS copies a process object deeply for every Execute and some servers fork, so clients and threads
cannot hang on it. A :class:`Runtime` stays one and the same when copied, and builds its parts anew in
a process that was forked from the one that used them.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable

from die_algorithm.engine import Engine
from die_algorithm.job_store import JobStore
from die_algorithm.models import Job
from die_algorithm.results import Results
from die_algorithm.settings import Settings
from die_algorithm.steps import Steps
from die_algorithm.storagehub import StorageHub
from die_algorithm.swarm import Swarm
from die_algorithm.worker import Worker
from die_algorithm.worker_place import WorkerPlace


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Parts:
    process_id: int
    settings: Settings
    store: JobStore
    storagehub: StorageHub
    swarm: Swarm
    engine: Engine
    worker: Worker
    thread: threading.Thread


class Runtime:
    """The engine and its worker, started at first use.

    Args:
        load_settings: called once, at first use; may raise SettingsError.
        publish: called by the worker with every job of which the record has changed, and the
            settings, until it has not raised OSError.
    """

    def __init__(
        self,
        load_settings: Callable[[], Settings],
        publish: Callable[[Job, Settings], None] | None = None,
    ) -> None:
        self._load_settings = load_settings
        self._publish = publish
        self._parts: _Parts | None = None
        self._lock = threading.Lock()

    def __deepcopy__(self, _memo: object) -> Runtime:
        return self

    @property
    def engine(self) -> Engine:
        """The engine of this operating-system process; its worker runs.

        Raises:
            SettingsError: the configuration is wrong.
            StoreUnavailable: the jobs' database cannot be opened.
        """
        parts = self._parts
        if parts is None or parts.process_id != os.getpid():
            with self._lock:
                parts = self._parts
                if parts is None or parts.process_id != os.getpid():
                    parts = self._parts = _start(self._load_settings(), self._publish)
        return parts.engine

    def start(self) -> None:
        """Start now what would start at first use, so that unfinished jobs go on.

        Raises:
            SettingsError, StoreUnavailable: as for :attr:`engine`.
        """
        _ = self.engine

    @property
    def settings(self) -> Settings:
        """The settings in force, read now if they have not been yet.

        Raises:
            SettingsError: the configuration is wrong.
        """
        return self._parts.settings if self._parts else self._load_settings()

    @property
    def works(self) -> bool:
        """Whether the worker of this process works, or waits for its turn to."""
        parts = self._parts
        return parts is not None and parts.thread.is_alive() and not parts.worker.is_stuck

    def close(self) -> None:
        """Accept no more jobs, wait for none, and let the worker end; other questions are answered."""
        parts = self._parts
        if parts is not None and parts.process_id == os.getpid():
            parts.engine.close()
            parts.worker.stop()

    def stop(self) -> None:
        """Let the steps under way finish, then give everything back. Jobs go on at the next start."""
        parts, self._parts = self._parts, None
        if parts is None or parts.process_id != os.getpid():
            return
        parts.worker.stop()
        parts.thread.join()
        parts.swarm.close()
        parts.storagehub.close()
        parts.store.close()


def storagehub_client(settings: Settings) -> StorageHub:
    """The client for the StorageHub of the settings."""
    return StorageHub(
        settings.storagehub_url,
        auth=settings.storagehub_auth,
        timeout=settings.storagehub_timeout,
        min_rate=settings.transfer_min_rate,
    )


def job_store(settings: Settings) -> JobStore:
    """The jobs' database of the settings.

    Raises:
        StoreUnavailable: it cannot be opened.
    """
    return JobStore(settings.database_url, settings.data_dir / "token.key")


def _start(settings: Settings, publish: Callable[[Job, Settings], None] | None) -> _Parts:
    store = job_store(settings)
    storagehub = storagehub_client(settings)
    swarm = Swarm(settings.docker_host)
    steps = Steps(settings, store, storagehub, swarm, Results(settings.results_path))
    engine = Engine(settings, store, storagehub)
    worker = Worker(
        store,
        steps,
        swarm,
        WorkerPlace(settings.data_dir / "worker.lock"),
        transfers=settings.transfers,
        on_change=engine.notify,
        publish=(lambda job: publish(job, settings)) if publish else None,
    )
    engine.on_submit = worker.wake
    thread = threading.Thread(target=worker.run, name="die-worker", daemon=True)
    thread.start()
    return _Parts(
        process_id=os.getpid(),
        settings=settings,
        store=store,
        storagehub=storagehub,
        swarm=swarm,
        engine=engine,
        worker=worker,
        thread=thread,
    )
