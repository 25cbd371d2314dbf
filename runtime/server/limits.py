"""What the clients may take of the server together and one by one; bodies have their bounds where they are read."""

import resource
from dataclasses import dataclass

# Files that the process needs beside its connections: models, libraries, logs, sockets of its own.
RESERVED_FILES = 256


@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds of every connection.

    Attributes:
        connections: the most at a time; more are answered 503 and closed.
        head_bytes: the most bytes of a request line with its headers; more are answered 431.
        head_seconds: the longest that a head may take to arrive; then 408.
        idle_seconds: the longest that a connection may wait for a request before it is closed.
        write_seconds: the longest that a client may leave an answer unread.
    """

    connections: int = 10_000
    head_bytes: int = 64 * 2**10
    head_seconds: float = 15.0
    idle_seconds: float = 75.0
    write_seconds: float = 60.0


def raise_file_limit(connections: int) -> int:
    """Raises the process's limit of open files as far as it may, and gives the connections that it leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, hard - RESERVED_FILES))
