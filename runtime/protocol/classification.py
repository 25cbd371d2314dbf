"""The classification extension: an output's greatest values with their labels, in place of the output."""

from collections.abc import Sequence

import numpy as np

from runtime.protocol.tensors import invalid
from runtime.serving.model import ServedModel


def in_classes(model: ServedModel, output: str, array: np.ndarray, count: int) -> np.ndarray:
    """What stands in the place of an output of which the `count` greatest values are asked for; see `classify`.

    Raises:
        Refused: INVALID where the output is empty.
    """
    if not array.size:
        raise invalid(f"output '{output}' is empty: there is nothing that the parameter 'classification' could rank")
    return classify(array, count, labels_of(model, output))


def classify(array: np.ndarray, count: int, labels: Sequence[str] | None) -> np.ndarray:
    """The `count` greatest values of an output, the greatest first, each as the text ``value:index[:label]``.

    Args:
        array: the output, of numbers, not empty: [batch, …], or without a batch where it has one dimension or none.
        count: how many to give; all where the output has fewer.
        labels: the names of the classes, where there is one for each.

    Returns:
        Texts [batch, count], or [count] without a batch.
    """
    rows = array.reshape(len(array) if array.ndim > 1 else 1, -1)
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
    return texts if array.ndim > 1 else texts[0]


def labels_of(model: ServedModel, output: str) -> Sequence[str] | None:
    """The names of an output's classes: those that the model's configuration gives it, else those in its file."""
    return model.options.labels.get(output) or model.metadata.labels
