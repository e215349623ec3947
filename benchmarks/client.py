"""Many clients at once: what they send, how long it takes, and what they get."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
import xml.etree.ElementTree as ET
from collections import Counter

import aiohttp
from demo_client import execute_url

IMAGE = "die-tests/probe"
_PATIENCE = aiohttp.ClientTimeout(total=120)


@dataclasses.dataclass
class Tally:
    """The answers to one kind of request."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    statuses: Counter[int] = dataclasses.field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        """Seconds within which a share of the requests was answered."""
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    @property
    def server_errors(self) -> int:
        """Answers with 5xx that are not 503."""
        return sum(n for status, n in self.statuses.items() if status >= 500 and status != 503)


class Client:
    """Sends requests to one service.

    Args:
        facts: what ``LocalStack.up`` tells.
        session: the connections.
    """

    def __init__(self, facts: dict[str, str], session: aiohttp.ClientSession) -> None:
        self._facts = facts
        self._headers = {"gcube-token": facts["token"]}
        self._session = session

    async def fetch(self, url: str, tally: Tally) -> bytes:
        """One GET, tallied."""
        began = time.monotonic()
        async with self._session.get(url, headers=self._headers, timeout=_PATIENCE) as answer:
            body = await answer.read()
        tally.seconds.append(time.monotonic() - began)
        tally.statuses[answer.status] += 1
        return body

    async def submit(self, command: str, tally: Tally) -> str | None:
        """Submit a job; return its status location, or None if it was refused."""
        facts = self._facts
        url = execute_url(facts["service"], facts["token"], IMAGE, command, facts["item"])
        return ET.fromstring(await self.fetch(url, tally)).get("statusLocation")

    async def submit_many(self, command: str, count: int, tally: Tally, at_once: int) -> list[str]:
        """Submit jobs; return the status locations of those accepted."""
        places = asyncio.Semaphore(at_once)

        async def one() -> str | None:
            async with places:
                return await self.submit(command, tally)

        found = await asyncio.gather(*(one() for _ in range(count)))
        return [location for location in found if location]

    async def poll(self, location: str, tally: Tally, every: float, until: float) -> None:
        """Ask for a job's status again and again, as a web page does that was opened at any time."""
        await asyncio.sleep(random.uniform(0, every))
        while time.monotonic() < until:
            began = time.monotonic()
            await self.fetch(location, tally)
            await asyncio.sleep(max(every - (time.monotonic() - began), 0.01))
