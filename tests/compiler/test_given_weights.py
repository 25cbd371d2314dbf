"""Modules that are given their weights: of which type these are, and what ops of other packages make of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import netspec
from compiler.lowering.base import Lowering, lowers
from compiler.lowering.convolution import ConvLowering
from compiler.module import build
from netspec.loading import check_source
from netspec.ops.base import Op, discover
from netspec.ops.convolution import Conv
from netspec.source import Source
from netspec.tensor import TensorType, Weight


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


class Shift(nn.Module):
    """Adds fixed random numbers, of which no state-dict knows, to what it scales."""

    numbers: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(nn.init.normal_(torch.empty(channels)))
        self.register_buffer("numbers", torch.empty(channels).normal_(generator=seeded()), persistent=False)
        self.others = nn.init.uniform_(torch.empty(channels), generator=seeded())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain[:, None, None] + (self.numbers + self.others)[:, None, None]


@pytest.fixture
def foreign_ops() -> Iterator[None]:
    class Frozen(Conv):
        """A convolution that isn't trained."""

        kind: ClassVar[str] = "frozen_conv"

    class Shifted(Op):
        """What comes in, scaled and moved by fixed random numbers."""

        kind: ClassVar[str] = "random_shift"

        def output(self, *inputs: TensorType) -> TensorType:
            return inputs[0]

        def weights(self, *inputs: TensorType) -> dict[str, Weight]:
            channels = inputs[0].shape[1]
            assert isinstance(channels, int)
            return {"gain": Weight((channels,))}

    @lowers(Frozen)
    class FrozenLowering(ConvLowering):
        @staticmethod
        def torch(op: Conv, inputs: tuple[TensorType, ...]) -> nn.Module:
            module = ConvLowering.torch(op, inputs).requires_grad_(False)
            module.register_forward_hook(lambda _module, _read, given: 2 * given)
            return module

    @lowers(Shifted)
    class ShiftedLowering(Lowering):
        @staticmethod
        def torch(op: Op, inputs: tuple[TensorType, ...]) -> nn.Module:
            channels = inputs[0].shape[1]
            assert isinstance(channels, int)
            return Shift(channels)

    yield
    for op in (Frozen, Shifted):
        del discover()[op.kind]


@pytest.mark.usefixtures("foreign_ops")
@pytest.mark.parametrize("order", ["abf", "fab", "afb"])
def test_what_a_foreign_lowering_does_to_a_module_of_ours_is_done_to_its_own_alone(order: str) -> None:
    kinds = {"a": "conv", "b": "conv", "f": "frozen_conv"}
    layers = "".join(f"  {name}: {{{kinds[name]}: 4, kernel: 3, padding: 1}}\n" for name in order)
    checked = check_source(Source("s.yaml", "netspec: 1\ninputs: {x: {shape: [N, 4, 8, 8]}}\nnet:\n" + layers))
    assert checked.network is not None
    drawn = build(checked.network, seed=1)
    given = build(checked.network, weights=drawn.state_dict())
    for name, layer in given.named_children():
        assert (layer.weight.requires_grad, len(layer._forward_hooks)) == ((False, 1) if name == "f" else (True, 0))
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(given(x), drawn(x))


@pytest.mark.usefixtures("foreign_ops")
def test_random_numbers_that_are_no_weights_are_drawn_all_the_same() -> None:
    text = "netspec: 1\ninputs: {x: {shape: [N, 4, 8, 8]}}\nnet: {shift: random_shift}\n"
    checked = check_source(Source("s.yaml", text))
    assert checked.network is not None
    drawn = build(checked.network, seed=1)
    given = build(checked.network, weights=drawn.state_dict())
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(given(x), drawn(x))
    assert torch.equal(given.get_buffer("shift.numbers"), torch.empty(4).normal_(generator=seeded()))


def test_weights_of_another_precision_become_the_modules_buffers_included() -> None:
    network = netspec.load("resnet18", classes=10)
    state = build(network, seed=1).state_dict()
    half = build(network, seed=1).half().state_dict()
    given = build(network, weights=half)
    assert {key: tensor.dtype for key, tensor in given.state_dict().items()} == {
        key: tensor.dtype for key, tensor in state.items()
    }
    assert given(torch.randn(2, 3, 64, 64)).dtype == torch.float32


def test_a_network_of_fake_tensors_has_all_its_weights() -> None:
    network = netspec.load("resnet18", classes=10)
    with FakeTensorMode():
        module = build(network)
        assert module(torch.empty(2, 3, 64, 64)).shape == (2, 10)
    assert list(module.state_dict()) == [key for key, _ in network.state_dict()]
    assert sum(parameter.numel() for parameter in module.parameters()) == network.parameters()


def test_weights_that_were_computed_in_inference_mode_can_be_trained() -> None:
    network = netspec.load("resnet18", classes=10)
    one, other = (build(network, seed).state_dict() for seed in range(2))
    with torch.inference_mode():
        mean = {key: torch.lerp(tensor, other[key], 0.5) if "num" not in key else tensor for key, tensor in one.items()}
    module = build(network, weights=mean)
    module(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert torch.equal(module.get_parameter("conv1.weight"), mean["conv1.weight"])
