"""How the server has the C library take and keep memory, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
BEFORE = """
import ctypes, resource, sys
from pathlib import Path
from runtime.serving.memory import give_back_freed_memory, keep_little_freed_memory, keep_one_pool, load_into_huge_pages

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def megabytes(name):
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

def take(blocks, megabytes):
    taken = [libc.malloc(ctypes.c_size_t(megabytes << 20)) for _ in range(blocks)]
    for block in taken:
        ctypes.memset(block, 1, megabytes << 20)
    return taken
"""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not HUGE_PAGES.exists(), reason="what is held is Linux's and glibc's"
)


def told(*lines: str) -> list[float]:
    """The numbers that a process prints."""
    run = subprocess.run(
        [sys.executable, "-c", "\n".join([BEFORE, *lines])], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return [float(word) for word in run.stdout.split()]


@pytest.mark.skipif(HUGE_PAGES.exists() and "[never]" in HUGE_PAGES.read_text(), reason="there are no huge pages here")
def test_a_model_is_loaded_into_huge_pages_and_what_it_leaves_is_given_back() -> None:
    before, huge, during, after = told(
        "keep_one_pool(); load_into_huge_pages()",
        'print(megabytes("Rss:"))',
        "taken = take(20, 8)",
        'print(megabytes("AnonHugePages:"), megabytes("Rss:"))',
        "for block in taken: libc.free(block)",
        "keep_little_freed_memory(); give_back_freed_memory()",
        'print(megabytes("Rss:"))',
    )
    assert huge > 100
    assert during - before < 160 + 8  # nothing is taken that isn't used
    assert after - before < 8


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_where_addresses_have_a_bound_memory_is_taken_as_ever(limit: str) -> None:
    (held,) = told(
        f"resource.setrlimit(resource.{limit}, (600 << 20, 600 << 20))",
        "keep_one_pool(); load_into_huge_pages()",
        "taken = take(20, 8)",
        "print(sum(block is not None for block in taken))",
    )
    assert held == 20


def test_large_blocks_are_given_back_once_the_models_are_loaded() -> None:
    held, after = told(
        "keep_one_pool(); load_into_huge_pages(); keep_little_freed_memory(); give_back_freed_memory()",
        "taken = take(10, 20)",
        'print(megabytes("Rss:"))',
        "for block in taken: libc.free(block)",
        'print(megabytes("Rss:"))',
    )
    assert held - after > 190
