"""Names, never positions: a layer put in or taken out anywhere in the zoo never rewires another without a word."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import netspec
from netspec import Checked, Network
from netspec.loading import check_source
from netspec.source import Source
from netspec.yaml_reader import parse
from netspec.zoo import zoo

NEW = "inserted_here"
# Each is looked at as it stands; a spec that only gives another one other arguments has the same text.
DEPTHS = {"resnet101", "resnet152", "resnet34", "densenet161", "densenet169", "densenet201", "resnet101_preact"}
SPECS = [
    name
    for name, path in zoo()
    if path.parent.name != "blocks" and name not in DEPTHS | {"resnet152_preact", "resnet34_preact"}
]
# Where each deletion is told: every layer is named, or the boxes are as many as the layers make them.
ALL_OUTPUTS = ("padding_and_stride", "small_convolutions", "ssd300_vgg16")
Tree = Any
Place = tuple[Any, ...]


class Plain(yaml.SafeDumper):
    """Writes every word without quotes, as our reader goes by the text alone."""


Plain.yaml_implicit_resolvers = {}


def tree_of(name: str) -> Tree:
    """A spec with all that it extends and uses, as plain data."""
    text = netspec.load(name).text
    parse(Source(name, text))
    return yaml.load(text, Loader=yaml.BaseLoader)


def check(tree: Tree) -> Checked:
    spec = {key: value for key, value in tree.items() if key != "expect"}
    return check_source(Source("spec.yaml", yaml.dump(spec, Dumper=Plain, sort_keys=False, width=10**6)))


def bodies(tree: Tree, network: Network) -> Iterator[Place]:
    """The place of every mapping or list of layers: of the network, of blocks, of containers in them."""

    def inside(node: Tree, place: Place) -> Iterator[Place]:
        yield place
        children = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in children:
            if isinstance(child, list):
                yield from inside(child, (*place, key))
            for kind in ("net", "branches", "residual"):
                if isinstance(child, dict) and isinstance(child.get(kind), dict | list):
                    yield from inside(child[kind], (*place, key, kind))

    yield from inside(tree["net"], ("net",))
    used = {container.kind for container in network.containers.values()}
    for name, block in tree.get("blocks", {}).items():
        if name not in used:
            continue  # nothing is wired by a block that no layer uses
        for kind in ("net", "branches", "residual"):
            if kind in block:
                yield from inside(block[kind], ("blocks", name, kind))


def at(tree: Tree, place: Place) -> Tree:
    for key in place:
        tree = tree[key]
    return tree


def replaced(tree: Tree, place: Place, body: Tree) -> Tree:
    changed = copy.deepcopy(tree)
    at(changed, place[:-1])[place[-1]] = body
    return changed


def with_a_layer(tree: Tree, place: Place, index: int) -> Tree:
    """The spec with a layer that changes nothing before the one at `index`."""
    body = at(tree, place)
    if isinstance(body, list):
        return replaced(tree, place, [*body[:index], "identity", *body[index:]])
    items = list(body.items())
    return replaced(tree, place, dict([*items[:index], (NEW, "identity"), *items[index:]]))


def without_a_layer(tree: Tree, place: Place, index: int) -> Tree:
    body = at(tree, place)
    if isinstance(body, list):
        return replaced(tree, place, [*body[:index], *body[index + 1 :]])
    return replaced(tree, place, {key: value for number, (key, value) in enumerate(body.items()) if number != index})


def names_in(layer: Tree) -> set[str]:
    """What a layer reads by name, but for `in`."""
    if not isinstance(layer, dict):
        return set()
    found: list[Any] = []
    for key, value in layer.items():
        if key in ("from", "over"):
            found += value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
        elif isinstance(value, list) and key in ("add", "concat", "multiply", "matmul"):
            found += value
    return {str(name) for name in found} - {"in"}


def layer_text(tree: Tree, network: Network, path: str) -> Tree:
    """What is written of the layer at a path of the graph."""
    node: Tree = tree["net"]
    at_path = ""
    for name in path.split("."):
        if at_path and at_path not in network.containers:
            return None  # one of several results of a layer
        kind = network.containers[at_path].kind if at_path else "net"
        at_path = f"{at_path}.{name}" if at_path else name
        if kind == "repeat":
            continue  # a turn is written as its repeat is
        if kind in tree.get("blocks", {}):
            block = tree["blocks"][kind]
            node = next(block[key] for key in ("net", "branches", "residual") if key in block)
        elif isinstance(node, dict) and at_path != name:
            node = next((node[key] for key in ("net", "branches", "residual") if key in node), node)
        if isinstance(node, dict):
            node = node.get(name)
        elif isinstance(node, list) and name.isdigit():
            node = node[int(name)]
        else:
            return None  # made by a container: a merge, a concatenation
    return node


def is_new(network: Network, node: str) -> bool:
    layer = network.layer(node)
    return layer["op"] is not None and layer["op"].kind == "identity"


def rewired(tree: Tree, before: Network, after: Network) -> list[str]:
    """The layers that read something else than they did, though what they name is still there."""
    old = list(before.graph.nodes)
    kept = [node for node in after.graph.nodes if not is_new(after, node)]
    assert len(old) == len(kept)
    now = dict(zip(old, kept, strict=True))
    found = []
    for node in old:
        if before.layer(node)["op"] is None:
            continue
        named = names_in(layer_text(tree, before, node))
        reads = before.layer(node)["inputs"], after.layer(now[node])["inputs"]
        for was, found_now in zip(*reads, strict=True):
            through = found_now
            while is_new(after, through):
                (through,) = after.layer(through)["inputs"]
            directly = was.rpartition(".")[2] in named  # a leaf that is named: nothing may come between
            if through != now[was] or (directly and found_now != now[was]):
                found.append(f"{node} read {was}, now {found_now}")
    return found


def compare_what_is_left(before: Network, after: Network) -> int:
    """Holds every layer that is left, and that read only layers that are left, to what it read; how many there are."""
    count = 0
    for node, layer in after.layers():
        was = before.nodes[node]["inputs"] if node in before.nodes else ()
        if was and all(read in after.nodes for read in was) and after.left_out.keys() == before.left_out.keys():
            assert layer["inputs"] == was, node
            count += 1
    return count


@pytest.mark.parametrize("name", SPECS)
def test_no_inserted_layer_rewires_another(name: str) -> None:
    tree = tree_of(name)
    before = check(tree).network
    assert before is not None
    tried = 0
    for place in bodies(tree, before):
        side_by_side = place[-1] == "branches"
        for index in range(len(at(tree, place)) + 1):
            if side_by_side:
                continue  # a further branch is a change that is meant
            checked = check(with_a_layer(tree, place, index))
            if checked.network is None:  # said aloud: of several inputs, or results, none is the obvious one
                codes = {diagnostic.code for diagnostic in checked.diagnostics}
                assert codes <= {"wrong-input-count", "ambiguous-reference"}, (place, index)
                continue
            assert rewired(tree, before, checked.network) == []
            tried += 1
    assert tried >= 3


@pytest.mark.parametrize("name", SPECS)
def test_a_deleted_layer_that_is_read_is_told_and_any_other_leaves_the_wiring(name: str) -> None:
    tree = tree_of(name)
    before = check(tree).network
    assert before is not None
    compared = 0
    for place in bodies(tree, before):
        body = at(tree, place)
        if len(body) < 2:
            continue
        for index in range(len(body)):
            deleted = (
                next(key for number, key in enumerate(body) if number == index) if isinstance(body, dict) else None
            )
            changed = without_a_layer(tree, place, index)
            readers = [layer for layer in at(changed, place) if isinstance(body, dict)]
            named = any(
                deleted in {reference.partition(".")[0] for reference in names_in(at(changed, place)[reader])}
                for reader in readers
            )
            checked = check(changed)
            if named:
                assert checked.network is None
                told = [d for d in checked.diagnostics if d.code in ("unknown-reference", "forward-reference")]
                assert told and any(f"`{deleted}`" in diagnostic.message for diagnostic in told), (place, deleted)
            elif checked.network is not None and deleted is not None:
                compared += compare_what_is_left(before, checked.network)
    assert compared >= 1 or name in ALL_OUTPUTS
