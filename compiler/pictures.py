"""Pictures of a run: the training curves and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from compiler.files import whole_file
from compiler.metrics import Metrics

mpl.use("Agg")  # files only: no window is opened
DPI = 120
MAX_NUMBERED = 20  # classes up to which a confusion matrix has its counts written in


def draw_curves(history: list[Metrics], titles: Mapping[str, str], path: Path) -> None:
    """What was followed by epoch, for the training samples and the held-out ones.

    The loss has a plot of its own, its parts another, and what is a fraction a third.

    Args:
        titles: the values that are fractions, as people write them.

    Raises:
        CompilerError: the file can't be written.
    """
    names = dict.fromkeys(name for metrics in history for name in (*metrics.train, *metrics.test))
    plots = {
        "loss": ["loss"],
        "parts of the loss": [name for name in names if name != "loss" and name not in titles],
        "in %": [name for name in names if name in titles],
    }
    plots = {title: drawn for title, drawn in plots.items() if drawn}
    figure = Figure(figsize=(0.5 + 4.4 * len(plots), 3.6), layout="constrained")
    for axes, (title, drawn) in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots.items(), strict=True):
        axes.set(xlabel="epoch", ylabel=title)
        for index, name in enumerate(drawn):
            _draw_value(axes, history, name, titles.get(name, name), f"C{index}")
        if title != "in %" and any(value > 0 for line in axes.lines for value in line.get_ydata()):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle("training: full lines; held out: dashed", fontsize=9, color="0.3")
    _save(figure, path)


def _draw_value(axes: Axes, history: list[Metrics], name: str, title: str, colour: str) -> None:
    """One value, named once: a line for the training samples and one of the same colour for the held-out ones."""
    scale = 100 if axes.get_ylabel() == "in %" else 1
    for part, style in (("train", "o-"), ("test", "s--")):
        known = [(m.epoch + 1, getattr(m, part)[name] * scale) for m in history if name in getattr(m, part)]
        if known:
            axes.plot(*zip(*known, strict=True), style, color=colour, markersize=3, label=title)
            title = "_"  # named once


def confusion_matrix(
    predicted: Tensor, targets: Tensor, classes: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Counts of samples, classes × classes: row = true class, column = predicted class."""
    cells = targets.numpy() * classes + predicted.numpy()
    counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = np.bincount(cells, minlength=classes * classes)
    return counts.reshape(classes, classes)


def draw_confusion(
    matrix: np.ndarray[tuple[int, ...], np.dtype[np.int64]], labels: tuple[str, ...], path: Path
) -> None:
    """The confusion matrix, shaded by each true class's share, so that rare classes are seen as well.

    Raises:
        CompilerError: the file can't be written.
    """
    count = len(matrix)
    size = min(12.0, 2.4 + 0.42 * count)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    right = int(np.trace(matrix))
    axes.set(xlabel="predicted", ylabel="true", title=f"{right} of {int(matrix.sum())} right")
    if count <= MAX_NUMBERED:
        axes.set_xticks(range(count), labels, rotation=90 if max(map(len, labels)) > 2 else 0)
        axes.set_yticks(range(count), labels)
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=9)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")
