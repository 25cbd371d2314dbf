"""How the C library keeps memory that was freed."""

import ctypes
import sys

# What `mallopt` of glibc calls them.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8

LARGE = 2**24


def give_back_freed_memory() -> None:
    """Has glibc give large blocks back to the system when they are freed, and keep few pools of small ones.

    By itself it learns from the first large bodies to keep such blocks, in a pool for every thread that there has been:
    a server whose models are replaced would grow with every one. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((MMAP_THRESHOLD, LARGE), (TRIM_THRESHOLD, LARGE), (ARENA_MAX, 2)):
            mallopt(parameter, value)
