"""What is asked of a served model, and what it gives back."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np


@dataclass(slots=True)
class InferenceRequest:
    """One request to a model.

    Attributes:
        feeds: every input by name, of exactly the type and shape that the model takes.
        outputs: the names of the outputs to give, in this order; empty for all.
        timeout: the seconds that it may wait before it runs; None for the model's own bound.
    """

    feeds: Mapping[str, np.ndarray]
    outputs: tuple[str, ...] = ()
    timeout: float | None = None


@dataclass(slots=True)
class InferenceResult:
    """The answer to one request.

    Attributes:
        outputs: the outputs that were asked for, by name, in the order asked.
        queue_ns: nanoseconds from arrival until its batch was formed.
        input_ns: nanoseconds in which its batch's inputs were joined.
        infer_ns: nanoseconds in which its batch ran.
        output_ns: nanoseconds in which the outputs were divided among the batch.
    """

    outputs: dict[str, np.ndarray]
    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int


# Who is told how long the stages of a request took that is made in this context: nobody, unless it is traced.
observer: ContextVar[Callable[[InferenceResult], None] | None] = ContextVar("observer", default=None)
