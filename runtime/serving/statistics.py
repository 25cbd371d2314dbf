"""What happened to one model's requests: plain numbers, changed on the event loop and read when somebody asks."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.serving.refused import Reason
from runtime.serving.request import InferenceResult

# Upper bounds of the latency buckets in seconds: from a small network on a CPU to a large one in a full queue.
LATENCY_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_BOUNDS_NS = tuple(int(bound * 1e9) for bound in LATENCY_BOUNDS)


@dataclass(slots=True)
class Duration:
    """How often something was done, and the nanoseconds that it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, times: int = 1) -> None:
        """Counts `times` that took `ns` together."""
        self.count += times
        self.ns += ns


@dataclass(slots=True)
class Histogram:
    """Latencies by bucket: `counts[i]` lie at most at ``LATENCY_BOUNDS[i]``, the last one above them all.

    `ns` is their sum, and `greatest_ns` the greatest of them.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    ns: int = 0
    greatest_ns: int = 0

    def add(self, ns: int, times: int = 1) -> None:
        """Counts a latency that so many had."""
        self.counts[bisect_left(_BOUNDS_NS, ns)] += times
        self.ns += ns * times
        if ns > self.greatest_ns:
            self.greatest_ns = ns


@dataclass(slots=True)
class BatchStatistics:
    """The runs of batches of one number of rows."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


class Statistics:
    """The counts of one version of a model since the server started, however often it was loaded since then.

    Attributes:
        inference_count: rows answered.
        execution_count: runs of the model.
        last_inference_ms: when the last answer was given, in milliseconds since 1970; 0 before the first.
        success: requests answered, with their time from arrival to answer; `fail` likewise for the others.
        queue, compute_input, compute_infer, compute_output: the stages of the requests answered.
        batches: the runs by their rows.
        failures: requests that got no result, by the reason.
        latencies: histograms by stage, ``request`` for the whole.
        abandoned: requests whose client went away before they ran.
        in_flight: requests that are neither answered nor refused; those that wait are part of them.
    """

    STAGES = ("request", "queue", "input", "compute", "output")

    def __init__(self) -> None:
        self.inference_count = 0
        self.execution_count = 0
        self.last_inference_ms = 0
        self.success = Duration()
        self.fail = Duration()
        self.queue = Duration()
        self.compute_input = Duration()
        self.compute_infer = Duration()
        self.compute_output = Duration()
        self.batches: dict[int, BatchStatistics] = {}
        self.failures: Counter[Reason] = Counter()
        self.latencies = {stage: Histogram() for stage in self.STAGES}
        self.abandoned = 0
        self.in_flight = 0

    def ran(self, rows: Sequence[int], whole_ns: Sequence[int], results: Sequence[InferenceResult]) -> None:
        """Counts one run and its requests as answered: the rows of each, the time since it came, and what it got."""
        run, times, total = results[0], len(results), sum(rows)
        self.execution_count += 1
        self.inference_count += total
        self.last_inference_ms = int(time.time() * 1000)
        batch = self.batches.setdefault(total, BatchStatistics())
        batch.compute_input.add(run.input_ns)
        batch.compute_infer.add(run.infer_ns)
        batch.compute_output.add(run.output_ns)
        self.success.add(sum(whole_ns), times)
        self.queue.add(sum(result.queue_ns for result in results), times)
        self.compute_input.add(run.input_ns * times, times)
        self.compute_infer.add(run.infer_ns * times, times)
        self.compute_output.add(run.output_ns * times, times)
        request, queue, *others = (self.latencies[stage] for stage in self.STAGES)
        for whole, result in zip(whole_ns, results, strict=True):
            request.add(whole)
            queue.add(result.queue_ns)
        for histogram, ns in zip(others, (run.input_ns, run.infer_ns, run.output_ns), strict=True):
            histogram.add(ns, times)

    def failed(self, reason: Reason, whole_ns: int) -> None:
        """Counts one request that got no result, `whole_ns` after it came."""
        self.fail.add(whole_ns)
        self.failures[reason] += 1


def percentile(histogram: Histogram, share: float) -> float:
    """The latency in seconds that `share` (in 0…1) of those counted don't exceed, interpolated in its bucket.

    A bucket ends at the greatest latency where that lies in it. It is 0 where nothing was counted.
    """
    wanted = share * sum(histogram.counts)
    greatest = histogram.greatest_ns / 1e9
    low, below = 0.0, 0
    for bound, count in zip((*LATENCY_BOUNDS, greatest), histogram.counts, strict=True):
        if count and below + count >= wanted:
            return low + (min(bound, greatest) - low) * (wanted - below) / count
        low, below = bound, below + count
    return 0.0
