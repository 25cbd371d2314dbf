"""A checked network: a graph whose nodes carry everything that is known of each layer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from netspec import dims
from netspec.diagnostics import Frame
from netspec.dims import Dim
from netspec.ops.base import Op
from netspec.source import Span
from netspec.tensor import Field, Shape, TensorType, Weight

if TYPE_CHECKING:
    import networkx as nx


SERVED = "deploy"  # the container of the layers that only the served form has


class Layer(TypedDict):
    """The attributes of a node of the graph. The node's id is the layer's path, `layer1.0.conv1`.

    Attributes:
        op: what it does; None for an input of the network.
        module: the path of the module that it applies: its own, or that of the layer whose weights it shares.
        arguments: the op's arguments by name, defaults included.
        inputs: the nodes that it reads, in order (an edge each).
        output: type of what it gives.
        weights: its module's tensors by name, in the order of the state-dict.
        parameters: how many numbers of these are trained; 0 where another layer, with the same module, counts them.
        macs: multiply-accumulates for one sample, a polynomial in the free dimensions.
        receptive_field: of one output unit, by spatial axis; None where there are none.
        depth: weighted layers on the longest path from an input up to here.
        span, expansion: where it is written, and the way through the blocks that leads there.
    """

    op: Op | None
    module: str
    arguments: dict[str, Any]
    inputs: tuple[str, ...]
    output: TensorType
    weights: dict[str, Weight]
    parameters: int
    macs: Dim
    receptive_field: Field | None
    depth: int
    span: Span
    expansion: tuple[Frame, ...]


@dataclass(slots=True, eq=False)
class Container:
    """A module that holds others: a block's use, a `net`, a list, one turn of a `repeat`, or the repeat itself.

    Attributes:
        module: the path of the module that it is: its own, or that of the container whose weights it shares. One of
            kind `over` is no module; it only names the results of one module on several tensors.
        inputs: the nodes that it reads by names of its own.
    """

    path: str
    kind: str
    arguments: dict[str, Any]
    span: Span
    module: str
    inputs: dict[str, str] = field(default_factory=dict)


class LeftOut(NamedTuple):
    """Why a layer of the spec is not there: what its `when` says, where, and the values that this reads."""

    condition: str
    span: Span
    values: dict[str, Any]


@dataclass(slots=True, eq=False)
class Serving:
    """The layers of `deploy`, which read those of the network and are none of it, and what they give, by name."""

    outputs: dict[str, str]
    nodes: dict[str, Layer]
    containers: dict[str, Container]


@dataclass(slots=True, eq=False)
class Network:
    """A network that has passed the checks.

    Attributes:
        text: the spec as YAML that stands alone: what it extends and uses is written out.
        nodes: the inputs and layers by path, in an order in which every layer comes after what it reads.
        containers: every container by its path, outer before inner.
        left_out: the layers that a `when` leaves out, by path.
        inputs: the nodes that are fed.
        outputs: the nodes that are given, by the name of the output.
        serving: what only the served form has, where `deploy` has layers.
        sizes: numbers for the free dimensions, for reports and for the check at one size.
        own_sizes: these as the spec gives them, where others are asked for.
        sections: the spec's `train` and `deploy`, checked.
        shared: the paths of the modules that several layers apply.
        drawn_up: the graph, once it was asked for.
        formulas: the arguments of layers that are written as expressions, by path, and what the expressions read.
        as_written: whether the arguments are the spec's own, so that its `expect` was checked.
    """

    name: str
    origin: str
    file: str
    text: str
    arguments: dict[str, Any]
    nodes: dict[str, Layer] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    serving: Serving | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    own_sizes: dict[str, int] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    formulas: dict[str, tuple[dict[str, str], dict[str, Any]]] = field(default_factory=dict)
    as_written: bool = True
    drawn_up: nx.DiGraph[str] | None = None

    @property
    def graph(self) -> nx.DiGraph[str]:
        """The network as a networkx graph: a node for each input and layer, with these attributes, and an edge for each
        tensor that is read.
        """
        if self.drawn_up is None:
            import networkx  # a third of what a small spec takes to check, for those who ask for the graph

            graph: nx.DiGraph[str] = networkx.DiGraph()
            for path, layer in self.nodes.items():
                graph.add_node(path, **layer)
            graph.add_edges_from((read, path) for path, layer in self.nodes.items() for read in layer["inputs"])
            self.drawn_up = graph
        return self.drawn_up

    def readers(self) -> dict[str, list[str]]:
        """The nodes that read each node, each once and in order."""
        found: dict[str, list[str]] = {path: [] for path in self.nodes}
        for path, layer in self.nodes.items():
            for read in dict.fromkeys(layer["inputs"]):
                found[read].append(path)
        return found

    def layer(self, path: str) -> Layer:
        """The attributes of a node."""
        return self.nodes[path]

    def layers(self) -> Iterator[tuple[str, Layer]]:
        """Every layer with its path, in order, without the inputs."""
        for path, layer in self.nodes.items():
            if layer["op"] is not None:
                yield path, layer

    def set_apart(self, outputs: dict[str, str]) -> None:
        """Takes the layers of `deploy` out of the network: what it is trained and judged by is without them."""
        nodes = {path: self.nodes.pop(path) for path in list(self.nodes) if is_under(path, SERVED)}
        containers = {path: self.containers.pop(path) for path in list(self.containers) if is_under(path, SERVED)}
        self.serving = Serving(outputs, nodes, containers)

    def is_shared(self, path: str) -> bool:
        """Whether a layer's module is applied by others too."""
        return self.layer(path)["module"] in self.shared

    def parameters(self, under: str = "") -> int:
        """Trained numbers in all, or below a layer or container."""
        return sum(layer["parameters"] for path, layer in self.layers() if is_under(path, under))

    def macs(self, under: str = "") -> Dim:
        """Multiply-accumulates for one sample at `sizes`, in all or below a layer or container."""
        total: Dim = 0
        # Equal layers are many, and the sum of formulas is slow.
        for macs, count in Counter(layer["macs"] for path, layer in self.layers() if is_under(path, under)).items():
            total = total + macs * count
        return dims.evaluate(total, self.sizes)

    def depth(self) -> int:
        """Weighted layers on the longest path from an input to an output."""
        return max((self.layer(node)["depth"] for node in self.outputs.values()), default=0)

    def state_dict(self) -> Iterator[tuple[str, Weight]]:
        """Every weight with its key, in the order of the PyTorch module's state-dict."""
        seen: set[str] = set()
        found: dict[str, Weight] = {}
        own: set[str] = set()  # tensors that belong to a container itself
        for _, layer in self.layers():
            if layer["weights"] and layer["module"] not in seen:
                seen.add(layer["module"])
                found |= {key_of(layer["module"], name): weight for name, weight in layer["weights"].items()}
                own |= {layer["module"]} if "" in layer["weights"] else set()
        yield from (((key, found[key]) for key in _own_first(list(found), own)) if own else found.items())

    def concrete(self, shape: Shape) -> tuple[int | str, ...]:
        """A shape at `sizes`: numbers, and the names or formulas of what is still free."""
        return tuple(
            size if isinstance(size, int) else str(size) for size in (dims.evaluate(d, self.sizes) for d in shape)
        )


def key_of(module: str, name: str) -> str:
    """The key in the state-dict of a module's tensor; one without a name has the module's own path."""
    return f"{module}.{name}" if name else module


def _own_first(keys: list[str], own: set[str]) -> list[str]:
    """Keys by container, each container's own tensors before those of its modules."""
    paths = {key: [key[: dot.start()] for dot in re.finditer(r"\.", key)] + [key] for key in keys}
    first: dict[str, int] = {}
    for path in (path for key in keys for path in paths[key]):
        first.setdefault(path, len(first))
    return sorted(keys, key=lambda key: [(path not in own, first[path]) for path in paths[key]])


def is_under(path: str, container: str) -> bool:
    """Whether a path is a container's or lies below it; everything lies below ""."""
    return not container or path == container or path.startswith(container + ".")


def nominal(tensor: TensorType, sizes: Mapping[str, int]) -> TensorType:
    """A tensor's type with the free dimensions replaced where `sizes` has a number."""
    if all(isinstance(dim, int) for dim in tensor.shape):
        return tensor
    return TensorType(tuple(dims.evaluate(dim, sizes) for dim in tensor.shape), tensor.dtype)
