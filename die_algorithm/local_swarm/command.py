"""Running the programs of the system."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from die_algorithm.errors import LocalSwarmError

#: Not the caller's environment: a DOCKER_HOST or a proxy of the user's must not lead elsewhere.
ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}
_SHOWN_LINES = 8


def run(*command: str, timeout: float = 60, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    """Run a program to its end and return what it printed.

    Args:
        command: the program and its arguments; no shell reads them.
        timeout: seconds after which the program is killed.
        environment: the whole environment of the program.

    Raises:
        LocalSwarmError: it is missing, took too long or failed; holds the end of its output.
    """
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise LocalSwarmError(f"The program {command[0]!r} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise LocalSwarmError(
            f"The command {' '.join(command)!r} did not end within {timeout:g} seconds."
        ) from None
    if done.returncode:
        output = last_lines(done.stdout + done.stderr)
        raise LocalSwarmError(f"The command {' '.join(command)!r} failed:\n{output}")
    return done.stdout


def succeeds(*command: str, timeout: float = 60) -> bool:
    """Tell whether a program ends with exit code 0 in time."""
    try:
        run(*command, timeout=timeout)
    except LocalSwarmError:
        return False
    return True


def log_tail(log: Path) -> str:
    """Return the last lines of a log file, or a hint that there are none."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        text = ""
    return last_lines(text) or "(nothing was logged)"


def last_lines(text: str) -> str:
    """Return the last few lines of a text."""
    return "\n".join(text.strip().splitlines()[-_SHOWN_LINES:])
