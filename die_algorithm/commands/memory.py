"""How a program with many threads gets its memory."""

from __future__ import annotations

import ctypes

#: ``M_ARENA_MAX`` of glibc's ``mallopt``.
_ARENA_MAX = -8
#: One of these is the first thread's.
_ARENAS = 2


def share_memory() -> None:
    """Let the threads that are started from now on use the same memory; of glibc only.

    It has an arena for each of many threads, and keeps in each what that has ever needed at once: large
    requests that come to all threads in turn would leave a multiple of what they need together. Python's
    threads hardly ever ask for memory at the same time, so sharing it costs them nothing.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_ARENA_MAX, _ARENAS)
