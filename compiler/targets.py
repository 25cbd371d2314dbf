"""What a network is to answer, class numbers or values, held against what its loss and its output can take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.errors import CompilerError
from netspec.choices import CrossEntropy
from netspec.network import Network

Array = NDArray[Any]
MAX_LISTED = 5


def classifies(network: Network) -> bool:
    """Whether the network is trained to tell classes apart."""
    return isinstance(network.sections["train"].loss, CrossEntropy)


def class_count(network: Network) -> int:
    """The columns of a classifier's output."""
    count = _output(network)[1]
    assert isinstance(count, int), "the spec was checked for this loss"
    return count


def check_labels(network: Network, labels: Sequence[str]) -> None:
    """Holds the classes of images against the network.

    Raises:
        CompilerError: the loss does not compare classes, or the output has more or fewer.
    """
    if not classifies(network):
        loss = network.sections["train"].loss.kind
        raise CompilerError(f"images have classes, and `loss: {loss}` compares values", "write `loss: cross_entropy`")
    if len(labels) != class_count(network):
        shown = ", ".join(labels[:MAX_LISTED]) + (", …" if len(labels) > MAX_LISTED else "")
        raise CompilerError(
            f"the data has {len(labels)} classes ({shown}), the network gives {_shown(_output(network))}",
            _give(network, len(labels)),
        )
    check_names(network, labels)


def check_names(network: Network, labels: Sequence[str]) -> None:
    """Holds the names of the data's classes against `deploy.labels`, which may be others: in another language, say.

    Raises:
        CompilerError: a name stands in both for another class.
    """
    deploy = network.sections.get("deploy")
    check_same_classes("`deploy.labels`", deploy.labels or () if deploy else (), labels)


def check_same_classes(whose: str, known: Sequence[str], labels: Sequence[str]) -> None:
    """Holds the names of the data's classes against those of the network's.

    Args:
        whose: where the network's are from.

    Raises:
        CompilerError: a name stands in both for another class.
    """
    for number, label in enumerate(labels):
        if label in known and known.index(label) != number:
            raise CompilerError(
                f"class {number} of the data is `{label}`, which is class {known.index(label)} of {whose}",
                f"both need one order; the data's is {', '.join(labels[:MAX_LISTED])}"
                + (", …" if len(labels) > MAX_LISTED else ""),
            )


def fit(network: Network, targets: Mapping[str, Array]) -> dict[str, Array]:
    """The targets as the loss takes them: class numbers (int64), or values of the output's shape (float32).

    Args:
        targets: finite numbers, a row for each sample, by the name of the array.

    Raises:
        CompilerError: they are not what the loss can compare with the network's output; with the mend.
    """
    if not classifies(network):
        for name, y in targets.items():
            _check_values(name, y, _output(network))
        return {name: y.astype(np.float32) for name, y in targets.items()}
    for name, y in targets.items():
        _check_are_classes(name, y)
    numbers = {name: y.astype(np.int64) for name, y in targets.items()}
    _check_numbering(network, numbers)
    return numbers


def _check_values(name: str, y: Array, output: tuple[int | str, ...]) -> None:
    if len(y.shape) == len(output) and all(
        isinstance(wanted, str) or wanted == size for wanted, size in zip(output[1:], y.shape[1:], strict=True)
    ):
        return
    sizes = [size for size in output[1:] if isinstance(size, int)]
    if len(sizes) == len(output) - 1 and math.prod(sizes) == math.prod(y.shape[1:]):
        help = f"save `{name}.reshape({', '.join(map(str, (-1, *sizes)))})`"
    elif y.ndim == 1 and y.dtype.kind in "biu":
        help = f"write `loss: cross_entropy`, if `{name}` holds class numbers"
    elif len(output) == 2:
        help = f"give the last layer {math.prod(y.shape[1:])} features"
    else:
        help = "this loss compares them element by element"
    raise CompilerError(f"`{name}` is {_shown(('N', *y.shape[1:]))}, the network gives {_shown(output)}", help)


def _check_are_classes(name: str, y: Array) -> None:
    """Refuses what is no whole number for each sample."""
    whole = y.dtype.kind != "f" or bool((y == np.rint(y)).all())
    if y.ndim == 1 and y.dtype.kind != "f":
        return
    shape = _shown(("N", *y.shape[1:]))
    if y.ndim > 1 and y.size > len(y):
        if y.ndim == 2 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
            raise CompilerError(
                f"`{name}` is one-hot, {shape}; cross_entropy takes the number of each sample's class",
                f"save `{name}.argmax(1)`",
            )
        raise CompilerError(
            f"`{name}` is {shape}; cross_entropy takes one class number for each sample",
            f"save the class numbers as {name}, or write `loss: mse` to learn values",
        )
    if not whole:
        raise CompilerError(
            f"`{name}` holds fractions; cross_entropy takes class numbers", "write `loss: mse` to learn values"
        )
    mend = name + (".reshape(-1)" if y.ndim > 1 else "") + (".astype('int64')" if y.dtype.kind == "f" else "")
    raise CompilerError(
        f"`{name}` is {shape} of {y.dtype}; cross_entropy takes class numbers, N whole numbers", f"save `{mend}`"
    )


def _check_numbering(network: Network, targets: Mapping[str, Array]) -> None:
    """Refuses class numbers that are no columns of the output."""
    classes = np.unique(np.concatenate(list(targets.values())))
    least, top, columns = int(classes[0]), int(classes[-1]), class_count(network)
    if least >= 0 and top < columns:
        return
    in_a_row = top - least + 1 == len(classes)
    names = " and ".join(f"`{name}`" for name in targets)
    found = f"{names}: {len(classes)} classes, numbered {least} to {top}; the network gives {_shown(_output(network))}"
    if in_a_row and least == 0:
        raise CompilerError(found, _give(network, len(classes)))
    if in_a_row:
        mends = [f"`{name} {'-' if least > 0 else '+'} {abs(least)}`" for name in targets]
    else:
        first = next(iter(targets))
        mends = [f"`np.searchsorted(np.unique({first}), {name})`" for name in targets]
    more = "" if len(classes) <= columns else f", and {_give(network, len(classes))}"
    raise CompilerError(found, f"number the classes from 0: save {' and '.join(mends)}{more}")


def _give(network: Network, classes: int) -> str:
    return f"`--set classes={classes}`" if "classes" in network.arguments else f"give the last layer {classes} features"


def _output(network: Network) -> tuple[int | str, ...]:
    node = next(iter(network.outputs.values()))  # the one that is judged
    return network.concrete(network.layer(node)["output"].shape)


def _shown(shape: tuple[int | str, ...]) -> str:
    return " × ".join(str(size) for size in shape)
