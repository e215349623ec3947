"""The few fields of the engine's answers that matter here; all others are skipped while parsing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from die_algorithm.image_reference import DIGEST
from die_algorithm.models import JobSecret, JobService, NodeFacts, TaskPhase, TaskReport
from die_algorithm.service_spec import INSTANCE_LABEL, JOB_LABEL
from die_algorithm.states import phase

#: What the engine says in place of a version of docker-init if it has none.
_NONE = "N/A"
#: What engines call the profile that Docker brings for seccomp; from version 23 on it is the second.
_OWN_PROFILES = ("default", "builtin")


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


def _empty_if_null(value: object) -> object:
    return () if value is None else value


class _Error(_Fields):
    message: str


class _Component(_Fields):
    name: str = Field("", alias="Name")
    version: str = Field("", alias="Version")


class Version(_Fields):
    """``GET /version``."""

    version: str = Field(alias="Version")
    api_version: str = Field(alias="ApiVersion", pattern=r"^\d+\.\d+$")
    os: str = Field(alias="Os")
    architecture: str = Field(alias="Arch")
    components: Annotated[tuple[_Component, ...], BeforeValidator(_empty_if_null)] = Field(
        (), alias="Components"
    )


class _SwarmInfo(_Fields):
    control_available: bool = Field(False, alias="ControlAvailable")
    nodes: int = Field(0, alias="Nodes")


class _InitCommit(_Fields):
    id: str = Field(_NONE, alias="ID")


class Info(_Fields):
    """``GET /info``."""

    cpus: int = Field(alias="NCPU")
    memory: int = Field(alias="MemTotal")
    memory_limit: bool = Field(False, alias="MemoryLimit")
    swap_limit: bool = Field(False, alias="SwapLimit")
    pids_limit: bool = Field(False, alias="PidsLimit")
    cpu_quota: bool = Field(False, alias="CpuCfsQuota")
    init_commit: _InitCommit = Field(_InitCommit(), alias="InitCommit")
    swarm: _SwarmInfo = Field(alias="Swarm")
    security_options: Annotated[tuple[str, ...], BeforeValidator(_empty_if_null)] = Field(
        (), alias="SecurityOptions"
    )

    @property
    def security(self) -> frozenset[str]:
        """The names of the protections: each is written like ``name=seccomp,profile=default``.

        One of seccomp with another profile than Docker's is none that anything could be built on: it may
        be ``unconfined``.
        """
        found = set()
        for option in self.security_options:
            word, _, rest = option.partition(",")
            name = word.removeprefix("name=")
            if name != "seccomp" or rest.removeprefix("profile=") in _OWN_PROFILES:
                found.add(name)
        return frozenset(found)

    @property
    def has_init(self) -> bool:
        """Whether the engine found its docker-init and could ask for its version."""
        return self.init_commit.id != _NONE


class _Descriptor(_Fields):
    digest: str = Field(pattern=f"^{DIGEST.pattern}$")


class _Platform(_Fields):
    os: str = ""
    architecture: str = ""


class Distribution(_Fields):
    """``GET /distribution/{image}/json``."""

    descriptor: _Descriptor = Field(alias="Descriptor")
    platforms: Annotated[tuple[_Platform, ...], BeforeValidator(_empty_if_null)] = Field(
        (), alias="Platforms"
    )


class _Created(_Fields):
    id: str = Field(alias="ID", min_length=1)


class _Labelled(_Fields):
    labels: dict[str, str] = Field({}, alias="Labels")


class _Container(_Fields):
    image: str = Field("", alias="Image")
    args: Annotated[tuple[str, ...], BeforeValidator(_empty_if_null)] = Field(
        (), alias="Args", repr=False
    )
    secrets: Annotated[tuple[dict[str, object], ...], BeforeValidator(_empty_if_null)] = Field(
        (), alias="Secrets"
    )


class _Template(_Fields):
    container: _Container = Field(_Container(), alias="ContainerSpec")


class _Replicated(_Fields):
    replicas: int = Field(0, alias="Replicas")


class _Mode(_Fields):
    replicated: _Replicated = Field(_Replicated(), alias="Replicated")


class _ServiceSpec(_Labelled):
    template: _Template = Field(_Template(), alias="TaskTemplate")
    mode: _Mode = Field(_Mode(), alias="Mode")


class Service(_Fields):
    """``GET /services/{id}``."""

    id: str = Field(alias="ID")
    spec: _ServiceSpec = Field(alias="Spec")

    @property
    def job_id(self) -> str:
        """The job's id; empty if the service is none of ours."""
        return self.spec.labels.get(JOB_LABEL, "")

    @property
    def is_started(self) -> bool:
        """Whether it was ever told to have a task."""
        return self.spec.mode.replicated.replicas > 0


class ListedService(Service):
    """One of ``GET /services``."""

    created_at: AwareDatetime = Field(alias="CreatedAt")

    @property
    def job_service(self) -> JobService:
        """What it means."""
        container = self.spec.template.container
        return JobService(
            job_id=self.job_id,
            service_id=self.id,
            instance=self.spec.labels.get(INSTANCE_LABEL, ""),
            is_started=self.is_started,
            created_at=self.created_at,
            image=container.image,
            args=container.args,
            has_token_file=bool(container.secrets),
        )


class Secret(_Fields):
    """One of ``GET /secrets``; an engine never tells what is in it."""

    id: str = Field(alias="ID")
    spec: _Labelled = Field(alias="Spec")

    @property
    def job_secret(self) -> JobSecret:
        """What it means."""
        return JobSecret(
            job_id=self.spec.labels.get(JOB_LABEL, ""),
            secret_id=self.id,
            instance=self.spec.labels.get(INSTANCE_LABEL, ""),
        )


class _Version(_Fields):
    index: int = Field(alias="Index")


class Startable(_Fields):
    """``GET /services/{id}`` again, with all of the spec: it is sent back as it came.

    It holds a user token, and so goes nowhere else.
    """

    version: _Version = Field(alias="Version")
    spec: dict[str, object] = Field(alias="Spec", repr=False)

    @property
    def started_spec(self) -> dict[str, object]:
        """The spec with one task."""
        return self.spec | {"Mode": {"Replicated": {"Replicas": 1}}}


class _ContainerStatus(_Fields):
    id: str = Field("", alias="ContainerID")
    exit_code: int = Field(0, alias="ExitCode")


class _Status(_Fields):
    timestamp: datetime = Field(alias="Timestamp")
    state: str = Field(alias="State")
    message: str = Field("", alias="Message")
    err: str = Field("", alias="Err")
    container: _ContainerStatus = Field(_ContainerStatus(), alias="ContainerStatus")


class _TaskSpec(_Fields):
    container: _Labelled = Field(alias="ContainerSpec")


class Task(_Fields):
    """One of ``GET /tasks``. A task does not tell its service's labels, only its container's."""

    created_at: datetime = Field(alias="CreatedAt")
    spec: _TaskSpec = Field(alias="Spec")
    service_id: str = Field(alias="ServiceID")
    node_id: str = Field("", alias="NodeID")
    status: _Status = Field(alias="Status")
    desired_state: str = Field(alias="DesiredState")

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.spec.container.labels.get(JOB_LABEL, "")

    @property
    def report(self) -> TaskReport:
        """What it means.

        Raises:
            SwarmError: its state is not known here.
        """
        task_phase = phase(self.status.state, self.desired_state)
        return TaskReport(
            job_id=self.job_id,
            service_id=self.service_id,
            phase=task_phase,
            state=self.status.state,
            desired_state=self.desired_state,
            message=": ".join(part for part in (self.status.message, self.status.err) if part),
            exit_code=_exit_code(task_phase, self.status.container.exit_code),
            container_id=self.status.container.id or None,
            node_id=self.node_id or None,
            created_at=self.created_at,
            told_at=self.status.timestamp,
        )


def _or_none(value: object, read: ValidatorFunctionWrapHandler) -> Task | None:
    try:
        task: Task = read(value)
    except ValidationError:
        if not isinstance(value, dict):
            raise  # then it is no list of tasks at all
        return None
    return task


def newest_of_each_job(tasks: Iterable[Task | None]) -> Iterable[Task]:
    """Swarm makes one task of a job, but an operator who updates its service makes more."""
    newest: dict[str, Task] = {}
    for task in tasks:
        if task is None:
            continue
        known = newest.get(task.job_id)
        if known is None or known.created_at < task.created_at:
            newest[task.job_id] = task
    return newest.values()


def _exit_code(task_phase: TaskPhase, code: int) -> int | None:
    """The exit code where it is one: Swarm says 0 for what has none, and -1 while it stops a task."""
    if task_phase is TaskPhase.COMPLETE:
        return code
    return code or None if task_phase is TaskPhase.FAILED else None


class ChangedNode(_Fields):
    """When the record of one of ``GET /nodes`` was last changed, by the managers' clocks."""

    id: str = Field(alias="ID")
    updated_at: datetime = Field(alias="UpdatedAt")


class _ContainerState(_Fields):
    oom_killed: bool = Field(alias="OOMKilled")
    started_at: datetime = Field(alias="StartedAt")
    finished_at: datetime = Field(alias="FinishedAt")


class _ContainerConfiguration(_Fields):
    stop_timeout: int = Field(10, alias="StopTimeout")


class Container(_Fields):
    """``GET /containers/{id}/json``."""

    state: _ContainerState = Field(alias="State")
    configuration: _ContainerConfiguration = Field(_ContainerConfiguration(), alias="Config")


class _Mount(_Fields):
    type: str = Field("", alias="Type")
    name: str = Field("", alias="Name")


class ListedContainer(_Fields):
    """One of ``GET /containers/json?size=1``."""

    id: str = Field(alias="Id")
    #: Bytes in its own layer; the engine leaves out what is none.
    written: int = Field(0, alias="SizeRw")
    mounts: Annotated[tuple[_Mount, ...], BeforeValidator(_empty_if_null)] = Field(
        (), alias="Mounts"
    )

    @property
    def volumes(self) -> list[str]:
        """The names of its volumes."""
        return [mount.name for mount in self.mounts if mount.type == "volume"]


class InspectedContainer(_Fields):
    """``GET /containers/{id}/json?size=1``."""

    written: int = Field(0, alias="SizeRw")


class _VolumeUse(_Fields):
    #: Bytes; -1 for those that the engine cannot look into.
    size: int = Field(0, alias="Size")


class _Volume(_Fields):
    name: str = Field(alias="Name")
    use: Annotated[_VolumeUse, BeforeValidator(lambda value: value or {})] = Field(
        _VolumeUse(), alias="UsageData"
    )


class DiskUse(_Fields):
    """``GET /system/df``."""

    volumes: Annotated[tuple[_Volume, ...], BeforeValidator(_empty_if_null)] = Field(
        (), alias="Volumes"
    )

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each volume, by its name."""
        return {volume.name: max(volume.use.size, 0) for volume in self.volumes}


class Network(_Fields):
    """``GET /networks/{name}``."""

    created: datetime = Field(alias="Created")
    scope: str = Field("", alias="Scope")
    ingress: bool = Field(False, alias="Ingress")


class _NodeSpec(_Fields):
    labels: Annotated[dict[str, str], BeforeValidator(lambda value: value or {})] = Field(
        {}, alias="Labels"
    )
    role: str = Field("", alias="Role")
    availability: str = Field("", alias="Availability")


class _NodeState(_Fields):
    state: str = Field("", alias="State")


class _NodePlatform(_Fields):
    os: str = Field("", alias="OS")
    architecture: str = Field("", alias="Architecture")


class _NodeResources(_Fields):
    nano_cpus: int = Field(0, alias="NanoCPUs")
    memory: int = Field(0, alias="MemoryBytes")


class _NodeEngine(_Fields):
    version: str = Field("", alias="EngineVersion")


class _NodeDescription(_Fields):
    """Empty for a node that has never been up."""

    hostname: str = Field("", alias="Hostname")
    platform: _NodePlatform = Field(_NodePlatform(), alias="Platform")
    resources: _NodeResources = Field(_NodeResources(), alias="Resources")
    engine: _NodeEngine = Field(_NodeEngine(), alias="Engine")


class _NodeManager(_Fields):
    """Of a manager only."""

    address: str = Field("", alias="Addr")


class Node(_Fields):
    """One of ``GET /nodes``."""

    id: str = Field(alias="ID")
    spec: _NodeSpec = Field(alias="Spec")
    description: _NodeDescription = Field(_NodeDescription(), alias="Description")
    status: _NodeState = Field(alias="Status")
    manager: _NodeManager = Field(_NodeManager(), alias="ManagerStatus")

    @property
    def facts(self) -> NodeFacts:
        """What it means."""
        description = self.description
        labels = {f"node.labels.{name}": value for name, value in self.spec.labels.items()}
        return NodeFacts(
            hostname=description.hostname,
            is_ready=self.status.state == "ready" and self.spec.availability == "active",
            cpus=description.resources.nano_cpus / 1e9,
            memory=description.resources.memory,
            engine_version=description.engine.version,
            manager_address=self.manager.address.rpartition(":")[0].strip("[]"),
            attributes={
                "node.id": self.id,
                "node.hostname": description.hostname,
                "node.role": self.spec.role,
                "node.platform.os": description.platform.os,
                "node.platform.arch": description.platform.architecture,
                **labels,
            },
        )


ERROR = TypeAdapter(_Error)
VERSION = TypeAdapter(Version)
INFO = TypeAdapter(Info)
DISTRIBUTION = TypeAdapter(Distribution)
CREATED = TypeAdapter(_Created)
SERVICE = TypeAdapter(Service)
SERVICES = TypeAdapter(list[ListedService])
SECRET = TypeAdapter(Secret)
SECRETS = TypeAdapter(list[Secret])
STARTABLE = TypeAdapter(Startable)
TASKS = TypeAdapter(list[Task])
#: A task that cannot be read is None: it must not hide all the others. Takes four times as long.
TASKS_ONE_BY_ONE = TypeAdapter(list[Annotated[Task | None, WrapValidator(_or_none)]])
CHANGED_NODES = TypeAdapter(list[ChangedNode])
CONTAINER = TypeAdapter(Container)
LISTED_CONTAINERS = TypeAdapter(list[ListedContainer])
INSPECTED_CONTAINER = TypeAdapter(InspectedContainer)
DISK_USE = TypeAdapter(DiskUse)
NETWORK = TypeAdapter(Network)
NODES = TypeAdapter(list[Node])
