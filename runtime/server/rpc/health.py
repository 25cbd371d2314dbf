"""Health as load balancers and orchestrators ask for it: ``grpc.health.v1``."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from runtime.protocol.messages import INFERENCE_SERVICE, HealthCheckResponse, Message
from runtime.protocol.tensors import shown
from runtime.server.rpc.received import Received
from runtime.server.rpc.status import abort, refusal_of
from runtime.serving.refused import Reason, Refused
from runtime.serving.repository import Repository

SERVICES = ("", INFERENCE_SERVICE.full_name)


class Health:
    """Whether the server takes requests: for the whole of it, and for its one service."""

    def __init__(self, repository: Repository) -> None:
        """The health of the server of `repository`."""
        self._repository = repository
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Tells all who watch that the server no longer serves."""
        self._stopping.set()

    async def check(self, received: Received, context: grpc.aio.ServicerContext) -> Message:
        """The state now."""
        try:
            service = received.read().service
            if service not in SERVICES:
                raise Refused(Reason.NOT_FOUND, f"there is no service {shown(service)}; there is '{SERVICES[1]}'")
        except Refused as refused:
            await abort(context, refused)
        return self._state()

    async def watch(self, received: Received, context: grpc.aio.ServicerContext) -> AsyncIterator[Message]:
        """The state now and when it changes, which it does once."""
        try:
            service = received.read().service
        except Refused as refused:
            await abort(context, refusal_of(refused))
        yield self._state() if service in SERVICES else HealthCheckResponse(status="SERVICE_UNKNOWN")
        await self._stopping.wait()
        if service in SERVICES:
            yield HealthCheckResponse(status="NOT_SERVING")

    def _state(self) -> Message:
        serves = self._repository.ready() and not self._stopping.is_set()
        return HealthCheckResponse(status="SERVING" if serves else "NOT_SERVING")
