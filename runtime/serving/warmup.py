"""Runs before a model is ready: the first run is slow, and one that fails should fail before users see it."""

import logging
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from runtime.errors import ModelError, UserError
from runtime.probing import filled, probe
from runtime.serving.options import Warmup, WarmupInput
from runtime.session import Session
from runtime.tensors import TensorSpec

log = logging.getLogger(__name__)

# More would not be a warm-up but a mistake, and keep a server from starting, or fill its memory.
MAX_RUNS = 1000
MAX_BYTES = 2**30


def warm_up(session: Session, warmups: tuple[Warmup, ...], batched: bool) -> None:
    """Runs the model as it is configured, else once on one row of zeros where its shapes are known.

    A model that can't compute on zeros may be sound all the same: a size or an index of 0 is no good to some. It is
    refused only if it takes nothing but real numbers of sizes that it fixes itself.

    Raises:
        ModelError: a run fails, or what it should run on can't be made; the message names the warm-up.
    """
    for warmup in warmups:
        if warmup.count > MAX_RUNS:
            raise ModelError(f"{session.path}: warm-up '{warmup.name}' has {warmup.count} runs, more than {MAX_RUNS}")
        feeds = {spec.name: _configured(warmup, spec, session.path, batched) for spec in session.inputs}
        for _ in range(warmup.count):
            _run(session, feeds, f"warm-up '{warmup.name}'")
    if not warmups and (feeds := probe(session, 1)):
        try:
            _run(session, feeds, "the warm-up on zeros")
        except ModelError as error:
            if all(map(_takes_zeros, session.inputs)):
                raise
            log.warning("%s; a warm-up for it can be given in its config.pbtxt", error.message)


def _takes_zeros(spec: TensorSpec) -> bool:
    """Whether zeros are an input like any other."""
    return spec.dtype.kind == "f" and all(isinstance(size, int) for size in spec.shape[1:])


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
    if prod(shape) * spec.dtype.itemsize > MAX_BYTES:
        size = f"{prod(shape) * spec.dtype.itemsize:,} bytes"
        raise ModelError(f"{path}: warm-up '{warmup.name}' gives '{spec.name}' {size}, more than {MAX_BYTES:,}")
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
