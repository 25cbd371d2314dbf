"""How the C library takes memory, and keeps what was freed."""

import ctypes
import sys

# What `mallopt` of glibc and `madvise` of Linux call them.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
HUGE_PAGES, NO_HUGE_PAGES = 14, 15

LARGE = 15 * 2**20  # less than the blocks of somewhat under 16 MB in which Pillow keeps pixels
LARGEST = 2**25  # block that glibc can be told to take from its pool
USUAL_PAD = 2**17
RANGE = 2**30
HUGE_PAGE = 2**21

_asked_for: list[tuple[int, int]] = []  # begin and length of what huge pages were asked for


def keep_one_pool() -> None:
    """Has glibc keep one pool of memory for all threads; to be called before there are others.

    By itself it makes one for every thread, and at the end of all but the first it keeps what is free, also when it is
    asked to give it back: which share of a model's memory that is would depend on the threads that have loaded it.
    """
    _call("mallopt", ARENA_MAX, 1)


def load_into_huge_pages() -> None:
    """Has glibc take its memory from one range of addresses, for which Linux is asked for pages of 2 MB.

    To be called after `keep_one_pool`, and ended by `keep_little_freed_memory` and `give_back_freed_memory`. A model is
    loaded into new memory, some three times its size for a while, and taking that by pages of 4 KB is as much work as
    all the rest. Nothing is taken before it is used. Where the range can't be had all stays as it is, and where
    addresses have a bound, which it would use up.
    """
    if not sys.platform.startswith("linux") or _is_bounded() or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    for parameter, number in ((MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, RANGE), (TOP_PAD, RANGE)):
        libc.mallopt(parameter, number)
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    block = libc.malloc(ctypes.c_size_t(LARGEST - HUGE_PAGE))
    begin, end = (block or 0) // HUGE_PAGE * HUGE_PAGE + HUGE_PAGE, libc.sbrk(ctypes.c_ssize_t(0))
    if RANGE <= end - begin < 2 * RANGE:
        _asked_for.append((begin, end - begin))
        _advise(begin, end - begin, HUGE_PAGES)
    else:  # the block lies elsewhere: the system has not so much to promise
        libc.mallopt(TOP_PAD, USUAL_PAD)
    libc.free(block)


def keep_little_freed_memory() -> None:
    """Has glibc give large blocks back to the system when they are freed.

    By itself it learns from the first large bodies to keep such blocks: a server whose models are replaced would grow
    with every one. Other C libraries are left as they are. Linux isn't asked for huge pages any more, and those that
    are there stay: it would make whole ones of those that were given back in part.
    """
    while _asked_for:
        _advise(*_asked_for.pop(), NO_HUGE_PAGES)
    for parameter, number in ((MMAP_THRESHOLD, LARGE), (TRIM_THRESHOLD, LARGE), (TOP_PAD, USUAL_PAD)):
        _call("mallopt", parameter, number)


def give_back_freed_memory() -> None:
    """Has glibc give back what is freed by now, also between blocks that are in use.

    What a model leaves behind lies there: its weights are many blocks that are not large.
    """
    _call("malloc_trim", 0)


def _is_bounded() -> bool:
    """Whether the process may only have so many addresses; to be asked on Linux."""
    import resource

    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits)


def _advise(begin: int, length: int, advice: int) -> None:
    """Tells Linux what a range of addresses is for; where it knows no such advice nothing changes."""
    ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), advice)


def _call(name: str, *numbers: int) -> None:
    """Calls a function of glibc."""
    if sys.platform.startswith("linux") and (function := getattr(ctypes.CDLL(None), name, None)) is not None:
        function(*numbers)
