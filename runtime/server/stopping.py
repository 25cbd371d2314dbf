"""SIGTERM and SIGINT."""

import os
import signal
from collections.abc import Callable
from typing import NoReturn, Self


class Stopping:
    """Hears the signals while it is entered.

    Before requests are answered they end the process at once, and so does a second of them.

    Attributes:
        last: what is still to be done when the process ends at once.
    """

    def __init__(self) -> None:
        self.last: Callable[[], object] = lambda: None
        self._act: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._previous = {number: signal.signal(number, lambda *_: self._hear()) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def call(self, act: Callable[[], object]) -> None:
        """From now on the first signal calls `act`, which has to lead to the end of the process."""
        self._act = act

    def at_once(self) -> NoReturn:
        """Ends the process without waiting for anything but the last."""
        self.last()
        os._exit(0)

    def _hear(self) -> None:
        if self._act is None:
            self.at_once()
        else:
            act, self._act = self._act, None
            act()
