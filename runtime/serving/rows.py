"""Whether the rows of different requests may run together: what dynamic batching rests on."""

import numpy as np

from runtime.errors import UserError
from runtime.probing import probe
from runtime.session import Session
from runtime.tensors import TensorSpec

# Runs of different batch sizes take different kernels, so equal rows come out equal up to rounding.
TOLERANCE = 1e-3


def rows_are_independent(session: Session) -> bool:
    """Whether a model answers each row of a batch as if the row had come alone.

    The shapes have to allow it: every tensor's first dimension is free, and it is no other dimension too. A model with
    ``netspec.spec`` is believed that it is by rows then, as its layers are. Any other is asked: two random rows have to
    get the same answers together as they get alone. Where it can't be asked, as its sizes aren't known, it is believed
    if all its tensors call their first dimension by one name.
    """
    tensors = (*session.inputs, *session.outputs)
    if not session.inputs or not session.outputs or not all(_is_free(spec) for spec in tensors):
        return False
    names = {spec.shape[0] for spec in tensors}
    shared = len(names) == 1 and None not in names
    if shared and any(names & set(spec.shape[1:]) for spec in tensors):
        return False
    if shared and session.metadata.spec is not None:
        return True
    agrees = _rows_agree(session)
    return shared if agrees is None else agrees


def _is_free(spec: TensorSpec) -> bool:
    return bool(spec.shape) and not isinstance(spec.shape[0], int)


def _rows_agree(session: Session) -> bool | None:
    """Whether two rows get the same answers together as alone; None where there's nothing to ask with."""
    both = probe(session, 2, np.random.default_rng(0))
    if not both or not any(array.dtype.kind == "f" for array in both.values()):
        return None
    try:
        together = session.run(both)
        alone = [session.run({name: array[i : i + 1] for name, array in both.items()}) for i in range(2)]
    except UserError:
        return False
    return all(_agree(together[name], [run[name] for run in alone]) for name in together)


def _agree(together: np.ndarray, alone: list[np.ndarray]) -> bool:
    if any(array.ndim == 0 or len(array) != 1 for array in alone) or together.shape != (2, *alone[0].shape[1:]):
        return False
    separate = np.concatenate(alone)
    if together.dtype.kind != "f":
        return bool((together == separate).all())
    largest = float(np.nanmax(np.abs(separate), initial=0.0))
    return np.allclose(together, separate, rtol=TOLERANCE, atol=TOLERANCE * largest, equal_nan=True)
