"""Pictures of a run: the training curves and the confusion matrix."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from compiler.files import whole_file
from compiler.training import Metrics

mpl.use("Agg")  # files only: no window is opened
DPI = 120
MAX_NUMBERED = 20  # classes up to which a confusion matrix has its counts written in


def draw_curves(history: list[Metrics], path: Path) -> None:
    """Loss and accuracy by epoch, for the training samples and the held-out ones.

    Raises:
        CompilerError: the file can't be written.
    """
    epochs = [metrics.epoch + 1 for metrics in history]
    classifies = history[-1].test_accuracy is not None
    figure = Figure(figsize=(9.0 if classifies else 5.0, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if classifies else 1, squeeze=False)[0]
    axes[0].plot(epochs, [m.train_loss for m in history], "o-", markersize=3, label="training")
    axes[0].plot(epochs, [m.test_loss for m in history], "o-", markersize=3, label="held out")
    axes[0].set(xlabel="epoch", ylabel="loss", yscale="log")
    if classifies:
        axes[1].plot(epochs, [100 * (m.train_accuracy or 0) for m in history], "o-", markersize=3, label="training")
        axes[1].plot(epochs, [100 * (m.test_accuracy or 0) for m in history], "o-", markersize=3, label="held out")
        axes[1].set(xlabel="epoch", ylabel="accuracy in %")
    for plot in axes:
        plot.grid(alpha=0.3)
        plot.xaxis.get_major_locator().set_params(integer=True)
        plot.legend(frameon=False)
    _save(figure, path)


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
