"""What Ctrl-C does to a command."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

import click

INTERRUPTED = 130  # what shells report of a command that Ctrl-C ended


def tell_interrupted() -> None:
    """The one line that an interrupted command leaves; on a terminal it stands below the `^C`."""
    click.echo(("\n" if sys.stderr.isatty() else "") + "interrupted", err=True)


@contextlib.contextmanager
def ends_at_once() -> Iterator[None]:
    """While it is entered, Ctrl-C ends the process on the spot, with nothing to tidy up.

    For imports: NumPy and others take a `KeyboardInterrupt` in theirs for a failure of their own, and go on.
    """

    def end(number: int, frame: FrameType | None) -> None:
        tell_interrupted()
        os._exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
