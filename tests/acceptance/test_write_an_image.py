"""What the README shows authors of images: an image tried on the embedded StorageHub."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

from service_fixture import free_port
from sortapp_sample import sorted_sample

from die_algorithm.local_swarm import LocalSwarm

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_is_tried_as_the_readme_shows(swarm: LocalSwarm, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"a test runs this block -->\n```bash\n(HUB=\S+)(.*?)```", readme, re.DOTALL)
    assert block is not None
    for name in (".venv", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = f"HUB={swarm.host_address}:{free_port()}{block[2]}wait\n"
    # An engine as new as an author's builds with BuildKit, which this one does not have.
    environment = {**os.environ, "DOCKER_HOST": swarm.docker_host, "DOCKER_BUILDKIT": "0"}
    run = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, complaints = run.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        swarm.engine.docker("image", "rm", "--force", "sortapp")
    assert output.splitlines()[-4:] == [
        f"Sorted {len(sorted_sample())} lines into elements.txt.",
        *sorted_sample()[:3],
    ], complaints
