"""A small multilayer perceptron over REST in JSON: requests a second beside other servers, and the added latency."""

from __future__ import annotations

import tempfile
from concurrent.futures import Executor
from pathlib import Path

import click
import numpy as np

from benchmarks.measuring import Result, keep
from benchmarks.serving.compared import Case, Turns, compare, table
from benchmarks.serving.loadgen import load_process
from benchmarks.serving.models import bare_session, zoo_model
from benchmarks.serving.others import LITSERVE, MAX_BATCH, MLSERVER, PYTRITON, available
from benchmarks.serving.processes import Server, netspec_serve
from benchmarks.serving.wire import exchanges, infer_path

MODEL = "mlp"
INPUTS = 64
# One thread: a second one takes longer to wake than these products take.
THREADS = 1
CLIENTS = (1, 32)
AT_LEAST = {PYTRITON: 4.0, MLSERVER: 8.0, LITSERVE: None}


class Measurement:
    """The model, its inputs, and what the raw session makes of them."""

    def __init__(self, path: Path, load: Executor, rounds: int, seconds: float) -> None:
        self.path = path
        self._load = load
        self._rounds = rounds
        self._seconds = seconds
        self._raw = bare_session(path, THREADS)
        drawn = np.random.default_rng(0)
        self._feeds = [{"image": drawn.standard_normal((1, 1, 8, 8), np.float32)} for _ in range(INPUTS)]
        outputs = [self._raw.run(None, feeds)[0] for feeds in self._feeds]
        self._sent = exchanges(infer_path(MODEL), self._feeds, outputs, binary=False)

    def of(self, title: str, server: Server, concurrency: int) -> Turns:
        """What a server does for so many clients."""
        case = Case(f"{title}, {concurrency}", self._sent, concurrency)
        return compare(server, self._load, self._raw, self._feeds, [case], self._rounds, self._seconds)[case.title]


def measure(measurement: Measurement) -> tuple[dict[str, dict[int, Turns]], list[str]]:
    """What every server does, by its title and the number of clients, and the titles of those that are not here."""
    rivals, absent = available()
    options = ("--threads", str(THREADS), "--max-batch", str(MAX_BATCH))
    rows: dict[str, dict[int, Turns]] = {rival.title: {} for rival in rivals}
    with netspec_serve(measurement.path, *options) as server:
        rows["netspec"] = {clients: measurement.of("netspec", server, clients) for clients in CLIENTS}
    for rival in rivals:
        for clients in CLIENTS:
            with rival.serve(measurement.path, THREADS, clients) as server:
                rows[rival.title][clients] = measurement.of(rival.title, server, clients)
    return rows, absent


def results(rows: dict[str, dict[int, Turns]], details: dict[str, object]) -> list[Result]:
    """What is added to the raw session's latency, and how many times the others' requests are answered."""
    alone = rows["netspec"][1].medians()
    added = alone["p99"] - alone["p99_raw"]
    times = {"served": alone["p99"], "raw": alone["p99_raw"]}
    what = "ms that serving a small MLP in JSON adds to the 99th percentile of the bare session's runs"
    found = [Result("serving_mlp_p99", what, added, 2.0, True, times, details)]
    per_second = {title: turns[32].medians()["per_second"] for title, turns in rows.items()}
    for rival, limit in AT_LEAST.items():
        if rival.title in rows and limit:
            ratio = per_second["netspec"] / per_second[rival.title]
            what = f"requests/s of a small MLP in JSON at concurrency 32 over {rival.title}'s"
            found.append(Result(f"serving_mlp_{rival.name}", what, ratio, limit, False, {}, details))
    return found


@click.command()
@click.option("--dry-run", is_flag=True, help="Print only, keep nothing.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of each load and each raw loop.")
def main(dry_run: bool, rounds: int, seconds: float) -> None:
    """Measure, print the ratios, and exit with 1 where one is missed."""
    with tempfile.TemporaryDirectory() as folder, load_process() as load:
        rows, absent = measure(Measurement(zoo_model(MODEL, Path(folder)), load, rounds, seconds))
    by_title = {f"{title}, {c}": turns for title, of_server in rows.items() for c, turns in of_server.items()}
    print(table(by_title))
    for server in absent:
        print(f"{server}: no environment here, so it is not compared")
    details = {
        "rows": {title: turns.medians() for title, turns in by_title.items()},
        "rounds": rounds,
        "seconds": seconds,
        "onnxruntime_threads": THREADS,
        "max_batch": MAX_BATCH,
        "servers without an environment here": absent,
    }
    raise SystemExit(not keep(results(rows, details), dry_run))


if __name__ == "__main__":
    main()
