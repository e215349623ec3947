"""The README's commands, as a newcomer types them, in a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sortapp_sample import SAMPLE, sorted_sample

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a private Swarm")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    clone = tmp_path_factory.mktemp("clone") / "project"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True)
    yield clone
    make(clone, "clean")


def make(clone: Path, target: str) -> str:
    # The clone is a newcomer's: nothing of this run's virtual environment reaches it.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    run = subprocess.run(
        ["make", target], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def left_over(clone: Path) -> list[str]:
    """Command lines of processes that the clone has started and that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(clone) in command:
            found.append(command)
    return found


def test_the_demo_ends_with_the_sorted_file_and_leaves_nothing_running(clone: Path) -> None:
    expected = sorted_sample()[:3]
    for _ in range(2):
        output = make(clone, "demo")
        before, _, table = output.partition("/elements.txt\n")
        assert f"{SAMPLE.name}" in before
        assert [line.split()[1] for line in table.splitlines()[:3]] == expected
        assert left_over(clone) == []


def test_the_execute_of_the_readme_works_as_pasted(clone: Path) -> None:
    readme = (clone / "README.md").read_text()
    block = re.search(r"runs this block -->\n```bash\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    make(clone, "serve")
    try:
        run = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", block[1]],
            cwd=clone,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.split() == sorted_sample()[:3]
    finally:
        make(clone, "stop")
    assert left_over(clone) == []


def test_doctor_asks_the_service_that_serve_has_started(clone: Path) -> None:
    make(clone, "serve")
    try:
        assert "The service can run jobs." in make(clone, "doctor")
    finally:
        make(clone, "stop")


def test_help_is_what_make_says_first(clone: Path) -> None:
    assert "make demo" in make(clone, "help")


def test_stop_ends_everything_even_if_its_folder_was_deleted(clone: Path) -> None:
    make(clone, "serve")
    try:
        assert left_over(clone) != []
        shutil.rmtree(clone / ".die")
    finally:
        make(clone, "stop")
    assert left_over(clone) == []
