"""The processes of a private Swarm: what is started in here ends together."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from die_algorithm.errors import LocalSwarmError
from die_algorithm.local_swarm.command import ENVIRONMENT, log_tail, run
from die_algorithm.local_swarm.network import Network

#: The first process: it adopts and reaps what the engine leaves behind. Comes with the engine.
INIT = "docker-init"
_SPAWN_TIMEOUT = 10.0
_KILL_TIMEOUT = 30.0


class Enclosure:
    """A process and a mount namespace inside the network namespace, with a host name of its own.

    When its first process ends, however that happens, the kernel kills all the others (engine,
    containerd, its shims, containers) and drops their mounts. So nothing is ever looked for by
    its name, and nothing of anybody else's can be hit.

    Args:
        network: in which the processes live; it tells which processes are ours.
        log: the file for the first process's complaints.
    """

    def __init__(self, network: Network, log: Path) -> None:
        self._network = network
        self._log = log

    def open(self, mounts: Iterable[str]) -> None:
        """Start the first process.

        Args:
            mounts: arguments of ``mount`` for what only the processes in here shall see.

        Raises:
            LocalSwarmError: the machine does not permit it.
        """
        # "slave": a volume that the host unmounts is not held by us; our mounts stay ours.
        unshare = "unshare --mount --propagation slave --pid --uts"
        command = (INIT, "--", "sleep", "infinity")
        try:
            self._spawn((*self._network.enter(), *unshare.split()), command, self._log)
        except LocalSwarmError as error:
            raise LocalSwarmError(
                "A private Swarm needs process and mount namespaces of its own, and this machine "
                f"does not permit them. {error}"
            ) from None
        for mount in ("-t proc proc /proc", *mounts):
            run(*self._enter(), "mount", *mount.split())
        # The nodes of a Swarm are told apart by their host names.
        run(*self._enter(), "sysctl", "--quiet", "--write", f"kernel.hostname={self._network.name}")

    def close(self) -> None:
        """Kill everything in here and wait until it is gone.

        Raises:
            LocalSwarmError: the kernel does not let go of a process.
        """
        if not self.signal(INIT, signal.SIGKILL, _KILL_TIMEOUT):
            raise LocalSwarmError(
                f"The processes of the private Swarm do not end within {_KILL_TIMEOUT:g} seconds."
            )

    def spawn(self, program: str, *arguments: str, log: Path) -> None:
        """Start a program in here, which outlives the caller.

        Args:
            program: the program.
            arguments: its arguments.
            log: the file for its output, begun anew.

        Raises:
            LocalSwarmError: it ended before it was seen; holds the end of its output.
        """
        self._spawn(self._enter(), (program, *arguments), log)

    def pid_of(self, program: str) -> int | None:
        """Return the host's process id of a program that was started in here, if it runs."""
        if not self._network.namespace.exists():
            return None
        for word in run("ip", "netns", "pids", self._network.name).split():
            # Two ids: in the host's namespace and in ours. A container's process has three.
            name, ids = _name_and_ids(int(word))
            if name == program and len(ids) == 2:
                return ids[0]
        return None

    def signal(self, program: str, number: signal.Signals, timeout: float) -> bool:
        """Send a signal that ends a program, and wait.

        Args:
            program: its name, as in ``pid_of``.
            number: the signal.
            timeout: seconds to wait for the program's end.

        Returns:
            whether the program is gone, or was not there.
        """
        pid = self.pid_of(program)
        if pid is None:
            return True
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            if self.pid_of(program) != pid:  # the handle may be of a process that took over the id
                return True
            signal.pidfd_send_signal(handle, number)
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            return bool(ended.poll(timeout * 1000))
        except ProcessLookupError:
            return True
        finally:
            os.close(handle)

    def listens(self, port: int) -> bool:
        """Tell whether a program in here accepts connections to a TCP port of all its addresses."""
        pid = self.pid_of(INIT)
        if pid is None:
            return False
        # proc(5): address, peer, LISTEN; Go listens on all addresses of both families at once.
        tables = "".join(Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6"))
        return re.search(f" 0+:{port:04X} 0+:0000 0A ", tables) is not None

    def _enter(self) -> tuple[str, ...]:
        pid = self.pid_of(INIT)
        if pid is None:
            raise LocalSwarmError("The private Swarm is not started.")
        return ("nsenter", "--target", str(pid), "--net", "--mount", "--pid", "--uts")

    def _spawn(self, enter: Sequence[str], command: Sequence[str], log: Path) -> None:
        """Start a program that is no child of ours.

        It forks when it has entered the namespaces, so that the first process inside becomes its
        parent. One outside might not reap it, and then the namespace could not end.
        """
        with log.open("wb") as output:
            entered = subprocess.run(
                [*enter, "setsid", "--fork", *command],
                env=ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        deadline = time.monotonic() + _SPAWN_TIMEOUT
        while self.pid_of(command[0]) is None:
            if entered.returncode or time.monotonic() > deadline:
                raise LocalSwarmError(f"{command[0]} does not start:\n{log_tail(log)}")
            time.sleep(0.002)


def _name_and_ids(pid: int) -> tuple[str, list[int]]:
    """Return a process's name and its ids, from the outermost process namespace inwards."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return "", []
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return fields["Name"], [int(word) for word in fields["NSpid"].split()]
