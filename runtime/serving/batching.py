"""The queue of one model: what waits, for how long, and which of it may run together."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from runtime.serving.request import InferenceRequest


@dataclass(slots=True, eq=False)
class Pending:
    """A request that waits for its answer.

    Attributes:
        request: what is asked.
        waiter: gets the answer, on the event loop; see `ServedModel.submit`.
        rows: its rows in a batch; 1 where the model isn't batched.
        group: requests of equal groups may run together; None for one that always runs alone.
        timer: ends its waiting, where that is bounded.
        is_taken: whether it waits no longer, as it runs or has run.
        arrived_ns: when it came, by `time.perf_counter_ns`.
    """

    request: InferenceRequest
    waiter: Any
    rows: int
    group: Hashable
    timer: asyncio.TimerHandle | None = None
    is_taken: bool = False
    arrived_ns: int = field(default_factory=time.perf_counter_ns)


class BatchQueue:
    """Requests that wait, in the order in which they came; the event loop puts them in, the instances take batches.

    A batch holds requests of one group, the oldest first, of at most `max_batch` rows together; a request of more rows
    than that is a batch by itself. Requests without a group are batches by themselves too.

    The lock is held for a few operations on a deque at a time, so that the event loop never waits for an instance.
    """

    def __init__(self, bound: int, max_batch: int, preferred: tuple[int, ...] = (), max_delay: float = 0.0) -> None:
        """A queue of at most `bound` requests; see `ModelOptions` for the others (`max_delay` in seconds)."""
        self._bound = bound
        self._max_batch = max_batch
        self._preferred = sorted(preferred, reverse=True)
        self._delay_ns = int(max_delay * 1e9)
        self._changed = threading.Condition(threading.Lock())
        self._groups: dict[Hashable, deque[Pending]] = {}
        self._waiting = 0
        self._idle = 0
        self._closed = False

    def __len__(self) -> int:
        """How many requests wait."""
        return self._waiting

    @property
    def is_full(self) -> bool:
        """Whether one more would be refused."""
        return self._waiting >= self._bound

    @property
    def goes_at_once(self) -> bool:
        """Whether an instance is free for each request that waits."""
        return not self._delay_ns and self._idle >= self._waiting

    def put(self, pending: Pending, wake: bool = True) -> bool:
        """Has a request wait, and wakes an instance for it; False where the queue is full or closed."""
        key = _alone(pending) if pending.group is None else pending.group
        with self._changed:
            if self._closed or self._waiting >= self._bound:
                return False
            self._groups.setdefault(key, deque()).append(pending)
            self._waiting += 1
            if wake:
                self._changed.notify()
        return True

    def drop(self, pending: Pending) -> bool:
        """Takes a request out before it runs; False where it runs already or is done."""
        if pending.is_taken:  # told without the lock, for which the event loop would have to wait for an instance
            return False
        key = _alone(pending) if pending.group is None else pending.group
        with self._changed:
            group = self._groups.get(key)
            if group is None or pending not in group:
                return False
            group.remove(pending)
            if not group:
                del self._groups[key]
            self._waiting -= 1
        return True

    def take(self) -> list[Pending] | None:
        """The next batch, waited for; None when the queue is closed and empty."""
        with self._changed:
            while True:
                batch, wait_ns = self._next()
                if batch:
                    return batch
                if wait_ns is None and self._closed:
                    return None
                self._idle += 1
                self._changed.wait(None if wait_ns is None else wait_ns / 1e9)
                self._idle -= 1

    def take_now(self, group: Hashable) -> list[Pending]:
        """A batch of one group, which waits for no more; empty where nothing of it is left."""
        with self._changed:
            held = self._groups.get(group)
            return [] if held is None else self._pop(group, held, self._max_batch)

    def hurry(self) -> None:
        """Keeps no request waiting for others from now on."""
        with self._changed:
            self._delay_ns = 0
            self._changed.notify_all()

    def close(self) -> None:
        """Takes no more requests; those that wait are still given out, without a delay."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> tuple[list[Pending], int | None]:
        """A batch that may go now, or else the nanoseconds until one may; None where nothing waits."""
        now = time.perf_counter_ns()
        wait_ns: int | None = None
        for key, group in self._groups.items():  # a group stands where its oldest request put it
            rows, left_ns = self._ready(group, now)
            if rows:
                return self._pop(key, group, rows), None
            wait_ns = left_ns if wait_ns is None else min(wait_ns, left_ns)
        return [], wait_ns

    def _ready(self, group: deque[Pending], now: int) -> tuple[int, int]:
        """How many rows of a group may go now, and if none the nanoseconds until some may."""
        if not self._delay_ns or self._closed:
            return self._max_batch, 0
        waiting = 0
        for pending in group:
            waiting += pending.rows
            if waiting >= self._max_batch:
                return self._max_batch, 0
        preferred = next((size for size in self._preferred if size <= waiting), 0)
        left = group[0].arrived_ns + self._delay_ns - now
        if preferred or left > 0:
            return preferred, left
        return self._max_batch, 0

    def _pop(self, key: Hashable, group: deque[Pending], most: int) -> list[Pending]:
        batch = [group.popleft()]
        rows = batch[0].rows
        while group and rows + group[0].rows <= most:
            batch.append(group.popleft())
            rows += batch[-1].rows
        for pending in batch:
            pending.is_taken = True
        del self._groups[key]
        if group:
            self._reinsert(key, group)
        self._waiting -= len(batch)
        if self._groups:  # whoever was woken for these may be the one who has just taken something else
            self._changed.notify()
        return batch

    def _reinsert(self, key: Hashable, group: deque[Pending]) -> None:
        """Puts a group back where its oldest request belongs among the others."""
        later = [other for other, held in self._groups.items() if held[0].arrived_ns > group[0].arrived_ns]
        self._groups[key] = group
        for other in later:
            self._groups[other] = self._groups.pop(other)


def _alone(pending: Pending) -> Hashable:
    return (id(pending),)
