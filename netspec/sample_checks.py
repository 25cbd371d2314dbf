"""Whether samples of one input and one target fit the network, as far as that is known before they are read."""

from __future__ import annotations

from collections.abc import Iterator

from netspec.choices import CrossEntropy, Digits
from netspec.data_choices import Pictures
from netspec.detection_choices import DetectionLoss
from netspec.diagnostics import Diagnostic
from netspec.network import Network
from netspec.outputs import giver, is_image, shape_of
from netspec.recipe import Train
from netspec.tensor import write_shape
from netspec.yaml_reader import Entry, Mapping

DIGIT_CLASSES = 10


def sample_mistakes(network: Network, train: Train, entry: Entry) -> Iterator[Diagnostic]:
    """Arrays and classified images are read by one input; images by one that they can be made into.

    These are warnings: the network stands, and only its training is refused. How many classes there are is held against
    the spec's own arguments only, as what it expects of itself is: with others it may serve other data.

    Args:
        entry: `train`, for the places.
    """
    data = train.data
    if isinstance(data, Pictures) or isinstance(train.loss, DetectionLoss):
        return  # told elsewhere
    assert isinstance(entry.value, Mapping)
    node = entry.value.get("data")
    span = node.span if node else entry.key.span

    def told(message: str, name: str, help: str) -> Diagnostic:
        labels = (giver(network, name),)
        return Diagnostic("recipe-mismatch", message, span, severity="warning", labels=labels, help=help)

    if len(network.inputs) > 1:
        names = " and ".join(f"`{name}`" for name in network.inputs)
        message = f"a sample of `{data.kind}` is one tensor, and the network reads {names}"
        yield told(message, network.inputs[1], "give it one input, and take the others from it with `split`")
    elif data.images and not is_image(network, network.inputs[0]):
        name = network.inputs[0]
        shown = write_shape(shape_of(network, name), network.sizes)
        message = f"`{data.kind}` holds images, N × 1 or 3 × height × width; the input `{name}` is {shown}"
        yield told(message, name, "give the input such a shape, and begin with `flatten` if it takes no maps")
    if isinstance(data, Digits) and isinstance(train.loss, CrossEntropy) and network.as_written:
        for output in network.outputs:
            shape = shape_of(network, output)
            if len(shape) == 2 and shape[1] not in (1, DIGIT_CLASSES):  # one column is told of elsewhere
                message = f"`digits` has {DIGIT_CLASSES} classes; the output `{output}` is {write_shape(shape)}"
                yield told(message, output, f"give its last layer {DIGIT_CLASSES} features")
