"""Carries all unfinished jobs on: one look at the database and one at the Swarm for all of them.

There is no thread and no process per job. The loop looks which jobs need a step and gives them to
small pools, one for each outside thing that may be slow; the many jobs that merely run cost one row of
one list call. Because every turn starts from the records, a restart is no special case.

A worker carries the jobs that it holds. It holds those that it has taken from the queue, and those
whose holder has let its lease run out.

============== ==================================================================
worker         the loop: its turns, and what is published in them
held_jobs      whose jobs they are: the lease, and what was read of the jobs
watch          the looks at the Swarm, and which jobs they give a step
driver         the steps themselves, and what becomes of a job when one fails
transfer_turns whose transfer is next
pools          the threads, and which jobs are in one
next_step      which pool a job's next step belongs to, and who decides when
============== ==================================================================
"""

from die_algorithm.worker.worker import Worker

__all__ = ["Worker"]
