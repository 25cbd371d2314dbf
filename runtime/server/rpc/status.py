"""How a call ends that gets no result."""

import logging
from typing import NoReturn

import grpc

from runtime.serving.refused import Reason, Refused

log = logging.getLogger(__name__)

# The one place that says which status a reason has.
CODES: dict[Reason, grpc.StatusCode] = {
    Reason.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Reason.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.UNSUPPORTED_MEDIA: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.SLOW: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.OVERLOADED: grpc.StatusCode.UNAVAILABLE,
    Reason.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}

# A status travels in headers, of which clients take 8 KB, and a byte may become three there.
MAX_MESSAGE = 2000


def refusal_of(error: Exception) -> Refused:
    """The refusal that an error is; whatever wasn't foreseen is our fault, and told to the log alone."""
    if isinstance(error, Refused):
        return error
    log.error("a call failed", exc_info=error)
    return Refused(Reason.INTERNAL, "internal error; the server's log says more")


def text_of(refused: Refused) -> str:
    """What the client is told, cut to what a status can carry."""
    encoded = refused.message.encode("utf-8", "replace")
    return refused.message if len(encoded) <= MAX_MESSAGE else encoded[:MAX_MESSAGE].decode("utf-8", "ignore") + "…"


async def abort(context: grpc.aio.ServicerContext, refused: Refused) -> NoReturn:
    """Ends a call; clients that retry wait as long as the refusal says."""
    metadata: tuple[tuple[str, str], ...] = ()
    if refused.retry_after is not None:
        metadata = (("grpc-retry-pushback-ms", str(round(refused.retry_after * 1000))),)
    await context.abort(CODES[refused.reason], text_of(refused), metadata)
    raise AssertionError("a call goes on that has been ended")
