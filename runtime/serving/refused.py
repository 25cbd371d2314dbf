"""Why a request is not answered with a result: the one error that a served model raises, whatever the protocol."""

from enum import Enum, auto


class Reason(Enum):
    """What stood against a request; each protocol has a status of its own for it."""

    INVALID = auto()  # the request is wrong
    NOT_FOUND = auto()  # no such model or version
    UNAUTHENTICATED = auto()  # no key, or one that nobody has
    FORBIDDEN = auto()  # a key that may not do this
    TOO_LARGE = auto()  # larger than the server takes
    UNSUPPORTED = auto()  # in the protocol, but not what this server does
    UNSUPPORTED_MEDIA = auto()  # a kind of body that isn't read
    SLOW = auto()  # its body takes too long to come
    OVERLOADED = auto()  # the queue is full: try again later
    UNAVAILABLE = auto()  # not now: the model isn't ready, or the server is stopping
    TIMEOUT = auto()  # it waited longer than it was allowed to
    INTERNAL = auto()  # our fault


class Refused(Exception):
    """A request that gets no result.

    Attributes:
        reason: what stood against it.
        message: one sentence for the client, which names the field or model at fault.
        retry_after: the seconds after which it is worth trying again; None where nothing is known of it.
    """

    def __init__(self, reason: Reason, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
