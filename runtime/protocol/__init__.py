"""The Open Inference Protocol V2 apart from its transports: messages, datatypes, checks, and models described in it."""
