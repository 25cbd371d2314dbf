"""One version of a model as it is served: its session, its queue, the instances that work on it, and its counts."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Hashable, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from runtime.errors import InputError, RunError
from runtime.serving.batching import BatchQueue, Pending
from runtime.serving.execution import NotByRows, Run, run_batch
from runtime.serving.options import ModelOptions
from runtime.serving.refused import Reason, Refused
from runtime.serving.request import InferenceRequest, InferenceResult, observer
from runtime.serving.statistics import Statistics
from runtime.session import Session

log = logging.getLogger(__name__)

# A run that takes no longer is done on the event loop: to hand it to a thread and back would take longer.
QUICK_NS = 200_000


class ServedModel:
    """A loaded model that answers requests, several at a time where its batch is free.

    ``with model:`` holds it open: a model that is replaced or unloaded still answers whoever holds it.

    Attributes:
        name: its name in URLs.
        version: its version, a number as text.
        path: its file.
        inputs: its inputs in order; `outputs` likewise.
        metadata: what the exporter wrote into the file.
        device: where it runs, and `device_reason` why there.
        options: how it is served.
        max_batch: the most rows in a batch; 0 where requests are never merged.
        statistics: what happened to its requests, and to those of whatever it replaced.
    """

    def __init__(
        self,
        name: str,
        version: str,
        session: Session,
        options: ModelOptions,
        batched: bool,
        statistics: Statistics | None = None,
    ) -> None:
        """Makes it of a loaded session.

        Args:
            name: its name in URLs.
            version: its version.
            session: the model.
            options: how it is to be served.
            batched: whether rows of different requests may run together.
            statistics: the counts that it goes on with; by default they begin at 0.
        """
        self.name = name
        self.version = version
        self.path = session.path
        self.inputs = session.inputs
        self.outputs = session.outputs
        self.metadata = session.metadata
        self.device = session.device
        self.device_reason = session.device_reason
        self.options = options
        self.max_batch = options.max_batch if batched and options.max_batch > 1 else 0
        self.statistics = Statistics() if statistics is None else statistics
        self._session = session
        self._queue = BatchQueue(
            options.max_queue, max(self.max_batch, 1), options.preferred_batches, options.max_delay
        )
        self._instances: list[threading.Thread] = []
        self._paced: tuple[Hashable, int] = (None, 0)  # a group, and the nanoseconds that its runs take
        self._due: set[Hashable] = set()  # groups that the event loop is about to run
        self._holders = 0
        self._released = asyncio.Event()

    def start(self) -> None:
        """Starts its instances; called on the event loop, which from then on gets the answers."""
        loop = asyncio.get_running_loop()
        for number in range(self.options.instances):
            name = f"{self.name}-{self.version}-{number}"
            self._instances.append(threading.Thread(target=self._work, args=(loop,), name=name, daemon=True))
            self._instances[-1].start()

    async def close(self) -> None:
        """Takes no more requests, and returns when those that came, or that a holder still makes, are answered."""
        self._released.clear()
        self._queue.hurry()  # whoever holds it may be waiting for an answer
        if self._holders:
            await self._released.wait()
        self._queue.close()
        for instance in self._instances:
            await asyncio.to_thread(instance.join)
        # Requests whose bodies still arrive name this model, though another will answer them: they keep no weights.
        self.__dict__.pop("_session", None)

    def hold(self) -> None:
        """Keeps it open until `release`, as ``with`` does."""
        self._holders += 1

    def release(self) -> None:
        """Takes back one `hold`."""
        self._holders -= 1
        if not self._holders:
            self._released.set()

    def __enter__(self) -> Self:
        self.hold()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    @property
    def queue_depth(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether a request would be refused now."""
        return self._queue.is_full

    def overloaded(self) -> Refused:
        """The refusal of a request that finds the queue full, with the time in which the queue should be worked off."""
        waiting = f"{self.queue_depth} requests wait for '{self.name}' already, as many as may"
        return Refused(Reason.OVERLOADED, f"{waiting}; try again later", retry_after=self._backlog_seconds())

    def refused(self, refusal: Refused) -> Refused:
        """Counts a request that a protocol refuses before it comes here, and gives its refusal back."""
        self.statistics.failed(refusal.reason, 0)
        return refusal

    async def infer(self, request: InferenceRequest) -> InferenceResult:
        """Answers one request, of feeds that fit the model; to be awaited on the event loop.

        When the awaiting task is cancelled the request is dropped, unless it runs already.

        Raises:
            Refused: OVERLOADED where the queue is full, TIMEOUT where it waited too long, INVALID where the model can't
                compute on it, UNAVAILABLE where the model was unloaded, INTERNAL where it's our fault.
        """
        pending = self.submit(request, asyncio.get_running_loop().create_future())
        try:
            result: InferenceResult = await pending.waiter
            if (observe := observer.get()) is not None:
                observe(result)
            return result
        except asyncio.CancelledError:
            self.forget(pending)
            raise
        finally:
            del pending  # its future's exception has this frame in its traceback, and so would keep the feeds alive

    def submit(self, request: InferenceRequest, waiter: Any) -> Pending:
        """Has one request answered; see `infer`.

        Args:
            request: its feeds fit the model.
            waiter: gets the answer, or a Refused, on the event loop: a future, or what has its `done`, `set_result` and
                `set_exception`.

        Raises:
            Refused: the queue is full, or the model was unloaded.
        """
        loop = asyncio.get_running_loop()
        rows, group = self._batching_of(request.feeds)
        pending = Pending(request, waiter, rows, group)
        is_quick = self._is_quick(group) and rows <= self.max_batch
        if not self._queue.put(pending, wake=not is_quick):
            refusal = self.overloaded() if self._queue.is_full else self._closed()
            raise self.refused(refusal)
        if is_quick and group not in self._due:
            self._due.add(group)
            loop.call_soon(self._run_here, group)
        timeout = self.options.timeout if request.timeout is None else request.timeout
        if timeout is not None and not self._queue.goes_at_once:
            pending.timer = loop.call_later(timeout, self._expire, pending, timeout)
        self.statistics.in_flight += 1
        return pending

    def forget(self, pending: Pending) -> None:
        """Drops a request for which nobody waits any longer, unless it runs already."""
        if self._queue.drop(pending):
            self.statistics.abandoned += 1
            self._settle(pending)

    def _settle(self, pending: Pending) -> None:
        self.statistics.in_flight -= 1
        if pending.timer is not None:
            pending.timer.cancel()

    def _batching_of(self, feeds: Mapping[str, np.ndarray]) -> tuple[int, Hashable]:
        """A request's rows, and the group of those that it may run with."""
        if not self.max_batch:
            return 1, None
        arrays = [feeds[spec.name] for spec in self.inputs]
        rows = len(arrays[0])
        if len(arrays) == 1:
            return rows, arrays[0].shape[1:]
        if any(len(array) != rows for array in arrays):
            return 1, None  # the model will say what it thinks of that
        return rows, tuple(array.shape[1:] for array in arrays)

    def _expire(self, pending: Pending, timeout: float) -> None:
        if self._queue.drop(pending):
            waited = f"the request waited for '{self.name}' for {timeout:g} s, as long as it may"
            self._refuse(pending, Refused(Reason.TIMEOUT, waited))

    def _closed(self) -> Refused:
        return Refused(Reason.UNAVAILABLE, f"version {self.version} of '{self.name}' has been unloaded")

    def _backlog_seconds(self) -> float:
        """An estimate of the time until the queue is worked off, by what runs took so far; a second at least."""
        runs = [batch.compute_infer for batch in self.statistics.batches.values()]
        count = sum(duration.count for duration in runs)
        if not count:
            return 1.0
        per_request = sum(duration.ns for duration in runs) / 1e9 / max(self.statistics.success.count, 1)
        return max(1.0, math.ceil(self.queue_depth * per_request / self.options.instances))

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """An instance: takes batches and runs them until the queue is closed and empty."""
        while (batch := self._queue.take()) is not None:
            runs = self._run(batch)
            try:
                loop.call_soon_threadsafe(self._finish, runs)
            except RuntimeError:  # the loop was closed: the process is ending, and nobody waits any more
                return

    def _run_here(self, group: Hashable) -> None:
        """Runs what waits of a group, on the event loop: what came in one of its turns is a batch."""
        self._due.remove(group)
        while batch := self._queue.take_now(group):
            self._finish(self._run(batch))

    def _run(self, batch: list[Pending]) -> list[Run]:
        """Runs a batch; when it fails as a whole, each of its requests by itself, so that none suffers for another."""
        try:
            return [Run(batch, run_batch(self._session, batch, time.perf_counter_ns()))]
        except NotByRows as error:
            log.warning("%s: %s; its requests are no longer merged", self.name, error)
            self.max_batch = 0
        except Exception as error:  # whatever it is, the instance has to live on
            if len(batch) == 1:
                return [Run(batch, self._refusal(error))]
        return [run for pending in batch for run in self._run([pending])]

    def _refusal(self, error: Exception) -> Refused:
        """What a client is told when a run failed."""
        if isinstance(error, InputError):
            return Refused(Reason.INVALID, error.message)
        log.error("a run of %s, version %s, failed", self.name, self.version, exc_info=error)
        if isinstance(error, RunError):
            return Refused(Reason.INTERNAL, error.message)
        return Refused(Reason.INTERNAL, "internal error; the server's log says more")

    def _finish(self, runs: list[Run]) -> None:
        """Gives the answers, and then, as nobody waits for that, counts what was run, on the event loop."""
        now = time.perf_counter_ns()
        for run in runs:
            if isinstance(run.outcome, Refused):
                for pending in run.batch:
                    self._refuse(pending, run.outcome)
                continue
            whole_ns = [now - pending.arrived_ns for pending in run.batch]
            for pending, result in zip(run.batch, run.outcome, strict=True):
                self._settle(pending)
                if not pending.waiter.done():
                    pending.waiter.set_result(result)
            self.statistics.ran([pending.rows for pending in run.batch], whole_ns, run.outcome)
            self._note_pace(run.batch[0].group, run.outcome[0].infer_ns)

    def _is_quick(self, group: Hashable) -> bool:
        """Whether requests of a group are best run on the event loop."""
        paced, run_ns = self._paced
        return group is not None and group == paced and run_ns <= QUICK_NS and not self.options.max_delay

    def _note_pace(self, group: Hashable, run_ns: int) -> None:
        """Learns how quick runs of a group are; one slow run says more of the machine than of the model."""
        paced, known_ns = self._paced
        self._paced = group, min(run_ns, 2 * known_ns) if group == paced else run_ns

    def _refuse(self, pending: Pending, refusal: Refused) -> None:
        self.statistics.failed(refusal.reason, time.perf_counter_ns() - pending.arrived_ns)
        self._settle(pending)
        if not pending.waiter.done():
            pending.waiter.set_exception(refusal)
