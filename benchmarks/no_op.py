"""A job that does nothing: our synchronous Execute against a bare service on the same Swarm."""

from __future__ import annotations

import statistics
import time
import uuid

import docker
from demo_client import execute_url, fetch

from benchmarks.figure import Figure

IMAGE, COMMAND = "die-tests/probe", "probe noop"
ROUNDS = 15
FINAL = {"complete", "failed", "rejected"}


def measure_no_op(facts: dict[str, str], docker_host: str) -> list[Figure]:
    """Run both in turn, so that a machine that gets slower slows both."""
    execute = execute_url(
        facts["service"], facts["token"], IMAGE, COMMAND, facts["item"], asynchronous=False
    )
    client = docker.APIClient(base_url=docker_host)
    digest = client.inspect_distribution(IMAGE)["Descriptor"]["digest"]
    fetch(execute)  # pulls the image
    bare, ours = [], []
    for _ in range(ROUNDS):
        bare.append(_bare(client, f"{IMAGE}@{digest}"))
        began = time.monotonic()
        fetch(execute)
        ours.append(time.monotonic() - began)
    client.close()
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    return [
        Figure(
            what="synchronous no-op job ÷ bare service create→complete",
            value=statistics.median(ratios),
            aim=1.3,
            at_most=True,
            detail=f"medians of {ROUNDS}: ours {statistics.median(ours):.3f} s, "
            f"bare {statistics.median(bare):.3f} s; ratios {min(ratios):.2f}-{max(ratios):.2f}",
        )
    ]


def _bare(client: docker.APIClient, image: str) -> float:
    """Seconds from the creation of a service to the moment at which its task is seen complete."""
    name = f"bare-{uuid.uuid4()}"
    began = time.monotonic()
    template = docker.types.TaskTemplate(
        docker.types.ContainerSpec(image, args=["probe", "noop"], init=True),
        restart_policy=docker.types.RestartPolicy(condition="none"),
    )
    service = client.create_service(template, name=name)
    while client.tasks({"service": name}) == [] or (
        client.tasks({"service": name})[0]["Status"]["State"] not in FINAL
    ):
        time.sleep(0.01)
    seconds = time.monotonic() - began
    client.remove_service(service["ID"])
    return seconds
