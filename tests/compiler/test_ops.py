"""What holds of every op: the checks, PyTorch and ONNX Runtime agree on shapes, weights, costs and results."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from op_table import ROWS, Row
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compiler.export import export
from compiler.module import build
from netspec import Network
from netspec.dims import evaluate
from netspec.loading import check_source
from netspec.ops.base import discover
from netspec.source import Source

SIZES = {"H": 11, "W": 9, "D": 8, "L": 13, "T": 5, "P": 6}
OTHER_SIZES = {"H": 14, "W": 17, "D": 9, "L": 18, "T": 3, "P": 7}

WITHOUT_GRADIENT = ("cast", "constant:", "argmax", "{anchors", "default_boxes", "proposals")
DIFFERENTIABLE = [row for row in ROWS if not any(word in row.layer for word in WITHOUT_GRADIENT)]

every_row = pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])


def network_of(row: Row, *after: str) -> Network:
    inputs = []
    for name, shape in row.inputs.items():
        sizes = ", ".join(f"{symbol}: {size}" for symbol, size in SIZES.items() if f"{symbol}" in shape)
        inputs.append(f"  {name}: {{shape: {shape}, sizes: {{{sizes}}}}}")
    text = "\n".join(["netspec: 1", "inputs:", *inputs, "net:", *(f"  {line}" for line in (*row.net, *after))])
    checked = check_source(Source("row.yaml", text))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


def inputs_of(network: Network, batch: int, sizes: dict[str, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    tensors = {}
    for name in network.inputs:
        shape = [evaluate(dim, sizes | {"N": batch}) for dim in network.layer(name)["output"].shape]
        tensors[name] = torch.randn(shape, generator=generator)
        if "before" in network.graph:  # which makes whole numbers of them
            tensors[name] = torch.randint(0, 10, shape, generator=generator).float()
    return tensors


def with_lively_weights(network: Network) -> torch.nn.Module:
    """The module in evaluation mode with every weight and buffer drawn, so that none is hidden by a zero or a one."""
    module = build(network).eval()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(drawn.abs() + 0.5 if key.endswith("running_var") else drawn)
    return module


def test_every_op_has_a_row() -> None:
    text = " ".join(row.layer for row in ROWS)
    assert [kind for kind in discover() if kind not in text] == []


@every_row
@pytest.mark.parametrize(("batch", "sizes"), [(1, SIZES), (3, OTHER_SIZES)], ids=["one", "three"])
def test_the_inferred_shape_and_result_are_those_of_pytorch_and_onnx_runtime(
    row: Row, batch: int, sizes: dict[str, int], tmp_path: Path
) -> None:
    network = network_of(row)
    module = with_lively_weights(network)
    tensors = inputs_of(network, batch, sizes)
    with torch.inference_mode():
        expected = module(*tensors.values())
    (node,) = network.outputs.values()
    inferred = tuple(evaluate(dim, sizes | {"N": batch}) for dim in network.layer(node)["output"].shape)
    assert inferred == tuple(expected.shape)
    export(network, module, tmp_path / "layer.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "layer.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in tensors.items()})
    assert found.shape == inferred
    assert f"torch.{found.dtype}" == str(expected.dtype) == f"torch.{network.layer('layer')['output'].dtype}"
    expected = expected.double()
    np.testing.assert_allclose(
        found.astype(float), expected.numpy(), rtol=1e-4, atol=1e-5 * max(1.0, float(expected.abs().max()))
    )


@every_row
def test_the_inferred_weights_are_the_state_dict(row: Row) -> None:
    network = network_of(row)
    module = build(network)
    inferred = [(key, weight.shape) for key, weight in network.state_dict()]
    assert inferred == [(key, tuple(tensor.shape)) for key, tensor in module.state_dict().items()]
    trained = {key for key, weight in network.state_dict() if weight.kind == "parameter"}
    assert trained == {key for key, _ in module.named_parameters()}
    assert network.parameters() == sum(parameter.numel() for parameter in module.parameters())


@every_row
def test_a_module_that_is_given_its_weights_draws_none_and_is_like_one_that_did(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(row)
    drawn = with_lively_weights(network)
    state = drawn.state_dict()

    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())  # so that draws leave a trace
    given = build(network, seed=5, weights=state).eval()
    after = torch.get_rng_state()
    assert torch.equal(after, torch.manual_seed(5).get_state())
    assert given.state_dict().keys() == state.keys()
    torch.testing.assert_close(given.state_dict(), state, rtol=0, atol=0)
    for theirs, ours in zip(drawn.modules(), given.modules(), strict=True):
        assert type(ours) is type(theirs)
        assert ours.extra_repr() == theirs.extra_repr()
        assert vars(ours).keys() == vars(theirs).keys()
    for theirs, ours in zip(drawn.parameters(), given.parameters(), strict=True):
        assert (type(ours), ours.requires_grad) == (type(theirs), theirs.requires_grad)


@every_row
def test_macs_are_half_of_the_operations_that_pytorch_counts(row: Row) -> None:
    network = network_of(row)
    module = build(network).eval()
    # Fused attention on a CPU is not among what the counter knows; the plain products are.
    plain = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), plain:
        module(*inputs_of(network, 1, SIZES).values())
    assert network.macs() == counter.get_total_flops() / 2


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=[row.id for row in DIFFERENTIABLE])
def test_gradients_are_those_of_plain_calls_without_work_in_place(row: Row) -> None:
    """Layers after the op may write over its result; the gradients must not notice."""
    network = network_of(row, "act: leaky_relu")
    module = build(network, seed=1).double()
    plain = build(network, seed=1).double()
    plain.act.inplace = False
    gradients = []
    for candidate in (module, plain):
        tensors = {n: t.double().requires_grad_() for n, t in inputs_of(network, 2, SIZES).items()}
        torch.manual_seed(3)
        candidate(*tensors.values()).square().sum().backward()
        gradients.append([tensor.grad for tensor in tensors.values()] + [p.grad for p in candidate.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
