"""Running a batch: its inputs joined, the model run once, the outputs divided among the requests."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runtime.serving.batching import Pending
from runtime.serving.refused import Refused
from runtime.serving.request import InferenceRequest, InferenceResult
from runtime.session import Session


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the requests of one run: a result for each, or why there is none."""

    batch: list[Pending]
    outcome: list[InferenceResult] | Refused


class NotByRows(Exception):
    """An output of a joined run doesn't have a row for every row of the inputs, so nobody can say whose it is."""

    def __init__(self, output: str) -> None:
        super().__init__(f"the output '{output}' hasn't as many rows as the inputs")


def run_batch(session: Session, batch: Sequence[Pending], taken_ns: int) -> list[InferenceResult]:
    """Runs the model once on all requests of a batch, and gives each its own rows of the outputs that it asked for.

    Args:
        session: the model.
        batch: the requests, whose feeds differ in their numbers of rows only.
        taken_ns: when the batch was formed.

    Raises:
        InputError: the model cannot compute on what one of them holds.
        RunError: memory ran out, or the device failed.
        NotByRows: there are several requests, and an output can't be divided among them.
    """
    requests = [pending.request for pending in batch]
    feeds = requests[0].feeds if len(batch) == 1 else _joined(requests)
    joined_ns = time.perf_counter_ns()
    outputs = session.run(feeds, _wanted(requests))
    ran_ns = time.perf_counter_ns()
    shares = [outputs] if len(batch) == 1 else _divided(outputs, [pending.rows for pending in batch])
    answers = [
        {name: share[name] for name in request.outputs} if request.outputs else share
        for request, share in zip(requests, shares, strict=True)
    ]
    done_ns = time.perf_counter_ns()
    return [
        InferenceResult(
            answer, taken_ns - pending.arrived_ns, joined_ns - taken_ns, ran_ns - joined_ns, done_ns - ran_ns
        )
        for pending, answer in zip(batch, answers, strict=True)
    ]


def _joined(requests: Sequence[InferenceRequest]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([request.feeds[name] for request in requests]) for name in requests[0].feeds}


def _wanted(requests: Sequence[InferenceRequest]) -> list[str] | None:
    """The outputs that any of them asks for, None for all."""
    if not all(request.outputs for request in requests):
        return None
    return list(dict.fromkeys(name for request in requests for name in request.outputs))


def _divided(outputs: Mapping[str, np.ndarray], rows: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Each request's own rows of every output."""
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != sum(rows):
            raise NotByRows(name)
    shares = []
    start = 0
    for count in rows:
        shares.append({name: array[start : start + count] for name, array in outputs.items()})
        start += count
    return shares
