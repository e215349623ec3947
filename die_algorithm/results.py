"""The published files of jobs: a folder each, with an unguessable name, holding zip and log.

Beside the zip lie copies of the pictures and tables in it that have addresses of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from die_algorithm.lasting_files import sync_folder
from die_algorithm.models import JOB_ID, Job

_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)
_CHECK_SIZE = 64 * 1024
_NAME = re.compile(
    rf"die-(?P<id>{JOB_ID.pattern})(?:\.(?:log|xml)|(?:\.\d{{1,9}})?\.zip)", re.ASCII
)

#: What is in a job's folder, also by half: ``.die-<id>.zip.0a1b2c3d.part``.
_OWN = re.compile(rf"\.?die-(?P<id>{JOB_ID.pattern})\..+", re.ASCII)


def new_result_key() -> str:
    """128 random bits in hexadecimal: whoever knows them may fetch the files."""
    return secrets.token_hex(16)


def zip_name(job: Job) -> str:
    """The zip's file name.

    Each worker that holds the job writes a file of its own, and the record tells which one counts, so
    that none writes over another's. Mostly there is but one.
    """
    if job.result:
        return job.result.name
    holders = f".{job.fence}" if job.fence > 1 else ""
    return f"{job.service_name}{holders}.zip"


def single_file_path(zip_path: Path, path: str) -> Path:
    """Where the copy of a file in a zip lies: beside it, under a name that any path can have.

    Args:
        zip_path: the zip.
        path: of the file, below the job's folder.
    """
    digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
    return zip_path.with_name(f"{zip_path.name}.{digest}")


def log_name(job: Job) -> str:
    """The log's file name."""
    return f"{job.service_name}.log"


def collection_name(job: Job) -> str:
    """The file name of the document that names zip and log."""
    return f"{job.service_name}.xml"


def job_id_in(name: str) -> str | None:
    """The job's id in a published file's name, or None if it is not one."""
    match = _NAME.fullmatch(name)
    return match["id"] if match else None


class Results:
    """The folder of all published files.

    Args:
        path: the folder; made at first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def zip_path(self, job: Job) -> Path:
        """Where the job's zip is, if it is still there."""
        return self._path / job.result_key / zip_name(job)

    def new_zip_path(self, job: Job) -> Path:
        """Where the job's zip is to be put; the folder is made.

        Raises:
            OSError: it cannot be made.
        """
        path = self.zip_path(job)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(self._path)
        return path

    def tidy(self, job: Job) -> None:
        """Remove what former holders of the job have left beside its zip and log.

        Raises:
            OSError: something cannot be removed.
        """
        folder = self._path / job.result_key
        kept = set()
        if job.result:
            zip_path = self.zip_path(job)
            copies = (single_file_path(zip_path, file.path) for file in job.result.single_files)
            kept = {zip_path, *copies}
        for path in (*folder.glob("*die-*.zip*"), *folder.glob(f".{log_name(job)}.*")):
            if path not in kept:
                path.unlink(missing_ok=True)

    def remove(self, job: Job) -> None:
        """Remove zip and log of a job; who is fetching them gets them to the end.

        Raises:
            OSError: something cannot be removed.
        """
        self.remove_folder(job.result_key)

    def remove_folder(self, key: str) -> None:
        """Remove what was published under a key.

        Raises:
            OSError: something cannot be removed.
        """
        folder = self._path / key
        for path in folder.glob("*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()

    def untouched(self, since: float) -> Iterator[tuple[str, str]]:
        """Look for folders with a job's files, and nothing else, in which nothing has changed for long.

        Args:
            since: the moment, in seconds of the epoch.

        Yields:
            The folder's key and the job's id.

        Raises:
            OSError: the folder cannot be read.
        """
        if not self._path.is_dir():
            return
        with os.scandir(self._path) as entries:
            for entry in entries:
                if not _KEY.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
                    continue
                job_id = None
                # Somebody removes it just now, or nobody may look into it: the others count all the same.
                with contextlib.suppress(OSError):
                    job_id = _untouched_job(entry, since)
                if job_id:
                    yield entry.name, job_id

    def remove_status(self, job: Job) -> None:
        """Remove the status document of a job, if one was published.

        Raises:
            OSError: it cannot be removed.
        """
        status = f"{job.id}.xml"
        for path in (self._path / status, *self._path.glob(f".{status}.*")):
            path.unlink(missing_ok=True)

    def write_log(self, job: Job, text: str, *, again: bool = True) -> None:
        """Publish the log of a job's container.

        Args:
            job: the job.
            text: the log.
            again: also if there is one.
        """
        path = self.new_zip_path(job).with_name(log_name(job))
        if again or not path.exists():
            _replace(path, text.encode())

    def write_collection(self, job: Job, document: bytes) -> None:
        """Publish the document that names zip and log, for services that serve the folder."""
        _replace(self.new_zip_path(job).with_name(collection_name(job)), document)

    def write_status(self, job: Job, document: bytes, *, first: bool = False) -> None:
        """Publish a status document as ``<job id>.xml``, for services that serve the folder.

        Args:
            job: the job.
            document: its status document.
            first: leave a document that is there already alone: it is newer.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        _replace(self._path / f"{job.id}.xml", document, keep=first)

    def find(self, key: str, name: str) -> Path | None:
        """The published file of that key and name, or None. Anything but the exact form is None."""
        if not _KEY.fullmatch(key) or not _NAME.fullmatch(name):
            return None
        path = self._path / key / name
        return path if path.is_file() else None

    def find_single_file(self, key: str, name: str, path: str) -> Path | None:
        """The copy of a file in the zip of that key and name, or None."""
        zip_path = self.find(key, name)
        copy = single_file_path(zip_path, path) if zip_path else None
        return copy if copy and copy.is_file() else None

    def check(self) -> None:
        """See that files with content can be written.

        Raises:
            OSError: they cannot.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        _replace(self._path / ".check", bytes(_CHECK_SIZE))
        (self._path / ".check").unlink(missing_ok=True)  # another check may have been faster


def _replace(path: Path, content: bytes, *, keep: bool = False) -> None:
    """Write a file so that a reader sees either the old or the new one, whole.

    Args:
        path: the file.
        content: what it is to hold.
        keep: leave a file that is there already alone.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep:
            _put_if_absent(fresh, path)
        else:
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _untouched_job(folder: os.DirEntry[str], since: float) -> str | None:
    """The id of the job to which all files of a folder belong, if none of them has changed."""
    # Who puts files into it or takes them away changes the folder, who writes into one the file.
    if folder.stat().st_mtime >= since:
        return None
    ids = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _OWN.fullmatch(entry.name)
            if match is None or entry.stat(follow_symlinks=False).st_mtime >= since:
                return None
            ids.add(match["id"])
    return ids.pop() if len(ids) == 1 else None


def _put_if_absent(fresh: Path, path: Path) -> None:
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return
    except OSError:
        # Not every file system has hard links; then the moment between look and move must do.
        if not path.exists():
            fresh.replace(path)
