"""Whether the maps that an op reads have the strides that it takes them to have."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from netspec.network import Network
from netspec.ops.base import Op
from netspec.tensor import ShapeError, TensorType, write_shape

Strides = tuple[Fraction, ...]  # along each spatial axis, in pixels of the image


def check_strides(network: Network, op: Op, nodes: tuple[str, ...], types: tuple[TensorType, ...]) -> None:
    """Refuses a level of another stride than the op states for it.

    A stride is right if neighbouring units see the image so many pixels apart, or if the image is so many times as
    large as the map.

    Raises:
        ShapeError: with both strides, where the level's comes from, and the level that was meant if one has the other.
    """
    for node, stated in zip(nodes, op.strides_read(*types), strict=False):
        if stated is None or _is_of(network, node, stated):
            continue
        found = _written(_apart(network, node) or _ratios(network, node))
        meant = next((other for other in _beside(network, node) if _is_of(network, other, stated)), None)
        argument = "strides" if "strides" in type(op).model_fields else "stride"
        raise ShapeError(
            f"`{node}` has stride {found} and is read as a level of stride {stated}",
            help=f"read `{meant}`, or write {found} in `{argument}`" if meant else f"write {found} in `{argument}`",
            code="stride-mismatch",
            argument=argument,
            notes=tuple(_reasons(network, node)),
        )


def _is_of(network: Network, node: str, stride: int) -> bool:
    """Whether a map has a stride; one of which nothing is known, as of one that is an input itself, has any."""
    if network.layer(node)["op"] is None:
        return True
    apart, ratios = _apart(network, node), _ratios(network, node)
    if any(known and set(known) == {stride} for known in (apart, ratios)):
        return True
    if apart or not ratios:
        return not apart
    # Sizes that aren't divided evenly are rounded, up or down.
    sizes = network.concrete(network.layer(node)["output"].spatial)
    return all(abs(ratio - stride) * int(size) < stride for ratio, size in zip(ratios, sizes, strict=True))


def _apart(network: Network, node: str) -> Strides:
    """How far apart the places lie that neighbouring units see; empty where it is not known."""
    field = network.layer(node)["receptive_field"]
    jumps = field.jump if field is not None else ()
    whole = tuple(jump for jump in jumps if isinstance(jump, int))
    return tuple(Fraction(jump, field.parts) for jump in whole) if field and len(whole) == len(jumps) else ()


def _ratios(network: Network, node: str) -> Strides:
    """How many times the image's size is the map's, at the spec's `sizes`; empty where it is not known."""
    image = _image(network, node)
    sizes = network.concrete(network.layer(node)["output"].spatial)
    whole = network.concrete(network.layer(image)["output"].spatial) if image else ()
    known = [(a, b) for a, b in zip(whole, sizes, strict=bool(image)) if isinstance(a, int) and isinstance(b, int)]
    return tuple(Fraction(a, b) for a, b in known) if len(known) == len(sizes) else ()


def _image(network: Network, node: str) -> str | None:
    """The first input of the network with as many axes as a map."""
    rank = network.layer(node)["output"].rank
    inputs = (name for name, layer in network.nodes.items() if layer["op"] is None)
    return next((name for name in inputs if network.layer(name)["output"].rank == rank), None)


def _beside(network: Network, node: str) -> Iterator[str]:
    """The maps of as many channels in the same container, the last one first."""
    container, channels = node.rpartition(".")[0], network.layer(node)["output"].shape[1]
    for other in reversed(network.nodes):
        output = network.layer(other)["output"]
        if other.rpartition(".")[0] == container and output.rank > 2 and output.shape[1] == channels:
            yield other


def _reasons(network: Network, node: str) -> Iterator[str]:
    """Where a map's stride comes from."""
    apart, image = _apart(network, node), _image(network, node)
    if apart:
        yield f"neighbouring units of `{node}` see the image {_written(apart)} pixels apart"
    if image and _ratios(network, node):
        whole, size = (write_shape(network.layer(name)["output"].spatial, network.sizes) for name in (image, node))
        yield f"`{image}` is {whole}, and `{node}` is {size}"


def _written(strides: Strides) -> str:
    """Strides as people write them: one number where all axes have the same."""
    return " × ".join(f"{float(stride):.4g}" for stride in (strides[:1] if len(set(strides)) == 1 else strides))
