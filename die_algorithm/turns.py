"""Whose job is next: a pure rule. Users take turns, so that one with many jobs delays no other."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping


def in_turn(
    waiting: Iterable[tuple[str, str]],
    running: Mapping[str, int],
    last_turn: Mapping[str, float],
    *,
    per_owner: int | None = None,
) -> Iterator[str]:
    """Put waiting jobs into the order in which they get free places.

    A free place goes to the owner with the fewest jobs under way; of several to the one whose last
    turn is the longest ago, one who never had a turn first; then to the one who has waited longest.

    Args:
        waiting: job id and owner, the oldest first.
        running: how many jobs each owner has under way.
        last_turn: when each owner last got a place, in any unit.
        per_owner: the most that an owner may have under way; jobs beyond it are left out.

    Returns:
        The jobs' ids, the next one first.
    """
    queues: dict[str, deque[str]] = {}
    for job_id, owner in waiting:
        queues.setdefault(owner, deque()).append(job_id)
    never = float("-inf")
    turn = max((last_turn.get(owner, never) for owner in queues), default=never)
    turn = 0.0 if turn == never else turn
    heap = [
        (running.get(owner, 0), last_turn.get(owner, never), arrival, owner)
        for arrival, owner in enumerate(queues)
    ]
    heapq.heapify(heap)
    while heap:
        count, _, arrival, owner = heapq.heappop(heap)
        if per_owner is not None and count >= per_owner:
            continue
        yield queues[owner].popleft()
        turn += 1
        if queues[owner]:
            heapq.heappush(heap, (count + 1, turn, arrival, owner))
