"""Runs exported networks: ONNX Runtime sessions, predictions on files, and a server.

The package knows only an ``.onnx`` file and the metadata in it. It imports neither PyTorch nor the compiler, so that a
machine that serves needs none of them.
"""

import os

# Read by ONNX Runtime when it is first imported, which only a module of this package does.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
