"""The server's log: lines of text or of JSON on stderr, written by a thread so that no request waits for a disk.

A record's fields, beyond its message, are given as ``extra={"fields": {…}}``. Payloads and keys are never among them.
"""

import contextlib
import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from logging.handlers import QueueHandler
from typing import Any

from runtime.server.settings import Format, Level

# When nobody reads what the log writes, so many records wait, and further ones are dropped rather than kept in memory.
MAX_WAITING = 10_000
# A process that ends waits no longer for the last records to be written.
END_SECONDS = 1.0
# Libraries that tell of what clients send: of the bytes of a broken form in warnings, of the tags of images, where they
# were taken for instance, when everything is to be told.
_TALKATIVE = ("PIL", "python_multipart")

for _name in _TALKATIVE:
    logging.getLogger(_name).setLevel(logging.ERROR)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its message."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _when(record: logging.LogRecord) -> str:
    """The time of a record in UTC, to the millisecond."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, message, logger, the record's own fields, and an exception as text."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {"time": _when(record), "level": record.levelname.lower(), "message": record.getMessage()}
        line |= {"logger": record.name} | fields_of(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """For people: time, level, message, ``name=value`` for each field."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and below it an exception's traceback."""
        fields = "".join(f" {name}={_shown(value)}" for name, value in fields_of(record).items())
        line = f"{_when(record)} {record.levelname.lower():7} {_one_line(record.getMessage())}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _one_line(text: str) -> str:
    """A text without what would end the line or move the cursor, so that no client writes lines of its own."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _shown(value: Any) -> str:
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)


class _Queue(QueueHandler):
    """Hands records to the thread that writes them; drops them when too many wait."""

    def __init__(self, waiting: queue.SimpleQueue[logging.LogRecord | None]) -> None:
        super().__init__(waiting)
        self._waiting = waiting

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # it is formatted in this process, so it needs no making ready for another

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(record)


@contextlib.contextmanager
def logging_to_stderr(format: Format, level: Level) -> Iterator[Callable[[], None]]:
    """While it is entered, all loggers write to stderr; what waits is written before it is left.

    Gives a function that ends the log early, for a process that is about to end without leaving anything. A signal's
    handler may call it, whatever it has interrupted.
    """
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    # The one queue that may be filled by whoever interrupts its being filled.
    waiting: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
    writer = threading.Thread(target=_write, args=(waiting, stream), name="log", daemon=True)
    root.handlers[:] = [_Queue(waiting)]
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # on a full disk records are lost, and the server goes on
    writer.start()

    def end() -> None:
        waiting.put(None)
        writer.join(END_SECONDS)

    try:
        yield end
    finally:
        end()
        root.handlers[:], level_before, logging.raiseExceptions = before
        root.setLevel(level_before)


def _write(waiting: queue.SimpleQueue[logging.LogRecord | None], stream: logging.Handler) -> None:
    """Writes what comes until None comes."""
    while (record := waiting.get()) is not None:
        stream.handle(record)
