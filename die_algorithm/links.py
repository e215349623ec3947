"""The addresses that a client gets: where a job's status, result and log are."""

from __future__ import annotations

import dataclasses
from urllib.parse import quote

from die_algorithm.models import Job, ListedJob, SingleFile
from die_algorithm.results import collection_name, log_name, zip_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Links:
    """How addresses are made.

    The status address of our own service ends with ``?id=<job id>``: DataMiner's clients take what
    follows as the id, and append ``&gcube-token=…`` to it (reference: dataminer-wps, 2.3 and W3).
    """

    #: Where the WPS answers.
    service: str
    #: What precedes a job's id in its status address, and what follows it.
    status_prefix: str
    status_suffix: str
    #: The published files' folder.
    results: str

    def status(self, job: Job | ListedJob) -> str:
        """Where the job's document is."""
        return f"{self.status_prefix}{job.id}{self.status_suffix}"

    def zip(self, job: Job) -> str:
        """Where the job's result is."""
        return f"{self.results}/{job.result_key}/{zip_name(job)}"

    def single_file(self, job: Job, file: SingleFile) -> str:
        """Where a file of the result is, alone."""
        folder = zip_name(job).removesuffix(".zip")
        return f"{self.results}/{job.result_key}/{folder}/{quote(file.path)}"

    def log(self, job: Job) -> str:
        """Where the job's log is."""
        return f"{self.results}/{job.result_key}/{log_name(job)}"

    def collection(self, job: Job) -> str:
        """Where the document is that names both."""
        return f"{self.results}/{job.result_key}/{collection_name(job)}"
