"""Whether the service is ready: what must work now for a job to run.

============ ===============================================
readiness    what was found just now, told to all who ask
service      what is looked at here
workers      what workers say, who alone talk to the Swarm
database     whether jobs can be recorded
results      whether results can be published
storagehub   whether users' workspaces can be reached
disk_room    that a disk is not about to be full
============ ===============================================
"""

from die_algorithm.readiness.database import database_check
from die_algorithm.readiness.disk_room import demand_room
from die_algorithm.readiness.readiness import Readiness
from die_algorithm.readiness.results import results_check, use_results
from die_algorithm.readiness.service import service_checks
from die_algorithm.readiness.storagehub import storagehub_check
from die_algorithm.readiness.workers import worker_checks

__all__ = [
    "Readiness",
    "database_check",
    "demand_room",
    "results_check",
    "service_checks",
    "storagehub_check",
    "use_results",
    "worker_checks",
]
