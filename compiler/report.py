"""The report of a run: `report.md` with its curves and its confusion matrix."""

from __future__ import annotations

from pathlib import Path

from compiler.files import write_text
from compiler.metrics import Metrics
from compiler.pictures import draw_curves
from compiler.run_directory import picture_name
from compiler.tasks.base import percent
from compiler.training import Hooks, Run, evaluate


def write_report(path: Path, run: Run, hooks: Hooks) -> None:
    """Writes `report.md`, `curves.png`, and the pictures of the run's task.

    Raises:
        CompilerError: a file can't be written.
    """
    network, task, history = run.network, run.task, run.state.history
    draw_curves(history, task.titles, path / "curves.png")
    last, best = history[-1], history[run.state.best_epoch]
    evaluation = run.evaluation or evaluate(run, run.data.test, hooks)
    measured = [name for name in last.test if name in task.titles or name == "loss"]
    lines = [
        f"# {network.name}",
        "",
        f"{network.origin}" if network.origin else "",
        "",
        f"{network.parameters():,} parameters, {_count(network.macs())} multiply-accumulates a sample. "
        f"Trained for {last.epoch + 1} epochs on {len(run.data.train):,} samples, "
        f"measured on {len(run.data.test):,} held out, seed {run.recipe.numbers.seed}, {run.device.type}.",
        "",
        f"| | epoch | {' | '.join(f'held-out {task.titles.get(name, name)}' for name in measured)} | training loss |",
        f"|---|--:|{'--:|' * len(measured)}--:|",
        _row("last weights", last, measured),
        _row("best weights", best, measured),
        "",
        "The best epoch is chosen by the same held-out samples, so the row of the last weights is the unbiased one.",
        "",
        "![training curves](curves.png)",
        "",
        *evaluation.report(path),
    ]
    picture = picture_name(last.epoch)
    if (path / picture).is_file():
        lines += ["", f"![held-out images after the last epoch]({picture})"]
    write_text(path / "report.md", "\n".join(lines).rstrip() + "\n")


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _row(name: str, metrics: Metrics, measured: list[str]) -> str:
    test = metrics.test
    values = (f"{test[name]:.4f}" if name == "loss" else percent(test[name], 2) for name in measured)
    return f"| {name} | {metrics.epoch + 1} | {' | '.join(values)} | {metrics.train['loss']:.4f} |"
