"""Classifiers of the zoo beside what `netspec convolutionalise` makes of them: the same scores, also on every window.

For each network the greatest difference of the scores at its own size; for AlexNet and VGG-16 also that of a heat map
of a larger image from what the dense layers give for each window of the last map. Both over the greatest score.
"""

from __future__ import annotations

import sys

import torch

from benchmarks.measuring import Result, publish, worst
from compiler.module import Container, build, submodule
from compiler.passes.convolutionalise import convolutionalise
from netspec import load

NAMES = ("alexnet", "vgg16", "vgg16_bn", "googlenet", "resnet50", "densenet121", "lenet5")
WINDOWS = {"alexnet": 6, "vgg16": 7}  # of the last map, which the dense layers read
TOLERANCE = 1e-4
LARGER = (288, 352)


def differences(name: str) -> dict[str, float]:
    made = convolutionalise(load(name))
    classifier = build(made.before).eval()
    module = build(made.network, weights=made.weights(classifier.state_dict())).eval()
    shape = made.before.concrete(made.before.layer("image")["output"].shape)[1:]
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        image = torch.randn(1, *(int(size) for size in shape), generator=generator)
        found = {"own size": _apart(module(image).flatten(1), classifier(image))}
        if name in WINDOWS:
            larger = torch.randn(1, 3, *LARGER, generator=generator)
            found["windows"] = _windows(classifier, module, larger, WINDOWS[name])
    return found


def _windows(classifier: Container, module: Container, image: torch.Tensor, window: int) -> float:
    """The heat map, place by place, beside the dense layers on that window of the last map."""
    heat = module(image)
    parts = submodule(classifier, "features")(image).unfold(2, window, 1).unfold(3, window, 1)
    rows = parts.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
    wanted = submodule(classifier, "classifier")(rows)
    return _apart(heat.permute(0, 2, 3, 1).flatten(0, 2), wanted)


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def measure() -> Result:
    found = {}
    for name in NAMES:
        found[name] = differences(name)
        print(f"{name:<14}" + "".join(f"{what}: {value:.1e}   " for what, value in found[name].items()), flush=True)
    greatest = {name: max(values.values()) for name, values in found.items()}
    what = "greatest difference of the convolutional form from the classifier, over the greatest score"
    return worst("convolutionalised", what, greatest, TOLERANCE, True, {}, {"differences": found})


if __name__ == "__main__":
    sys.exit(0 if publish(measure) else 1)
