"""Whose transfer is next: they may take hours, and owners take turns."""

from __future__ import annotations

import itertools
from collections import Counter

from die_algorithm.models import Job
from die_algorithm.turns import in_turn
from die_algorithm.worker.next_step import TRANSFERS, Pool, pool_of
from die_algorithm.worker.pools import Pools


class TransferTurns:
    """Gives transfers away only when there is a thread for them.

    Args:
        pools: the threads.
        transfers: how many of them each pool of transfers has.
    """

    def __init__(self, pools: Pools, transfers: int) -> None:
        self._pools = pools
        self._transfers = transfers
        #: Counts the transfers that were given away, and of each owner who has one, the number of the last.
        self._turns = itertools.count()
        self._last_turns: dict[Pool, dict[str, float]] = {pool: {} for pool in TRANSFERS}

    def choose(self, jobs: list[Job]) -> list[Job]:
        """Leave out transfers that have to wait, so that no owner has all threads of a pool of several.

        Args:
            jobs: all that need a step, the oldest first; those in a pool among them.
        """
        chosen = [job for job in jobs if pool_of(job) not in TRANSFERS]
        for pool in TRANSFERS:
            chosen += self._in_turn(pool, [job for job in jobs if pool_of(job) is pool])
        return chosen

    def _in_turn(self, pool: Pool, jobs: list[Job]) -> list[Job]:
        """Those whose turn it is."""
        transfers = {job.id: job for job in jobs}
        owners = {job.owner for job in jobs}
        last_turn = self._last_turns[pool]
        under_way = [transfers.pop(job_id) for job_id in self._pools.in_flight(transfers)]
        waiting = (
            (job.id, job.owner) for job in transfers.values() if self._pools.may_go_on(job.id)
        )
        # Others find one free: a transfer may take hours.
        most = max(self._transfers - 1, 1)
        turns = in_turn(waiting, Counter(job.owner for job in under_way), last_turn, per_owner=most)
        free = max(self._transfers - len(under_way), 0)
        chosen = [transfers[job_id] for job_id in itertools.islice(turns, free)]
        # Where there is one thread, none is under way now, and only this tells whose turn it is.
        last_turn |= {job.owner: next(self._turns) for job in chosen}
        self._last_turns[pool] = {o: last for o, last in last_turn.items() if o in owners}
        return chosen
