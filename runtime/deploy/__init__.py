"""What existing engines run: a Triton model repository, a KServe manifest, a Ray Serve application."""
