"""Whether a model is what its configuration declares it to be."""

from collections.abc import Sequence

from runtime.errors import ModelError
from runtime.serving.options import ModelOptions
from runtime.session import Session
from runtime.tensors import TensorSpec


def check_declared(session: Session, options: ModelOptions) -> None:
    """Checks the inputs and outputs that a configuration declares against those of the model.

    A size that is declared may be free in the model: the model takes others too. Outputs may be left out.

    Raises:
        ModelError: a name, type or shape is another than the model's, or an input is missing.
    """
    _check(session, "input", options.inputs, session.inputs)
    _check(session, "output", options.outputs, session.outputs)
    declared = {spec.name for spec in options.inputs}
    missing = [spec for spec in session.inputs if spec.name not in declared]
    if declared and missing:
        raise ModelError(f"{session.path}: its configuration leaves out the input '{missing[0].name}', {missing[0]}")
    if strange := [name for name in options.labels if name not in {spec.name for spec in session.outputs}]:
        raise ModelError(f"{session.path}: its configuration has labels for '{strange[0]}', which is no output")


def _check(session: Session, kind: str, declared: Sequence[TensorSpec], there: Sequence[TensorSpec]) -> None:
    specs = {spec.name: spec for spec in there}
    for wanted in declared:
        spec = specs.get(wanted.name)
        if spec is None:
            known = ", ".join(f"'{name}'" for name in specs)
            raise ModelError(f"{session.path}: its configuration has the {kind} '{wanted.name}'; the model has {known}")
        if wanted.dtype != spec.dtype or not _may_be(wanted, spec):
            raise ModelError(
                f"{session.path}: its configuration declares the {kind} '{spec.name}' as {wanted}, but it is {spec}",
                help="the dims are without the batch where max_batch_size is above 0, and with it where it is 0",
            )


def _may_be(declared: TensorSpec, spec: TensorSpec) -> bool:
    """Whether the declared shape is the model's, or one of those that the model takes."""
    return not spec.shape or (
        len(declared.shape) == len(spec.shape)
        and all(
            not isinstance(size, int) or size == wanted for wanted, size in zip(declared.shape, spec.shape, strict=True)
        )
    )
