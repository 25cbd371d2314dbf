"""The Open Inference Protocol V2: its messages, datatypes and checks, for REST and gRPC alike."""
