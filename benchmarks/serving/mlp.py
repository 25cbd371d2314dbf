"""A small multilayer perceptron over REST in JSON: requests a second beside other servers, and the added latency."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from benchmarks.measuring import Result, keep
from benchmarks.serving.compared import Measurement, Turns, table
from benchmarks.serving.loadgen import load_process
from benchmarks.serving.models import zoo_model
from benchmarks.serving.others import LITSERVE, MAX_BATCH, MLSERVER, PYTRITON, available
from benchmarks.serving.processes import Server, netspec_serve

MODEL = "mlp"
INPUTS = 64
# One thread: a second one takes longer to wake than these products take.
THREADS = 1
CLIENTS = (1, 32)
AT_LEAST = {PYTRITON: 4.0, MLSERVER: 8.0, LITSERVE: None}


def measure(measurement: Measurement) -> tuple[dict[str, dict[int, Turns]], list[str]]:
    """What every server does, by its title and the number of clients, and the titles of those that are not here."""
    rivals, absent = available()
    options = ("--threads", str(THREADS), "--max-batch", str(MAX_BATCH))
    rows: dict[str, dict[int, Turns]] = {rival.title: {} for rival in rivals}
    with netspec_serve(measurement.path, *options) as server:
        rows["netspec"] = {clients: _asked(measurement, "netspec", server, clients) for clients in CLIENTS}
    for rival in rivals:
        for clients in CLIENTS:
            with rival.serve(measurement.path, THREADS, clients) as server:
                rows[rival.title][clients] = _asked(measurement, rival.title, server, clients)
    return rows, absent


def _asked(measurement: Measurement, name: str, server: Server, clients: int) -> Turns:
    """What a server, which is called `name`, does for so many clients."""
    (turns,) = measurement.compare(server, measurement.cases(name, False, [clients])).values()
    return turns


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
        path = zoo_model(MODEL, Path(folder))
        rows, absent = measure(Measurement(path, (1, 1, 8, 8), INPUTS, THREADS, load, rounds, seconds))
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
