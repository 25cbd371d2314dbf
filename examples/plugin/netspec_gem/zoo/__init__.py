"""Specs that use the op."""
