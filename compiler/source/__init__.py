"""A network as PyTorch source that stands alone: a class for each block, `nn.Sequential` for what is a chain."""
