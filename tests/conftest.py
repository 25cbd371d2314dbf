"""What all tests share: whether this machine has a GPU, and a way to call the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Small networks gain nothing by more threads, and lose much where other work shares the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


# What a test needs a GPU for, by the argument of its mark: each runs where its own library can, without the other.
GPU_PROBES = {
    "torch": "import torch\nassert torch.cuda.is_available(), 'PyTorch finds no CUDA device'\n",
    "onnxruntime": (
        "import ctypes, onnxruntime, pathlib\n"
        "driver, count = ctypes.CDLL('libcuda.so.1'), ctypes.c_int()\n"
        "assert not driver.cuInit(0) and not driver.cuDeviceGetCount(ctypes.byref(count)), 'the driver has no GPU'\n"
        "folder = pathlib.Path(onnxruntime.__file__).parent / 'capi'\n"
        "onnxruntime.preload_dlls()\n"
        "ctypes.CDLL(str(folder / 'libonnxruntime_providers_shared.so'), mode=ctypes.RTLD_GLOBAL)\n"
        "ctypes.CDLL(str(folder / 'libonnxruntime_providers_cuda.so'))\n"
    ),
}


@cache
def missing_gpu(library: str) -> str | None:
    """Why tests of this library on a GPU can't run here; None where they can."""
    done = subprocess.run([sys.executable, "-c", GPU_PROBES[library]], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (mark := item.get_closest_marker("gpu")) and (reason := missing_gpu(*mark.args)):
            item.add_marker(pytest.mark.skip(reason=f"needs a CUDA device: {reason}"))


@pytest.fixture
def netspec(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `netspec …` as a process of its own, in an empty folder."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "netspec", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=options.pop("cwd", tmp_path), **options)

    return run
