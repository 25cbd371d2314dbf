"""The inference server: the Open Inference Protocol V2 over REST, in JSON, for one model."""
