"""The PyTorch module: its tree, its wiring, and what it computes."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import netspec
from benchmarks.handwritten import DigitsResNet
from compiler.module import build
from netspec.loading import check_source
from netspec.source import Source


def network_of(text: str) -> netspec.Network:
    checked = check_source(Source("spec.yaml", text))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


def test_the_module_tree_is_the_tree_of_the_spec() -> None:
    module = build(netspec.load("resnet"))

    assert isinstance(module.get_submodule("layer2.0.downsample.0"), nn.Conv2d)
    assert module.get_submodule("layer2.0.downsample.0").stride == (2, 2)
    assert [name for name, _ in module.named_children()] == [
        "conv1", "bn1", "relu", "layer1", "layer2", "layer3", "avgpool", "flatten", "fc",
    ]  # fmt: skip


def test_it_has_the_keys_outputs_and_gradients_of_the_same_network_written_by_hand() -> None:
    module, reference = build(netspec.load("resnet"), seed=3), DigitsResNet()
    assert sorted(module.state_dict()) == sorted(reference.state_dict())
    reference.load_state_dict(module.state_dict())
    x = torch.randn(4, 1, 11, 8)
    ours, theirs = module(x), reference(x)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    expected = dict(reference.named_parameters())
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad)


def test_weights_follow_the_seed_and_leave_the_global_random_state_alone() -> None:
    network = netspec.load("lenet5")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = build(network, 1), build(network, 1), build(network, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_threads_that_build_at_the_same_time_draw_each_what_its_seed_says() -> None:
    network = netspec.load("resnet")
    expected = [build(network, seed).state_dict() for seed in range(4)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda turn: build(network, turn % 4).state_dict(), range(40)))
    for turn, state in enumerate(found):
        assert all(torch.equal(tensor, expected[turn % 4][key]) for key, tensor in state.items())
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_alike_that_are_given_their_weights_have_each_its_own() -> None:
    """Of layers alike one is made, and copied where weights are given: what is done to one leaves the others alone."""
    network = netspec.load("resnet18")
    state = build(network, seed=1).state_dict()
    module = build(network, weights=state)
    assert len({tensor.data_ptr() for tensor in module.state_dict().values()}) == len(state)
    first, second = module.get_submodule("layer1.0.bn1"), module.get_submodule("layer1.0.bn2")
    first.eval().momentum = 0.5
    first.register_forward_hook(lambda *_: None)
    first.weight.requires_grad = False
    assert (second.training, second.momentum, len(second._forward_hooks), second.weight.requires_grad) == (
        True, 0.1, 0, True,
    )  # fmt: skip


WIRED = """
netspec: 1
inputs:
  a: {shape: [N, 3]}
  b: {shape: [N, 3]}
net:
  left: {linear: 4, from: a}
  group:
    from: b
    net:
      inner: {linear: 4}
      deep: {net: {one: {linear: 4}, two: {add: [one, left]}}}
  peek: {add: [group.deep.one, group.inner]}
  join: {concat: [peek, group, left]}
  type: relu
outputs: {joined: type, seen: group.inner}
"""


def test_references_cross_containers_in_both_directions() -> None:
    module = build(network_of(WIRED))
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    joined, seen = module(a, b)
    with torch.no_grad():
        left = module.left(a)
        inner = module.get_submodule("group.inner")(b)
        one = module.get_submodule("group.deep.one")(inner)
        expected = torch.relu(torch.cat([one + inner, one + left, left], 1))
    torch.testing.assert_close(joined, expected)
    torch.testing.assert_close(seen, inner)


def test_a_child_that_is_replaced_is_the_one_that_runs() -> None:
    module = build(netspec.load("mlp")).eval()
    x = torch.randn(1, 1, 8, 8)
    module.fc3 = nn.Identity()
    assert module(x).shape == (1, 128)


def test_it_can_be_copied_and_compiled() -> None:
    module = build(netspec.load("resnet")).eval()
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(copy.deepcopy(module)(x), module(x))
    explained = torch._dynamo.explain(module)(x)
    assert explained.graph_count == 1
    assert explained.graph_break_count == 0


def test_a_sum_that_works_in_place_does_not_disturb_its_other_readers() -> None:
    text = "netspec: 1\ninputs: {x: {shape: [N, 4]}}\nnet:\n  a: {linear: 4}\n  b: {linear: 4, from: x}\n"
    module = build(network_of(text + "  twice: {add: [a, b, a]}\n  once: {add: [twice, b]}\n"))
    x = torch.randn(3, 4)
    with torch.no_grad():
        a, b = module.a(x), module.b(x)
    torch.testing.assert_close(module(x), 2 * a + 2 * b)


def test_no_activation_outlives_its_last_reader() -> None:
    """A chain of any length needs as many values at once as one written by hand: one."""
    text = "netspec: 1\ninputs: {x: {shape: [N, 8]}}\nnet:\n  chain: {repeat: 50, tanh: }\n"
    module = build(network_of(text))
    assert module.get_submodule("chain").slots == 1


@pytest.mark.parametrize("name", ["mlp", "lenet5", "resnet"])
def test_the_receptive_field_is_what_gradients_reach(name: str) -> None:
    """A unit in the middle of a large map depends on exactly as many input pixels as the spec says."""
    text = {
        "mlp": "[N, 1, 8, 8]",
        "lenet5": "[N, 1, 28, 28]",
        "resnet": "[N, 1, H, W]",
    }
    network = netspec.load(name)
    source = network.text.replace(text[name], "[N, 1, H, W]").split("expect:")[0].split("train:")[0]
    source = source.split("  flatten:")[0].split("  avgpool: global")[0].replace(", sizes: {H: 8, W: 8}", "")
    if name == "mlp":
        source = "netspec: 1\ninputs: {image: {shape: [N, 1, H, W]}}\nnet:\n  c: {conv: 2, kernel: 3, dilation: 2}\n"
        source += "  p: {avgpool: 2, stride: 3}\n  d: {conv: 1, kernel: 2}\n"
    large = network_of(source)
    module = build(large).double().eval()
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not key.endswith("running_mean"):
            tensor.copy_(torch.rand(tensor.shape).double() * 0.01 + 0.1)  # nothing cancels, no ReLU closes
    x = torch.rand(1, 1, 150, 150).double().requires_grad_()
    y = module(x)
    y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    (last,) = large.outputs.values()
    rows = (x.grad[0, 0] != 0).any(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == large.layer(last)["receptive_field"].size[0]
