"""What is seen of a server from outside while it is under load."""

from __future__ import annotations

import threading

from benchmarks.serving.processes import Server


class Memory(threading.Thread):
    """The resident bytes of a server, ten times a second, from when it is made until `end`."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.samples = [server.memory()]
        self._server = server
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(0.1):
            self.samples.append(self._server.memory())

    def end(self) -> None:
        self._ended.set()
        self.join()
