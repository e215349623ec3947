"""The first step: the temp folder, and the file if it is not in the workspace yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from die_algorithm.errors import DieError, JobFault, StaleJob, StepInterrupted
from die_algorithm.fail_points import InputPoint, Point
from die_algorithm.input_files import content_name
from die_algorithm.job_store import JobStore
from die_algorithm.models import FaultClass, Folder, Job, JobState, UserToken
from die_algorithm.public_links import PublicLinks
from die_algorithm.settings import Settings
from die_algorithm.steps.job_folder import JobFolder, folder_mark
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.possessions import token_of
from die_algorithm.steps.transfers import Transfers
from die_algorithm.storagehub import StorageHub


@dataclasses.dataclass(frozen=True)
class _File:
    name: str
    chunks: Iterable[bytes]
    #: Bytes, None if that is not known before the end.
    size: int | None


class StageIn:
    """Makes the folders of a job, or finds those that a former try has made.

    A file that was sent with the request, or is behind a public link, is uploaded into a folder of its
    own, apart from the results. A try that does not know whether a former one has finished that does
    it again: StorageHub makes the same name in the same folder a new version of the same item.

    Args:
        settings: the operator's.
        store: has the files that were sent.
        ledger: the jobs' records.
        storagehub: the users' workspaces.
        public_links: has the others.
        transfers: break the upload off.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        ledger: Ledger,
        storagehub: StorageHub,
        *,
        public_links: PublicLinks,
        transfers: Transfers,
    ) -> None:
        self._mark = folder_mark(settings.instance_name)
        self._store = store
        self._ledger = ledger
        self._storagehub = storagehub
        self._public_links = public_links
        self._transfers = transfers
        self._temp_folder = JobFolder(
            storagehub=storagehub,
            ledger=ledger,
            point=Point.FOLDER_CREATED,
            name=lambda job: job.folder_name,
            description=lambda job: f"Results of {self._described(job)}",
            recorded=lambda job: job.folder,
        )
        self._input_folder = JobFolder(
            storagehub=storagehub,
            ledger=ledger,
            point=InputPoint.FOLDER_CREATED,
            name=lambda job: job.input_folder_name,
            description=lambda job: f"Input of {self._described(job)}",
            recorded=lambda job: job.input_folder,
        )

    def run(self, job: Job) -> Job:
        """Take the step."""
        token = token_of(job)
        root = self._storagehub.workspace_root(token)
        temp = self._temp_folder.make(job, token, root)
        if not job.request.is_uploaded:
            try:
                return self._ledger.reach(job, JobState.STAGED_IN, folder=temp.folder)
            except StaleJob:
                self._temp_folder.undo(job, token, root, temp)
                raise
        own = self._input_folder.make(job, token, root)
        try:
            item_id = self._upload(job, token, own.folder)
            return self._ledger.reach(
                job,
                JobState.STAGED_IN,
                folder=temp.folder,
                input_folder=own.folder,
                staged_item=item_id,
            )
        except DieError:
            if self._is_lost(job):
                self._temp_folder.undo(job, token, root, temp)
                self._input_folder.undo(job, token, root, own)
            raise

    def _is_lost(self, job: Job) -> bool:
        """Whether the job has gone to another worker."""
        fresh = self._ledger.fresh(job)
        return fresh is None or fresh.fence != job.fence or fresh.version != job.version

    def _described(self, job: Job) -> str:
        return f"{job.request.image}, job {job.id}, {self._mark}"

    def _upload(self, job: Job, token: UserToken, folder: Folder) -> str:
        """Put the file into the job's input folder.

        Returns:
            Its id.
        """
        if job.request.link is not None:
            with self._public_links.open(job.request.link) as file:
                chunks = self._in_time(job, file)
                return self._put(job, token, folder, _File(file.name, chunks, file.size))
        name = content_name(job.request.content.media_type if job.request.content else "")
        content = self._content(job)
        return self._put(job, token, folder, _File(name, [content], len(content)))

    def _put(self, job: Job, token: UserToken, folder: Folder, file: _File) -> str:
        with self._ledger.fail_points.around(InputPoint.UPLOADED):
            return self._storagehub.upload(
                token,
                folder.id,
                file.name,
                self._transfers.interruptible(job, file.chunks),
                f"Input of job {job.id}",
                size=file.size,
            )

    def _in_time(self, job: Job, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass pieces on as long as the job may take; then its next step gives it up."""
        for chunk in chunks:
            if self._ledger.is_past_total(job):
                raise StepInterrupted("the job has taken too long")
            yield chunk

    def _content(self, job: Job) -> bytes:
        content = self._store.content(job.id)
        if content is None:
            raise JobFault(
                FaultClass.SYSTEM,
                "The service has lost the file that was sent with this job. Submit the job again.",
            )
        return content
