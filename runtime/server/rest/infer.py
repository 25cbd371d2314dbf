"""The inference endpoint: plain ASGI, since this is the path where every microsecond is paid per request."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from runtime.protocol.elements import size_of
from runtime.protocol.tensors import invalid, shown
from runtime.server.rest.answer import json_elements, write_answer
from runtime.server.rest.bodies import Bodies, ClientGone, Room, told_length
from runtime.server.rest.compression import WORTH_COMPRESSING, accepted_encoding, compress
from runtime.server.rest.json_text import uncollected
from runtime.server.rest.replies import INTERNAL, STOPPING, Reply, refusal
from runtime.server.rest.request import Question, read_raw_request, read_request
from runtime.serving.batching import Pending
from runtime.serving.model import ServedModel
from runtime.serving.refused import Refused
from runtime.serving.repository import Repository
from runtime.serving.request import InferenceResult

T = TypeVar("T")
# By their names in lower case.
Headers = Mapping[bytes, bytes]

log = logging.getLogger(__name__)

# What is larger is read or written in a thread, so that it doesn't keep the event loop from answering others: bytes of
# JSON or text, and elements written as text. Below, a thread would cost more than it saves.
LARGE_BODY = 64 * 2**10
LARGE_ANSWER = 8 * 2**10

# A request that is answered sooner is not looked after: its client can wait so long, or be answered in vain.
WATCH_SECONDS = 0.05


@dataclass(slots=True)
class Admitted:
    """A request whose body is to be read.

    Attributes:
        name: the model that it asks.
        version: the model's version, empty for the newest.
        model: what that is as the request comes.
        headers: its headers.
        json_size: how much of its body is JSON; None for all.
        room: what its body takes of the room for all.
    """

    name: str
    version: str
    model: ServedModel
    headers: Headers
    json_size: int | None
    room: Room


@dataclass(slots=True)
class Asked:
    """A request that waits for its model, which is held open until it is left."""

    model: ServedModel
    question: Question
    pending: Pending

    def __post_init__(self) -> None:
        self.model.hold()

    def leave(self) -> None:
        """Drops it where it waits still."""
        self.model.forget(self.pending)
        self.model.release()


class Infer:
    """Answers ``POST /v2/models/M[/versions/V]/infer``."""

    def __init__(self, repository: Repository, bodies: Bodies, workers: Executor) -> None:
        """Asks the models of `repository`; large requests and answers are read and written in `workers`."""
        self._repository = repository
        self._bodies = bodies
        self._workers = workers
        # The interpreter reads one JSON text at a time; so the objects in memory are those of one.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send, name: str, version: str) -> None:
        """Answers one request; a client that has gone gets no answer, and its request is dropped while it waits."""
        watch = ClientWatch(receive)
        try:
            reply = await self._reply(dict(scope["headers"]), receive, watch, name, version)
        except ClientGone:
            return
        except (Exception, asyncio.CancelledError) as error:
            if watch.client_gone:
                return
            reply = reply_to(error)
        finally:
            watch.stop()
        await reply.send(send)

    def admit(self, headers: Headers, name: str, version: str) -> Admitted:
        """Takes in a request before its body is read; raises Refused where that would be read in vain."""
        model = self._repository.model(name, version)
        if model.is_full:
            raise model.refused(model.overloaded())
        try:
            told = _json_size(headers)
            return Admitted(name, version, model, headers, told, self._bodies.room(told_length(headers)))
        except Refused as refused:
            raise model.refused(refused) from None

    def too_slow(self, model: ServedModel, seconds: float) -> Refused | None:
        """The refusal of a body that hasn't arrived within so many seconds, None where it may still."""
        return model.refused(self._bodies.too_slow()) if seconds > self._bodies.limits.seconds else None

    def ask(self, admitted: Admitted, body: memoryview, waiter: Any) -> "Asked | None":
        """Asks for a `waiter`, as `ServedModel.submit` has them; None where to read the request takes a thread.

        Raises:
            Refused: the request is wrong, or the model can't take it.
        """
        model = self._model(admitted)
        if _text_size(body, admitted.json_size, model) > LARGE_BODY:
            return None
        try:
            question = _read(body, admitted.json_size, model)
        except Refused as refused:
            raise model.refused(refused) from None
        return Asked(model, question, model.submit(question.inference, waiter))

    def told_at_once(self, admitted: Admitted, asked: "Asked", result: InferenceResult) -> Reply | None:
        """The answer to what was asked; None where to write it takes a thread."""
        is_large = json_elements(asked.question, result) > LARGE_ANSWER
        if is_large or accepted_encoding(admitted.headers.get(b"accept-encoding")) is not None:
            return None
        return write_answer(asked.model, asked.question, result)

    async def answer(self, admitted: Admitted, body: memoryview) -> Reply:
        """The answer to a whole request; raises Refused."""
        with self._model(admitted) as model:
            try:
                if _text_size(body, admitted.json_size, model) > LARGE_BODY:
                    question = await self._read_large(admitted, body, model)
                else:
                    question = _read(body, admitted.json_size, model)
            except Refused as refused:
                raise model.refused(refused) from None
            result = await model.infer(question.inference)
        return await self.told(admitted, model, question, result)

    async def told(self, admitted: Admitted, model: ServedModel, question: Question, result: InferenceResult) -> Reply:
        """The answer that has a model's result."""
        if json_elements(question, result) > LARGE_ANSWER:
            reply = await self._in_thread(write_answer, model, question, result)
        else:
            reply = write_answer(model, question, result)
        encoding = accepted_encoding(admitted.headers.get(b"accept-encoding"))
        if encoding is None or len(reply.body) < WORTH_COMPRESSING:
            return reply
        return await self._in_thread(_compressed, reply, encoding)

    def _model(self, admitted: Admitted) -> ServedModel:
        """What a request asks. Its body may have taken its time, and the model may be another by now."""
        if self._repository.draining:  # what was accepted before the server was stopped is answered
            return admitted.model
        return self._repository.model(admitted.name, admitted.version)

    async def _reply(self, headers: Headers, receive: Receive, watch: "ClientWatch", name: str, version: str) -> Reply:
        admitted = self.admit(headers, name, version)
        with admitted.room as room:
            try:
                body = await self._bodies.read(headers, receive, room, admitted.json_size or 0)
            except Refused as refused:
                raise admitted.model.refused(refused) from None
            watch.start()
            return await self.answer(admitted, body)

    async def _read_large(self, admitted: Admitted, body: memoryview, model: ServedModel) -> Question:
        """Reads in a thread, and counts what the arrays take beyond the body that they came in."""
        loop = asyncio.get_running_loop()
        read = await loop.run_in_executor(self._reader, _read_uncollected, body, admitted.json_size, model)
        if isinstance(read, Refused):
            raise Refused(read.reason, read.message)  # the same one would hold this frame, which holds it, and the body
        size = sum(map(size_of, read.inference.feeds.values()))
        admitted.room.take(max(0, size - len(body)))
        return read

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)


def reply_to(error: BaseException) -> Reply:
    """The answer to a request that ended with an exception."""
    if isinstance(error, Refused):
        return refusal(error)
    if isinstance(error, asyncio.CancelledError):
        return refusal(STOPPING)  # a stopping server gives up on what takes too long
    log.error("an inference failed", exc_info=error)
    return refusal(INTERNAL)


def _text_size(body: memoryview, told: int | None, model: ServedModel) -> int:
    """How many bytes of a body are JSON or text, which is what takes long to read."""
    return len(body) if told is None or any(spec.dtype.hasobject for spec in model.inputs) else told


def _read(body: memoryview, told: int | None, model: ServedModel) -> Question:
    if told == 0:
        return read_raw_request(body, model)
    size = len(body) if told is None else told
    if size > len(body):
        raise invalid(f"Inference-Header-Content-Length is {size}, and the body has {len(body)} bytes")
    return read_request(body, size, model)


def _read_uncollected(body: memoryview, told: int | None, model: ServedModel) -> Question | Refused:
    """Reads a large request. Its refusal is a value: the traceback of an exception would hold all that was read."""
    with uncollected():
        try:
            return _read(body, told, model)
        except Refused as refused:
            return Refused(refused.reason, refused.message)


def _json_size(headers: Headers) -> int | None:
    """How much of the body is JSON, as the header says; None where it doesn't say, so that all is."""
    told = headers.get(b"inference-header-content-length")
    if told is None:
        return None
    if not told.isdigit() or len(told) > 18:
        raise invalid(f"Inference-Header-Content-Length is {shown(told.decode('latin-1'))}, not a number of bytes")
    return int(told)


def _compressed(reply: Reply, encoding: bytes) -> Reply:
    return Reply(reply.status, compress(reply.body, encoding), (*reply.headers, (b"content-encoding", encoding)))


class ClientWatch:
    """Cancels the task that it was made in when its client goes away.

    Attributes:
        client_gone: whether that is why the task was cancelled.
    """

    __slots__ = ("_receive", "_task", "_timer", "_waiting", "client_gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()
        self.client_gone = False

    def start(self) -> None:
        """Begins to look in a moment, when the body has been read; most requests are answered by then."""
        self._timer = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look)

    def stop(self) -> None:
        """Looks no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting is not None:
            self._waiting.cancel()

    def _look(self) -> None:
        self._waiting = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.client_gone = True
        assert self._task is not None
        self._task.cancel()
