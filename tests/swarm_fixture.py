"""A private Swarm for tests, with the test images published as if on Docker Hub."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.service_spec import JOB_LABEL

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "tests" / "images"

#: Repositories, as a job's Image names them. Behaviours of the probe: ``images/probe/probe``.
PROBE = "die-tests/probe"
PROBE_VARIANT = "die-tests/probe-variant"
ORIGINAL_SORTAPP = "die-tests/original-sortapp"
SORTAPP = "d4science/sortapp"
DIE_PROBE = "d4science/die-probe"

_PYTHON_BASE = "python:3-alpine"


@contextmanager
def private_swarm(state: Path) -> Iterator[LocalSwarm]:
    """Start a private Swarm with all test images; stop it at the end and keep its images.

    Args:
        state: its folder; kept from run to run, so that the next start takes a second.
    """
    swarm = LocalSwarm(state)
    try:
        swarm.start()
        publish_images(swarm)
        yield swarm
    finally:
        swarm.stop()


def publish_images(swarm: LocalSwarm) -> dict[str, str]:
    """Build and push all test images; return their digests by repository."""
    python = {"BASE": _PYTHON_BASE}
    return {
        PROBE: publish_probe(swarm),
        PROBE_VARIANT: _publish(swarm, PROBE_VARIANT, IMAGES / "probe-variant", {"BASE": PROBE}),
        ORIGINAL_SORTAPP: _publish(swarm, ORIGINAL_SORTAPP, IMAGES / "original-sortapp", python),
        SORTAPP: _publish(swarm, SORTAPP, ROOT / "examples" / "sortapp", python),
        DIE_PROBE: _publish(swarm, DIE_PROBE, ROOT / "examples" / "probe", python),
    }


def publish_probe(swarm: LocalSwarm) -> str:
    """Build and push the probe alone; return its digest."""
    build_python_base(swarm)
    return _publish(swarm, PROBE, IMAGES / "probe", {"BASE": _PYTHON_BASE})


def build_python_base(swarm: LocalSwarm) -> None:
    """Make the base of the Python images in the engine, unless it is there."""
    environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": swarm.docker_host}
    script = ROOT / "scripts" / "python_base_image"
    subprocess.run([script, _PYTHON_BASE], env=environment, check=True)


@contextmanager
def registry_outage(swarm: LocalSwarm) -> Iterator[None]:
    """Take the registry away for a while, as in an outage of Docker Hub."""
    swarm.registry.stop()
    try:
        yield
    finally:
        swarm.registry.start()


def kill_engine(swarm: LocalSwarm) -> None:
    """Let the engine die as in a crash; its containers live on until ``swarm.start()``."""
    assert swarm.engine.kill()


def let_end(swarm: LocalSwarm, job_id: str) -> None:
    """Let a job's probe, which sleeps, sleep no longer."""
    label = f"label={JOB_LABEL}={job_id}"
    (container,) = swarm.engine.docker("ps", "--quiet", "--filter", label).split()
    # It may not have begun to.
    swarm.engine.docker(
        "exec", "--detach", container, "sh", "-c", "until killall -q sleep; do :; done"
    )


def _publish(
    swarm: LocalSwarm, repository: str, context: Path, arguments: Mapping[str, str]
) -> str:
    swarm.build(context, repository, arguments)
    return swarm.push(repository, repository)
