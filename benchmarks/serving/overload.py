"""A server that is asked for ten times what it can do: whom it serves, and how soon it turns the others away."""

from __future__ import annotations

import http.client
import math
import tempfile
import threading
import time
from concurrent.futures import Executor
from pathlib import Path

import click
import numpy as np

from benchmarks.measuring import Result, keep
from benchmarks.serving.loadgen import Load, Outcome, drive, load_process
from benchmarks.serving.models import bare_session, zoo_model
from benchmarks.serving.processes import netspec_serve
from benchmarks.serving.watching import Memory
from benchmarks.serving.wire import Exchange, binary_request, infer_path

MODEL = "resnet50"
SIDE = 224
QUEUE = 16
# What runs has left the queue and is waited for all the same: of few rows, it adds little to the queue's bound.
MAX_BATCH = 2
TIMES = 10
CONNECTIONS = 512
PROBE_SECONDS = 0.2


class Probe(threading.Thread):
    """New clients that ask once each, one every so often, and what they meet: when, the status, and in what time."""

    def __init__(self, port: int, request: bytes) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[float, int, float]] = []
        head, _, self._body = request.partition(b"\r\n\r\n")
        self._headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        self._port = port
        self._ended = threading.Event()

    def run(self) -> None:
        asking = []
        while not self._ended.wait(PROBE_SECONDS):
            asking.append(threading.Thread(target=self._ask))
            asking[-1].start()
        for each in asking:
            each.join()

    def _ask(self) -> None:
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("POST", infer_path(MODEL), self._body, self._headers)
            status = connection.getresponse().status
        except OSError:  # refused, and closed, before the body was sent
            status = 503
        connection.close()
        self.answers.append((begun, status, time.monotonic() - begun))

    def end(self) -> None:
        self._ended.set()
        self.join()

    def recovery(self, ended: float, usual: float) -> float:
        """Seconds from `ended` until the first of five requests in a row that are answered about as soon as usual."""
        later = sorted(answer for answer in self.answers if answer[0] > ended)
        good = [status == 200 and seconds < 3 * usual for _, status, seconds in later]
        first = next((index for index in range(len(good)) if all(good[index : index + 5])), None)
        return math.inf if first is None else later[first][0] - ended


def measure(path: Path, load: Executor, seconds: float) -> list[Result]:
    drawn = np.random.default_rng(0)
    feeds = {"image": drawn.standard_normal((1, 3, SIDE, SIDE), np.float32)}
    expected = {None: bare_session(path).run(None, feeds)[0]}
    request = binary_request(infer_path(MODEL), feeds)
    with netspec_serve(path, "--max-queue", str(QUEUE), "--max-batch", str(MAX_BATCH)) as server:
        sent = [Exchange(request, frozenset({200}), expected)]
        alone = load.submit(drive, Load(server.port, sent, 1, 2.0, 1.0)).result()
        capacity = load.submit(drive, Load(server.port, sent, QUEUE // 2, 4.0, 1.0)).result().throughput()
        either = [Exchange(request, frozenset({200, 503}), expected)]
        probe, memory = Probe(server.port, request), Memory(server)
        probe.start()
        over = load.submit(drive, Load(server.port, either, CONNECTIONS, seconds, rate=TIMES * capacity)).result()
        time.sleep(2.0)
        probe.end()
        memory.end()
    return results(over, capacity, probe.recovery(over.ended, alone.percentile(99)), memory.samples)


def results(over: Outcome, capacity: float, recovery: float, memory: list[int]) -> list[Result]:
    """The figures of what the load met."""
    print(over.show())
    asked = over.count(200) + over.count(503)
    details = {
        "capacity a second": capacity,
        "asked a second": asked / over.seconds,
        "accepted a second": over.throughput(),
        "refused a second": over.throughput(503),
        "refused at most in ms": 1000 * over.percentile(100, 503),
        "unsent": over.unsent,
        "wrong": over.wrong,
        "lost": over.lost,
        "queue bound": QUEUE,
        "max_batch": MAX_BATCH,
        "seconds": over.seconds,
    }
    bound = QUEUE / over.throughput()
    accepted = {"accepted, p99": 1000 * over.percentile(99), "queue bound / throughput": 1000 * bound}
    refused = {"refused, p50": 1000 * over.percentile(50, 503), "refused, p99": 1000 * over.percentile(99, 503)}
    name = f"at {TIMES} × capacity"

    def figure(kind: str, what: str, value: float, limit: float, times: dict[str, float]) -> Result:
        return Result(f"serving_overload_{kind}", what, value, limit, True, times, details)

    ratio = over.percentile(99) / bound
    grown = max(memory) / memory[0]
    return [
        figure("accepted", f"p99 of what is accepted {name} over queue bound / throughput", ratio, 1.5, accepted),
        figure("refused", f"ms until a 503 {name}, p99", refused["refused, p99"], 50, refused),
        figure("faults", f"answers {name} that are wrong or lost", over.wrong + over.lost, 0, {}),
        figure("memory", f"most resident memory {name} over that before", grown, 1.25, {}),
        figure("recovery", f"seconds to recover after {name}", recovery, 1, {}),
    ]


@click.command()
@click.option("--dry-run", is_flag=True, help="Print only, keep nothing.")
@click.option("--seconds", default=60.0, show_default=True, help="Of overload.")
def main(dry_run: bool, seconds: float) -> None:
    """Measure, print the figures, and exit with 1 where one is missed."""
    with tempfile.TemporaryDirectory() as folder, load_process() as load:
        found = measure(zoo_model(MODEL, Path(folder)), load, seconds)
    raise SystemExit(not keep(found, dry_run))


if __name__ == "__main__":
    main()
