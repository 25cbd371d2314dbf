"""Building the module from a checked network against constructing the same network in plain PyTorch."""

from __future__ import annotations

from functools import partial

from benchmarks.measuring import Result, alternate, medians, paired_ratio, publish, worst
from benchmarks.plain import plain_class
from compiler.module import build
from netspec import load

NAMES = ("resnet50", "densenet121")
ROUNDS = 15


def measure() -> Result:
    ratios, times = {}, {}
    for name in NAMES:
        network = load(name)
        plain = plain_class(network)
        assert list(build(network).state_dict()) == list(plain().state_dict())
        found = alternate({"compiled": partial(build, network), "plain": plain}, ROUNDS, warm_up=1)
        ratios[name] = paired_ratio(found, "compiled", "plain")
        times |= {f"{name}, {side}": value for side, value in medians(found).items()}
    what = "building the module from a checked network over constructing plain PyTorch's, both with initialisation"
    return worst("construction", what, ratios, 1.1, True, times, {"rounds": ROUNDS})


if __name__ == "__main__":
    publish(measure)
