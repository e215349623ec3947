"""The network namespace of a private Swarm and its cable to the host."""

from __future__ import annotations

import json
import shlex
from ipaddress import IPv4Network
from pathlib import Path

from die_algorithm.errors import LocalSwarmError
from die_algorithm.local_swarm.command import run, succeeds

#: Cut into /30 pieces, one for each private Swarm: an address for each end of its cable.
ADDRESS_POOL = IPv4Network("10.213.0.0/16")
_PIECE = 30
#: The inner end of the cable. The host's end has the name of the namespace.
_INNER_END = "host"
_NAT_CHAINS = (("nat", "POSTROUTING"), ("filter", "FORWARD"))


class Network:
    """A network namespace joined to the host by a pair of virtual Ethernet devices.

    An engine in here has its own ``docker0``, its own packet filter and its own Swarm ports.

    Args:
        name: of the namespace and of the host's device; at most 15 characters.
        seed: chooses the addresses, so that they are the same at the next start if still free.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self._seed = seed

    @property
    def namespace(self) -> Path:
        """The file that stands for the namespace."""
        return Path("/run/netns") / self.name

    @property
    def host_address(self) -> str:
        """The host's end of the cable: one address for the host itself and for containers.

        Raises:
            LocalSwarmError: there is no cable: the private Swarm is not started.
        """
        address = self._addresses().get(self.name)
        if address is None:
            raise LocalSwarmError("The private Swarm is not started: it has no address yet.")
        return str(address[1])

    @property
    def inner_address(self) -> str:
        """The inner end of the cable: where the host reaches what runs inside.

        Raises:
            LocalSwarmError: there is no cable: the private Swarm is not started.
        """
        piece = IPv4Network(f"{self.host_address}/{_PIECE}", strict=False)
        return str(piece[2])

    def keep_from_containers(self, port: int) -> None:
        """Let only the namespace itself and the host connect to a port of it."""
        chain = f"DIE-KEEP-{port}"
        inside = (*self.enter(), "iptables", "--wait")
        succeeds(*inside, "--new-chain", chain)
        run(*inside, "--flush", chain)
        for device in ("lo", _INNER_END):
            run(*inside, "--append", chain, "--in-interface", device, "--jump", "RETURN")
        run(
            *inside,
            *f"--append {chain} --protocol tcp --jump REJECT --reject-with tcp-reset".split(),
        )
        match = f"--protocol tcp --dport {port} --jump {chain}".split()
        if not succeeds(*inside, "--check", "INPUT", *match):
            run(*inside, "--insert", "INPUT", *match)

    def open(self) -> None:
        """Make the namespace and its cable, or keep them if they are there.

        Raises:
            LocalSwarmError: the machine does not permit it.
        """
        if self.namespace.exists() and self.name in self._addresses():
            return
        self._remove()
        try:
            run("ip", "netns", "add", self.name)
            self._lay_cable(self._free_piece())
        except LocalSwarmError as error:
            self._remove()
            raise LocalSwarmError(
                "A private Swarm needs a network namespace of its own, and this machine does not "
                "permit one. It takes root rights and, inside a container, a privileged one. "
                f"On a Swarm of yours, run 'die serve' (README, \"Operate it\").\n{error}"
            ) from None

    def close(self) -> None:
        """Remove the namespace, the cable and the rules on the host, as far as they are there."""
        self._remove_internet()
        self._remove()

    def enter(self) -> tuple[str, ...]:
        """Return the words that start a command inside when put before it.

        Not ``ip netns exec``: it mounts a new /sys, in which the engine misses its cgroups
        (reference: swarm, "Running engines here and in tests").
        """
        return ("nsenter", f"--net={self.namespace}")

    def forward_port(self, port: int, to: int) -> None:
        """Lead connections from inside to the host's end, from one port to another.

        Args:
            port: where containers connect to.
            to: the port on which a server of the host listens.
        """
        chain = f"DIE-{port}"
        host = self.host_address
        inside = (*self.enter(), "iptables", "--wait", "--table", "nat")
        succeeds(*inside, "--new-chain", chain)
        run(*inside, "--flush", chain)
        goal = f"--protocol tcp --jump DNAT --to-destination {host}:{to}"
        run(*inside, "--append", chain, *goal.split())
        match = f"--protocol tcp --destination {host} --dport {port} --jump {chain}".split()
        for hook in ("PREROUTING", "OUTPUT"):  # from containers; from the namespace itself
            if not succeeds(*inside, "--check", hook, *match):
                run(*inside, "--insert", hook, *match)

    def add_internet(self) -> None:
        """Let connections from inside reach the outside through the host.

        Forwarding is switched on for the host and stays on: something else may have come to rely
        on it by the time the private Swarm is stopped.

        Raises:
            LocalSwarmError: the host does not permit it.
        """
        piece = self._addresses()[self.name]
        run(*self.enter(), "ip", "route", "replace", "default", "via", str(piece[1]))
        run("sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1")
        self._remove_internet()
        established = f"--out-interface {self.name} --match conntrack --ctstate RELATED,ESTABLISHED"
        rules = (
            ("nat", "POSTROUTING", f"--source {piece} ! --out-interface {self.name}", "MASQUERADE"),
            ("filter", "FORWARD", f"--in-interface {self.name}", "ACCEPT"),
            ("filter", "FORWARD", established, "ACCEPT"),
        )
        for table, chain, match, target in rules:
            rule = f"{match} --match comment --comment {self.name} --jump {target}"
            run("iptables", "--wait", "--table", table, "--insert", chain, *rule.split())

    def _remove(self) -> None:
        succeeds("ip", "link", "delete", self.name)
        if self.namespace.exists():
            run("ip", "netns", "delete", self.name)

    def _remove_internet(self) -> None:
        for table, chain in _NAT_CHAINS:
            command = ("iptables", "--wait", "--table", table)
            for line in run(*command, "--list-rules", chain).splitlines():
                words = shlex.split(line)
                if self.name in words and "--comment" in words:
                    run(*command, "--delete", *words[1:])

    def _lay_cable(self, piece: IPv4Network) -> None:
        inner = (*self.enter(), "ip")
        peer = f"type veth peer name {_INNER_END} netns {self.name}"
        run("ip", "link", "add", self.name, *peer.split())
        run("ip", "address", "add", f"{piece[1]}/{_PIECE}", "dev", self.name)
        run("ip", "link", "set", self.name, "up")
        run(*inner, "link", "set", "lo", "up")
        run(*inner, "address", "add", f"{piece[2]}/{_PIECE}", "dev", _INNER_END)
        run(*inner, "link", "set", _INNER_END, "up")

    def _free_piece(self) -> IPv4Network:
        pieces = list(ADDRESS_POOL.subnets(new_prefix=_PIECE))
        # A wide network such as a company's 10.0.0.0/8 loses four addresses by it and no more.
        taken = [net for net in self._addresses().values() if net.prefixlen >= 24]
        for step in range(len(pieces)):
            piece = pieces[(self._seed + step) % len(pieces)]
            if not any(piece.overlaps(net) for net in taken):
                return piece
        raise LocalSwarmError(f"This machine uses all addresses of {ADDRESS_POOL} already.")

    def _addresses(self) -> dict[str, IPv4Network]:
        """Return one network for each device of the host that has one."""
        return {
            device["ifname"]: IPv4Network(
                f"{address['local']}/{address['prefixlen']}", strict=False
            )
            for device in json.loads(run("ip", "-json", "-4", "address", "show"))
            for address in device.get("addr_info", [])
        }
