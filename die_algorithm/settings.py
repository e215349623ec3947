"""The operator's configuration: read once, checked once, frozen.

``Settings.load`` reads the section ``[die]`` of a PyWPS configuration file and then the environment,
where ``DIE_<NAME>`` overrides the file. This is the only module that looks at ``os.environ``.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticUndefined

from die_algorithm.errors import SettingsError
from die_algorithm.models import Deadlines
from die_algorithm.public_link import TrustedHosts
from die_algorithm.settings_values import (
    ASK_ENGINE,
    Addresses,
    Constraints,
    CpuLimit,
    Duration,
    EngineAddress,
    Hosts,
    HttpUrl,
    HubUrl,
    Label,
    MemoryLimit,
    Networks,
    PidsLimit,
    PublicUrl,
    Size,
    TmpfsLimit,
    TrustedNames,
    Wait,
    reason,
)

SECTION = "die"
ENVIRONMENT_PREFIX = "DIE_"
#: Of a script beside the service: where the file system of a base image is kept.
_NO_SETTINGS = frozenset({"DIE_CACHE"})

#: Names, each with its value and the place that it comes from.
_Given = dict[str, tuple[str, str]]


def _as_written(default: str) -> Any:  # noqa: ANN401 - pydantic makes it what the field is
    """A default as an operator would write it."""
    return default


def _default_data_dir() -> Path:
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state_home) / "docker-image-executor"


class Settings(BaseModel):
    """All settings, with their defaults. Each description is the settings table's text."""

    # Durations as numbers: that is what can be read again.
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, ser_json_timedelta="float"
    )

    url: PublicUrl = Field(
        "http://127.0.0.1:8080",
        description="The address under which clients reach the service; every link that a client "
        "gets begins with it.",
    )
    listen: Addresses = Field(
        ("127.0.0.1:8080",),
        description="Where the service listens, `address:port`, several separated by commas.",
    )
    instance: Label = Field(
        "",
        description="Name of this installation, the label `die.service` of its Swarm services: by it "
        "running jobs are found again if the database is lost; empty: made from `url`, the address "
        "of the database and, where `url` is of 127.0.0.1, the machine's name.",
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Folder of the jobs' database, its key and the results.",
    )
    database: str = Field(
        "",
        description="SQLAlchemy URL of the jobs' database; empty: a SQLite file in `data_dir`.",
    )
    key_file: Path | None = Field(
        None,
        description="File of the key that protects user tokens in the database, made at first use; "
        "workers on one database need the same; empty: `token.key` in `data_dir`.",
    )
    results_dir: Path | None = Field(
        None,
        description="Folder of the results and logs, of this installation alone; empty: `results` in "
        "`data_dir`.",
    )
    results_url: PublicUrl = Field(
        "", description="Address of `results_dir`; empty: `/results` below `url`."
    )
    storagehub_url: HttpUrl = Field(
        "https://api.d4science.org/workspace",
        description="StorageHub's address, with its `/workspace` path.",
    )
    storagehub_auth: Literal["auto", "header", "query", "bearer"] = Field(
        "auto",
        description="How StorageHub gets the user token: `header` or `query` named `gcube-token`, "
        "`bearer`, or `auto`: Bearer for a JWT, the header otherwise.",
    )
    container_storagehub_url: HttpUrl = Field(
        "",
        description="StorageHub's address as containers see it, their `STORAGEHUB_URL`; "
        "empty: `storagehub_url`.",
    )
    storagehub_timeout: Wait = Field(
        _as_written("30s"),
        description="Longest wait for one answer of StorageHub or a public link's host, transfers excepted.",
    )
    transfer_min_rate: Size = Field(
        _as_written("4KiB"),
        description="A transfer slower than this, in bytes per second, is given up.",
    )
    trusted_hosts: TrustedNames = Field(
        (),
        description="Hosts whose public links are taken as `FileParam`, beside StorageHub's own: "
        "`host` or `host:port`, separated by commas; for D4Science: `data.d4science.org, "
        "data.d4science.net`. No request leaves for any other.",
    )
    max_input_size: Size = Field(
        _as_written("1GiB"), description="Largest file that is fetched from a public link."
    )
    outage_patience: Duration = Field(
        _as_written("30m"),
        description="How long a job waits for StorageHub, a public link's host, the registry or the "
        "engine to come back.",
    )
    policy_file: Path | None = Field(
        None,
        description="TOML file of what may be run: see [Which images may run](#which-images-may-run); "
        "empty: any public image of Docker Hub.",
    )
    docker_hub_url: HubUrl = Field(
        "https://registry-1.docker.io",
        description="Where the service asks about images of Docker Hub when a job is submitted: there, or "
        "a mirror's address; `engine`: it asks no registry, and the worker asks the engine when it "
        "starts the job, which tells neither size nor label `die.token-file`, nor whether an image leads its "
        "machine to other addresses.",
    )
    docker_host: EngineAddress = Field(
        "unix:///var/run/docker.sock",
        description="The Docker engine's address, `unix:///path` or `tcp://host:port`: a manager of the "
        "Swarm.",
    )
    docker_tls_dir: Path | None = Field(
        None,
        description="Folder of `ca.pem`, `cert.pem` and `key.pem`, as `DOCKER_CERT_PATH` has them: by these "
        "an engine at `tcp://…` and this service know each other; empty: no TLS.",
    )
    extra_hosts: Hosts = Field(
        (), description="Host names for the containers, `name:address`, separated by commas."
    )
    network: str = Field(
        "",
        description="Network of the Swarm that the containers join, made by `scripts/job_network`; empty: "
        "the engine's own bridge, on which they reach each other.",
    )
    placement: Constraints = Field(
        (), description="Swarm placement constraints, such as `node.role==worker`."
    )
    probe_image: str = Field(
        "d4science/die-probe",
        description="Image of `die doctor --probe`, made from `examples/probe`.",
    )
    memory_limit: MemoryLimit = Field(
        _as_written("2GiB"), description="Memory that a container may use; 6MiB or more."
    )
    cpu_limit: CpuLimit = Field(1.0, description="CPUs that a container may use; 0.01 or more.")
    pids_limit: PidsLimit = Field(512, description="Processes and threads in a container.")
    tmpfs_limit: TmpfsLimit = Field(
        _as_written("256MiB"),
        description="Size of each file system in memory that a container of the profile `strict` gets; "
        "what is in them counts as its memory.",
    )
    disk_limit: Size = Field(
        _as_written("10GiB"),
        description="What a container may write to its own layer and its volumes, on the engine that "
        "`docker_host` names; looked at every 10 seconds or more rarely; 0: not at all.",
    )
    log_limit: Size = Field(
        _as_written("10MiB"),
        description="Size of a container's log file; three are kept by the engine.",
    )
    log_tail: Size = Field(
        _as_written("64KiB"),
        description="How much of the end of a container's log is kept for the client.",
    )
    start_deadline: Duration = Field(
        _as_written("30m"), description="A container that has not started by then is given up."
    )
    run_deadline: Duration = Field(
        _as_written("24h"), description="A container that still runs by then is stopped."
    )
    total_deadline: Duration = Field(
        _as_written("7d"),
        description="A job whose program has not ended by then, waiting included, is stopped.",
    )
    stop_grace: Duration = Field(
        _as_written("10s"),
        description="Time between SIGTERM and SIGKILL when a container is stopped.",
    )
    max_result_size: Size = Field(
        _as_written("50GiB"), description="Largest result, in bytes of its files."
    )
    max_result_files: int = Field(100_000, gt=0, description="Most items in a result.")
    inline_limit: Size = Field(
        _as_written("7MiB"),
        description="Largest zip that is put inline into a document; a larger one is given by "
        "reference (clients built on libxml2 stop at 10 MB of text).",
    )
    single_file_limit: Size = Field(
        _as_written("0"),
        description="Largest picture (png, jpg, gif, bmp) or table (csv) of a result that is listed "
        "between log and zip with an address of its own, and lies twice on the disk; 0: none. Not where "
        "`results_url` is set.",
    )
    open_status: bool = Field(
        default=False,
        description="Whether a job's status is shown without user token to whoever knows the job's random "
        "id, for clients that cannot send a token when they poll.",
    )
    admin_tokens_file: Path | None = Field(
        None,
        description="File of SHA-256 digests of the operator's own tokens, one a line: with such a token any "
        "job's status is shown, any job cancelled and all are listed, but none started.",
    )
    max_requests_per_minute: int = Field(
        30_000,
        ge=0,
        description="Requests of one address within a minute; more get HTTP 429, as with the next two. 0: no "
        "limit. Each process counts for itself.",
    )
    max_executes_per_minute: int = Field(
        3000, ge=0, description="Executes of one user within a minute; 0: no limit."
    )
    max_refused_tokens_per_minute: int = Field(
        300,
        ge=0,
        description="User tokens of one address that StorageHub refuses within a minute before it is asked "
        "no more about those that were not good in the last hours; 0: no limit.",
    )
    trusted_proxies: Networks = Field(
        (),
        description="Addresses of the proxies in front of the service, or networks like `10.0.0.0/8`, "
        "separated by commas: what they say in `X-Forwarded-For` counts as the client's address.",
    )
    max_request_size: Size = Field(_as_written("3MiB"), description="Largest request body.")
    threads: int = Field(48, ge=4, description="Threads that answer HTTP requests.")
    max_sync: int = Field(
        32,
        ge=1,
        description="Synchronous Executes held open at once, half of them of one user; more get ServerBusy.",
    )
    transfers: int = Field(
        4,
        ge=1,
        description="Results fetched from StorageHub at once, and as many files from public links; of "
        "several places no user gets all.",
    )
    max_running: int = Field(200, ge=1, description="Jobs under way at once; others wait.")
    max_running_per_owner: int = Field(
        50, ge=1, description="The same for one user; users with waiting jobs take turns."
    )
    max_waiting: int = Field(2000, ge=1, description="Jobs that may wait; more get ServerBusy.")
    max_waiting_per_owner: int = Field(1000, ge=1, description="The same for one user.")
    result_retention: Duration = Field(
        _as_written("7d"), description="How long zip and log are kept after a job's end."
    )
    record_retention: Duration = Field(
        _as_written("30d"), description="How long a job's status is kept after its end."
    )
    save_results: bool = Field(
        default=False,
        description="Whether each zip is also saved in its owner's workspace, under "
        "`DataMiner/Output Data Sets`, with a record of what was run under `DataMiner/Computations`.",
    )
    folder_retention: Duration = Field(
        _as_written("7d"),
        description="How long the temp folder is left alone of a failed job, or with items that no zip can "
        "hold; after that it is removed when its owner's next job runs.",
    )
    worker_lease: Wait = Field(
        _as_written("15s"),
        description="A worker that has been silent for so long has lost its jobs to another one. One whose "
        "machine was restarted waits so long for those that it had.",
    )

    @model_validator(mode="after")
    def _free_threads(self) -> Self:
        if self.max_sync >= self.threads:
            raise ValueError(
                f"'max_sync' = {self.max_sync} must be less than 'threads' = {self.threads}, or "
                "requests that wait would leave no thread to answer others"
            )
        return self

    @model_validator(mode="after")
    def _tls_over_tcp(self) -> Self:
        if self.docker_tls_dir and not self.docker_host.startswith("tcp://"):
            raise ValueError("'docker_tls_dir' is for a 'docker_host' like tcp://host:2376 only")
        return self

    @model_validator(mode="after")
    def _record_outlives_files(self) -> Self:
        if self.record_retention < self.result_retention:
            raise ValueError(
                "'record_retention' must not be shorter than 'result_retention', or results would be "
                "left that nothing knows of"
            )
        return self

    @property
    def asks_registries(self) -> bool:
        """Whether this service itself asks registries about images."""
        return self.docker_hub_url != ASK_ENGINE

    @property
    def deadlines(self) -> Deadlines:
        """The most that a job may take."""
        return Deadlines(
            start=self.start_deadline, run=self.run_deadline, total=self.total_deadline
        )

    @property
    def instance_name(self) -> str:
        """What this installation's services on the Swarm are labelled with."""
        # The database tells apart what has the same address, as two that both kept the default have.
        address = re.sub(r"//[^/]*@", "//", self.database_url.partition("?")[0])
        host = socket.gethostname() if "//127.0.0.1" in self.url else ""
        digest = hashlib.sha256(f"{self.url} {address} {host}".encode())
        return self.instance or digest.hexdigest()[:16]

    @property
    def database_url(self) -> str:
        """The jobs' database as SQLAlchemy wants it."""
        return self.database or f"sqlite:///{self.data_dir / 'jobs.sqlite'}"

    @property
    def worker_lock(self) -> Path:
        """The file that a worker locks: a SQLite database has but one, and so has a machine."""
        match = re.fullmatch(r"sqlite(?:\+\w+)?:///(?!:memory:)([^?]+)(?:\?.*)?", self.database)
        return (Path(match[1]).parent if match else self.data_dir) / "worker.lock"

    @property
    def key_path(self) -> Path:
        """The file of the key that protects user tokens."""
        return self.key_file or self.data_dir / "token.key"

    @property
    def results_path(self) -> Path:
        """The folder of results and logs."""
        return self.results_dir or self.data_dir / "results"

    @property
    def results_base_url(self) -> str:
        """The address of that folder, without a slash at its end."""
        return self.results_url or f"{self.url}/results"

    @property
    def storagehub_url_in_containers(self) -> str:
        """What a container finds in ``STORAGEHUB_URL``."""
        return self.container_storagehub_url or self.storagehub_url

    @property
    def trusted_links(self) -> TrustedHosts:
        """Which public links are taken."""
        services = (self.storagehub_url, self.storagehub_url_in_containers)
        return TrustedHosts(services, self.trusted_hosts)

    @classmethod
    def table(cls) -> list[tuple[str, str, str]]:
        """Each setting's name, its default as an operator would write it, and what it is for."""
        return [
            (name, _written(field.default), field.description or "")
            for name, field in cls.model_fields.items()
        ]

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        pywps_section: Mapping[str, str] | None = None,
    ) -> Settings:
        """Read the file's section ``[die]``, then the environment.

        Args:
            path: the configuration file; None: the one that ``PYWPS_CFG`` names, if any.
            environment: instead of the process's own.
            pywps_section: in a PyWPS service, the section as PyWPS has loaded it, from whichever files;
                it counts in place of the file's.

        Raises:
            SettingsError: a setting is unknown or wrong, the file cannot be read, or ``path`` has no
                section ``[die]``. The file of a PyWPS service may do without one.
        """
        environment = os.environ if environment is None else environment
        # Also if it does not count: PyWPS passes over a file that it cannot read without a word.
        given = _from_file(path, environment.get("PYWPS_CFG", ""))
        if pywps_section is not None:
            place = f"section [{SECTION}] of the configuration that PyWPS has loaded"
            given = {name: (value, place) for name, value in pywps_section.items()}
        given |= _from_environment(environment)
        values = {
            name: value
            for name, (value, _) in given.items()
            if value or name not in cls.model_fields
        }
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingsError(_explain(error, given)) from None


def _written(default: object) -> str:
    if default is PydanticUndefined:
        return "~/.local/state/docker-image-executor"
    if isinstance(default, tuple):
        return ", ".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None else str(default)


def _from_file(path: Path | None, pywps_file: str) -> _Given:
    file_path = path or (Path(pywps_file) if pywps_file else None)
    if file_path is None:
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with file_path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise SettingsError(f"The configuration file {file_path} cannot be read: {error}") from None
    if parser.has_section(SECTION):
        place = f"file {file_path}"
        return {name: (value, place) for name, value in parser[SECTION].items()}
    if path is not None:
        raise SettingsError(f"The configuration file {path} has no section [{SECTION}].")
    return {}


def _from_environment(environment: Mapping[str, str]) -> _Given:
    known = {f"{ENVIRONMENT_PREFIX}{name.upper()}": name for name in Settings.model_fields}
    return {
        known.get(variable, variable): (value, f"environment variable {variable}")
        for variable, value in environment.items()
        if variable in known or _is_unknown_setting(variable, environment)
    }


def _is_unknown_setting(variable: str, environment: Mapping[str, str]) -> bool:
    """Whether a variable is meant as a setting; Kubernetes sets some for a service named ``die``."""
    if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _NO_SETTINGS:
        return False
    mark = "_SERVICE_HOST"
    services = (name.removesuffix(mark) for name in environment if name.endswith(mark))
    return not any(variable.startswith((f"{name}_SERVICE_", f"{name}_PORT")) for name in services)


def _explain(error: ValidationError, given: _Given) -> str:
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        place = f" ({given[name][1]})" if name in given else ""
        if item["type"] == "extra_forbidden":
            lines.append(f"The setting {name!r} does not exist{place}.")
        elif not name:
            lines.append(f"The settings do not fit together: {reason(item)}.")
        else:
            lines.append(
                f"The setting {name!r} = {item['input']!r} is wrong{place}: {reason(item)}."
            )
    return " ".join(lines)
