"""What all tests share: whether this machine has a GPU, and a way to call the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Small networks gain nothing by more threads, and lose much where other work shares the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


def missing_gpu() -> str | None:
    """Why GPU tests can't run here; None where they can."""
    probe = (
        "import torch, onnxruntime, ctypes, pathlib\n"
        "assert torch.cuda.is_available(), 'PyTorch finds no CUDA device'\n"
        "folder = pathlib.Path(onnxruntime.__file__).parent / 'capi'\n"
        "onnxruntime.preload_dlls() if hasattr(onnxruntime, 'preload_dlls') else None\n"
        "ctypes.CDLL(str(folder / 'libonnxruntime_providers_shared.so'))\n"
        "ctypes.CDLL(str(folder / 'libonnxruntime_providers_cuda.so'))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    reason = missing_gpu() if marked else None
    for item in marked if reason else ():
        item.add_marker(pytest.mark.skip(reason=f"needs a CUDA device: {reason}"))


@pytest.fixture
def netspec(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `netspec …` as a process of its own, in an empty folder."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "netspec", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=options.pop("cwd", tmp_path), **options)

    return run
