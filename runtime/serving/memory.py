"""How the C library keeps memory that was freed."""

import ctypes
import sys

# What `mallopt` of glibc calls them.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8

LARGE = 2**24


def keep_little_freed_memory() -> None:
    """Has glibc give large blocks back to the system when they are freed, and keep few pools of small ones.

    By itself it learns from the first large bodies to keep such blocks, in a pool for every thread that there has been:
    a server whose models are replaced would grow with every one. Other C libraries are left as they are.
    """
    for parameter, value in ((MMAP_THRESHOLD, LARGE), (TRIM_THRESHOLD, LARGE), (ARENA_MAX, 2)):
        _call("mallopt", parameter, value)


def give_back_freed_memory() -> None:
    """Has glibc give back what is freed by now, also between blocks that are in use.

    What a model leaves behind lies there: its weights are many blocks that are not large.
    """
    _call("malloc_trim", 0)


def _call(name: str, *numbers: int) -> None:
    """Calls a function of glibc."""
    if sys.platform.startswith("linux") and (function := getattr(ctypes.CDLL(None), name, None)) is not None:
        function(*numbers)
