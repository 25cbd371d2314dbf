"""Building the module from a checked network: against plain PyTorch's construction, and with weights that are given.

Where they are given none are drawn. What is held against the limit is building with drawn weights over building with
given ones; how the same task compares, drawing some and loading the given ones over them, is stated beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from benchmarks.measuring import Result, alternate, medians, paired_ratio, publish, worst
from benchmarks.plain import plain_class
from compiler.module import build
from netspec import Network, load

NAMES = ("resnet50", "densenet121")
GIVEN = ("resnet50", "densenet121", "googlenet", "vgg16")
ROUNDS = 15


def beside_plain() -> Result:
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


def with_weights() -> Result:
    ratios, with_loading, times = {}, {}, {}
    for name in GIVEN:
        network = load(name)
        weights = build(network).state_dict()
        ways = {
            "drawn": partial(build, network),
            "drawn and loaded": partial(_drawn_and_loaded, network, weights),
            "given": partial(build, network, weights=weights),
        }
        found = alternate(ways, ROUNDS)
        ratios[name] = paired_ratio(found, "drawn", "given")
        with_loading[name] = paired_ratio(found, "drawn and loaded", "given")
        times |= {f"{name}, {side}": value for side, value in medians(found).items()}
    what = "building the module with drawn weights over building it with those that are given"
    details = {"rounds": ROUNDS, "ratios with loading those over the drawn ones": with_loading}
    return worst("construction_with_weights", what, ratios, 5, False, times, details)


def _drawn_and_loaded(network: Network, weights: Mapping[str, Tensor]) -> None:
    build(network).load_state_dict(weights)


def measure() -> list[Result]:
    return [beside_plain(), with_weights()]


if __name__ == "__main__":
    publish(measure)
