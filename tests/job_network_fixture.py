"""The network of jobs, made by its script where the private engine's packets pass."""

from __future__ import annotations

import subprocess
from pathlib import Path

from die_algorithm.local_swarm import LocalSwarm

NETWORK = "die-test-jobs"
BRIDGE = f"{NETWORK}0"
CHAIN = NETWORK.upper()
SUBNET6 = "fd67:d1e::/64"

_SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "job_network"
_OPTIONS = ("--name", NETWORK, "--subnet", "10.67.0.0/24", "--subnet6", SUBNET6)


class JobNetwork:
    """The script, and the rules that it makes.

    Args:
        swarm: on whose one node it runs.
        allow: what jobs may reach, each as ``HOST:PORT``.
    """

    def __init__(self, swarm: LocalSwarm, *allow: str) -> None:
        self._swarm = swarm
        self._allow = [word for each in allow for word in ("--allow", each)]

    def script(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it with these options besides the network's own."""
        return self._run(str(_SCRIPT), *_OPTIONS, *self._allow, *words)

    def script_where(self, preparation: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it after shell commands that mount what it alone shall see."""
        shell = ("unshare", "--mount", "sh", "-ec", f'{preparation}\nexec "$@"', "-")
        return self._run(*shell, str(_SCRIPT), *_OPTIONS, *self._allow, *words)

    def rule(self, *words: str, program: str = "iptables") -> str:
        """Run iptables."""
        return self.inside(program, *words)

    def rules(self) -> str:
        """All rules of both families, in the two tables that the script uses."""
        return "\n".join(
            self.rule("-t", table, "-S", program=program)
            for table in ("filter", "security")
            for program in ("iptables", "ip6tables")
        )

    def lose_rules(self) -> None:
        """As a start of the machine does, of which rules and the kernel's settings do not outlast."""
        chains = ("DOCKER-USER", CHAIN, f"{CHAIN}-IN")
        for program in ("iptables", "ip6tables"):
            self.rule("-D", "INPUT", "-i", BRIDGE, "-j", f"{CHAIN}-IN", program=program)
            for chain in ("FORWARD", *chains):
                self.rule("-F", chain, program=program)
            for chain in chains:
                self.rule("-X", chain, program=program)
            self.rule("-t", "security", "-F", program=program)
            self.rule("-t", "security", "-X", program=program)
        self.inside("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
        self.inside("sysctl", "-qw", "net.bridge.bridge-nf-call-ip6tables=0")

    def inside(self, *command: str) -> str:
        """Run a command in the engine's network namespace; return what it printed."""
        done = self._run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def is_in_force(self) -> bool:
        """What the script's own check says."""
        return self.script("--check").returncode == 0

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self._swarm.name}", *command],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin",
                "DOCKER_HOST": self._swarm.docker_host,
            },
            capture_output=True,
            text=True,
            check=False,
        )
