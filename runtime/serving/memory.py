"""How the C library keeps memory that was freed."""

import ctypes
import sys

# What `mallopt` of glibc calls them.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8

LARGE = 2**24


def keep_one_pool() -> None:
    """Has glibc keep one pool of memory for all threads; to be called before there are others.

    By itself it makes one for every thread, and at the end of all but the first it keeps what is free, also when it is
    asked to give it back: which share of a model's memory that is would depend on the threads that have loaded it.
    """
    _call("mallopt", ARENA_MAX, 1)


def keep_little_freed_memory() -> None:
    """Has glibc give large blocks back to the system when they are freed.

    By itself it learns from the first large bodies to keep such blocks: a server whose models are replaced would grow
    with every one. Other C libraries are left as they are.
    """
    for parameter in (MMAP_THRESHOLD, TRIM_THRESHOLD):
        _call("mallopt", parameter, LARGE)


def give_back_freed_memory() -> None:
    """Has glibc give back what is freed by now, also between blocks that are in use.

    What a model leaves behind lies there: its weights are many blocks that are not large.
    """
    _call("malloc_trim", 0)


def _call(name: str, *numbers: int) -> None:
    """Calls a function of glibc."""
    if sys.platform.startswith("linux") and (function := getattr(ctypes.CDLL(None), name, None)) is not None:
        function(*numbers)
