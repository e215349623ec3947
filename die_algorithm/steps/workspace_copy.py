"""A copy of the result in the owner's workspace, where DataMiner's users look for it.

DataMiner keeps what a computation gave in the workspace's folder ``DataMiner``: the files in "Output
Data Sets", a record of each computation in "Computations" (reference: dataminer-wps, 2.2).
"""

from __future__ import annotations

import io
import json
import logging
import threading
from pathlib import Path
from typing import BinaryIO

from die_algorithm import description, faults
from die_algorithm.errors import StepInterrupted, StorageHubError
from die_algorithm.models import Job, JobState, UserToken
from die_algorithm.results import Results, zip_name
from die_algorithm.steps.ledger import Ledger
from die_algorithm.storagehub import StorageHub

LOGGER = logging.getLogger(__name__)

_TOP, _OUTPUTS, _RECORDS = "DataMiner", "Output Data Sets", "Computations"


class _Interruptible(io.FileIO):
    """A file whose reading ends when the service stops."""

    def __init__(self, path: Path, interrupted: threading.Event) -> None:
        super().__init__(path)
        self._interrupted = interrupted

    def read(self, size: int | None = -1, /) -> bytes:
        if self._interrupted.is_set():
            raise StepInterrupted("the service stops")
        return super().read(-1 if size is None else size) or b""


class WorkspaceCopy:
    """Saves the zips of jobs, and what was run, in the workspaces of their owners.

    Args:
        ledger: the jobs' records.
        storagehub: the users' workspaces.
        results: where the zips are.
    """

    def __init__(self, ledger: Ledger, storagehub: StorageHub, results: Results) -> None:
        self._ledger = ledger
        self._storagehub = storagehub
        self._results = results
        # StorageHub lets two folders be made of one name, the second as ``name(1)``.
        self._making = threading.Lock()
        self._interrupted = threading.Event()

    def interrupt(self) -> None:
        """Break off all transfers, because the service stops."""
        self._interrupted.set()

    def run(self, job: Job) -> Job:
        """Save the result of a job, unless that cannot be done; repeated, it makes a new version.

        Returns:
            The job, which has no copy pending any more.

        Raises:
            StorageHubUnavailable: StorageHub is away, and the job's patience is not over.
            StepInterrupted: the service stops.
        """
        saved_as = ""
        try:
            if job.token:
                saved_as = self._save(job, job.token)
        except (StorageHubError, OSError) as error:
            if isinstance(error, faults.PASSING) and not self._ledger.patience_is_over(job):
                raise
            LOGGER.warning("Job %s: its result could not be saved: %s", job.id, error)
        return self._ledger.write(job, copy_pending=False, saved_as=saved_as, waiting=None)

    def _save(self, job: Job, token: UserToken) -> str:
        root = self._storagehub.workspace_root(token)
        with self._making:
            top = self._folder(token, root.id, _TOP)
            outputs = self._folder(token, top, _OUTPUTS)
            records = self._folder(token, top, _RECORDS)
        name = f"{job.service_name}.zip"
        with _Interruptible(self._results.zip_path(job), self._interrupted) as content:
            self._upload(job, token, outputs, name, content)
        record = io.BytesIO(json.dumps(_record(job), indent=1).encode())
        self._upload(job, token, records, f"{job.service_name}.json", record)
        return f"{_TOP}/{_OUTPUTS}/{name}"

    def _folder(self, token: UserToken, parent_id: str, name: str) -> str:
        found = self._storagehub.find_child(token, parent_id, name)
        return found.id if found else self._storagehub.create_folder(token, parent_id, name, name)

    def _upload(
        self, job: Job, token: UserToken, folder_id: str, name: str, content: BinaryIO
    ) -> None:
        text = f"Job {job.id} of {description.TITLE}, image {job.request.image}"
        self._storagehub.upload(token, folder_id, name, content, text)


def _record(job: Job) -> dict[str, object]:
    """What was run, for whoever wants to run it again; the token is not in it."""
    ended = job.reached.get(JobState.STAGING_OUT, job.updated_at)
    return {
        "job": job.id,
        "process": description.IDENTIFIER,
        "image": job.request.image,
        "digest": job.digest,
        "command": list(job.request.command),
        "item": job.request.item_id,
        "accepted": job.accepted_at.isoformat(),
        "ended": ended.isoformat(),
        "exit_code": job.exit_code,
        "result": zip_name(job),
        "sha256": job.result.sha256 if job.result else None,
    }
