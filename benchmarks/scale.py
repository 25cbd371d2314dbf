"""Checking very large specs: whether the time grows with nodes + edges, what a node costs, and the peak memory.

Each check runs in a process of its own and is counted in CPU time, which other processes disturb little. The YAML is
read beforehand, and timed apart. A dense block of n layers has a number of edges that grows with n, not with its
square: a layer reads the concatenation that the one before has made.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from benchmarks.measuring import Result, in_child, peak_memory, publish, worst
from netspec.loading import check_source
from netspec.source import Source
from netspec.yaml_reader import parse

ROUNDS = 3
INPUTS = "netspec: 1\ninputs:\n  image: {shape: [N, 16, H, W], sizes: {H: 32, W: 32}}\n"
CONV = "{conv: 16, kernel: 3, padding: 1, bias: false}"


def residual(layers: int) -> str:
    """Residual blocks of 7 layers, by a block and a `repeat`."""
    body = f"conv1: {CONV}, bn1: batchnorm, relu1: relu, conv2: {CONV}, bn2: batchnorm, add: {{add: [bn2, in]}}"
    block = f"blocks:\n  basic:\n    net: {{{body}, relu2: relu}}\n"
    return f"{INPUTS}{block}net:\n  stage: {{repeat: {layers // 7}, net: [basic]}}\n"


def written_out(layers: int) -> str:
    """The same layers, each of them written."""
    rows, previous = [], "image"
    for i in range(layers // 7):
        rows += [
            f"  conv1_{i}: {CONV}", f"  bn1_{i}: batchnorm", f"  relu1_{i}: relu", f"  conv2_{i}: {CONV}",
            f"  bn2_{i}: batchnorm", f"  add_{i}: {{add: [bn2_{i}, {previous}]}}", f"  relu2_{i}: relu",
        ]  # fmt: skip
        previous = f"relu2_{i}"
    return INPUTS + "net:\n" + "\n".join(rows) + "\n"


def dense(layers: int) -> str:
    """A densely connected block: each layer is a DenseNet's, six ops, and reads all before it."""
    first = "norm1: batchnorm, relu1: relu, conv1: {conv: 48, kernel: 1, bias: false}"
    second = "norm2: batchnorm, relu2: relu, conv2: {conv: 12, kernel: 3, padding: 1, bias: false}"
    block = f"blocks:\n  denselayer:\n    net: {{{first}, {second}}}\n"
    return f"{INPUTS}{block}net:\n  block: {{repeat: {layers}, connect: dense, net: [denselayer]}}\n"


CASES: dict[str, tuple[Callable[[int], str], int]] = {
    "residual": (residual, 100_000),
    "residual, written out": (written_out, 100_000),
    "dense": (dense, 1_000),
}


@dataclass
class Cost:
    """What one check took, in seconds of CPU time and bytes; `peak` is that of the whole process."""

    nodes: int
    edges: int
    reading: float
    checking: float
    peak: int

    @property
    def per_unit(self) -> float:
        return self.checking / (self.nodes + self.edges)


def cost(case: str, layers: int) -> Cost:
    generate = CASES[case][0]
    check_source(Source("small.yaml", generate(70)))  # imports what the check needs
    source = Source("large.yaml", generate(layers))
    begun = time.process_time()
    parse(source)
    read = time.process_time()
    network = check_source(source).network
    checked = time.process_time()
    assert network is not None
    graph = network.graph
    reading = read - begun  # once more within the check
    return Cost(graph.number_of_nodes(), graph.number_of_edges(), reading, checked - read - reading, peak_memory())


def measure() -> list[Result]:
    growth: dict[str, float] = {}
    per_node: dict[str, float] = {}
    times: dict[str, float] = {}
    stated: dict[str, dict[str, float]] = {}
    for case, (_, most) in CASES.items():
        small: list[Cost] = []
        large: list[Cost] = []
        for _ in range(ROUNDS):
            small.append(in_child(cost, case, most // 10))
            large.append(in_child(cost, case, most))
        middle = sorted(large, key=lambda found: found.checking)[ROUNDS // 2]
        ours, tenth = (statistics.median(found.per_unit for found in costs) for costs in (large, small))
        growth[case] = 10 * ours / tenth
        per_node[case] = 1e6 * middle.checking / middle.nodes
        times[f"{case}, {most // 10:,}"] = 1000 * statistics.median(found.checking for found in small)
        times[f"{case}, {most:,}"] = 1000 * middle.checking
        stated[case] = asdict(middle) | {"peak_mib": round(middle.peak / 2**20)}
        print(f"{case}: {middle.nodes:,} nodes, {middle.edges:,} edges, peak {middle.peak / 2**20:.0f} MiB")
    details = {"rounds": ROUNDS, "clock": "CPU time", "costs": stated}
    return [
        worst("scale_growth", "time of checking 10 × the nodes + edges", growth, 12, True, times, details),
        worst("scale_per_node", "µs of checking a node of the large specs", per_node, 60, True, times, details),
    ]


if __name__ == "__main__":
    publish(measure)
