"""The jobs' database: records, the workers' leases on them, and the queue.

One row a job, written whole, never by two at once. The row holds the frozen ``Job`` as JSON beside the
columns that are searched. The user token is kept apart, encrypted with a key that lies outside the
database, and erased when the job ends. Every write names the version it was made from and the fence of
the worker that holds the job; a write on an old version, or by a former holder, is refused.
"""

from die_algorithm.job_store.leases import Leases
from die_algorithm.job_store.queue import Queue, QueueLimits
from die_algorithm.job_store.store import JobStore
from die_algorithm.job_store.unmade import unmade_files

__all__ = ["JobStore", "Leases", "Queue", "QueueLimits", "unmade_files"]
