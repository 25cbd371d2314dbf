"""What the servers that we are measured against have in common: their options, and the model on ONNX Runtime.

Each runs in an environment of its own, see README.md, where neither `netspec` nor `benchmarks` is installed.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

# ONNX Runtime's names of the element types that the measured models have.
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all the servers have."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("model", type=Path, help="an .onnx file whose tensors begin with a free batch dimension")
    options.add_argument("--name", help="the model's name in URLs; the file's name without its suffix by default")
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--threads", type=int, default=1, help="threads inside one operator")
    options.add_argument("--max-batch", type=int, default=32, help="rows of a batch; 1 leaves batching off")
    return options


def parse(options: argparse.ArgumentParser) -> argparse.Namespace:
    arguments = options.parse_args()
    arguments.model = arguments.model.resolve()
    arguments.name = arguments.name or arguments.model.stem
    return arguments


def open_session(path: Path, threads: int) -> Any:
    """The model at `path` on the CPU, as our own server opens it: so many threads inside one operator."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
