"""The five steps of a job and their order.

::

                             ┌── not fetched ───┐
                             ▼                  │
    ACCEPTED ─stage in─► STAGED_IN ─dispatch─► DISPATCHED ─monitor─► RUNNING ─┐
                                                    └──────────monitor────────┤
      SUCCEEDED ◄─┐             ┌─ copy ◄─ result ◄─┐                         ▼
      FAILED    ◄─┼─ clean up ◄─┼──────── failure ◄─┼─ stage out ────── STAGING_OUT
      DISMISSED ◄─┘             └──────── cancel ◄──┘

Every step can be repeated: it looks first whether a former try has done its work, by the deterministic
names of folder and service, and it ends with one write of the job's record. A step that cannot go on
records a failure; the clean-up comes after that, so a job that fails cleans up like one that succeeds.
The copy in the owner's workspace is made where the operator wants it (``save_results``).

============== ==================================================================
steps          the order of the steps, and what their errors mean
ledger         the writes of the record, and how long a state has lasted
possessions    what a step needs of a job, or the failure of one that has lost it
stage_in       the temp folder, and the file where it is not in the workspace yet
job_folder     a folder that a job makes: found again, taken back
named_folder   a folder that several may make at once
dispatch       the service on the Swarm: created, recorded, started
digests        what image references mean, asked once for many jobs
monitor        the task, until its end is recorded
disk_watch     what containers write to disks of their own
stage_out      the zip
transfers      what comes through in pieces, and is broken off
workspace_copy the zip in the owner's workspace
clean_up       service and folder removed, the end reached
recovery       services and folders that no record names
============== ==================================================================
"""

from die_algorithm.steps.disk_watch import DiskWatch
from die_algorithm.steps.steps import Steps

__all__ = ["DiskWatch", "Steps"]
