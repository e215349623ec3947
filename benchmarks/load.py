"""Many jobs at once, on the stand-in engine: what clients wait for, and what it costs."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from demo_client import WPS
from local_stack import LocalStack

from benchmarks.client import Client, Tally
from benchmarks.figure import Figure
from benchmarks.processes import cpu_seconds, family, memory
from benchmarks.stand_in_stack import StandIn, kill_service, stand_in_stack

_RUNNING, _WAITING, _POLLERS = 200, 1000, 300
_POLL_EVERY = 5.0
_POLLED_FOR = 60.0
_MANY = 500
_WATCHED_FOR = 30.0
_SHORT_JOBS = 40
_SHORT, _SHORT_EVERY = 2, 0.5
_IDLE_SOCKETS = 1000


def measure_load(state: Path) -> list[Figure]:
    """Run all of it, each part with a service of its own."""
    return [
        *asyncio.run(_crowd(state / "crowd")),
        *asyncio.run(_many_running(state / "many")),
    ]


# -- a crowd of clients


async def _crowd(state: Path) -> list[Figure]:
    """Jobs under way and waiting, clients who poll, and others who submit."""
    settings = {"DIE_MAX_RUNNING": str(_RUNNING), "DIE_MAX_RUNNING_PER_OWNER": str(_RUNNING)}
    settings |= {"DIE_MAX_WAITING_PER_OWNER": "2000"}
    with stand_in_stack(state, settings) as (_, engine, facts):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            client, filling = Client(facts, session), Tally()
            locations = await client.submit_many("probe forever", _RUNNING, filling, 16)
            await _until(lambda: len(engine.history()["alive"]) == _RUNNING)
            locations += await client.submit_many("probe forever", _WAITING, filling, 16)
            accepted, polled = Tally(), Tally()
            until = time.monotonic() + _POLLED_FOR
            polls = [
                client.poll(location, polled, _POLL_EVERY, until)
                for location in locations[:: len(locations) // _POLLERS][:_POLLERS]
            ]
            await asyncio.gather(*polls, _submit_until(client, accepted, until))
            with _idle_sockets(facts):
                others = Tally()
                for _ in range(50):
                    await client.fetch(
                        f"{facts['service']}?service=WPS&request=GetCapabilities", others
                    )
    errors = filling.server_errors + accepted.server_errors + polled.server_errors
    crowd = f"{_RUNNING} jobs under way, {_WAITING} waiting, {_POLLERS} clients polling every 5 s"
    return [
        Figure(
            what="accept, 99th percentile", value=accepted.percentile(0.99), aim=2, at_most=True,
            unit=" s", detail=f"{crowd}; median {1000 * accepted.percentile(0.5):.0f} ms, "
            f"{len(accepted.seconds)} requests",
        ),
        Figure(
            what="status, 99th percentile", value=1000 * polled.percentile(0.99), aim=500,
            at_most=True, unit=" ms", detail=f"the same; median "
            f"{1000 * polled.percentile(0.5):.0f} ms, {len(polled.seconds)} requests",
        ),
        Figure(
            what="answers 5xx but 503", value=errors, aim=0, at_most=True, detail="all of these",
        ),
        Figure(
            what=f"slowest of 50 requests beside {_IDLE_SOCKETS} idle connections",
            value=max(others.seconds), aim=1, at_most=True, unit=" s", detail=crowd,
        ),
    ]  # fmt: skip


async def _submit_until(client: Client, tally: Tally, until: float) -> None:
    while time.monotonic() < until:
        await client.submit("probe forever", tally)
        await asyncio.sleep(0.2)


@contextmanager
def _idle_sockets(facts: dict[str, str]) -> Iterator[None]:
    host, _, port = facts["service"].split("/")[2].partition(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(_IDLE_SOCKETS)]
    try:
        yield
    finally:
        for each in sockets:
            each.close()


# -- many jobs under way


async def _many_running(state: Path) -> list[Figure]:
    settings = {"DIE_MAX_RUNNING": "600", "DIE_MAX_RUNNING_PER_OWNER": "600"}
    with stand_in_stack(state, settings) as (stack, engine, facts):
        async with aiohttp.ClientSession() as session:
            client = Client(facts, session)
            await client.submit_many("probe forever", _MANY, Tally(), 16)
            await _until(lambda: len(engine.history()["alive"]) == _MANY)
            await asyncio.sleep(2)
            figures = await _cost(int(facts["service_pid"]), engine)
            figures += await _visible(client, engine)
            figures.append(await _restart(stack, facts, engine))
    return figures


async def _cost(pid: int, engine: StandIn) -> list[Figure]:
    """What it costs that 500 jobs merely run."""
    pids = family(pid)
    used, calls, began = cpu_seconds(pids[-1]), engine.history()["calls"], time.monotonic()
    await asyncio.sleep(_WATCHED_FOR)
    seconds = time.monotonic() - began
    detail = f"{_MANY} jobs under way, over {seconds:.0f} s"
    share = 100 * (cpu_seconds(pids[-1]) - used) / seconds
    called = (engine.history()["calls"] - calls) / seconds
    return [
        Figure(what="Docker API calls a second", value=called, aim=4, at_most=True, detail=detail),
        Figure(
            what="worker's share of a core", value=share, aim=10, at_most=True, unit=" %", detail=detail
        ),
        Figure(
            what="memory in all", value=memory(pids) / 1e6, aim=250, at_most=True, unit=" MB",
            detail=f"{detail}; {' + '.join(f'{memory([each]) / 1e6:.0f}' for each in pids)} MB",
        ),
    ]  # fmt: skip


async def _visible(client: Client, engine: StandIn) -> list[Figure]:
    """From the end of a container to the final status that a client sees."""
    spread = await _delays(client, engine, every=_SHORT_EVERY)
    together = await _delays(client, engine, every=0)
    what, unit = "end of task → visible to the client, median", " ms"
    detail = f"{_SHORT_JOBS} jobs beside {_MANY}, each polled every 50 ms; slowest"
    return [
        Figure(
            what=f"{what}, one each {_SHORT_EVERY} s", value=1000 * statistics.median(spread),
            aim=500, at_most=True, unit=unit, detail=f"{detail} {1000 * max(spread):.0f} ms",
        ),
        Figure(
            what=f"{what}, all at once", value=1000 * statistics.median(together),
            aim=None, at_most=True, unit=unit, detail=f"{detail} {1000 * max(together):.0f} ms",
        ),
    ]  # fmt: skip


async def _delays(client: Client, engine: StandIn, *, every: float) -> list[float]:
    """Seconds for each of some short jobs, submitted at a distance."""
    ends = []
    for _ in range(_SHORT_JOBS):
        ends.append(asyncio.create_task(_end_seen(client)))
        await asyncio.sleep(every)
    seen = dict(await asyncio.gather(*ends))
    starts = [start for start in engine.history()["starts"] if start["job_id"] in seen]
    return [seen[start["job_id"]] - start["at"] - _SHORT for start in starts]


async def _end_seen(client: Client) -> tuple[str, float]:
    """Submit a short job; its id, and the moment at which its client saw its end."""
    location = await client.submit(f"probe sleep {_SHORT}", Tally())
    if location is None:
        raise RuntimeError("A job was refused.")
    while True:
        document = ET.fromstring(await client.fetch(location, Tally()))
        at = time.time()
        if document.find(f".//{WPS}ProcessSucceeded") is not None:
            return location.partition("?id=")[2], at
        await asyncio.sleep(0.05)


async def _restart(stack: LocalStack, facts: dict[str, str], engine: StandIn) -> Figure:
    """All jobs end while the service is dead; how long until their clients know?"""
    kill_service(int(facts["service_pid"]))
    engine.fault("restart", kill_containers=True)
    began = time.monotonic()
    stack.up()
    while engine.history()["services"]:
        await asyncio.sleep(0.2)
    return Figure(
        what=f"restart with {_MANY} jobs that ended meanwhile, until all of them are cleaned up",
        value=time.monotonic() - began, aim=60, at_most=True, unit=" s",
        detail="kill -9 of the service, end of all containers, start",
    )  # fmt: skip


async def _until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.1)
