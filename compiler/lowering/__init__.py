"""Lowerings: for each op its PyTorch module and its ONNX nodes, side by side, a file for each family of ops."""
