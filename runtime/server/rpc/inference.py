"""Inference over gRPC: single requests, and streams of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import grpc

from runtime.protocol.messages import Message, ModelInferResponse, ModelStreamInferResponse
from runtime.server.rpc.received import Received
from runtime.server.rpc.request import Question, read_request, write_answer
from runtime.server.rpc.status import abort, refusal_of, text_of
from runtime.serving.model import ServedModel
from runtime.serving.refused import Reason, Refused
from runtime.serving.repository import Repository
from runtime.serving.request import InferenceResult

T = TypeVar("T")
# The answers of a stream in its order, some of them not there yet; None ends them.
Answers = asyncio.Queue[asyncio.Task[Message] | None]

# Text is read and written element by element, and ranked classes too: more than this is done in a thread, so that the
# event loop goes on answering others. In bytes of a request and in elements of an answer.
LARGE_TEXT = 64 * 2**10
LARGE_ANSWER = 8 * 2**10

# So many requests of a stream are read before the first of them is answered; then the stream's client waits.
STREAM_AHEAD = 32


STOPPING = Refused(Reason.UNAVAILABLE, "the server is stopping")


class ClientGone(Exception):
    """A stream ended before its answers were written: its client went away, or was given up when the server stopped."""


class Inference:
    """Answers requests to the models of a repository."""

    def __init__(self, repository: Repository, max_pending: int) -> None:
        """Asks the models of `repository`; requests that are being answered have at most `max_pending` bytes in all."""
        self._repository = repository
        self._max_pending = max_pending
        self._pending = 0
        self._readers: set[asyncio.Task[None]] = set()

    async def single(self, received: Received, context: grpc.aio.ServicerContext) -> Message:
        """Answers one request; a client that gives up, or whose deadline passes, has its request dropped."""
        try:
            return await self._answer(received)
        except Exception as error:
            await abort(context, refusal_of(error))

    async def stream(self, requests: AsyncIterator[Received], context: grpc.aio.ServicerContext) -> None:
        """Answers the requests of a stream in their order; one that is refused has an answer that says why."""
        answers: Answers = asyncio.Queue()
        room = asyncio.Semaphore(STREAM_AHEAD)
        gone = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_write(answers, room, context))
                reading = group.create_task(self._read(requests, room, group, answers))
                self._readers.add(reading)
                reading.add_done_callback(self._readers.discard)
                await asyncio.wait([reading])  # it may be cancelled by itself, which is no failure
                answers.put_nowait(None)
        except* ClientGone:
            gone = True
        if gone:  # as gRPC has it where it notices by itself
            raise asyncio.CancelledError
        if reading.cancelled():
            await abort(context, STOPPING)

    def end_streams(self) -> None:
        """Reads no further from any stream: it ends when what was read is answered."""
        for reading in self._readers:
            reading.cancel()

    async def _read(
        self,
        requests: AsyncIterator[Received],
        room: asyncio.Semaphore,
        group: asyncio.TaskGroup,
        answers: Answers,
    ) -> None:
        """Has every request answered; it may be cancelled between two of them, and loses none that it read."""
        while True:
            await room.acquire()
            try:
                received = await anext(requests)
            except StopAsyncIteration:
                return
            except Exception as error:  # gRPC's own, which have no public name
                raise ClientGone from error
            answers.put_nowait(group.create_task(self._stream_answer(received)))

    async def _stream_answer(self, received: Received) -> Message:
        """The message that answers one request of a stream. It is always the request's final one, and says so."""
        try:
            answer = await self._answer(received)
        except Exception as error:
            answer = ModelInferResponse(id=received.message.id if received.message is not None else "")
            return ModelStreamInferResponse(error_message=text_of(refusal_of(error)), infer_response=answer)
        answer.parameters["triton_final_response"].bool_param = True
        return ModelStreamInferResponse(infer_response=answer)

    async def _answer(self, received: Received) -> Message:
        message = received.read()
        model = self._repository.model(message.model_name, message.model_version)
        if self._pending and self._pending + received.size > self._max_pending:
            full = "the requests that wait fill the memory that they may have; try again later"
            raise model.refused(Refused(Reason.OVERLOADED, full, retry_after=1))
        self._pending += received.size
        try:
            with model:
                is_long = received.size > LARGE_TEXT and any(spec.dtype.hasobject for spec in model.inputs)
                try:
                    question = await _perhaps_in_thread(is_long, read_request, message, model)
                except Refused as refused:
                    raise model.refused(refused) from None
                result = await model.infer(question.inference)
            is_long = _elements(question, result) > LARGE_ANSWER
            return await _perhaps_in_thread(is_long, write_answer, model, question, result)
        finally:
            self._pending -= received.size


async def _write(answers: Answers, room: asyncio.Semaphore, context: grpc.aio.ServicerContext) -> None:
    """Writes the answers of a stream, each when those before it are written."""
    while (answer := await answers.get()) is not None:
        message = await answer
        try:
            await context.write(message)
        except Exception as error:  # gRPC's own, which has no public name
            raise ClientGone from error
        room.release()


def _elements(question: Question, result: InferenceResult) -> int:
    """How many elements of an answer have to be written one by one."""
    return sum(
        array.size for name, array in result.outputs.items() if array.dtype.hasobject or question.classes.get(name)
    )


async def _perhaps_in_thread(is_long: bool, function: Callable[..., T], *arguments: Message | ServedModel) -> T:
    return await asyncio.to_thread(function, *arguments) if is_long else function(*arguments)
