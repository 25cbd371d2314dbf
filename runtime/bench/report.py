"""What ``netspec bench`` tells: the settings with their times, which is best for what, and how to serve so."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import onnxruntime as ort
import orjson
from rich.console import Console
from rich.table import Table

from runtime.bench.measure import Measured
from runtime.engine_options import EngineOptions, cores

# Beyond any real line: a table that goes into a file or a pipe is never cut off at some terminal's width.
UNLIMITED_WIDTH = 100_000


@dataclass(frozen=True)
class Findings:
    """All that was measured of a model.

    Attributes:
        path: the model's file.
        options: what was asked of the device.
        shapes: the shapes of the inputs in the first row's batch, by name.
        batched: whether the model leaves its batch free.
        rows: the settings that were measured.
        left_out: how many settings there was no time for.
        notes: what else is to be known: which device does not work, and why.
    """

    path: Path
    options: EngineOptions
    shapes: Mapping[str, Sequence[int]]
    batched: bool
    rows: Sequence[Measured]
    left_out: int
    notes: Sequence[str]

    @property
    def quickest(self) -> Measured:
        """The setting that answers a lone request soonest."""
        least = min(row.batch for row in self.rows)
        return min((row for row in self.rows if row.batch == least), key=lambda row: row.p50_ms)

    @property
    def most(self) -> Measured:
        """The setting that gets most done."""
        return max(self.rows, key=lambda row: row.rows_per_second)

    def serve_command(self, row: Measured) -> str:
        """The command that serves the model as it was measured in `row`."""
        words = ["netspec", "serve", click.format_filename(self.path), "--device", row.device]
        for option, value in (("--threads", row.threads), ("--instances", row.instances)):
            words += [] if value is None else [option, str(value)]
        words += ["--max-batch", str(row.batch)] if self.batched else []
        return shlex.join(words + self._other_words())

    def _other_words(self) -> list[str]:
        """The options that were asked for and are the same in every row."""
        given = {
            "--device-id": self.options.device_id,
            "--gpu-memory": self.options.gpu_memory,
            "--engine-cache": self.options.engine_cache,
        }
        flags = {
            "--cuda-graph": self.options.cuda_graph,
            "--fp16": self.options.fp16,
            "--spinning": self.options.spinning is True,
            "--no-spinning": self.options.spinning is False,
        }
        words = [word for option, value in given.items() if value is not None for word in (option, str(value))]
        return words + [flag for flag, is_on in flags.items() if is_on]


def as_json(findings: Findings) -> str:
    """The findings as a JSON object: ``{"model", "machine", "inputs", "settings", "left_out", "notes", "best"}``."""
    best = {"latency": findings.quickest, "throughput": findings.most}
    report: dict[str, Any] = {
        "model": click.format_filename(findings.path),
        "machine": {"cores": cores(), "onnxruntime": ort.__version__},
        "inputs": {name: list(shape) for name, shape in findings.shapes.items()},
        "settings": [asdict(row) for row in findings.rows],
        "left_out": findings.left_out,
        "notes": list(findings.notes),
        "best": {
            kind: {"setting": findings.rows.index(row), "serve": findings.serve_command(row)}
            for kind, row in best.items()
        },
    }
    return orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()


def show(findings: Findings) -> None:
    """Prints the findings as a table, and below it what is best."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = UNLIMITED_WIDTH
    shapes = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in findings.shapes.items())
    each = " for each row" if findings.batched else ""
    console.print(f"{findings.path}: {shapes}{each}, {cores()} cores, ONNX Runtime {ort.__version__}", markup=False)
    console.print(_table(findings))
    for row, what in ((findings.quickest, "soonest answer"), (findings.most, "most rows")):
        console.print(
            f"{what}: {row.p50_ms:.3g} ms a run, {row.rows_per_second:,.1f} rows/s", style="bold", markup=False
        )
        console.print(f"  {findings.serve_command(row)}", markup=False)
    if findings.left_out:
        console.print(f"left out for want of time: {findings.left_out} settings; --seconds gives more")
    for note in findings.notes:
        console.print(note, markup=False)


def _table(findings: Findings) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device")
    for column in ("threads", "instances", "batch", "rows/s", "p50 ms", "p99 ms", "runs", "memory MiB"):
        table.add_column(column, justify="right")
    table.add_column("")
    for row in findings.rows:
        best = {"soonest": row is findings.quickest, "most": row is findings.most}
        marks = " ".join(mark for mark, is_best in best.items() if is_best)
        table.add_row(
            row.device,
            "–" if row.threads is None else str(row.threads),
            str(row.instances),
            str(row.batch),
            f"{row.rows_per_second:,.1f}",
            f"{row.p50_ms:.3f}",
            f"{row.p99_ms:.3f}",
            str(row.runs),
            "–" if row.memory_mib is None else f"{row.memory_mib:.0f}",
            f"← {marks}" if marks else "",
            style="bold" if marks else None,
        )
    return table
