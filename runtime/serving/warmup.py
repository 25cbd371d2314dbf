"""Runs before a model is ready: the first run is slow, and one that fails should fail before users see it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from runtime.errors import ModelError, UserError
from runtime.probing import filled, probe
from runtime.serving.options import Warmup, WarmupInput
from runtime.session import Session
from runtime.tensors import TensorSpec


def warm_up(session: Session, warmups: tuple[Warmup, ...], batched: bool) -> None:
    """Runs the model as it is configured, else once on one row of zeros where its shapes are known.

    Raises:
        ModelError: a run fails, or what it should run on can't be made; the message names the warm-up.
    """
    for warmup in warmups:
        feeds = {spec.name: _configured(warmup, spec, session.path, batched) for spec in session.inputs}
        for _ in range(warmup.count):
            _run(session, feeds, f"warm-up '{warmup.name}'")
    if not warmups and (feeds := probe(session, 1)):
        _run(session, feeds, "the warm-up on zeros")


def _run(session: Session, feeds: Mapping[str, np.ndarray], what: str) -> None:
    try:
        session.run(feeds)
    except UserError as error:
        raise ModelError(f"{session.path}: {what} failed: {error.message}", error.help) from None


def _configured(warmup: Warmup, spec: TensorSpec, path: Path, batched: bool) -> np.ndarray:
    given = warmup.inputs.get(spec.name)
    if given is None:
        raise ModelError(f"{path}: warm-up '{warmup.name}' says nothing of the input '{spec.name}'")
    shape = (warmup.batch, *given.shape) if batched else given.shape
    if not spec.fits(shape):
        raise ModelError(f"{path}: warm-up '{warmup.name}' gives '{spec.name}' as {list(shape)}, but it is {spec}")
    if isinstance(given.data, Path):
        return _from_file(warmup, given, given.data, spec, shape)
    return filled(spec, shape, np.random.default_rng(0) if given.data == "random" else None)


def _from_file(warmup: Warmup, given: WarmupInput, file: Path, spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    """The rows in a file of raw elements: one row, repeated for a batch."""
    try:
        row = np.fromfile(file, spec.dtype.newbyteorder("<")).astype(spec.dtype).reshape(given.shape)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it doesn't hold {spec.dtype} {list(given.shape)}"
        raise ModelError(f"warm-up '{warmup.name}' can't read {file}: {reason}") from None
    return np.ascontiguousarray(np.broadcast_to(row, shape))
