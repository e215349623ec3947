"""What the values of settings may be, and how an operator writes them."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import ErrorDetails

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)", re.ASCII)
#: So that no date to come is beyond all dates, and no wait longer than a system call can wait.
_LONGEST = timedelta(days=36500)
_LONGEST_WAIT = timedelta(days=1)
#: In place of a registry's address: the Docker engine asks it.
ASK_ENGINE = "engine"
#: The engine counts in 64 bits.
_LARGEST_SIZE = 2**63 - 1
#: The engine takes no less for a container's memory, nor kernels more processes (linux/threads.h).
_LEAST_MEMORY = 6 * 2**20
_MOST_PIDS = 2**22
#: In CPUs. The engine takes no less, and counts their billionths in 64 bits.
_LEAST_CPUS = 0.01
_MOST_CPUS = 9e9
_SIZE = re.compile(r"\d+(?:\.\d+)? ?[A-Za-z]*", re.ASCII)
#: Bits before the IPv4 address that an IPv6 address wraps.
_MAPPED_PREFIX = 96
_Networks = tuple[IPv4Network | IPv6Network, ...]
_LABEL = re.compile(r"[A-Za-z0-9._-]{0,63}")
_DOCKER_HOST = re.compile(r"unix:///.+|tcp://(?:[^\s:/?#@]+|\[[0-9a-fA-F:]+\]):\d{1,5}", re.ASCII)
#: What Swarm takes; anything else it would refuse with each job.
_CONSTRAINT = re.compile(
    r"[a-z_][a-z0-9_.-]+\s*[=!]=\s*[a-z0-9:_.*()?+\[\]\\^$|/\s-]+", re.ASCII | re.IGNORECASE
)


def reason(item: ErrorDetails) -> str:
    """What is wrong with a value, in an operator's words."""
    limits = item.get("ctx", {})
    match item["type"]:
        case "int_parsing" | "int_parsing_size" | "int_from_float":
            return "must be a whole number"
        case "float_parsing" | "finite_number":
            return "must be a number"
        case "greater_than":
            return f"must be more than {limits['gt']:g}"
        case "greater_than_equal" | "less_than_equal":
            bound, word = ("ge", "more") if "ge" in limits else ("le", "less")
            return f"must be {limits[bound]:.15g} or {word}"
        case "literal_error" | "bool_parsing":
            return f"must be {limits.get('expected', 'true or false')}"
        case _:
            return item["msg"].removeprefix("Value error, ")


def as_written(duration: timedelta) -> str:
    """A duration as an operator would write it: ``1.5s``, ``90s``, ``36h``."""
    for name in "dhm":
        if not duration % _UNITS[name]:
            return f"{duration // _UNITS[name]}{name}"
    return f"{duration.total_seconds():.15g}s"


def _duration(value: object) -> object:
    """Turn ``30s``, ``1.5h`` or ``2d`` into a timedelta; leave what is not text to pydantic."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError("give a number and a unit: 500ms, 30s, 10m, 24h or 7d")
    try:
        duration = float(match[1]) * _UNITS[match[2]]
    except OverflowError:
        raise ValueError("must be shorter than that") from None
    if not duration:
        raise ValueError("must be longer than nothing")
    return duration


def _of_this_world(duration: timedelta) -> timedelta:
    return _at_most(duration, _LONGEST)


def _for_a_wait(duration: timedelta) -> timedelta:
    return _at_most(duration, _LONGEST_WAIT)


def _at_most(duration: timedelta, longest: timedelta) -> timedelta:
    if duration > longest:
        raise ValueError(f"must be {as_written(longest)} or less")
    return duration


def _size(value: object, read: ValidatorFunctionWrapHandler) -> ByteSize:
    """Read ``64KiB``; pydantic alone would read ``1,5GiB`` as one byte."""
    message = "give a number of bytes, or one with a unit: 64KiB, 2GiB"
    if isinstance(value, str) and not _SIZE.fullmatch(value.strip()):
        raise ValueError(message)
    try:
        size: ByteSize = read(value)
    except (ValidationError, OverflowError):
        raise ValueError(message) from None
    if size > _LARGEST_SIZE:
        raise ValueError("must be smaller than that")
    return size


def _memory(value: ByteSize) -> ByteSize:
    if value < _LEAST_MEMORY:
        raise ValueError("must be 6MiB or more: the engine takes no less")
    return value


def _some(value: ByteSize) -> ByteSize:
    if not value:
        raise ValueError("must be more than nothing, which would be no limit")
    return value


def _words(value: object) -> object:
    """Split a comma-separated text into a tuple of its non-empty parts."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _http_url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
        raise ValueError("must be an http:// or https:// address without query")
    if "{{" in value:
        # Swarm would put something else in its place in a container's environment.
        raise ValueError("must not hold '{{'")
    return value.rstrip("/")


def _hub_url(value: str) -> str:
    if value == ASK_ENGINE:
        return value
    if not value:
        raise ValueError("must be an address, or 'engine'")
    return _http_url(value)


def _plain_path(value: str) -> str:
    segments = value.partition("://")[2].split("/")
    if value and not {"", ".", ".."}.isdisjoint(segments):
        raise ValueError("must have no '//', '.' or '..' in its path: clients would change them")
    return value


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError("must be at most 63 letters, digits, '.', '_' and '-'")
    return value


def _engine_address(value: str) -> str:
    if not _DOCKER_HOST.fullmatch(value):
        raise ValueError("must be unix:///path or tcp://host:port")
    return value


def _constraints(value: tuple[str, ...]) -> tuple[str, ...]:
    for constraint in value:
        if not _CONSTRAINT.fullmatch(constraint):
            raise ValueError(
                f"{constraint!r} is no constraint like node.role==worker or node.role!=manager"
            )
    return value


def _addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must name at least one address:port")
    for address in value:
        match = re.fullmatch(r"(?:[^\s:]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", address, re.ASCII)
        if match is None or int(match[1]) > 65535:
            raise ValueError(f"{address!r} is not address:port")
    return value


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    for host in value:
        if not re.fullmatch(r"[A-Za-z0-9.-]+:[0-9a-fA-F.:]+", host):
            raise ValueError(f"{host!r} is not name:address")
    return value


def _trusted_hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    for host in value:
        match = re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?(?::(\d{1,5}))?", host)
        if match is None or not 0 < int(match[1] or 1) <= 65535:
            raise ValueError(f"{host!r} is neither host nor host:port")
    return tuple(host.lower() for host in value)


def _networks(value: object) -> object:
    """Read addresses and networks; pydantic alone would take numbers for addresses."""
    words = _words(value)
    if not isinstance(words, tuple):
        return words
    networks = []
    for word in words:
        try:
            networks.append(_unwrapped(ip_network(word)))
        except ValueError:
            raise ValueError(
                f"{word!r} is neither an address nor a network like 10.0.0.0/8"
            ) from None
    return tuple(networks)


def _unwrapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """A network of IPv4 as such, which a listener for IPv6 sees wrapped (RFC 4291, 2.5.5.2)."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))


#: ``30s``, ``10m``, ``24h``, however long.
AnyDuration = Annotated[timedelta, BeforeValidator(_duration)]
#: The same, a century at most.
Duration = Annotated[AnyDuration, AfterValidator(_of_this_world)]
#: The same for what somebody sits out, a day at most.
Wait = Annotated[AnyDuration, AfterValidator(_for_a_wait)]
#: ``64KiB``, ``2GiB``.
Size = Annotated[ByteSize, WrapValidator(_size)]
#: What a container may use: of memory, of each file system in memory, of CPUs, of processes.
MemoryLimit = Annotated[Size, AfterValidator(_memory)]
TmpfsLimit = Annotated[Size, AfterValidator(_some)]
CpuLimit = Annotated[float, Field(ge=_LEAST_CPUS, le=_MOST_CPUS, allow_inf_nan=False)]
PidsLimit = Annotated[int, Field(gt=0, le=_MOST_PIDS)]
#: Words separated by commas.
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
#: The address of something that clients do not see.
HttpUrl = Annotated[str, AfterValidator(_http_url)]
#: The address of Docker Hub or a mirror of it, or :data:`ASK_ENGINE`.
HubUrl = Annotated[str, AfterValidator(_hub_url)]
#: The address of something that clients get links to.
PublicUrl = Annotated[HttpUrl, AfterValidator(_plain_path)]
#: Addresses, and networks of them.
Networks = Annotated[_Networks, BeforeValidator(_networks)]
#: A word that a Swarm service can be labelled with.
Label = Annotated[str, AfterValidator(_label)]
#: The address of a Docker engine.
EngineAddress = Annotated[str, AfterValidator(_engine_address)]
#: Swarm's placement constraints.
Constraints = Annotated[Words, AfterValidator(_constraints)]
#: ``address:port`` to listen on.
Addresses = Annotated[Words, AfterValidator(_addresses)]
#: ``name:address`` for a container's hosts file.
Hosts = Annotated[Words, AfterValidator(_hosts)]
#: ``host`` or ``host:port`` that links may lead to.
TrustedNames = Annotated[Words, AfterValidator(_trusted_hosts)]
