"""A copy of the result in the owner's workspace, where DataMiner's users look for it.

DataMiner keeps what a computation gave in the workspace's folder ``DataMiner``: the files in "Output
Data Sets", a record of each computation in "Computations" (reference: dataminer-wps, 2.2).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable

from die_algorithm import description, faults
from die_algorithm.errors import StorageHubError
from die_algorithm.models import Job, JobState, UserToken
from die_algorithm.results import Results, zip_name
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.named_folder import settle
from die_algorithm.steps.transfers import Transfers
from die_algorithm.storagehub import StorageHub

LOGGER = logging.getLogger(__name__)

_TOP, _OUTPUTS, _RECORDS = "DataMiner", "Output Data Sets", "Computations"
_CHUNK = 256 * 1024


class WorkspaceCopy:
    """Saves the zips of jobs, and what was run, in the workspaces of their owners.

    Args:
        ledger: the jobs' records.
        storagehub: the users' workspaces.
        results: where the zips are.
        transfers: breaks uploads off.
    """

    def __init__(
        self, ledger: Ledger, storagehub: StorageHub, results: Results, transfers: Transfers
    ) -> None:
        self._transfers = transfers
        self._ledger = ledger
        self._storagehub = storagehub
        self._results = results

    def run(self, job: Job) -> Job:
        """Save the result of a job, unless that cannot be done; repeated, it makes a new version.

        Returns:
            The job, which has no copy pending any more.

        Raises:
            StorageHubUnavailable: StorageHub is away, and the job's patience is not over.
            StepInterrupted: the service stops, or the job was cancelled.
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
        top = self._folder(token, root.id, _TOP)
        outputs = self._folder(token, top, _OUTPUTS)
        records = self._folder(token, top, _RECORDS)
        name = f"{job.service_name}.zip"
        with self._results.zip_path(job).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            chunks = iter(lambda: file.read(_CHUNK), b"")
            self._upload(job, token, outputs, name, chunks=chunks, size=size)
        record = json.dumps(_record(job), indent=1).encode()
        self._upload(
            job, token, records, f"{job.service_name}.json", chunks=[record], size=len(record)
        )
        return f"{_TOP}/{_OUTPUTS}/{name}"

    def _folder(self, token: UserToken, parent_id: str, name: str) -> str:
        """The id of a folder that all copies of a user share; any worker may make it at any time."""
        found = self._storagehub.find_child(token, parent_id, name)
        if found:
            return found.id
        made = self._storagehub.create_folder(token, parent_id, name, name)
        return settle(self._storagehub, token, parent_id, name, made=made)

    def _upload(
        self,
        job: Job,
        token: UserToken,
        folder_id: str,
        name: str,
        *,
        chunks: Iterable[bytes],
        size: int,
    ) -> None:
        text = f"Job {job.id} of {description.TITLE}, image {job.request.image}"
        chunks = self._transfers.interruptible(job, chunks)
        self._storagehub.upload(token, folder_id, name, chunks, text, size=size)


def _record(job: Job) -> dict[str, object]:
    """What was run, for whoever wants to run it again; the token is not in it."""
    ended = job.reached.get(JobState.STAGING_OUT, job.updated_at)
    return {
        "job": job.id,
        "process": description.IDENTIFIER,
        "image": job.request.image,
        "digest": job.digest,
        "command": list(job.request.command),
        "item": job.item_id,
        "accepted": job.accepted_at.isoformat(),
        "ended": ended.isoformat(),
        "exit_code": job.exit_code,
        "result": zip_name(job),
        "sha256": job.result.sha256 if job.result else None,
    }
