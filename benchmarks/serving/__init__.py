"""The server under load, against the bare runtime and against other servers on the same machine."""
