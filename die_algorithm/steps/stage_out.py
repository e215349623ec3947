"""The fourth step: from the temp folder to a verified, published zip."""

from __future__ import annotations

import dataclasses
import logging
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from die_algorithm.archive import build_archive, disk_errors, extract_single_files
from die_algorithm.errors import DamagedDownload, StorageHubUnavailable
from die_algorithm.fail_points import FailPoints, Point
from die_algorithm.models import Job, ListedItem, SingleFile, UserToken
from die_algorithm.results import Results, single_file_path
from die_algorithm.settings import Settings
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.possessions import folder_of, token_of
from die_algorithm.steps.transfers import Transfers
from die_algorithm.storagehub import StorageHub

LOGGER = logging.getLogger(__name__)


class StageOut:
    """Fetches results.

    Args:
        settings: the operator's.
        ledger: the jobs' records.
        storagehub: the users' workspaces.
        results: where zips are published.
        transfers: break the download off.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        storagehub: StorageHub,
        results: Results,
        transfers: Transfers,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._storagehub = storagehub
        self._results = results
        self._transfers = transfers

    def _single_files(self, job: Job, zip_path: Path) -> tuple[SingleFile, ...]:
        """None where somebody else serves the results, who knows only whole files."""
        limit = self._settings.single_file_limit
        if not limit or self._settings.results_url:
            return ()
        try:
            return extract_single_files(
                zip_path, limit, lambda path: single_file_path(zip_path, path)
            )
        except (OSError, zipfile.BadZipFile):
            LOGGER.exception("Job %s: the files in its zip could not be given alone.", job.id)
            return ()

    def run(self, job: Job) -> Job:
        """Take the step."""
        token, folder = token_of(job), folder_of(job)
        points = self._ledger.fail_points
        with disk_errors():
            destination = self._results.new_zip_path(job)
        result = build_archive(
            destination,
            top=folder.name,
            listing=_twice(points, lambda: self._listing(job, token, folder.id)),
            folder_zip=lambda: self._folder_zip(job, token, folder.id),
            single_file=lambda item: self._transfer(job, token, item.id, marked=item.size is None),
            before_publishing=lambda: self._check_holder(job),
            max_size=self._settings.max_result_size,
            max_files=self._settings.max_result_files,
        )
        points.after(Point.ZIP_PUBLISHED)
        result = dataclasses.replace(result, single_files=self._single_files(job, destination))
        return self._ledger.write(
            job, result=result, copy_pending=self._settings.save_results, waiting=None
        )

    def _listing(self, job: Job, token: UserToken, folder_id: str) -> list[ListedItem]:
        """List the folder, and break off between two pages when the service stops or the job is cancelled."""
        return self._storagehub.walk(
            token,
            folder_id,
            max_items=self._settings.max_result_files,
            before_page=self._transfers.interruption(job),
        )

    def _check_holder(self, job: Job) -> None:
        """Publish nothing for a job that another worker has by now."""
        self._ledger.held(job)
        self._ledger.fail_points.before(Point.ZIP_PUBLISHED)

    @contextmanager
    def _folder_zip(self, job: Job, token: UserToken, folder_id: str) -> Iterator[Iterator[bytes]]:
        """Download the folder's zip.

        StorageHub may be too weak for a zip that it has to make, and not for the files in it. So one that
        is unavailable while the job waits for StorageHub anyway is no reason to wait on.
        """
        try:
            with self._transfer(job, token, folder_id) as chunks:
                yield chunks
        except StorageHubUnavailable as error:
            if job.waiting is None:
                raise
            raise DamagedDownload(f"It is unavailable again: {error}") from None

    @contextmanager
    def _transfer(
        self, job: Job, token: UserToken, item_id: str, *, marked: bool = False
    ) -> Iterator[Iterator[bytes]]:
        """Download, and break off when the service stops or the job is cancelled."""
        with (
            self._ledger.fail_points.around(Point.FOLDER_DOWNLOADED),
            self._storagehub.download(token, item_id, marked=marked) as download,
        ):
            yield self._transfers.interruptible(job, download)


def _twice(
    points: FailPoints, listing: Callable[[], list[ListedItem]]
) -> Callable[[], list[ListedItem]]:
    """The folder is listed once before it is fetched, and again when the zip was verified."""
    calls: list[None] = []

    def listed() -> list[ListedItem]:
        calls.append(None)
        if len(calls) == 1:
            return listing()
        with points.around(Point.ZIP_VERIFIED):
            return listing()

    return listed
