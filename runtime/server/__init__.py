"""The inference server: the Open Inference Protocol V2 over REST and gRPC, images, metrics, and a page to look at."""
