"""The first step: the temp folder."""

from __future__ import annotations

import logging

from die_algorithm.errors import StaleJob, StorageHubError
from die_algorithm.fail_points import Point
from die_algorithm.models import Folder, Item, Job, JobState, UserToken
from die_algorithm.settings import Settings
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.possessions import token_of
from die_algorithm.storagehub import StorageHub

LOGGER = logging.getLogger(__name__)


class StageIn:
    """Makes the temp folder, or finds the one that a former try has made.

    Args:
        settings: the operator's.
        ledger: the jobs' records.
        storagehub: the users' workspaces.
    """

    def __init__(self, settings: Settings, ledger: Ledger, storagehub: StorageHub) -> None:
        self._settings = settings
        self._ledger = ledger
        self._storagehub = storagehub

    def run(self, job: Job) -> Job:
        """Take the step."""
        token = token_of(job)
        root = self._storagehub.workspace_root(token)
        existing = self._named(job, token, root)
        folder_id = existing.id if existing else self._create(job, token, root)
        if existing is None and job.fence > 1:
            folder_id = self._settle(job, token, root, folder_id)
        path = f"{root.path.rstrip('/')}/{job.folder_name}"
        folder = Folder(id=folder_id, name=job.folder_name, path=path)
        try:
            return self._ledger.reach(job, JobState.STAGED_IN, folder=folder)
        except StaleJob:
            if existing is None:
                self._undo(job, token, root, folder_id)
            raise

    def _create(self, job: Job, token: UserToken, root: Item) -> str:
        description = (
            f"Results of {job.request.image}, job {job.id}, "
            f"{folder_mark(self._settings.instance_name)}"
        )
        with self._ledger.fail_points.around(Point.FOLDER_CREATED):
            return self._storagehub.create_folder(token, root.id, job.folder_name, description)

    def _named(self, job: Job, token: UserToken, root: Item) -> Item | None:
        return self._storagehub.find_child(token, root.id, job.folder_name)

    def _settle(self, job: Job, token: UserToken, root: Item, folder_id: str) -> str:
        """See to it that the job has one folder, and that it is the one with the job's name.

        A former holder that froze before it made one may have gone on between our look and our
        creation. StorageHub then called ours ``name(1)``, and theirs is there to be taken.

        Returns:
            The folder's id.
        """
        named = self._named(job, token, root)
        if named is None or named.id == folder_id:
            return folder_id
        self._storagehub.delete(token, folder_id)
        return named.id

    def _undo(self, job: Job, token: UserToken, root: Item, folder_id: str) -> None:
        """Another worker has the job by now and perhaps a folder of its own: ours must not stay."""
        fresh = self._ledger.fresh(job)
        if fresh and fresh.folder and fresh.folder.id == folder_id:
            return
        LOGGER.info("Job %s has gone to another worker.", job.id)
        try:
            if fresh and not fresh.state.is_final and fresh.folder is None:
                named = self._named(job, token, root)
                if named and named.id == folder_id:
                    return  # the other worker will find it by its name
            self._storagehub.delete(token, folder_id)
        except StorageHubError as error:
            LOGGER.warning("Job %s: that folder could not be removed: %s", job.id, error)


def folder_mark(instance: str) -> str:
    """What the description of a temp folder ends with: whose it is."""
    return f"die.service={instance}"
