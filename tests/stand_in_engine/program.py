"""What a container does: the behaviours of ``tests/images/probe/probe``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

_FOX = " the quick brown fox jumps over the lazy dog"


@dataclasses.dataclass(frozen=True)
class Write:
    """A file that a program puts into the temp folder."""

    name: str
    #: None: what is in the item that the program gets.
    text: str | None


@dataclasses.dataclass(frozen=True)
class Program:
    """What a container's args make it do."""

    exit_code: int = 0
    #: How long it runs, after it has written; None if until it is stopped.
    seconds: float | None = 0.0
    #: The exit code with which it ends at SIGTERM; None: it does not.
    at_sigterm: int | None = 143
    write: Write | None = None
    #: It fails if it may not have as many bytes of memory.
    memory: int = 0
    #: Bytes that it writes to the container's own layer, at once.
    disk: int = 0
    stdout: Callable[[], Sequence[str]] = tuple
    stderr: str = ""


def program_of(args: Sequence[str]) -> Program:
    """The program that args start, the last three of which are the contract's."""
    if not args or args[0] != "probe":
        word = args[0] if args else ""
        text = f"[FATAL tini (7)] exec {word} failed: No such file or directory"
        return Program(exit_code=127, stderr=text)
    words, token = args[1:-3], args[-3] if len(args) > 3 else ""
    if not words or words[0] not in _BEHAVIOURS:
        return Program(exit_code=64, stderr=f"probe: no behaviour {args[1:2]}")
    if words[0] == "args":
        return Program(stdout=lambda: args[1:])
    try:
        return _BEHAVIOURS[words[0]](words[1:], token)
    except (ValueError, IndexError):
        return Program(exit_code=2, stderr=f"probe: wrong arguments of {words[0]}")


_BEHAVIOURS: Mapping[str, Callable[[Sequence[str], str], Program]] = MappingProxyType(
    {
        "noop": lambda _words, _token: Program(),
        "exit": lambda words, _: Program(exit_code=int(words[0])),
        "sleep": lambda words, _: Program(seconds=float(words[0])),
        "forever": lambda _words, _token: Program(seconds=None, stdout=lambda: ["started"]),
        "ignore-term": lambda _words, _token: Program(
            seconds=None, at_sigterm=None, stdout=lambda: ["started"]
        ),
        "give-up": lambda words, _: Program(
            seconds=None, at_sigterm=int(words[0]), stdout=lambda: ["started"]
        ),
        "args": lambda _words, _token: Program(),
        "print-token": lambda _, token: Program(stdout=lambda: [f"gcubeToken: {token}"]),
        "log": lambda words, _: _log(int(words[0])),
        "oom": lambda words, _: Program(memory=int(words[0]) * 2**20),
        "fill": lambda words, _: Program(seconds=None, disk=int(words[0]) * 2**20),
        "copy": lambda words, _: Program(write=Write(words[0], None)),
        "write": lambda words, _: Program(write=Write(words[0], words[1])),
        "write-slowly": lambda words, _: Program(
            write=Write(words[0], words[0]), seconds=float(words[1])
        ),
        "write-exit": lambda words, _: Program(
            write=Write(words[0], words[0]), seconds=float(words[1]), exit_code=int(words[2])
        ),
    }
)


def _log(count: int) -> Program:
    return Program(stdout=lambda: [f"{number}{_FOX}" for number in range(1, count + 1)])
