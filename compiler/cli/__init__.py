"""The sub-commands that need PyTorch."""
