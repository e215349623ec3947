"""The memory of the process that answers, as its C library has it."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest
from quick_fixture import Quick, soon

#: Bytes of address space that glibc reserves for an arena, at a multiple of it.
ARENA = 2**26
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ 0 *", re.ASCII)
THREADS = 24


def arenas(process: int) -> int:
    """How many arenas a process has beside its first thread's."""
    mappings = MAPPING.findall(Path(f"/proc/{process}/maps").read_text())
    used = {int(start, 16): int(end, 16) for start, end, mode in mappings if mode == "rw-p"}
    left = {int(start, 16): int(end, 16) for start, end, mode in mappings if mode == "---p"}
    ends = [left.get(end, end) for start, end in used.items() if start % ARENA == 0]
    return sum(end % ARENA == 0 for end in ends)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="of glibc's memory"
)
def test_the_threads_that_answer_share_their_memory(quick: Quick) -> None:
    with quick.processes(threads=str(THREADS), max_sync="2") as processes:
        web = processes.serve("--no-worker")
        threads = Path(f"/proc/{web.pid}/task")
        soon(lambda: len(list(threads.iterdir())) > THREADS)
        for _ in range(THREADS):
            assert processes.get("/").status_code == 200
        assert arenas(web.pid) <= 1
