"""Generalised mean pooling for netspec."""
