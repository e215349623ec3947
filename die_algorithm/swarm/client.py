"""What can be asked of a Swarm."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from die_algorithm.errors import (
    RegistryLimits,
    RegistryUnavailable,
    ServiceGone,
    ServiceRefused,
    SwarmError,
    SwarmUnavailable,
)
from die_algorithm.image_reference import ImageReference
from die_algorithm.image_refusals import not_public, wrong_platform
from die_algorithm.models import (
    EngineFacts,
    JobSecret,
    JobService,
    NodeFacts,
    TaskPhase,
    TaskReport,
)
from die_algorithm.service_spec import ENGINE_NETWORKS, JOB_LABEL
from die_algorithm.states import TASK_PHASES
from die_algorithm.swarm import answers
from die_algorithm.swarm.calls import Answer, Calls, TimedOut
from die_algorithm.swarm.log_tail import LogTail
from die_algorithm.swarm.tls import TlsFiles

LOGGER = logging.getLogger(__name__)

_T = TypeVar("_T")

#: The filter for what belongs to jobs; on tasks it is their service's labels that count.
_OURS = {"filters": json.dumps({"label": [JOB_LABEL]})}
_CHUNK = 64 * 1024
#: An engine says that a container ended a moment before it calls itself started, or stops it then.
_RESTORE_TIME = timedelta(seconds=60)
#: Exit codes of containers that an engine has killed, has stopped, or has found dead.
_KILLED = (137, 143, 255)
#: Words of an engine that cannot do or decide anything for the moment, in answers with status 500.
_INDECISION = (
    "leader",
    "Unavailable",
    "deadline exceeded",
    "DeadlineExceeded",
    "context canceled",
    "Canceled",
    "raft",
    "transport",
    "no space left on device",
)
#: What an engine, or who stands before it, means to be for this caller or this moment alone.
_NOT_NOW = (401, 408, 429)
#: What an engine says of an update that names another version of the service than the newest.
_OUT_OF_SEQUENCE = "update out of sequence"
#: How an engine passes on that a registry limits it (distribution specification, error codes).
_TOO_OFTEN = "toomanyrequests"
#: How often a service is looked at while others change it.
_LOOKS = 5


class Swarm:
    """A Swarm, as one of its managers sees it.

    Nothing is asked before the first call, so the engine may be away when this is made. All threads
    may share one.

    Every method may raise :class:`SwarmUnavailable` and :class:`NotASwarm`, unless it says otherwise.

    Args:
        docker_host: the engine's address, ``unix:///path`` or ``tcp://host:port``.
        timeout: seconds to wait for a connection, and then for each next part of an answer.
        tls_dir: folder of ``ca.pem``, ``cert.pem`` and ``key.pem`` for ``tcp://``; None: no TLS.

    Raises:
        SettingsError: those files cannot be used.
    """

    def __init__(
        self, docker_host: str, *, timeout: float = 30.0, tls_dir: Path | None = None
    ) -> None:
        self._calls = Calls(docker_host, timeout, TlsFiles(tls_dir) if tls_dir else None)
        self._complained_of: set[str] = set()

    def close(self) -> None:
        """Close the connections. The next call would open new ones."""
        self._calls.close()

    # -- the engine

    def facts(self) -> EngineFacts:
        """Ask the engine what it is and can. It need not be a manager."""
        version = self._calls.call("GET", "/version").read(answers.VERSION)
        info = self._calls.call("GET", "/info").read(answers.INFO)
        return EngineFacts(
            version=version.version,
            api_version=version.api_version,
            is_manager=info.swarm.control_available,
            nodes=info.swarm.nodes,
            cpus=info.cpus,
            memory=info.memory,
            has_init=info.has_init,
            limits_memory=info.memory_limit,
            limits_swap=info.swap_limit,
            limits_pids=info.pids_limit,
            limits_cpus=info.cpu_quota,
            security=info.security,
            components={each.name: each.version for each in version.components},
        )

    def nodes(self) -> list[NodeFacts]:
        """List the nodes of the Swarm, those that are away included."""
        return [node.facts for node in self._calls.call("GET", "/nodes").read(answers.NODES)]

    def can_join(self, network: str) -> bool:
        """Whether there is a network of that name, or id, that jobs' services can join."""
        answer = self._calls.call("GET", f"/networks/{network}")
        if answer.says_missing:
            return False
        found = answer.read(answers.NETWORK)
        return network in ENGINE_NETWORKS or (found.scope == "swarm" and not found.ingress)

    # -- images

    def resolve_digest(self, image: ImageReference, platform: str = "") -> str:
        """Ask the registry what an image reference means now, through the engine.

        An image that only the engine has, and no registry, does not count.

        Args:
            image: the reference.
            platform: of the nodes that are to run it, such as ``linux/amd64``; empty: this manager's.

        Returns:
            The digest, ``sha256:…``: the reference's own if it has one.

        Raises:
            ImageNotFound: there is no such public image.
            ImageUnusable: it is not for this platform.
            RegistryUnavailable: the registry does not answer; RegistryLimits: it limits us.
        """
        try:
            answer = self._calls.call("GET", f"/distribution/{image.canonical}/json")
        except TimedOut:
            # Other calls will show it if it is the engine that does not answer.
            raise RegistryUnavailable("The image registry does not answer in time.") from None
        if answer.status >= 400 and not answer.message:
            answer.check()  # the engine would say why
        if answer.status in (400, 401, 403, 404):
            raise not_public(image)
        if answer.status >= 400:
            answer.refuse_non_manager()
            LOGGER.warning("The registry of %s: %s", image.canonical, answer.message)
            if _TOO_OFTEN in answer.message.lower():
                raise RegistryLimits("The image registry is asked too often.")
            raise RegistryUnavailable("The image registry does not answer as it should.")
        found = answer.read(answers.DISTRIBUTION)
        self._check_platform(image, found, platform)
        return image.digest or found.descriptor.digest

    def _check_platform(
        self, image: ImageReference, found: answers.Distribution, platform: str
    ) -> None:
        engine = self._calls.connect()
        wanted = platform or f"{engine.os}/{engine.architecture}"
        offered = {
            f"{each.os}/{each.architecture}" for each in found.platforms if each.architecture
        }
        if offered and wanted not in offered:
            raise wrong_platform(image, wanted)

    # -- services

    def create_service(self, spec: Mapping[str, object]) -> str:
        """Create a job's service, or adopt the one that a former try has created.

        Args:
            spec: as :func:`die_algorithm.service_spec.service_spec` makes it.

        Returns:
            The service's id.

        Raises:
            ServiceRefused: the engine will not have it, and would not the next time.
        """
        answer = self._calls.call("POST", "/services/create", body=json.dumps(spec).encode())
        if answer.status == 409:
            return self._adopt(spec)
        _check_accepted(answer, spec["Name"])
        return answer.read(answers.CREATED).id

    def _adopt(self, spec: Mapping[str, object]) -> str:
        """Find the service that has the name already.

        It may be gone by now; then the engine is asked again as after an outage.
        """
        name, labels = spec["Name"], spec["Labels"]
        found = self._calls.call("GET", f"/services/{name}").read(answers.SERVICE)
        if not isinstance(labels, Mapping) or found.job_id != labels.get(JOB_LABEL):
            raise ServiceRefused(
                "Another service of the Swarm has the name that this job's would have. Tell the "
                "operator the job's id."
            )
        LOGGER.info("Service %s exists already and is adopted.", name)
        return found.id

    def is_started(self, service_id: str) -> bool:
        """Whether a service was ever told to have its task.

        Raises:
            ServiceGone: it was removed.
        """
        seen = self._calls.call("GET", f"/services/{service_id}")
        _check_there(seen)
        return seen.read(answers.SERVICE).is_started

    def start_service(self, service_id: str) -> None:
        """Let a service that was created have its one task, unless it was started before.

        Whoever starts it names the version of the service that was seen without a task, and the
        Swarm takes one such wish only. So the container is started at most once, whoever else tries,
        and not at all once the service was removed.

        Args:
            service_id: as :meth:`create_service` returned it; a name might be another service's now.

        Raises:
            ServiceGone: it was removed.
            ServiceRefused: the engine will not have it, and would not the next time.
        """
        for _ in range(_LOOKS):
            seen = self._calls.call("GET", f"/services/{service_id}")
            _check_there(seen)
            if seen.read(answers.SERVICE).is_started:
                return
            answer = self._start(service_id, seen.read(answers.STARTABLE))
            _check_there(answer)
            if _OUT_OF_SEQUENCE not in answer.message:
                _check_accepted(answer, service_id)
                answer.check()
                return
        raise SwarmUnavailable("The job's service is being changed by somebody else all the time.")

    def _start(self, service_id: str, seen: answers.Startable) -> Answer:
        return self._calls.call(
            "POST",
            f"/services/{service_id}/update",
            params={"version": str(seen.version.index)},
            body=json.dumps(seen.started_spec).encode(),
        )

    def job_services(self) -> list[JobService]:
        """List the services of all jobs."""
        answer = self._calls.call("GET", "/services", params=_OURS)
        return [each.job_service for each in answer.read(answers.SERVICES)]

    def services_labelled(self, label: str, owner_label: str, owner: str) -> list[str]:
        """List the ids of services that have a label, and another one with a value of its own."""
        filters = {"filters": json.dumps({"label": [label, f"{owner_label}={owner}"]})}
        answer = self._calls.call("GET", "/services", params=filters)
        return [each.id for each in answer.read(answers.SERVICES)]

    def remove_service(self, name_or_id: str) -> None:
        """Remove a service, and so stop its container. One that is gone already is removed."""
        answer = self._calls.call("DELETE", f"/services/{name_or_id}")
        if not answer.says_missing:
            answer.check()

    # -- secrets

    def create_secret(self, spec: Mapping[str, object]) -> str:
        """Create the secret with a job's user token, or adopt the one that a former try has created.

        Args:
            spec: as :func:`die_algorithm.service_spec.secret_spec` makes it.

        Returns:
            The secret's id.

        Raises:
            ServiceRefused: the engine will not have it, or another has its name.
        """
        answer = self._calls.call("POST", "/secrets/create", body=json.dumps(spec).encode())
        if answer.status == 409:
            return self._adopt_secret(spec)
        _check_accepted(answer, spec["Name"])
        return answer.read(answers.CREATED).id

    def _adopt_secret(self, spec: Mapping[str, object]) -> str:
        name, labels = spec["Name"], spec["Labels"]
        found = self._calls.call("GET", f"/secrets/{name}").read(answers.SECRET)
        if not isinstance(labels, Mapping) or found.job_secret.job_id != labels[JOB_LABEL]:
            raise ServiceRefused(
                "Another secret of the Swarm has the name that this job's would have. Tell the "
                "operator the job's id."
            )
        return found.id

    def job_secrets(self) -> list[JobSecret]:
        """List the secrets of all jobs."""
        answer = self._calls.call("GET", "/secrets", params=_OURS)
        return [each.job_secret for each in answer.read(answers.SECRETS)]

    def remove_secret(self, name_or_id: str) -> None:
        """Remove a secret that no service uses any more. One that is gone already is removed."""
        answer = self._calls.call("DELETE", f"/secrets/{name_or_id}")
        if not answer.says_missing:
            answer.check()

    # -- tasks

    def task_reports(self) -> list[TaskReport]:
        """Look at the tasks of all jobs with one call, whatever their number.

        Returns:
            One report for each job that has a task: the newest one's. A task with a state that is not
            known here has none, as if it were not there.
        """
        answer = self._calls.call("GET", "/tasks", params=_OURS)
        tasks = answer.try_to_read(answers.TASKS) or answer.read(answers.TASKS_ONE_BY_ONE)
        reports = []
        for task in answers.newest_of_each_job(tasks):
            try:
                reports.append(task.report)
            except SwarmError as error:
                self._complain_once(task.status.state, f"Job {task.job_id}: {error}")
        return reports

    def task_report(self, service_id: str) -> TaskReport | None:
        """Look at the one task of a service; None if it has none yet."""
        filters = {"filters": json.dumps({"service": [service_id]})}
        tasks = self._calls.call("GET", "/tasks", params=filters).read(answers.TASKS)
        return max(tasks, key=lambda task: task.created_at).report if tasks else None

    def has_run(self, service_id: str) -> bool:
        """Whether a container of a service may have been started, by all its tasks that are kept."""
        filters = {"filters": json.dumps({"service": [service_id]})}
        tasks = self._calls.call("GET", "/tasks", params=filters).read(answers.TASKS)
        return any(TASK_PHASES.get(task.status.state) is not TaskPhase.REJECTED for task in tasks)

    def oom_killed(self, container_id: str) -> bool | None:
        """Whether a process of a container was killed because the container's memory was used up.

        Returns:
            None if nobody knows: the container is on another node, or gone.
        """
        container = self._container(container_id)
        return container.state.oom_killed if container else None

    def cut_off(self, report: TaskReport) -> bool | None:
        """Whether a container ended, or may have, because its engine was restarted.

        An engine that was killed stops the containers that still run when it is back, with SIGTERM,
        before it tells of anything: one may end then with any exit code, 0 among them. An engine does
        not tell when it was started, but it makes its default bridge anew each time, after that. Of a
        container on another node it has to be concluded from what the managers know.

        Args:
            report: of a task that has ended.

        Returns:
            None if nobody knows.
        """
        container = self._container(report.container_id) if report.container_id else None
        bridge = self._told("its networks", "/networks/bridge", answers.NETWORK)
        if container is None or bridge is None:
            return self._node_came_back(report)
        engine_started = bridge.created
        grace = timedelta(seconds=container.configuration.stop_timeout)
        return (
            container.state.started_at < engine_started < report.told_at
            and engine_started < container.state.finished_at + grace + _RESTORE_TIME
        )

    def _node_came_back(self, report: TaskReport) -> bool | None:
        """Whether a task's node joined the Swarm anew at about the time when it told of the end.

        The record of a node changes when its engine starts, but not when its cable was pulled for a
        few seconds. It also changes when somebody edits it, when another manager takes the lead, and
        when tasks of overlay networks come and go. So only of an end that looks like a kill anything
        can be concluded from that.
        """
        if report.exit_code not in _KILLED:
            return None
        nodes = self._told("nodes", "/nodes", answers.CHANGED_NODES)
        joined = next((node.updated_at for node in nodes or () if node.id == report.node_id), None)
        if joined is None:
            return None
        return report.created_at < joined and abs(joined - report.told_at) < _RESTORE_TIME

    def _container(self, container_id: str) -> answers.Container | None:
        path = f"/containers/{container_id}/json"
        return self._told("single containers", path, answers.CONTAINER)

    # -- what a proxy may withhold

    def withheld_of_ends(self) -> list[str]:
        """What tells why containers ended and may not be asked, as the rules of a proxy name it."""
        # The engine has no such container, and says so to whom it lets ask.
        return self._withheld(
            {"/containers/*/json": "/containers/none/json", "/networks/bridge": "/networks/bridge"}
        )

    def withheld_of_disks(self) -> list[str]:
        """The same of what tells how much containers write to disks of their own."""
        return self._withheld(
            {"/containers/json": "/containers/json?limit=1", "/system/df": "/system/df?type=volume"}
        )

    def _withheld(self, asked: Mapping[str, str]) -> list[str]:
        """Those of the calls that may not be made."""
        return [
            f"GET {rule}"
            for rule, path in asked.items()
            if self._calls.call("GET", path).is_withheld
        ]

    def _told(
        self,
        what: str,
        path: str,
        kind: TypeAdapter[_T],
        params: Mapping[str, str] | None = None,
    ) -> _T | None:
        """What an engine tells of its own things; None if it has no such thing, or they are withheld.

        A proxy that passes the Swarm's calls alone, as is recommended (reference: safety 2.9), keeps no
        job from its end.
        """
        answer = self._calls.call("GET", path, params=params)
        if answer.is_withheld:
            self._complain_once(
                what,
                f"The Docker engine, or a proxy before it, tells nothing of {what} "
                f"(HTTP {answer.status}); 'die doctor' says what to do.",
            )
            return None
        return None if answer.says_missing else answer.read(kind)

    def _complain_once(self, about: str, words: str) -> None:
        if about not in self._complained_of:
            self._complained_of.add(about)
            LOGGER.error("%s", words)

    # -- disks

    def written(self) -> dict[str, int]:
        """What the jobs' containers that run on this engine have written to disks of their own.

        The engine adds up the files of each container's layer, so the call takes long where there
        are many. What it cannot see: files that were removed and are still open, room that was
        reserved beyond a file's end, and folders. A sparse file counts as long as it says it is.

        Returns:
            Bytes by the container's id, the volumes that its image asks for included.
        """
        params = {"size": "1", **_OURS}
        containers = (
            self._told(
                "what containers write", "/containers/json", answers.LISTED_CONTAINERS, params
            )
            or []
        )
        # Dear: the engine adds up all of its volumes, and older ones their images, too.
        sizes = self._volumes() if any(each.volumes for each in containers) else {}
        return {
            each.id: each.written + sum(sizes.get(name, 0) for name in each.volumes)
            for each in containers
        }

    def written_by(self, container_id: str) -> int | None:
        """The same of one container, without its volumes; None if it is not on this engine."""
        path = f"/containers/{container_id}/json"
        kind, params = answers.INSPECTED_CONTAINER, {"size": "1"}
        container = self._told("single containers", path, kind, params)
        return container.written if container else None

    def _volumes(self) -> dict[str, int]:
        """Bytes of each volume; engines before API 1.42 tell of everything, whatever is asked."""
        use = self._told("volumes", "/system/df", answers.DISK_USE, {"type": "volume"})
        return use.sizes if use else {}

    # -- logs

    def log_tail(self, service_id: str, *, limit: int, timeout: float) -> bytes:
        """Fetch the end of what a service's container has written, both streams as they came.

        Logs come over other ways than the rest and may hang or fail by themselves, so this never
        raises: what cannot be had is missing, and our own log says why.

        Args:
            service_id: the service's.
            limit: bytes at most.
            timeout: seconds after which what has arrived must do.
        """
        # Half for waiting on the socket, half for reading on: together never more than the whole.
        deadline = time.monotonic() + timeout / 2
        tail = LogTail(limit)
        # Few long lines or many short ones? The first guess is cheap even if lines are very long.
        for lines in (limit // 512 + 1, limit):
            tail = LogTail(limit)
            try:
                in_time = self._try_to_read_log(service_id, lines, tail, deadline)
            except SwarmError as error:
                LOGGER.warning("No log of service %s: %s", service_id, error)
                break
            if not in_time:
                LOGGER.warning("The log of service %s did not arrive in time.", service_id)
                break
            if tail.is_full or tail.frames < lines:
                break
        if tail.engine_errors:
            LOGGER.warning("The engine could not read all of the log of service %s.", service_id)
        return tail.content

    def _try_to_read_log(self, service_id: str, lines: int, tail: LogTail, deadline: float) -> bool:
        """Read a log; once more if the connection broke before any of it came, and did not hang.

        The log tells a command that the image lacks from a program that failed.
        """
        try:
            return self._read_log(service_id, lines, tail, deadline)
        except TimedOut:
            raise
        except SwarmUnavailable:
            if tail.content:
                raise
        return self._read_log(service_id, lines, tail, deadline)

    def _read_log(self, service_id: str, lines: int, tail: LogTail, deadline: float) -> bool:
        """Feed the last lines of a log to ``tail``; return whether all came before the deadline."""
        path = f"/services/{service_id}/logs"
        params = {"stdout": "1", "stderr": "1", "tail": str(lines)}
        patience = max(deadline - time.monotonic(), 0.001)
        with self._calls.stream(path, params=params, timeout=patience) as response:
            if response.status != 200:
                raise SwarmUnavailable(f"The Docker engine answered with HTTP {response.status}.")
            while chunk := response.read1(_CHUNK):
                tail.feed(chunk)
                if time.monotonic() > deadline:
                    return False
        return True


def _check_there(answer: Answer) -> None:
    """Raise ServiceGone if the engine knows no such service."""
    if answer.says_missing:
        raise ServiceGone("The job's service was removed from the Swarm before it was started.")


def _check_accepted(answer: Answer, service: object) -> None:
    """Raise ServiceRefused if the engine will not have a service as it is described."""
    if answer.status not in range(400, 501) or answer.status in _NOT_NOW or not answer.message:
        return
    if answer.status == 500 and any(word in answer.message for word in _INDECISION):
        return
    # The engine's words name networks and constraints, which are the operator's business.
    LOGGER.error("The Swarm refuses service %s: %s", service, answer.message)
    raise ServiceRefused(
        "The Swarm refuses to run the container as this service is set up. Tell the operator "
        "the job's id."
    )
