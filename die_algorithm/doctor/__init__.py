"""What is missing for the service to work, or should be better, and how to mend it.

================ =========================================================
examination      everything that is looked at, and in which order
places           what the first start will find, or make
registries       whether images can be asked for
administrators   the file of their tokens
proxies          whether clients behind them can be told apart
manager          the engine that the service talks to, and its Swarm
protections      what containers are not protected by
nodes            what the settings demand of the machines
withheld         what a proxy before the engine keeps from the service
placement        which machines jobs may run on
probing          what containers can do, seen from inside
================ =========================================================
"""

from die_algorithm.doctor.examination import examine
from die_algorithm.doctor.probing import probe_nodes

__all__ = ["examine", "probe_nodes"]
