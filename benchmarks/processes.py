"""What the service's processes use, as the kernel counts it."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all below it: the web process first, then its worker."""
    # Listed by the thread that has started them.
    files = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for file in files for word in file.read_text().split()]
    return [pid, *(each for child in children for each in family(child))]


def memory(pids: list[int], field: str = "VmRSS") -> int:
    """Bytes of memory of processes, in all."""
    return sum(_memory(pid, field) for pid in pids)


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"The kernel does not tell {field}.")
