"""The classification extension: an output's greatest values with their labels, in place of the output."""

from collections.abc import Sequence

import numpy as np


def classify(array: np.ndarray, count: int, labels: Sequence[str] | None, by_rows: bool) -> np.ndarray:
    """The `count` greatest values of an output, the greatest first, each as the text ``value:index[:label]``.

    Args:
        array: the output, of numbers, not empty.
        count: how many to give; all where the output has fewer.
        labels: the names of the classes, where there is one for each.
        by_rows: whether the first dimension is the batch; otherwise the output is taken as a whole.

    Returns:
        Texts [batch, count], or [count] where it is not by rows.
    """
    rows = array.reshape(len(array) if by_rows else 1, -1)
    classes = rows.shape[1]
    named = labels if labels is not None and len(labels) == classes else None
    sortable = np.nan_to_num(rows, nan=-np.inf, posinf=np.inf, neginf=-np.inf) if rows.dtype.kind == "f" else rows
    # The order is turned round twice, so that of equal values the first comes first.
    order = classes - 1 - np.argsort(sortable[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :count]
    texts = np.empty(order.shape, object)
    for row, indices in enumerate(order.tolist()):
        for place, index in enumerate(indices):
            value = rows[row, index]
            text = f"{value:f}" if rows.dtype.kind == "f" else str(int(value))
            texts[row, place] = f"{text}:{index}:{named[index]}" if named else f"{text}:{index}"
    return texts if by_rows else texts[0]
