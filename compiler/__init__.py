"""From a checked graph to PyTorch and ONNX, and training in between."""
