"""A folder in the owner's workspace that a job makes for itself, under a name of its own."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from die_algorithm.errors import StorageHubError
from die_algorithm.fail_points import InputPoint, Point
from die_algorithm.models import Folder, Item, Job, UserToken
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.named_folder import settle
from die_algorithm.storagehub import StorageHub

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Made:
    """A job's folder, and whether this try has made it."""

    folder: Folder
    is_new: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobFolder:
    """One kind of folder: how it is made, found again, and taken back.

    Args:
        storagehub: the users' workspaces.
        ledger: the jobs' records.
        point: where to die on purpose.
        name: of a job's, always the same, so that a look tells whether a former try has made it.
        description: of a job's.
        recorded: what a job's record says.
    """

    storagehub: StorageHub
    ledger: Ledger
    point: Point | InputPoint
    name: Callable[[Job], str]
    description: Callable[[Job], str]
    recorded: Callable[[Job], Folder | None]

    def make(self, job: Job, token: UserToken, root: Item) -> Made:
        """Make it, or take the one that a former try has made."""
        existing = self._named(job, token, root)
        folder_id = existing.id if existing else self._create(job, token, root)
        if existing is None and job.fence > 1:
            # A former holder that froze before it made one may have gone on meanwhile.
            folder_id = settle(self.storagehub, token, root.id, self.name(job), made=folder_id)
        path = f"{root.path.rstrip('/')}/{self.name(job)}"
        folder = Folder(id=folder_id, name=self.name(job), path=path)
        return Made(folder, is_new=existing is None)

    def undo(self, job: Job, token: UserToken, root: Item, made: Made) -> None:
        """Another worker has the job by now and perhaps a folder of its own: ours must not stay."""
        if not made.is_new:
            return
        fresh = self.ledger.fresh(job)
        recorded = self.recorded(fresh) if fresh else None
        if recorded and recorded.id == made.folder.id:
            return
        LOGGER.info("Job %s has gone to another worker.", job.id)
        try:
            if fresh and not fresh.state.is_final and recorded is None:
                named = self._named(job, token, root)
                if named and named.id == made.folder.id:
                    return  # the other worker will find it by its name
            self.storagehub.delete(token, made.folder.id)
        except StorageHubError as error:
            LOGGER.warning("Job %s: that folder could not be removed: %s", job.id, error)

    def _create(self, job: Job, token: UserToken, root: Item) -> str:
        with self.ledger.fail_points.around(self.point):
            return self.storagehub.create_folder(
                token, root.id, self.name(job), self.description(job)
            )

    def _named(self, job: Job, token: UserToken, root: Item) -> Item | None:
        return self.storagehub.find_child(token, root.id, self.name(job))


def folder_mark(instance: str) -> str:
    """What the description of a job's folder ends with: whose it is."""
    return f"die.service={instance}"
