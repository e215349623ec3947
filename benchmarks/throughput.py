"""Jobs that do nothing, 32 at once: the service against the bare Swarm."""

from __future__ import annotations

import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import docker
from demo_client import execute_url, fetch

from benchmarks.figure import Figure
from benchmarks.no_op import COMMAND, FINAL, IMAGE

AT_ONCE = 32
_JOBS = 96
_ROUNDS = 3
_LABEL = "bench.bare"


def measure_throughput(facts: dict[str, str], docker_host: str) -> list[Figure]:
    """Run both in turn, so that a machine that gets slower slows both."""
    client = docker.APIClient(base_url=docker_host)
    digest = client.inspect_distribution(IMAGE)["Descriptor"]["digest"]
    bare, ours = [], []
    for _ in range(_ROUNDS):
        bare.append(_bare(client, f"{IMAGE}@{digest}"))
        ours.append(_ours(facts))
    client.close()
    ratios = [one / other for one, other in zip(bare, ours, strict=True)]
    return [
        Figure(
            what=f"no-op jobs a second, {AT_ONCE} at once ÷ bare Swarm loop's",
            value=statistics.median(ratios),
            aim=0.85,
            at_most=False,
            detail=f"medians of {_ROUNDS}: ours {_JOBS / statistics.median(ours):.1f}/s, "
            f"bare {_JOBS / statistics.median(bare):.1f}/s; ratios "
            f"{min(ratios):.2f}-{max(ratios):.2f}",
        )
    ]


def _ours(facts: dict[str, str]) -> float:
    """Seconds for all jobs by synchronous requests."""
    url = execute_url(
        facts["service"], facts["token"], IMAGE, COMMAND, facts["item"], asynchronous=False
    )
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as clients:
        for answer in clients.map(lambda _: fetch(url), range(_JOBS)):
            if b"ProcessSucceeded" not in answer:
                raise RuntimeError(answer.decode())
    return time.monotonic() - began


def _bare(client: docker.APIClient, image: str) -> float:
    """Seconds for as many services: created, watched by one list for all, removed at their end."""
    began = time.monotonic()
    left = _JOBS
    under_way: set[str] = set()
    while left or under_way:
        while left and len(under_way) < AT_ONCE:
            under_way.add(_create(client, image))
            left -= 1
        for task in client.tasks({"label": _LABEL}):
            service = task["ServiceID"]
            if service in under_way and task["Status"]["State"] in FINAL:
                client.remove_service(service)
                under_way.discard(service)
        time.sleep(0.05)
    return time.monotonic() - began


def _create(client: docker.APIClient, image: str) -> str:
    template = docker.types.TaskTemplate(
        docker.types.ContainerSpec(image, args=COMMAND.split(), init=True),
        restart_policy=docker.types.RestartPolicy(condition="none"),
    )
    name = f"bare-{uuid.uuid4()}"
    return str(client.create_service(template, name=name, labels={_LABEL: "yes"})["ID"])
