"""Puts the parts together for one operating-system process, when they are first needed.

PyWPS copies a process object deeply for every Execute and some servers fork, so clients and threads
cannot hang on it. A :class:`Runtime` stays one and the same when copied, and builds its parts anew in
a process that was forked from the one that used them.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing

from die_algorithm.engine import Engine
from die_algorithm.errors import SettingsError
from die_algorithm.fail_points import FailPoints
from die_algorithm.images import Images
from die_algorithm.janitor import Janitor
from die_algorithm.job_in_hand import JobMark
from die_algorithm.job_store import JobStore, QueueLimits
from die_algorithm.models import Job, UserToken, WorkerReport
from die_algorithm.policy import Policy
from die_algorithm.public_links import PublicLinks
from die_algorithm.registry import Registry, this_platform
from die_algorithm.results import Results
from die_algorithm.settings import Settings
from die_algorithm.steps import DiskWatch, Steps
from die_algorithm.stopwatches import Stopwatches
from die_algorithm.storagehub import StorageHub
from die_algorithm.swarm import Swarm
from die_algorithm.token_mask import TokenMask, guard_loggers, unguard_loggers
from die_algorithm.worker import Worker
from die_algorithm.worker_place import WorkerPlace

#: Seconds that a question to a registry may take, with all that it needs; a client waits meanwhile.
_REGISTRY_PATIENCE = 5.0
#: Whose loggers are guarded in somebody else's service.
_PACKAGE = "die_algorithm"


#: Looks, some seconds apart, in which a turn that works comes round: no call of it waits for minutes. Looks
#: are counted, not time: a machine that was halted makes everything late, and nothing hang.
_HOPELESS_LOOKS = 300


class _WorkerThread:
    """A worker that works in this process."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._turns = 0
        self._looks = 0
        self._thread = threading.Thread(target=worker.run, name="die-worker", daemon=True)
        self._thread.start()

    @property
    def works(self) -> bool:
        return self._thread.is_alive() and not self.worker.is_stuck

    def is_lost(self) -> bool:
        has_moved = self.worker.turns != self._turns
        self._turns, self._looks = self.worker.turns, 0 if has_moved else self._looks + 1
        hangs = self._turns > 0 and self._looks > _HOPELESS_LOOKS
        return hangs or not self._thread.is_alive()

    def end(self) -> None:
        self.worker.stop()

    def stop(self) -> None:
        self.end()
        self._thread.join()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Parts:
    process_id: int
    settings: Settings
    store: JobStore
    engine: Engine
    worker: _WorkerThread | None
    #: Gives everything back, what was made last first.
    given_back: ExitStack


class Runtime:
    """The engine and, unless it works elsewhere, its worker, started at first use.

    Args:
        load_settings: called once, at first use; may raise SettingsError.
        publish: called by the worker with every job of which the record has changed, and the
            settings, until it has not raised OSError.
        works_here: whether the worker is a thread of this process. Without it this process never
            talks to the Docker engine.
        fail_points: where to die on purpose.
        mask: of the log that this process writes; it is told of all tokens. None: the log is somebody
            else's, and what our own modules give to it is masked, and names its job.
        policy: the operator's; None: what the file says that the settings name, at first use.
    """

    def __init__(
        self,
        load_settings: Callable[[], Settings],
        publish: Callable[[Job, Settings], None] | None = None,
        *,
        works_here: bool = True,
        fail_points: FailPoints | None = None,
        mask: TokenMask | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._load_settings = load_settings
        self._policy = policy
        self._publish = publish
        self._works_here = works_here
        self._fail_points = fail_points or FailPoints()
        self._mask = mask or TokenMask()
        self._is_guest = mask is None
        self._log_filters = (JobMark(), self._mask)
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
        return self._started().engine

    def start(self) -> None:
        """Start now what would start at first use, so that unfinished jobs go on.

        Raises:
            SettingsError, StoreUnavailable: as for :attr:`engine`.
        """
        self._started()

    def _started(self) -> _Parts:
        parts = self._parts
        if parts is None or parts.process_id != os.getpid():
            with self._lock:
                parts = self._parts
                if parts is None or parts.process_id != os.getpid():
                    parts = self._parts = self._build(self._load_settings())
        return parts

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
        return parts is not None and (parts.worker is None or parts.worker.works)

    def has_lost_worker(self) -> bool:
        """Whether the worker of this process has ended by itself, or hangs for good; asked every two seconds.

        One that waits for its turn, or for a database that is away, has not.
        """
        parts = self._parts
        return parts is not None and parts.worker is not None and parts.worker.is_lost()

    def worker_reports(self) -> list[WorkerReport]:
        """What the workers on the jobs' database say of themselves.

        Raises:
            SettingsError, StoreUnavailable: as for :attr:`engine`.
        """
        return self._started().store.leases.workers()

    def close(self) -> None:
        """Accept no more jobs, wait for none, and let the worker end; other questions are answered."""
        parts = self._parts
        if parts is not None and parts.process_id == os.getpid():
            parts.engine.close()
            if parts.worker:
                parts.worker.end()

    def stop(self) -> None:
        """Accept no more jobs, let the steps under way finish, then give everything back.

        Jobs go on in another process, or at its next start; in this one nothing is started again.
        """
        parts = self._parts
        if parts is not None and parts.process_id == os.getpid():
            parts.given_back.close()

    def _build(self, settings: Settings) -> _Parts:
        given_back = ExitStack()
        with ExitStack() as failed:
            failed.callback(given_back.close)
            parts = self._assembled(settings, given_back)
            if self._is_guest:  # our own programs stop it themselves
                _before_threads_are_joined(given_back.close)
            failed.pop_all()
        return parts

    def _assembled(self, settings: Settings, given_back: ExitStack) -> _Parts:
        if self._is_guest:
            guard_loggers(_PACKAGE, *self._log_filters)
            given_back.callback(unguard_loggers, _PACKAGE, *self._log_filters)
        policy = self._policy or Policy.load(settings.policy_file)
        registry = registry_client(settings, policy)
        if registry:
            given_back.callback(registry.close)
        store = given_back.enter_context(closing(job_store(settings, on_token=self._mask.learn)))
        # A client waits for the answers to these questions, so they are not asked for long.
        storagehub = given_back.enter_context(closing(storagehub_client(settings, attempts=2)))
        public_links = given_back.enter_context(closing(public_links_client(settings)))
        images = Images(policy.images, registry)
        engine = Engine(
            settings,
            store,
            storagehub,
            public_links,
            images=images,
            fail_points=self._fail_points,
            on_token=self._mask.suspect,
            on_accepted=self._mask.learn,
        )
        if self._is_guest:
            engine.check_admins()  # as our own web application does
        thread = None
        if self._works_here:
            worker = self._worker(settings, store, engine, policy, registry, given_back=given_back)
            thread = _WorkerThread(worker)
            given_back.callback(thread.stop)
            engine.on_submit = worker.wake
        given_back.callback(engine.close)
        return _Parts(
            process_id=os.getpid(),
            settings=settings,
            store=store,
            engine=engine,
            worker=thread,
            given_back=given_back,
        )

    def _worker(
        self,
        settings: Settings,
        store: JobStore,
        engine: Engine,
        policy: Policy,
        registry: Registry | None,
        *,
        given_back: ExitStack,
    ) -> Worker:
        """A worker, with clients of its own, among them that of the Swarm, which nobody else has."""
        storagehub = given_back.enter_context(closing(storagehub_client(settings)))
        public_links = given_back.enter_context(closing(public_links_client(settings)))
        swarm = given_back.enter_context(closing(swarm_client(settings)))
        results = Results(settings.results_path)
        ask_engine = functools.partial(swarm.resolve_digest, platform=policy.images.platform)
        steps = Steps(
            settings,
            store,
            storagehub,
            swarm,
            results,
            rules=policy.containers,
            public_links=public_links,
            images=Images(policy.images, registry, ask_engine),
            fail_points=self._fail_points,
            stopwatches=Stopwatches(),
        )
        publish = self._publish
        return Worker(
            store,
            steps,
            swarm,
            WorkerPlace(settings.worker_lock),
            Janitor(
                store,
                steps,
                swarm,
                results=results,
                result_retention=settings.result_retention,
            ),
            disk_watch=DiskWatch(settings, policy.containers, swarm),
            lease=settings.worker_lease,
            transfers=settings.transfers,
            on_end=engine.notify,
            publish=(lambda job: publish(job, settings)) if publish else None,
        )


def _before_threads_are_joined(action: Callable[[], None]) -> None:
    """Let an action be the first thing when the interpreter ends this process.

    The functions of ``atexit`` are called much later: when the pools' threads have ended, and with them
    each transfer under way, while the worker's loop would go on and take jobs that nobody carries any more.
    """
    process_id = os.getpid()

    def act() -> None:
        if os.getpid() == process_id:  # not of one that was forked from this
            action()

    threading._register_atexit(act)  # type: ignore[attr-defined]  # noqa: SLF001 - nothing else is as early


def storagehub_client(settings: Settings, *, attempts: int = 4) -> StorageHub:
    """The client for the StorageHub of the settings.

    Args:
        settings: the operator's.
        attempts: how often a call that may be repeated is tried in all.
    """
    return StorageHub(
        settings.storagehub_url,
        auth=settings.storagehub_auth,
        timeout=settings.storagehub_timeout,
        min_rate=settings.transfer_min_rate,
        attempts=attempts,
    )


def swarm_client(settings: Settings, **options: float) -> Swarm:
    """The client for the Swarm of the settings.

    Args:
        settings: the operator's.
        options: ``timeout`` of the client, in seconds.

    Raises:
        SettingsError: the files in 'docker_tls_dir' cannot be used.
    """
    return Swarm(settings.docker_host, tls_dir=settings.docker_tls_dir, **options)


def registry_client(settings: Settings, policy: Policy) -> Registry | None:
    """The client for image registries; None if this service is not to ask any.

    Raises:
        SettingsError: the policy demands what only a registry can tell.
    """
    if settings.asks_registries:
        platform = policy.images.platform or this_platform()
        return Registry(settings.docker_hub_url, platform, _REGISTRY_PATIENCE)
    if policy.images.max_size is not None:
        raise SettingsError(
            "The policy limits the images' size by 'max_size', but 'docker_hub_url' leaves the questions to "
            "the engine, which cannot tell how large they are."
        )
    return None


def public_links_client(settings: Settings) -> PublicLinks:
    """The client for public links that the settings trust."""
    return PublicLinks(
        settings.trusted_links,
        timeout=settings.storagehub_timeout,
        min_rate=settings.transfer_min_rate,
        max_size=settings.max_input_size,
    )


def job_store(
    settings: Settings, on_token: Callable[[UserToken], None] = lambda _token: None
) -> JobStore:
    """The jobs' database of the settings.

    Args:
        settings: the operator's.
        on_token: called with the token of each job that is written or read.

    Raises:
        StoreUnavailable: it cannot be opened.
    """
    limits = QueueLimits(
        running=settings.max_running,
        running_per_owner=settings.max_running_per_owner,
        waiting=settings.max_waiting,
        waiting_per_owner=settings.max_waiting_per_owner,
    )
    return JobStore(settings.database_url, settings.key_path, limits, on_token=on_token)
