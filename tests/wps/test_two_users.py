"""Web process and worker as two users of the machine, who share a group, as the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from open_folder import open_to_all
from postgresql_fixture import PostgresqlServer
from quick_fixture import Processes, Quick, soon
from storagehub_fixture import ALICE

ROOT = Path(__file__).resolve().parents[2]
#: Numbers that no account has.
WEB, WORKER, GROUP = 61001, 61002, 61003

#: Shows a folder to all users at its own place, in the process's own view of the disk: the folder
#: before it may be closed to them.
_SHOW = """
mkdir -p "$1"; mount --bind "$2" "$1"; mount -t tmpfs -o mode=755 none "$3"
mkdir -p "$2"; mount --move "$1" "$2"
"""


def as_user(number: int, scratch: Path) -> list[str]:
    """What runs a command as a user who can read our program, and is in the group."""
    script = ["set -eu", "mount --make-rprivate /"]
    for count, folder in enumerate((Path(sys.base_prefix), ROOT)):
        closed = [parent for parent in folder.parents if not parent.stat().st_mode & 0o001]
        if closed:
            place = str(scratch / str(count))
            script += [f'set -- "{place}" "{folder}" "{closed[-1]}" "$@"', _SHOW, "shift 3"]
    script.append(
        f'umask 022; exec setpriv --reuid={number} --regid={number} --groups={GROUP} -- "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", "\n".join(script), "sh"]


@pytest.fixture
def processes(
    quick: Quick, postgresql: PostgresqlServer, postgresql_database: str
) -> Iterator[Processes]:
    """A service whose two processes have a folder each, and a third one together."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two other users")
    open_to_all(quick.folder)
    (quick.folder / "engine.sock").chmod(0o666)
    for name, user, mode in (("web", WEB, 0o700), ("worker", WORKER, 0o700), ("own", 0, 0o2770)):
        (quick.folder / name).mkdir()
        os.chown(quick.folder / name, user, GROUP)
        (quick.folder / name).chmod(mode)
    postgresql.folder.chmod(0o711)
    own = quick.folder / "own"
    with quick.processes(
        database=postgresql_database, key_file=str(own / "token.key"), results_dir=str(own)
    ) as processes:
        yield processes
    postgresql.folder.chmod(0o700)


def start(processes: Processes, quick: Quick) -> None:
    """Start the two, the web process first."""
    processes.wrapper = as_user(WEB, quick.folder / "scratch")
    processes.serve("--no-worker", data_dir=str(quick.folder / "web"))
    processes.wrapper = as_user(WORKER, quick.folder / "scratch")
    processes.start("worker", data_dir=str(quick.folder / "worker"))


def command_of_the_readme() -> str:
    """What makes the key, without the file's name."""
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"`(openssl rand -base64 32 [^`]*>) token\.key`", readme)
    assert found is not None
    return found[1]


def test_with_a_key_that_both_may_read_jobs_run(processes: Processes, quick: Quick) -> None:
    key = quick.folder / "own" / "token.key"
    subprocess.run(["sh", "-euc", f"umask 027; {command_of_the_readme()} '{key}'"], check=True)
    os.chown(key, 0, GROUP)
    assert key.stat().st_mode & 0o777 == 0o640
    start(processes, quick)
    soon(lambda: processes.ready() == {})
    job_id = processes.submit("probe write a.txt b", quick.item)
    text = processes.wait_for(job_id, "ProcessSucceeded")
    (zip_address,) = set(re.findall(r"http://[^\"<\s]+\.zip", text))
    assert requests.get(zip_address, timeout=10).content.startswith(b"PK")
    assert {path.stat().st_uid for path in key.parent.glob("*/*.zip")} == {WORKER}
    assert ALICE.token not in processes.log.read_text()


def test_with_a_key_of_one_alone_the_other_says_so(processes: Processes, quick: Quick) -> None:
    """The first that starts makes the key for itself."""
    start(processes, quick)
    soon(lambda: "The worker cannot start: " in processes.log.read_text())
    assert "The key that protects user tokens can be neither read nor made." in (
        processes.log.read_text()
    )
