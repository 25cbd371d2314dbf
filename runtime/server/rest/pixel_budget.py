"""A bound on the images that are in memory as pixels, so that many large ones at once can't fill it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime.serving.refused import Reason, Refused


class PixelBudget:
    """So many pixels may be decoded at once; who wants more waits, in the order of arrival, for others to be done."""

    def __init__(self, pixels: int, max_waiting: int) -> None:
        """Lets `pixels` be in memory at once, and `max_waiting` requests wait."""
        self._all = pixels
        self._free = pixels
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def room_for(self, pixels: int) -> AsyncIterator[None]:
        """Holds room for an image while it is entered; one that is larger than the whole budget takes all of it.

        Raises:
            Refused: as many requests wait as may.
        """
        wanted = min(pixels, self._all)
        await self._take(wanted)
        try:
            yield
        finally:
            self._give_back(wanted)

    async def _take(self, wanted: int) -> None:
        if not self._waiting and wanted <= self._free:
            self._free -= wanted
            return
        if len(self._waiting) >= self._max_waiting:
            raise Refused(Reason.OVERLOADED, "too many images are being worked on: try again later", retry_after=1)
        place = (wanted, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            await place[1]
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
                self._give_back(0)  # those behind it may fit
            else:
                self._give_back(wanted)
            raise

    def _give_back(self, pixels: int) -> None:
        self._free += pixels
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            self._free -= wanted
            turn.set_result(None)
