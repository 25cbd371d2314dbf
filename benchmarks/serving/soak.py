"""Many requests of mixed shapes and sizes, some of them malformed, while one of the models is replaced all the time."""

from __future__ import annotations

import http.client
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks.measuring import Result, keep
from benchmarks.serving.loadgen import Load, Outcome, drive, load_process
from benchmarks.serving.models import bare_session, scaled_convolution, zoo_model
from benchmarks.serving.processes import netspec_serve
from benchmarks.serving.watching import Memory
from benchmarks.serving.wire import Exchange, Scaled, binary_request, infer_path, json_request, post

SWAPPED, STEADY = "swapped", "mlp"
CONNECTIONS = 24
MALFORMED = 0.01
HELD_PERCENT = 10
# Rows, height and width of the images, and how often they come: from a pixel to 3 MB.
SHAPES = {
    (1, 8, 8): 40,
    (1, 32, 32): 30,
    (2, 24, 40): 20,
    (3, 16, 16): 20,
    (1, 224, 224): 4,
    (1, 1, 1): 5,
    (1, 512, 512): 1,
}


class Versions:
    """A repository with a model of which there is always a newer version to be had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / SWAPPED
        self.newest = 0
        self.prepare()

    def prepare(self) -> None:
        """Writes the next version, and removes the last but one."""
        self.newest += 1
        place = self._folder / str(self.newest)
        place.mkdir(parents=True)
        scaled_convolution(place / "model.onnx", self.newest)
        shutil.rmtree(self._folder / str(self.newest - 2), ignore_errors=True)

    def swap(self, port: int) -> None:
        """Has the server serve a new version in place of the last."""
        self.prepare()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", f"/v2/repository/models/{SWAPPED}/load", b"{}")
        reply = connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"version {self.newest} was not loaded: {reply.read()!r}")
        connection.close()


def images(folder: Path, drawn: np.random.Generator) -> list[Exchange]:
    """Requests to the swapped model, of all shapes, in both forms."""
    found: list[Exchange] = []
    compute = scaled_convolution(folder / "reference.onnx", 1)
    for (rows, height, width), times in SHAPES.items():
        for write in (json_request, binary_request) if height < 100 else (binary_request,):
            for _ in range(times):
                image = drawn.standard_normal((rows, 3, height, width), np.float32)
                request = write(infer_path(SWAPPED), {"image": image})
                found.append(Exchange(request, expected=Scaled(compute(image))))
    return found


def digits(path: Path, drawn: np.random.Generator) -> list[Exchange]:
    """Requests to the model that stays, of several rows."""
    session = bare_session(path, 1)
    found = []
    for index in range(120):
        feeds = {"image": drawn.standard_normal((1 + index % 4, 1, 8, 8), np.float32)}
        write = binary_request if index % 3 else json_request
        found.append(Exchange(write(infer_path(STEADY), feeds), expected={None: session.run(None, feeds)[0]}))
    return found


def malformed(drawn: np.random.Generator) -> list[Exchange]:
    """Requests that are wrong, each in its own way."""
    image = drawn.standard_normal((1, 3, 8, 8), np.float32)
    right = binary_request(infer_path(SWAPPED), {"image": image})
    swapped = infer_path(SWAPPED)
    tensor = b'{"inputs": [{"name": "image", "shape": [1, 3, 1, 1], "datatype": "FP32", "data": [%s]}]}'
    wrong = [
        post(swapped, b'{"inputs": [{'),
        post(swapped, b"[]"),
        post(swapped, b'{"inputs": []}'),
        post(swapped, tensor % b'1, "2", 3'),
        post(swapped, tensor % b"1, 2"),
        post(swapped, b"\xff\x00" * 1000, {"Inference-Header-Content-Length": "99999"}),
        right.replace(b'"shape": [1', b'"shape": [2'),
        right.replace(b'"FP32"', b'"FP64"'),
        right.replace(b'"image"', b'"imago"'),
        right.replace(b'_size": 768', b'_size": 764'),
        json_request(swapped, {"image": image[:, :2]}),
    ]
    missing = [json_request(infer_path("nobody"), {"image": image}), post("/v2/models/swapped/versions/x/infer", b"{}")]
    return [Exchange(request, frozenset({400})) for request in wrong] + [
        Exchange(request, frozenset({404})) for request in missing
    ]


def mixture(folder: Path, steady: Path) -> list[Exchange]:
    """A long list of requests in a drawn order, of which one in a hundred is malformed."""
    drawn = np.random.default_rng(0)
    right, wrong = images(folder, drawn) + digits(steady, drawn), malformed(drawn)
    found = [right[index % len(right)] for index in drawn.permutation(20 * len(right))]
    for place in drawn.choice(len(found), round(MALFORMED * len(found)), replace=False):
        found[place] = wrong[drawn.integers(len(wrong))]
    return found


def measure(folder: Path, requests: int, swap_every: float) -> list[Result]:
    steady = folder / "repository" / STEADY / "1" / "model.onnx"
    steady.parent.mkdir(parents=True)
    zoo_model(STEADY, folder).rename(steady)
    versions = Versions(folder / "repository")
    sent = mixture(folder, steady)
    with load_process() as process, netspec_serve("--repository", folder / "repository", "--threads", "1") as server:
        load = process.submit(drive, Load(server.port, sent, CONNECTIONS, requests=requests))
        memory = Memory(server)
        swapped = time.monotonic()
        while not load.done():
            time.sleep(0.1)
            if time.monotonic() - swapped > swap_every:
                versions.swap(server.port)
                swapped = time.monotonic()
        memory.end()
        return results(load.result(), memory.samples, versions.newest)


def results(outcome: Outcome, memory: list[int], versions: int) -> list[Result]:
    print(outcome.show())
    half, quarter = len(memory) // 2, len(memory) // 4
    third, last = memory[half : half + quarter], memory[-quarter:]
    # Bodies come and go, and each version takes what the order of its requests makes it take: means differ by tenths
    # from run to run, as does what is left for a moment when a version goes. What is held nearly always is what stays.
    before, after = (float(np.percentile(part, HELD_PERCENT)) for part in (third, last))
    answered = {str(status): outcome.count(status) for status in sorted(outcome.latencies)}
    details = {
        "answered": answered,
        "versions served": versions,
        "complaint": outcome.complaint,
        f"{HELD_PERCENT}th percentile of megabytes in the third quarter": before / 1e6,
        f"{HELD_PERCENT}th percentile of megabytes in the last quarter": after / 1e6,
        "megabytes in the third quarter": statistics.fmean(third) / 1e6,
        "megabytes in the last quarter": statistics.fmean(last) / 1e6,
        "seconds": outcome.times and max(max(times) for times in outcome.times.values()),
    }
    what = f"of {sum(answered.values())} requests, {MALFORMED:.0%} malformed, while {versions} versions came and went"

    def small(figure: str, text: str, value: float, limit: float) -> Result:
        return Result(f"serving_soak_{figure}", f"{text} {what}", value, limit, True, {}, details)

    return [
        small("wrong", "wrong answers", outcome.wrong, 0),
        small("lost", "requests without an answer", outcome.lost, 0),
        small(
            "memory",
            f"growth of the {HELD_PERCENT}th percentile of resident memory over the last half",
            after / before - 1,
            0.02,
        ),
    ]


@click.command()
@click.option("--dry-run", is_flag=True, help="Print only, keep nothing.")
@click.option("--requests", default=1_000_000, show_default=True)
@click.option("--swap-every", default=3.0, show_default=True, help="Seconds between new versions.")
def main(dry_run: bool, requests: int, swap_every: float) -> None:
    """Measure, print the figures, and exit with 1 where one is missed."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), requests, swap_every)
    raise SystemExit(not keep(found, dry_run))


if __name__ == "__main__":
    main()
