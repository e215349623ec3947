"""The nouns of the project, as frozen values. Nothing here touches the outside world.

Times are aware datetimes in UTC; sizes are bytes; ids of StorageHub items and of jobs are strings.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

#: How the id of a job is written; each is a random UUID.
JOB_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
#: Label of an image that wants the user token as a file beside the args.
TOKEN_FILE_LABEL = "die.token-file"  # noqa: S105 - a name, not a secret


class JobState(enum.Enum):
    """Where a job is. The final states exclude each other, and each is reached at most once.

    So are the others, but that a job whose image no machine could fetch goes back from dispatched to
    staged in, and is dispatched again.
    """

    #: The record is committed; the client may know the job's id.
    ACCEPTED = "accepted"
    #: The item was found and the temp folder exists.
    STAGED_IN = "staged-in"
    #: The Swarm has the service; its task has not started yet.
    DISPATCHED = "dispatched"
    #: The container runs.
    RUNNING = "running"
    #: The task has ended, its outcome is recorded; the result is being fetched and verified.
    STAGING_OUT = "staging-out"
    #: The result is published. Final.
    SUCCEEDED = "succeeded"
    #: The job carries a :class:`Failure`. Final.
    FAILED = "failed"
    #: The owner cancelled it. Final.
    DISMISSED = "dismissed"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.DISMISSED)


class FaultClass(enum.Enum):
    """Why a job failed, and so who can do something about it."""

    #: The user's program.
    USER = "USER"
    #: The image: not found, not public, cannot be started, has no such command.
    IMAGE = "IMAGE"
    #: The user token: expired or revoked.
    TOKEN = "TOKEN"  # noqa: S105 - a word, not a secret
    #: StorageHub: does not answer, or does not give back what was written.
    STORAGE = "STORAGE"
    #: A limit that the operator set: memory, time, size.
    LIMIT = "LIMIT"
    #: This service or its Swarm.
    SYSTEM = "SYSTEM"


@dataclasses.dataclass(frozen=True)
class Validity:
    """From when until when a token says that it is valid; None where it does not say."""

    since: datetime | None = None
    until: datetime | None = None


@dataclasses.dataclass(frozen=True)
class UserToken:
    """The caller's gCube token or JWT, with the user name if HTTP Basic gave one.

    ``repr`` and ``str`` show neither. Use :attr:`secret` only where the token leaves for the
    container's args or for StorageHub.
    """

    secret: str
    username: str | None = None
    #: Who sent it (see ``senders``); empty if nobody did.
    sender: str = dataclasses.field(default="", compare=False)

    def __repr__(self) -> str:
        return "UserToken(***)"

    __str__ = __repr__

    @property
    def is_jwt(self) -> bool:
        """Whether it has the three dotted parts of a JWT, which only a Bearer header may carry."""
        return self.secret.startswith("ey") and self.secret.count(".") == 2

    @property
    def validity(self) -> Validity:
        """What a JWT says of itself, ``nbf`` and ``exp`` of RFC 7519; its signature is not looked at.

        StorageHub is the judge of that, and of all that cannot be read here.
        """
        claims = self._claims
        return Validity(_moment(claims.get("nbf")), _moment(claims.get("exp")))

    @property
    def vre(self) -> str | None:
        """The context that a JWT was made for, ``aud`` of RFC 7519, if that is one.

        It counts only after StorageHub has accepted the token (reference: storagehub 3.1).
        """
        audience = self._claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        contexts = (unquote(each) for each in named if isinstance(each, str))
        return next((context for context in contexts if context.startswith("/")), None)

    @property
    def _claims(self) -> Mapping[str, object]:
        if not self.is_jwt:
            return {}
        payload = self.secret.split(".")[1]
        try:
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (ValueError, RecursionError):
            return {}
        return claims if isinstance(claims, dict) else {}


def _moment(claim: object) -> datetime | None:
    """A NumericDate as a time, if it is one."""
    if not isinstance(claim, int | float) or isinstance(claim, bool):
        return None
    try:
        return datetime.fromtimestamp(claim, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputRequest:
    """One output that the client asks for by name (WPS 1.0.0, table 54)."""

    identifier: str
    as_reference: bool = False
    mime_type: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResponseForm:
    """How the client wants its answer (WPS 1.0.0, tables 49-54)."""

    #: The one output wanted as the bare body, or None for a document.
    raw: OutputRequest | None = None
    #: The outputs named; empty means all.
    outputs: tuple[OutputRequest, ...] = ()
    #: ``storeExecuteResponse``: the document is to be kept at a status location.
    store: bool = False
    #: ``status``: answer at once, and keep the stored document up to date (an asynchronous job).
    status: bool = False
    #: ``lineage``: repeat the inputs and the outputs' definitions.
    lineage: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputContent:
    """A file that was sent inline, as the value of an input."""

    data: bytes = dataclasses.field(repr=False)
    #: The media type in lower case, without parameters.
    media_type: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContentDigest:
    """What a job's record says of content that was sent inline; the bytes are kept beside it."""

    media_type: str
    #: Bytes.
    size: int
    #: Lower-case hexadecimal digest.
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What the researcher asked for, checked and parsed once."""

    #: The image reference in its canonical form, e.g. ``docker.io/d4science/sortapp:latest``.
    image: str
    #: The words of CommandName.
    command: tuple[str, ...]
    #: The id of the file or folder in the workspace; empty if it was given in another form.
    item_id: str
    #: The name under which the item was given: ``FileParam`` or ``ItemParam``.
    item_parameter: str
    #: The three values as the client wrote them, for ``lineage``.
    given_image: str
    given_command: str
    given_item: str
    #: The names that lead to the item from the root of the workspace; empty if it was not so given.
    #: With ``item_id`` they are what it may also be: an id that nobody has is tried as a name.
    item_path: tuple[str, ...] = ()
    #: The workspace of which user the path names; None if it names none.
    path_owner: str | None = None
    #: The public link of the file, put together again from its checked parts.
    link: str | None = None
    #: The file was sent inline.
    content: ContentDigest | None = None

    @property
    def is_uploaded(self) -> bool:
        """Whether the file has to be put into the workspace before the program can fetch it."""
        return self.link is not None or self.content is not None

    @property
    def as_asked(self) -> JobRequest:
        """The request before a path in it was resolved: two of these compare what was asked for."""
        if self.item_path == (self.given_item,):
            # A word that is an id or a name; the former release knew it as an id.
            return dataclasses.replace(self, item_id=self.given_item, item_path=())
        return dataclasses.replace(self, item_id="") if self.item_path else self


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deadlines:
    """How long a job may take; fixed when it is accepted."""

    #: From the creation of its service to the start of its container.
    start: timedelta
    #: While its container runs.
    run: timedelta
    #: From its acceptance to the end of its program.
    total: timedelta


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A file or folder of a workspace, as StorageHub describes it."""

    id: str
    name: str
    path: str
    owner: str
    parent_id: str | None
    is_folder: bool
    trashed: bool
    hidden: bool
    #: Bytes; None for folders and where StorageHub does not say.
    size: int | None
    mime_type: str | None
    #: Epoch milliseconds of the last change, None where StorageHub does not say.
    modified: int | None
    #: The end of it: it may be of any length, and there may be thousands of items.
    description: str = ""
    #: False for what is neither folder nor file, such as a gCube item or a link.
    has_content: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListedItem:
    """An item somewhere below a folder, with the names that lead to it from there."""

    path: tuple[str, ...]
    item: Item


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
    """The temp folder or the input folder of one job."""

    id: str
    name: str
    path: str


class TaskPhase(enum.Enum):
    """What a Swarm task state means for a job. The table that maps them is in ``states``."""

    #: Not started yet.
    STARTING = "starting"
    #: The container runs.
    RUNNING = "running"
    #: The container ended with exit code 0.
    COMPLETE = "complete"
    #: The container ended otherwise, or could not be started.
    FAILED = "failed"
    #: Swarm gave the task up: rejected before it started.
    REJECTED = "rejected"
    #: Swarm stopped it, or lost it with its node.
    LOST = "lost"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskReport:
    """What one look at the Swarm tells about a job's task."""

    job_id: str
    service_id: str
    phase: TaskPhase
    #: Swarm's own word for the state, e.g. ``pending``.
    state: str
    desired_state: str
    #: Swarm's message and error, joined; empty if none. Not for clients.
    message: str
    exit_code: int | None
    container_id: str | None
    node_id: str | None
    #: When the managers made the task, by their clocks.
    created_at: datetime
    #: When the task's machine told of this state, by its clock.
    told_at: datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobService:
    """The Swarm service of a job, as it was found."""

    job_id: str
    service_id: str
    #: Which instance of the executor made it; empty if it does not say.
    instance: str
    #: A task was asked for.
    is_started: bool
    created_at: datetime
    #: The image reference that its container gets.
    image: str
    #: What its container gets, the user token among it: not to be shown.
    args: tuple[str, ...] = dataclasses.field(repr=False)
    #: Its container gets the token as a file, too.
    has_token_file: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSecret:
    """The Swarm secret with the user token of a job, as it was found; what is in it nobody can read."""

    job_id: str
    secret_id: str
    #: Which instance of the executor made it.
    instance: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What a registry tells about an image."""

    #: ``sha256:`` and 64 hexadecimal digits: what the reference means, of all platforms.
    digest: str
    #: Bytes of all layers as they are fetched; None if nobody has told.
    size: int | None = None
    #: The image asks for the user token as a file, too, by its label.
    wants_token_file: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What the Docker engine says about itself, read at start."""

    version: str
    api_version: str
    #: Swarm is active on the engine and it is a manager.
    is_manager: bool
    nodes: int
    cpus: int
    memory: int
    #: The engine found its ``docker-init``; without it ``Init: true`` fails.
    has_init: bool
    #: The node's kernel lets the engine limit memory.
    limits_memory: bool
    #: The same of a container's swap, its processes and its CPUs.
    limits_swap: bool
    limits_pids: bool
    limits_cpus: bool
    #: What it says of its own protections, such as ``apparmor``, ``userns``, ``rootless``, ``seccomp``
    #: with Docker's profile or, from some version on, ``no-new-privileges``.
    security: frozenset[str] = frozenset()
    #: Versions of what it consists of, such as ``containerd`` and ``runc``.
    components: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What a Swarm knows about one of its nodes."""

    hostname: str
    #: It is up, and takes tasks.
    is_ready: bool
    cpus: float
    memory: int
    #: What placement constraints look at, such as ``node.role`` or ``node.labels.<name>``.
    attributes: Mapping[str, str]
    #: Of its engine; empty for a node that has never been up.
    engine_version: str = ""
    #: Where other nodes reach it as a manager, without port; empty for a worker.
    manager_address: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a job failed."""

    fault_class: FaultClass
    #: One sentence: what happened and what to do next.
    text: str
    exit_code: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleFile:
    """A picture or table in the zip that has an address of its own."""

    #: Its names below the temp folder, joined by slashes.
    path: str
    size: int
    media_type: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultFile:
    """The published zip."""

    #: The file's name, e.g. ``die-<job id>.zip``.
    name: str
    size: int
    #: Lower-case hexadecimal digest of the whole file.
    sha256: str
    #: Number of files in it (folders not counted).
    files: int
    #: What differs from the folder and why, one sentence each; empty if nothing.
    notes: tuple[str, ...] = ()
    #: What of it is listed beside it, if the operator wants that.
    single_files: tuple[SingleFile, ...] = ()
    #: Number of items that are only in the folder, because they are neither folders nor files.
    left_out: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waiting:
    """An outage that a job waits out."""

    #: What is waited for, as a sentence without a full stop.
    reason: str
    since: datetime
    #: Whether that is this service's own disk.
    is_for_disk: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expiry:
    """When what an ended job has left behind is removed."""

    #: Zip and log.
    files_at: datetime
    #: The record, and with it the status.
    record_at: datetime
    #: The temp folder, if it was left on purpose; from then on it may go.
    folder_at: datetime
    #: Zip and log are gone already.
    files_removed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """What a worker last said of itself."""

    id: str
    #: Its lease has not run out.
    is_alive: bool
    #: Why it cannot work at the moment, as a sentence; empty if it can.
    trouble: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One accepted Execute."""

    #: A random UUID (version 4) in its usual lower-case form.
    id: str
    #: The user whom the token belongs to.
    owner: str
    #: The context that the token was made for, None if it does not tell.
    vre: str | None = None
    request: JobRequest
    response_form: ResponseForm
    state: JobState
    #: When each state was reached.
    reached: Mapping[JobState, datetime]
    #: The unguessable part of the URLs of result and log: 128 random bits in hexadecimal.
    result_key: str
    #: None once the job has ended.
    token: UserToken | None = None
    folder: Folder | None = None
    #: The folder of the file that was uploaded for the job, and the file's id.
    input_folder: Folder | None = None
    staged_item: str | None = None
    #: The image's digest, ``sha256:…``, to which the job is pinned.
    digest: str | None = None
    service_id: str | None = None
    #: The exit code of the program once its task has ended, None if it never ran.
    exit_code: int | None = None
    #: Set with STAGING_OUT at the latest, so that a restart finds it.
    failure: Failure | None = None
    #: The last part of the container's output, cleaned and without secrets.
    log_tail: str = ""
    result: ResultFile | None = None
    #: A copy of the result is to be saved in the owner's workspace; where it is then.
    copy_pending: bool = False
    saved_as: str = ""
    waiting: Waiting | None = None
    #: The temp folder was left in the workspace.
    folder_kept: bool = False
    #: The image wants the token as a file, beside the args.
    token_file: bool = False
    #: When the token says that it expires; None if it does not say.
    token_expires_at: datetime | None = None
    #: What it may take; None for jobs of former releases.
    deadlines: Deadlines | None = None
    #: Nothing of it runs any more, or what does cannot be waited for.
    task_over: bool = False
    #: When its service was removed although its container ran; its end is waited for.
    stopped_at: datetime | None = None
    #: Set with the final state.
    expiry: Expiry | None = None
    cancel_requested: bool = False
    #: A worker has taken the job from the queue: it is under way.
    is_admitted: bool = False
    #: Counts the writes of the record; a write on an old version is refused.
    version: int = 0
    #: Counts the workers that have held the job; a write of a former one is refused.
    fence: int = 0

    @property
    def service_name(self) -> str:
        """The Swarm service's name: deterministic, so that a second create is a name conflict."""
        return service_name(self.id)

    @property
    def folder_name(self) -> str:
        """The temp folder's name, deterministic like the service's."""
        return service_name(self.id)

    @property
    def input_folder_name(self) -> str:
        """The name of the folder for what is uploaded for the job: apart from the results."""
        return input_folder_name(self.id)

    @property
    def item_id(self) -> str:
        """The id of the item that the container gets."""
        return self.staged_item or self.request.item_id

    @property
    def accepted_at(self) -> datetime:
        """When the job was accepted."""
        return self.reached[JobState.ACCEPTED]

    @property
    def updated_at(self) -> datetime:
        """When the job reached its present state."""
        return self.reached[self.state]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListedJob:
    """What a list says of a job."""

    id: str
    owner: str
    state: JobState
    #: The image reference in its canonical form.
    image: str
    accepted_at: datetime
    #: When it reached its state.
    reached_at: datetime


def service_name(job_id: str) -> str:
    """``die-<job id>``: the name of a job's service and of its temp folder.

    40 characters, within Swarm's limit of 63 (reference: swarm, "Rules that follow").
    """
    return f"die-{job_id}"


def input_folder_name(job_id: str) -> str:
    """``die-<job id>-input``: the name of the folder with the file that was uploaded for a job."""
    return f"die-{job_id}-input"
