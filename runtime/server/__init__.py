"""The inference server: the Open Inference Protocol V2 over REST and gRPC, images, metrics, and a page to look at."""

import os

# Read by gRPC when it is first imported, which only modules of this package do. Its own lines lack the log's form,
# and whoever sends what is no TLS has it write one.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
