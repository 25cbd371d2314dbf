"""How the server has the C library take and keep memory, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.conftest import SaveModel

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
    taken = [libc.malloc(ctypes.c_size_t(int(megabytes * 2**20))) for _ in range(blocks)]
    for block in taken:
        ctypes.memset(block, 1, int(megabytes * 2**20))
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


@pytest.mark.parametrize("megabytes", [20, 15.96])  # the latter are Pillow's, of an image 9,000 pixels wide
def test_large_blocks_are_given_back_once_the_models_are_loaded(megabytes: float) -> None:
    held, after = told(
        "keep_one_pool(); load_into_huge_pages(); keep_little_freed_memory(); give_back_freed_memory()",
        f"taken = take(13, {megabytes})",
        "kept = take(1000, 0.001)  # what others have taken meanwhile, and keep",
        'print(megabytes("Rss:"))',
        "for block in taken: libc.free(block)",
        'print(megabytes("Rss:"))',
    )
    assert held - after > 190


def test_what_was_given_back_is_not_made_huge_pages_again() -> None:
    # What Linux does to the rest of a page of 2 MB, within minutes, where it was asked for such pages.
    (asked,) = told(
        "keep_one_pool(); load_into_huge_pages(); keep_little_freed_memory()",
        "lines = Path('/proc/self/smaps').read_text().splitlines()",
        "print(sum(line.startswith('VmFlags') and ' hg' in line for line in lines))",
    )
    assert asked == 0


@pytest.mark.parametrize(("limit", "held"), [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_where_addresses_have_a_bound_they_are_left_for_others(limit: str, held: str) -> None:
    (room,) = told(
        "import mmap",
        "lines = Path('/proc/self/status').read_text().splitlines()",
        f"now = next(int(line.split()[1]) << 10 for line in lines if line.startswith('{held}'))",
        f"resource.setrlimit(resource.{limit}, (now + (1100 << 20), now + (1100 << 20)))",
        "keep_one_pool(); load_into_huge_pages()",
        "print(len(mmap.mmap(-1, 200 << 20, flags=mmap.MAP_PRIVATE)) >> 20)",
    )
    assert room == 200


def test_what_loading_a_model_takes_beside_it_is_given_back(tmp_path: Path) -> None:
    write_model(tmp_path / "wide" / "1" / "model.onnx", layers=24, width=1024)
    kept, beyond = told(
        "import asyncio",
        "from runtime.protocol.model_config import read_config, read_override",
        "from runtime.serving.options import ModelOptions",
        "from runtime.serving.repository import Repository",
        "from runtime.serving.sources import Folder",
        "async def reload():",
        f"    repository = Repository(Folder(Path({str(tmp_path)!r}), ModelOptions(), read_config), read_override)",
        "    await repository.start()",
        "    keep_little_freed_memory()",
        "    await repository.unload('wide')",
        "    before = megabytes('Rss:')",
        "    await repository.load('wide')",
        "    after = megabytes('Rss:')",
        "    give_back_freed_memory()",
        "    print(after - before, after - megabytes('Rss:'))",
        "    await repository.close()",
        "keep_one_pool(); load_into_huge_pages()",
        "asyncio.run(reload())",
    )
    assert kept > 80
    assert beyond < 16


def write_model(path: Path, layers: int, width: int) -> None:
    """A chain of matrix products, each with weights of its own."""
    names = [f"w{index}" for index in range(layers)]
    ways = ["x", *(f"h{index}" for index in range(1, layers)), "y"]
    weights = np.random.default_rng(0).standard_normal((layers, width, width), np.float32)  # none alike, or one is kept
    graph = helper.make_graph(
        [helper.make_node("MatMul", [ways[at], name], [ways[at + 1]]) for at, name in enumerate(names)],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width])],
        [numpy_helper.from_array(each, name) for each, name in zip(weights, names, strict=True)],
    )
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_what_a_run_over_large_inputs_took_is_given_back(save_model: SaveModel) -> None:
    path = save_model(
        [
            helper.make_node("Conv", ["x", "weights"], ["channels"]),
            helper.make_node("GlobalAveragePool", ["channels"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [("y", TensorProto.FLOAT, ["n", 12, 1, 1])],
        {"weights": np.ones((12, 1, 1, 1), np.float32)},
    )
    before, after = told(
        "import numpy as np; from runtime.engine_options import EngineOptions; from runtime.session import Session",
        f"keep_one_pool(); session = Session({str(path)!r}, EngineOptions(device='cpu')); keep_little_freed_memory()",
        "session.run({'x': np.ones((1, 1, 8, 8), np.float32)})  # as in a warm-up",
        'print(megabytes("Rss:"))',
        "session.run({'x': np.ones((1, 1, 3000, 3000), np.float32)})  # 36 MB, and 12 times that within",
        'print(megabytes("Rss:"))',
    )
    assert after - before < 100
