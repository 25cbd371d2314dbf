"""What single ops do in training, and how their weights begin and are called."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import netspec
from compiler.module import build
from netspec.loading import check_source
from netspec.source import Source


def network_of(inputs: str, *net: str) -> netspec.Network:
    text = "\n".join(["netspec: 1", f"inputs: {{{inputs}}}", "net:", *(f"  {line}" for line in net)])
    checked = check_source(Source("spec.yaml", text))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


@pytest.mark.parametrize("groups", [1, 3])
def test_a_bilinear_kernel_interpolates(groups: int) -> None:
    layer = f"up: {{conv_transpose: 3, kernel: 4, stride: 2, padding: 1, groups: {groups}, init: bilinear}}"
    module = build(network_of("x: {shape: [N, 3, 6, 7]}", layer))
    x = torch.randn(2, 3, 6, 7)
    expected = functional.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(module(x)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])  # the rim reads padding
    assert module.up.weight.requires_grad


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_stochastic_depth_drops_samples_one_by_one_or_together(mode: str) -> None:
    module = build(network_of("x: {shape: [N, 3]}", f"drop: {{stochastic_depth: 0.5, mode: {mode}}}")).train()
    torch.manual_seed(0)
    runs = [module(torch.ones(64, 3)) for _ in range(8)]
    assert {float(value) for run in runs for value in run.unique()} == {0.0, 2.0}
    mixed = [len(run.unique()) == 2 for run in runs]
    assert all(mixed) if mode == "row" else not any(mixed)


def test_attention_is_pytorchs_with_its_checkpoint() -> None:
    module = build(network_of("q: {shape: [N, T, 12]}, m: {shape: [N, S, 12]}", "mix: {attention: 3, from: [q, m]}"))
    reference = nn.MultiheadAttention(12, 3, batch_first=True)
    module.mix.load_state_dict(reference.state_dict())
    query, memory = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    expected, _ = reference(query, memory, memory)
    torch.testing.assert_close(module(query, memory), expected)


def test_causal_attention_reads_nothing_that_comes_after() -> None:
    module = build(network_of("x: {shape: [N, T, 8]}", "mix: {attention: 2, causal: true}")).eval()
    x = torch.randn(1, 6, 8)
    changed = torch.cat([x[:, :4], torch.randn(1, 2, 8)], 1)
    torch.testing.assert_close(module(x)[:, :4], module(changed)[:, :4])
    assert not torch.allclose(module(x)[:, 4:], module(changed)[:, 4:])


def test_a_parameter_begins_as_it_is_told() -> None:
    inputs = "x: {shape: [N, 3]}"
    drawn = build(network_of(inputs, "p: {parameter: [200, 100], mean: 3, std: 0.5}")).p.detach()
    assert abs(float(drawn.mean()) - 3) < 0.02
    assert abs(float(drawn.std()) - 0.5) < 0.02
    assert torch.equal(build(network_of(inputs, "p: {parameter: [4], mean: 1, std: 0}")).p, torch.ones(4))


def test_a_class_token_goes_before_the_patches() -> None:
    net = ("token: {parameter: [1, 4]}", "all: {concat: [token, x], axis: 1}", "first: {slice: 1, stop: 1}")
    module = build(network_of("x: {shape: [N, T, 4]}", *net))
    x = torch.randn(3, 5, 4)
    torch.testing.assert_close(module(x), module.token.expand(3, 1, 4))
    module(x).sum().backward()
    torch.testing.assert_close(module.token.grad, torch.full((1, 4), 3.0))


def test_a_constant_is_no_weight_and_follows_the_device_and_type() -> None:
    module = build(network_of("x: {shape: [N, 3, 4, 4]}", "c: {constant: [1, 2, 3], shape: [3, 1, 1]}"))
    assert not module.state_dict()
    assert module.double()(torch.zeros(2, 3, 4, 4)).dtype == torch.float64


def test_the_padding_of_an_embedding_stays_zero() -> None:
    module = build(network_of("x: {shape: [N, T]}", "ids: {cast: int64}", "e: {embedding: 5, features: 2, padding: 1}"))
    module(torch.tensor([[0.0, 1.0, 1.0]])).sum().backward()
    assert not module.e.weight[1].any()
    assert not module.e.weight.grad[1].any()
    assert module.e.weight.grad[0].all()


def test_the_norm_of_a_window_of_zeros_has_a_gradient() -> None:
    module = build(network_of("x: {shape: [N, 1, 4, 4]}", "pool: {lppool: 2}"))
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    module(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
