"""A ResNet-18 at 3×224×224 over REST against the bare `InferenceSession.run`, and other servers beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.measuring import Result, keep, worst
from benchmarks.serving.compared import THREADS, Measurement, Turns, table, title
from benchmarks.serving.loadgen import load_process
from benchmarks.serving.models import zoo_model
from benchmarks.serving.others import Rival, available
from benchmarks.serving.processes import netspec_serve

MODEL = "resnet18"
IMAGES = 8
CONCURRENCIES = (1, 8, 32)


def ours(measurement: Measurement) -> dict[str, Turns]:
    """What our own server does, by the titles of the cases."""
    cases = measurement.cases("netspec", True, CONCURRENCIES) + measurement.cases("netspec", False, (8,))
    with netspec_serve(measurement.path, "--threads", str(THREADS)) as server:
        return measurement.compare(server, cases)


def theirs(measurement: Measurement, rival: Rival) -> dict[str, Turns]:
    """The same of another server, in one round: its figures are only stated."""
    found: dict[str, Turns] = {}
    for concurrencies in ((1,), CONCURRENCIES[1:]):
        cases = measurement.cases(rival.title, rival.takes_binary, concurrencies)
        with rival.serve(measurement.path, THREADS, concurrencies[0]) as server:
            found |= measurement.compare(server, cases, rounds=1)
    return found


def results(rows: dict[str, Turns], absent: list[str], rounds: int, seconds: float) -> list[Result]:
    """The three figures, each with all that was measured beside it."""
    of_raw = {name: turns.medians()["of_raw"] for name, turns in rows.items()}
    details = {
        "rows": {name: turns.medians() for name, turns in rows.items()},
        "rounds": rounds,
        "seconds": seconds,
        "onnxruntime_threads": THREADS,
        "servers without an environment here": absent,
    }
    what = "requests/s of a ResNet-18 at 3×224×224 over runs/s of the bare session"

    def held(name: str, form: str, concurrencies: Sequence[int], limit: float) -> Result:
        ratios = {found: of_raw[found] for c in concurrencies if (found := title("netspec", form, c))}
        return worst(name, f"{what}, {form}", ratios, limit, False, {}, details)

    return [
        held("serving_resnet18_alone", "binary", (1,), 0.93),
        held("serving_resnet18", "binary", (8, 32), 0.95),
        held("serving_resnet18_json", "JSON", (8,), 0.60),
    ]


@click.command()
@click.option("--dry-run", is_flag=True, help="Print only, keep nothing.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=6.0, show_default=True, help="Of each load and each raw loop.")
@click.option("--ours-only", is_flag=True, help="Leave the other servers out.")
def main(dry_run: bool, rounds: int, seconds: float, ours_only: bool) -> None:
    """Measure, print the ratios, and exit with 1 where one is missed."""
    rivals, absent = ([], []) if ours_only else available()
    with tempfile.TemporaryDirectory() as folder, load_process() as load:
        path = zoo_model(MODEL, Path(folder))
        measurement = Measurement(path, (1, 3, 224, 224), IMAGES, THREADS, load, rounds, seconds)
        rows = ours(measurement)
        for rival in rivals:
            rows |= theirs(measurement, rival)
    print(table(rows))
    for server in absent:
        print(f"{server}: no environment here")
    raise SystemExit(not keep(results(rows, absent, rounds, seconds), dry_run))


if __name__ == "__main__":
    main()
