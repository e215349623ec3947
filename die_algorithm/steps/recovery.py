"""What is found on the Swarm and in workspaces without a record, or with one that does not name it."""

from __future__ import annotations

import logging
import re
import time
from datetime import UTC, datetime

from die_algorithm import faults
from die_algorithm.errors import (
    ItemDoubtful,
    ItemUnusable,
    StorageHubError,
    TokenRejected,
    UnreadableJob,
)
from die_algorithm.image_reference import ImageReference
from die_algorithm.job_store import JobStore
from die_algorithm.models import (
    JOB_ID,
    Folder,
    Item,
    Job,
    JobRequest,
    JobSecret,
    JobService,
    JobState,
    ResponseForm,
    UserToken,
    input_folder_name,
    service_name,
)
from die_algorithm.results import new_result_key
from die_algorithm.settings import Settings
from die_algorithm.steps.job_folder import folder_mark
from die_algorithm.storagehub import StorageHub

LOGGER = logging.getLogger(__name__)

_FOLDER_PREFIX = service_name("")
_FOLDER = re.compile(
    rf"die-(?P<id>{JOB_ID.pattern})(?P<input>-input)?(?P<number>\(\d+\))?", re.ASCII
)
#: Seconds between two searches of one owner's workspace.
_SEARCH_EVERY = 600.0
#: After the command: token, item, temp folder.
_CONTRACT_WORDS = 3


class Recovery:
    """Makes records of services that have none, and removes folders that no job needs.

    Args:
        settings: the operator's.
        store: the jobs' records.
        storagehub: the users' workspaces.
    """

    def __init__(self, settings: Settings, store: JobStore, storagehub: StorageHub) -> None:
        self._settings = settings
        self._store = store
        self._storagehub = storagehub
        self._searched: dict[str, float] = {}

    # -- services

    def is_ours(self, service: JobService | JobSecret) -> bool:
        """Whether this installation has made a service or secret."""
        return service.instance == self._settings.instance_name

    def rebuild(self, service: JobService) -> Job | None:
        """Make a job's record from its service, because the database was lost.

        Returns:
            The job, recorded; None if the service does not tell enough.

        Raises:
            StorageHubUnavailable, ItemDoubtful: it cannot be asked whose token it is.
            InvalidParameterValue: its image is none that this service runs.
            UnwritableJob, StoreError: the record could not be written.
        """
        if len(service.args) <= _CONTRACT_WORDS:
            return None
        *command, secret, item_id, folder_id = service.args
        token = UserToken(secret)
        image = ImageReference.recorded(service.image)
        name = service_name(service.job_id)
        owner, input_folder = self._workspace(token, service.job_id)
        job = Job(
            id=service.job_id,
            owner=owner,
            request=JobRequest(
                image=image.canonical,
                command=tuple(command),
                item_id=item_id,
                item_parameter="FileParam",
                given_image=image.familiar,
                given_command=" ".join(command),
                given_item=item_id,
            ),
            response_form=ResponseForm(store=True, status=True),
            state=JobState.DISPATCHED,
            reached=dict.fromkeys(
                (JobState.ACCEPTED, JobState.STAGED_IN, JobState.DISPATCHED), service.created_at
            ),
            result_key=new_result_key(),
            token=token,
            token_expires_at=token.validity.until,
            folder=Folder(id=folder_id, name=name, path=name),
            input_folder=input_folder,
            staged_item=item_id if input_folder else None,
            digest=image.digest,
            token_file=service.has_token_file,
            service_id=service.service_id,
            failure=None if service.is_started else faults.records_lost(),
            is_admitted=True,
        )
        self._store.add_found(job)
        LOGGER.warning("Job %s: its record was lost, and is made again from its service.", job.id)
        return job

    def _workspace(self, token: UserToken, job_id: str) -> tuple[str, Folder | None]:
        """Whose job it is, and the folder with its file if one was uploaded for it."""
        try:
            root = self._storagehub.workspace_root(token)
            name = input_folder_name(job_id)
            found = self._storagehub.find_child(token, root.id, name)
        except ItemDoubtful:
            raise
        except (TokenRejected, ItemUnusable):
            return "", None  # nobody's any more: the job goes on as far as it can
        return root.owner, Folder(id=found.id, name=name, path=found.path) if found else None

    # -- folders

    def search_folders(self, job: Job) -> None:
        """Remove what ended jobs have left in the workspace of a job's owner.

        That takes a token of hers, so it is done when a job of hers ends. A folder that was left on
        purpose stays for its time; one without a record stays as long as a job may take.
        """
        last = self._searched.get(job.owner)
        if job.token is None or (last is not None and time.monotonic() - last < _SEARCH_EVERY):
            return
        self._searched[job.owner] = time.monotonic()
        try:
            root = self._storagehub.workspace_root(job.token)
            for item in self._storagehub.find_children(job.token, root.id, _FOLDER_PREFIX):
                if self._is_left_over(item, job, job.token):
                    LOGGER.info("The folder %s is left over and removed.", item.name)
                    self._storagehub.delete(job.token, item.id)
        except StorageHubError as error:
            LOGGER.warning("Left folders could not be looked for: %s", error)

    def _is_left_over(self, item: Item, job: Job, token: UserToken) -> bool:
        match = _FOLDER.fullmatch(item.name)
        if match is None or not item.is_folder:
            return False
        try:
            record = job if match["id"] == job.id else self._store.get(match["id"])
        except UnreadableJob:
            return False  # nobody knows what it is for: it is left alone, like its record
        if match["input"]:
            return self._is_input_left_over(item, record, job)
        if record is None:
            mark = folder_mark(self._settings.instance_name)
            is_ours = self._is_old(item) and item.description.endswith(mark)
            return is_ours and (not match["number"] or self._is_empty(item, token))
        if record.folder and record.folder.id == item.id:
            return record is not job and _has_had_its_time(record)
        # A step that was repeated has made it, and no container got it. If there is something in it,
        # the user has made it: StorageHub changes any name that is taken in the same way.
        is_settled = record.folder is not None or record.state is not JobState.ACCEPTED
        return is_settled and self._is_empty(item, token)

    def _is_input_left_over(self, item: Item, record: Job | None, job: Job) -> bool:
        """Whether nobody needs an input folder of ours: it holds nothing but a copy."""
        if not item.description.endswith(folder_mark(self._settings.instance_name)):
            return False
        if record is None:
            return self._is_old(item)
        if record.input_folder and record.input_folder.id == item.id:
            # That of the job which ends just now is removed with its temp folder.
            return record is not job and record.state.is_final
        return record.state is not JobState.ACCEPTED or record is job

    def _is_empty(self, folder: Item, token: UserToken) -> bool:
        return not self._storagehub.walk(token, folder.id, max_items=1)

    def _is_old(self, item: Item) -> bool:
        longest = max(self._settings.folder_retention, self._settings.total_deadline)
        before = (datetime.now(UTC) - longest).timestamp() * 1000
        return item.modified is not None and item.modified < before


def _has_had_its_time(job: Job) -> bool:
    """Whether the folder of an ended job need not be kept any longer."""
    if not job.folder_kept:
        return False  # of a job under way, or just being removed
    on_purpose = job.failure or (job.result and job.result.left_out)
    kept_until = job.expiry.folder_at if on_purpose and job.expiry else None
    return kept_until is None or kept_until < datetime.now(UTC)
