"""The Docker Swarm that runs the jobs, over the HTTP API of one of its managers.

The Docker client library opens the connection and no more: services are described in the engine's
own JSON, and answers are read into the few fields that matter. The user tokens in them (every
service's args hold one) become Python values only where a service is started or found again, and
are never logged or put into an error.

========== ==================================================================
client     what can be asked of a Swarm
calls      how one call is made; the only module that knows ``docker``
tls        how the engine of another machine and this service know each other
answers    the engine's JSON
log_tail   the end of a container's output
========== ==================================================================
"""

from die_algorithm.swarm.client import Swarm

__all__ = ["Swarm"]
