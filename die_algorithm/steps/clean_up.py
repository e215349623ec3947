"""The last step: what the job made on Swarm and StorageHub goes, and only then the job ends."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from die_algorithm.errors import ItemUnusable, StorageHubError, SwarmError
from die_algorithm.fail_points import InputPoint, Point, SecretPoint
from die_algorithm.models import Expiry, Job, JobState, UserToken
from die_algorithm.results import Results
from die_algorithm.settings import Settings
from die_algorithm.steps.ledger import Ledger
from die_algorithm.storagehub import StorageHub
from die_algorithm.swarm import Swarm

LOGGER = logging.getLogger(__name__)

#: Beyond the grace: a container whose end nobody has seen by then is on a machine that is away.
_STOP_TIME = timedelta(seconds=20)
#: A service that is removed in the moment of its start may get its task for a moment after that.
_TASK_APPEARS = timedelta(seconds=0.5)


class CleanUp:
    """Removes service and temp folder, and ends the job.

    Args:
        settings: the operator's.
        ledger: the jobs' records.
        storagehub: the users' workspaces.
        swarm: where containers run.
        results: where zips and logs are published.
        search_folders: removes what ended jobs have left in the workspace of a job's owner.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        storagehub: StorageHub,
        swarm: Swarm,
        results: Results,
        *,
        search_folders: Callable[[Job], None],
    ) -> None:
        self._search_folders = search_folders
        self._results = results
        self._settings = settings
        self._ledger = ledger
        self._storagehub = storagehub
        self._swarm = swarm

    def has_stopped(self, job: Job, *, task_is_listed: bool) -> bool:
        """Whether the end of a container need not be waited for any longer."""
        waited = self._ledger.since_stop(job)
        if task_is_listed:
            return waited > self._settings.stop_grace + _STOP_TIME
        return waited > _TASK_APPEARS

    def run(self, job: Job) -> Job:
        """Take the step.

        Returns:
            The ended job; or, if its container may still run, the job with ``stopped_at``: to be
            given again when :meth:`has_stopped`.
        """
        if job.stopped_at is None and JobState.STAGED_IN in job.reached:
            try:
                with self._ledger.fail_points.around(Point.SERVICE_REMOVED):
                    self._swarm.remove_service(job.service_id or job.service_name)
                self._remove_secret(job)
            except SwarmError as error:
                if not self._ledger.patience_is_over(job):
                    return self._ledger.wait_out(job, error)
                # The job has waited long enough; the worker sweeps the service later.
                LOGGER.error("Job %s: its service could not be removed: %s", job.id, error)  # noqa: TRY400
            if JobState.DISPATCHED in job.reached and not job.task_over:
                return self._ledger.write(job, stopped_at=datetime.now(UTC), waiting=None)
        self._tidy(job)
        if job.is_admitted:
            self._search_folders(job)
        with self._ledger.fail_points.around(Point.FOLDER_REMOVED):
            kept = not self._remove_folder(job)
        if job.input_folder or job.request.is_uploaded:
            with self._ledger.fail_points.around(InputPoint.FOLDER_REMOVED):
                self._remove_input_folder(job)
        with self._ledger.fail_points.around(Point.END_REACHED):
            return self._end(job, kept=kept)

    def _remove_secret(self, job: Job) -> None:
        """Remove the secret with the token; the Swarm lets no secret go that a service still uses."""
        if job.token_file:
            with self._ledger.fail_points.around(SecretPoint.REMOVED):
                self._swarm.remove_secret(job.service_name)

    def expire(self, job: Job) -> None:
        """Remove what an ended job need not have any more: its files, later its record.

        Raises:
            OSError: a file cannot be removed.
        """
        if job.expiry is None:
            # The former release has ended it; its time begins now.
            self._ledger.write(job, expiry=self._expiry())
        elif not job.expiry.files_removed:
            self._results.remove(job)
            expiry = dataclasses.replace(job.expiry, files_removed=True)
            self._ledger.write(job, expiry=expiry)
            LOGGER.info("Job %s: its files have expired.", job.id)
        else:
            self._results.remove_status(job)
            self._ledger.forget(job)

    def _tidy(self, job: Job) -> None:
        try:
            self._results.tidy(job)
            if JobState.STAGING_OUT in job.reached:
                self._results.write_log(job, job.log_tail, again=False)
        except OSError:
            LOGGER.exception("Job %s: its files could not be put in order.", job.id)

    def _end(self, job: Job, *, kept: bool) -> Job:
        if job.result:
            state = JobState.SUCCEEDED
        elif job.failure:
            state = JobState.FAILED
        else:
            state = JobState.DISMISSED
        return self._ledger.reach(job, state, token=None, folder_kept=kept, expiry=self._expiry())

    def _expiry(self) -> Expiry:
        now = datetime.now(UTC)
        return Expiry(
            files_at=now + self._settings.result_retention,
            record_at=now + self._settings.record_retention,
            folder_at=now + self._settings.folder_retention,
        )

    def _remove_folder(self, job: Job) -> bool:
        """Remove the temp folder, unless there is something in it that the user has nowhere else.

        Returns:
            Whether it is gone, for certain. StorageHub being away or in trouble does not keep a job from
            its end: the folder is then named in the outcome instead.
        """
        if job.token is None or not job.is_admitted:
            return job.folder is None
        if job.result and job.result.left_out:
            return False
        try:
            folder_id = (
                job.folder.id if job.folder else self._find_folder(job.token, job.folder_name)
            )
            if folder_id is None:
                return True
            if job.failure and self._may_hold_something(job.token, folder_id):
                return False
            self._storagehub.delete(job.token, folder_id)
        except StorageHubError as error:
            LOGGER.warning("Job %s: its folder could not be removed: %s", job.id, error)
            return False
        return True

    def _remove_input_folder(self, job: Job) -> None:
        """Remove the folder of what was uploaded for the job, whatever becomes of its results.

        If StorageHub is away, the search for left folders does it, when the owner's next job ends.
        """
        if job.token is None or not job.is_admitted:
            return
        try:
            folder_id = (
                job.input_folder.id
                if job.input_folder
                else self._find_folder(job.token, job.input_folder_name)
            )
            if folder_id is not None:
                self._storagehub.delete(job.token, folder_id)
        except StorageHubError as error:
            LOGGER.warning("Job %s: its input folder could not be removed: %s", job.id, error)

    def _may_hold_something(self, token: UserToken, folder_id: str) -> bool:
        """Whether there is something in a folder, or it is there and cannot be listed."""
        try:
            return bool(self._storagehub.walk(token, folder_id, max_items=1))
        except ItemUnusable:
            return self._storagehub.exists(token, folder_id)

    def _find_folder(self, token: UserToken, name: str) -> str | None:
        """Find a folder of a job that died between making and recording it."""
        root = self._storagehub.workspace_root(token)
        found = self._storagehub.find_child(token, root.id, name)
        return found.id if found else None
