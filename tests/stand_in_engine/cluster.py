"""The Swarm: services, their tasks, the containers on its one node, and what goes wrong with them.

As in a real one, each thing happens a moment after what causes it, in a thread of its own. Of restart
policies there is ``none`` only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stand_in_engine import image
from stand_in_engine.filters import Filters
from stand_in_engine.program import program_of
from stand_in_engine.schedule import Schedule
from stand_in_engine.secret import Secret, checked
from stand_in_engine.service import Refused, Service, completed
from stand_in_engine.task import FINAL, NODE_ID, Container, Task
from stand_in_engine.upload import upload

_UPLOADS = 16
_KILLED = 137
_NOT_AVAILABLE = "1 node not available for new tasks"
_NO_ROOM = "insufficient resources on 1 node"
_UNSATISFIED = "scheduling constraints not satisfied on 1 node"
#: What placement constraints may look at.
_ATTRIBUTES = {
    "node.id": NODE_ID,
    "node.hostname": "stand-in",
    "node.role": "manager",
    "node.platform.os": "linux",
    "node.platform.arch": "x86_64",
}


class Start(NamedTuple):
    """One container that was started."""

    job_id: str
    container_id: str
    #: Seconds since 1970.
    at: float


class End(NamedTuple):
    """How a container ended."""

    job_id: str
    exit_code: int
    #: ``itself``; ``stopped``, because its task was condemned; or ``restart`` of the engine.
    cause: str


class Cluster:
    """What the engine knows and does. All threads may share it.

    Args:
        start_delay: seconds from a task's assignment to its container's start.
        poll: seconds until the orchestrator, or the node, does what it is to do.
    """

    def __init__(self, start_delay: float, poll: float) -> None:
        self._start_delay = start_delay
        self._poll = poll
        self._lock = threading.RLock()
        self._schedule = Schedule()
        self._uploads = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="stand-in-upload")
        self._version = 10
        self._services: dict[str, Service] = {}
        self._ids: dict[str, str] = {}
        self._secrets: dict[str, Secret] = {}
        self._tasks: dict[str, Task] = {}
        self._by_service: dict[str, list[Task]] = {}
        self._containers: dict[str, Container] = {}
        self._starts: list[Start] = []
        self._ends: list[End] = []
        self._is_node_lost = False
        self._is_holding = False
        self._is_unfetchable = False
        #: What the registry says to whoever asks it through the engine; empty: what is true.
        self.registry_error = ""
        self._started_at = datetime.now(UTC)

    def start(self) -> None:
        """Begin."""
        self._schedule.start()

    def stop(self) -> None:
        """End; running containers are forgotten."""
        self._schedule.stop()
        self._uploads.shutdown(cancel_futures=True)

    # -- what is asked for

    def create(self, spec: dict[str, Any]) -> Service:
        """Make a service."""
        spec = completed(spec)
        with self._lock:
            if spec["Name"] in self._ids:
                raise Refused(
                    409,
                    "rpc error: code = AlreadyExists desc = name conflicts with an existing object: "
                    f"service {spec['Name']} already exists",
                )
            self._check_secrets(spec)
            service = Service(spec, self._next_version())
            self._services[service.id] = service
            self._ids[service.name] = service.id
            self._orchestrate(service)
            return service

    def service(self, name_or_id: str) -> Service:
        """Find a service."""
        with self._lock:
            found = self._services.get(self._ids.get(name_or_id, name_or_id))
        if found is None:
            raise Refused(404, f"service {name_or_id} not found")
        return found

    def update(self, name_or_id: str, version: int, spec: dict[str, Any]) -> None:
        """Change a service that still is as the caller saw it.

        A change of the tasks' template replaces them, even those that have ended.
        """
        with self._lock:
            service = self.service(name_or_id)
            if service.version != version:
                raise Refused(500, "rpc error: code = Unknown desc = update out of sequence")
            service.change(spec, self._next_version())
            for task in self._tasks_of(service):
                if not task.is_condemned or task.state in FINAL:
                    self._replace(task, service)
            self._orchestrate(service)

    def remove(self, name_or_id: str) -> None:
        """Remove a service; its tasks end, and go when their containers have ended."""
        with self._lock:
            service = self.service(name_or_id)
            del self._services[service.id], self._ids[service.name]
            for task in self._tasks_of(service):
                self._condemn(task, "remove")

    def services(self, filters: Filters) -> list[str]:
        """The JSON of the services that the filters let pass."""
        with self._lock:
            return [each.json for each in self._services.values() if filters.passes_service(each)]

    def create_secret(self, spec: dict[str, Any]) -> Secret:
        """Make a secret."""
        secret = Secret(checked(spec), 0)
        with self._lock:
            if any(each.name == secret.name for each in self._secrets.values()):
                raise Refused(
                    409,
                    f"rpc error: code = AlreadyExists desc = secret {secret.name} already exists",
                )
            secret.version = self._next_version()
            self._secrets[secret.id] = secret
            return secret

    def secret(self, name_or_id: str) -> Secret:
        """Find a secret."""
        with self._lock:
            for secret in self._secrets.values():
                if name_or_id in (secret.id, secret.name):
                    return secret
        raise Refused(404, f"secret {name_or_id} not found")

    def secrets(self, filters: Filters) -> list[Secret]:
        """The secrets that the filters let pass."""
        with self._lock:
            return [each for each in self._secrets.values() if filters.passes_service(each)]

    def remove_secret(self, name_or_id: str) -> None:
        """Remove a secret that no service uses."""
        with self._lock:
            secret = self.secret(name_or_id)
            for service in self._services.values():
                if secret.id in _secret_ids(service.spec):
                    raise Refused(
                        400,
                        f"rpc error: code = InvalidArgument desc = secret '{secret.name}' is in use "
                        f"by the following service: {service.name}",
                    )
            del self._secrets[secret.id]

    def _check_secrets(self, spec: dict[str, Any]) -> None:
        for secret_id in _secret_ids(spec):
            if secret_id not in self._secrets:
                raise Refused(
                    400, "rpc error: code = InvalidArgument desc = secret not found: " + secret_id
                )

    def tasks(self, filters: Filters) -> list[str]:
        """The JSON of the tasks that the filters let pass."""
        with self._lock:
            filters = filters.with_ids_of(lambda name: self.service(name).id)
            return [task.json for task in self._tasks.values() if filters.passes_task(task)]

    def container(self, container_id: str) -> Container:
        """Find a container, unless it is on a node that is lost."""
        with self._lock:
            found = None if self._is_node_lost else self._containers.get(container_id)
        if found is None:
            raise Refused(404, f"No such container: {container_id}")
        return found

    def containers(self, filters: Filters, *, with_size: bool) -> list[str]:
        """The JSON of the containers that run here and that the filters let pass."""
        with self._lock:
            return [
                task.container.listed(with_size=with_size)
                for task in ([] if self._is_node_lost else self._tasks.values())
                if task.container and task.is_running and filters.passes_container(task)
            ]

    def log(self, name_or_id: str) -> list[tuple[int, str]]:
        """What the containers of a service have written: stream and line."""
        service = self.service(name_or_id)
        with self._lock:
            if self._is_node_lost:
                text = f"incomplete log stream: node {NODE_ID} is not available"
                return [(3, text)]
            containers = [task.container for task in self._tasks_of(service) if task.container]
        return [line for container in containers for line in container.log()]

    @property
    def is_node_lost(self) -> bool:
        """Whether the node is away."""
        return self._is_node_lost

    @property
    def started_at(self) -> datetime:
        """When the engine was started."""
        return self._started_at

    # -- history

    @property
    def starts(self) -> list[Start]:
        """Every container that was ever started."""
        with self._lock:
            return list(self._starts)

    @property
    def ends(self) -> list[End]:
        """The end of every container that has ended."""
        with self._lock:
            return list(self._ends)

    def alive(self) -> list[Start]:
        """The containers that run now."""
        with self._lock:
            return [start for start in self._starts if self._runs(start.container_id)]

    def all_services(self) -> list[Service]:
        """The services there are."""
        with self._lock:
            return list(self._services.values())

    def _runs(self, container_id: str) -> bool:
        container = self._containers.get(container_id)
        return container is not None and container.is_running

    def let_end(self, job_id: str) -> None:
        """Let the time be over that a running program waits for before it ends.

        Raises:
            LookupError: the job has no container that runs.
        """
        with self._lock:
            tasks = [t for t in self._tasks.values() if t.job_id == job_id and t.is_running]
            if not tasks:
                raise LookupError(f"no container of job {job_id} runs")
            for task in tasks:
                assert task.container is not None
                task.container.may_end = True
                if task.container.is_waiting:
                    self._end(task, task.container.program.exit_code)

    # -- faults

    def lose_node(self) -> None:
        """Let the node be away: its containers go on, and the Swarm gives up their tasks."""
        with self._lock:
            self._is_node_lost = True
            for task in self._tasks.values():
                if task.on_node and task.state not in FINAL:
                    task.want("shutdown", self._next_version())

    def node_returns(self) -> None:
        """Let the node be back: it stops what was given up, and tells what has ended meanwhile."""
        with self._lock:
            self._is_node_lost = False
            for task in list(self._tasks.values()):
                if task.is_condemned:
                    self._later(self._stop, task)
            self._try_pending()

    def hold_pending(self) -> None:
        """Let no node fit any new task."""
        with self._lock:
            self._is_holding = True

    def release_pending(self) -> None:
        """Let the tasks that were held start."""
        with self._lock:
            self._is_holding = False
            self._try_pending()

    def lose_registry(self, error: str) -> None:
        """Let the node fetch no image, and with an error let nobody ask the registry."""
        with self._lock:
            self._is_unfetchable, self.registry_error = True, error

    def registry_returns(self) -> None:
        """Let images be fetched again."""
        with self._lock:
            self._is_unfetchable, self.registry_error = False, ""

    def restart(self, *, kill_containers: bool, in_order: bool) -> None:
        """Do to all containers what a restart of the engine does.

        Args:
            kill_containers: whether it does anything.
            in_order: whether the engine stopped them, and so no longer finds them afterwards;
                otherwise it was killed, and stops them when it is back.
        """
        if not kill_containers:
            return
        with self._lock:
            self._started_at = datetime.now(UTC)
            for task in [task for task in self._tasks.values() if task.is_running]:
                self._lose_container(task, in_order=in_order)

    def _lose_container(self, task: Task, *, in_order: bool) -> None:
        assert task.container is not None
        task.container.stopped = False
        if not in_order:
            code = task.container.program.at_sigterm
            self._end(task, _KILLED if code is None else code, cause="restart")
            return
        task.container.end(_KILLED)
        self._ends.append(End(task.job_id, _KILLED, "restart"))
        del self._containers[task.container.id]
        name = f"{task.service.name}.{task.slot}.{task.id}"
        task.become("failed", "started", self._next_version(), err=f"No such container: {name}")
        self._condemn(task, "shutdown")

    # -- from service to task

    def _orchestrate(self, service: Service) -> None:
        self._later(self._fill, service)

    def _fill(self, service: Service) -> None:
        """Give a service the tasks that it is to have and has not."""
        if service.id not in self._services:
            return
        tasks = [task for task in self._tasks_of(service) if task.desired != "remove"]
        current = {task.slot: task for task in tasks}  # the newest of each slot
        for slot, task in current.items():
            if slot > service.replicas:
                self._condemn(task, "remove")
        for slot in range(1, service.replicas + 1):
            if slot not in current or current[slot].template_is_old:
                self._assign_new(service, slot)

    def _replace(self, task: Task, service: Service) -> None:
        if task.template != service.template:
            task.template_is_old = True
            if task.state not in FINAL:
                self._condemn(task, "shutdown")

    def _assign_new(self, service: Service, slot: int) -> None:
        task = Task(service, slot, self._next_version())
        self._tasks[task.id] = task
        self._by_service.setdefault(service.id, []).append(task)
        self._assign(task)

    def _try_pending(self) -> None:
        for task in self._tasks.values():
            if task.state == "pending":
                self._later(self._assign, task)

    def _assign(self, task: Task) -> None:
        """Give a task to the node, or let it say why it waits."""
        if task.is_condemned or task.state not in ("new", "pending"):
            return
        if why := self._why_not(task):
            message = "pending task scheduling"
            err = f"no suitable node ({why})"
            task.become("pending", message, self._next_version(), err=err)
            return
        task.on_node = True
        task.become("preparing", "preparing", self._next_version())
        self._later(self._run, task, self._start_delay)

    def _why_not(self, task: Task) -> str:
        if self._is_node_lost:
            return _NOT_AVAILABLE
        if self._is_holding:
            return _NO_ROOM
        constraints = (task.template.get("Placement") or {}).get("Constraints") or []
        return "" if all(map(_is_satisfied, constraints)) else _UNSATISFIED

    # -- from task to container

    def _run(self, task: Task) -> None:
        if task.state != "preparing" or task.is_condemned or self._is_node_lost:
            return
        wanted = task.template["ContainerSpec"]["Image"]
        if self._is_unfetchable or image.digest_of(wanted) is None:
            err = f"No such image: {image.familiar(wanted)}"
            task.become("rejected", "preparing", self._next_version(), err=err)
            task.want("shutdown", self._next_version())
            return
        task.container = Container(program_of(task.args), datetime.now(UTC))
        self._containers[task.container.id] = task.container
        self._starts.append(Start(task.job_id, task.container.id, time.time()))
        task.become("running", "started", self._next_version())
        self._begin(task)

    def _begin(self, task: Task) -> None:
        assert task.container is not None
        program = task.container.program
        limit = task.memory_limit
        if limit is not None and program.memory > limit:
            task.container.oom_killed = True
            self._end(task, _KILLED)
        elif program.write is not None:
            self._uploads.submit(self._write, task)
        else:
            self._go_on(task)

    def _write(self, task: Task) -> None:
        assert task.container is not None
        write = task.container.program.write
        assert write is not None
        if not task.is_running:
            return
        token, item, folder = task.args[-3:]
        storagehub = task.environment.get("STORAGEHUB_URL", "")
        if upload(storagehub, token, item, folder, write):
            self._go_on(task)
        else:
            self._end(task, 1)

    def _go_on(self, task: Task) -> None:
        assert task.container is not None
        container = task.container
        with self._lock:
            container.is_waiting = True
            seconds = 0.0 if container.may_end else container.program.seconds
        if seconds is not None:
            self._schedule.after(seconds, lambda: self._end(task, container.program.exit_code))

    def _end(self, task: Task, exit_code: int, cause: str = "") -> None:
        """Let a container end, unless it has; the Swarm hears of it if the node can be heard."""
        with self._lock:
            if task.container and task.container.is_running:
                task.container.end(exit_code)
                cause = cause or ("stopped" if task.container.stopped else "itself")
                self._ends.append(End(task.job_id, exit_code, cause))
                if not self._is_node_lost:
                    self._report_end(task)

    def _report_end(self, task: Task) -> None:
        container = task.container
        assert container is not None
        code, version = container.exit_code, self._next_version()
        if container.stopped:
            task.become("shutdown", "shutdown", version, exit_code=code)
        elif code == 0:
            task.become("complete", "finished", version)
        else:
            err = f"task: non-zero exit ({code})"
            task.become("failed", "started", version, err=err, exit_code=code)
        self._condemn(task, "shutdown")

    # -- the end of a task

    def _condemn(self, task: Task, desired: str) -> None:
        task.want(desired, self._next_version())
        self._later(self._stop, task)

    def _stop(self, task: Task) -> None:
        """Bring a condemned task a step nearer to its end."""
        container = task.container
        if self._is_node_lost and task.on_node:
            return
        if task.state in FINAL:
            self._reap(task)
        elif container is None:
            task.become("shutdown", "shutdown", self._next_version())
            self._later(self._stop, task)
        elif not container.is_running:
            self._report_end(task)  # it ended while nobody heard of it
        elif not container.stopped:
            self._terminate(task, container)

    def _terminate(self, task: Task, container: Container) -> None:
        container.stopped = True
        if (code := container.program.at_sigterm) is not None:
            self._end(task, code)
            return
        task.become("running", "started", self._next_version(), exit_code=-1)
        self._schedule.after(task.grace, lambda: self._end(task, _KILLED))

    def _reap(self, task: Task) -> None:
        if task.desired == "remove" and task.id in self._tasks:
            del self._tasks[task.id]
            tasks = self._by_service[task.service.id]
            tasks.remove(task)
            if not tasks:
                del self._by_service[task.service.id]
            if task.container:
                self._containers.pop(task.container.id, None)

    # -- the rest

    def _later(self, action: Callable[..., None], thing: object, seconds: float = 0.0) -> None:
        """Do something to a task or service a moment later, alone."""

        def alone() -> None:
            with self._lock:
                action(thing)

        self._schedule.after(seconds or self._poll, alone)

    def _tasks_of(self, service: Service) -> list[Task]:
        return list(self._by_service.get(service.id, ()))

    def _next_version(self) -> int:
        self._version += 1
        return self._version


def _secret_ids(spec: dict[str, Any]) -> list[str]:
    container = spec["TaskTemplate"]["ContainerSpec"]
    return [each["SecretID"] for each in container.get("Secrets") or []]


def _is_satisfied(constraint: str) -> bool:
    operator = "!=" if "!=" in constraint else "=="
    name, _, value = (part.strip() for part in constraint.partition(operator))
    return (_ATTRIBUTES.get(name) == value) == (operator == "==")
