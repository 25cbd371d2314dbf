"""The report of a run: `report.md` with its curves and its confusion matrix."""

from __future__ import annotations

from pathlib import Path

from compiler.files import write_text
from compiler.pictures import confusion_matrix, draw_confusion, draw_curves
from compiler.training import Metrics, Run, predictions
from netspec.network import Network

MAX_MISTAKES = 12


def write_report(path: Path, network: Network, run: Run) -> None:
    """Writes `report.md`, `curves.png` and, for classifiers, `confusion.png`.

    Raises:
        CompilerError: a file can't be written.
    """
    history = run.state.history
    draw_curves(history, path / "curves.png")
    last, best = history[-1], history[run.state.best_epoch]
    split = run.data.test
    lines = [
        f"# {network.name}",
        "",
        f"{network.origin}" if network.origin else "",
        "",
        f"{network.parameters():,} parameters, {_count(network.macs())} multiply-accumulates a sample. "
        f"Trained for {last.epoch + 1} epochs on {len(run.data.train):,} samples, "
        f"measured on {len(split):,} held out, seed {run.recipe.numbers.seed}, {run.device.type}.",
        "",
        "| | epoch | held-out loss | held-out accuracy | training loss |",
        "|---|--:|--:|--:|--:|",
        _row("last weights", last),
        _row("best weights", best),
        "",
        "The best epoch is chosen by the same held-out samples, so the row of the last weights is the unbiased one.",
        "",
        "![training curves](curves.png)",
    ]
    if run.classifies:
        predicted, labels = predictions(run, split).argmax(1), run.data.labels
        matrix = confusion_matrix(predicted, split.targets, len(labels))
        draw_confusion(matrix, labels, path / "confusion.png")
        wrong = [i for i in range(len(split)) if int(predicted[i]) != int(split.targets[i])]
        lines += ["", "![confusion matrix of the last weights](confusion.png)", ""]
        if wrong:
            lines.append(f"{len(wrong)} of {len(split):,} held-out samples are taken for another class:")
            lines.append("")
        lines += [
            f"- {split.names[i]}: {labels[int(split.targets[i])]}, taken for {labels[int(predicted[i])]}"
            for i in wrong[:MAX_MISTAKES]
        ]
        if len(wrong) > MAX_MISTAKES:
            lines.append(f"- … and {len(wrong) - MAX_MISTAKES} more")
    write_text(path / "report.md", "\n".join(lines) + "\n")


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _row(name: str, metrics: Metrics) -> str:
    accuracy = f"{metrics.test_accuracy:.2%}" if metrics.test_accuracy is not None else "–"
    return f"| {name} | {metrics.epoch + 1} | {metrics.test_loss:.4f} | {accuracy} | {metrics.train_loss:.4f} |"
