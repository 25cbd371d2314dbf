"""Normalisation."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field as Argument

from netspec.ops.base import Line, Op
from netspec.tensor import TensorType, Weight, need_known, need_rank


class BatchNorm(Op):
    """Batch normalisation over every dimension but the channels, (x − μ)/√(σ² + eps)·γ + β.

    In and out: N × C or N × C × spatial. In training μ and σ² are the batch's, and running means of them are kept with
    `momentum`; in use they are the running ones. Source: Ioffe & Szegedy 2015, algorithms 1 and 2.
    """

    kind: ClassVar[str] = "batchnorm"

    eps: Annotated[float, Argument(gt=0)] = 1e-5
    momentum: Annotated[float, Argument(gt=0, le=1)] = 0.1
    affine: bool = True

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 2, 5)
        need_known(x.shape[1], "the number of channels", "give the input a fixed channel count")
        return x

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        channels = inputs[0].shape[1]
        assert isinstance(channels, int)
        trained = {"weight": Weight((channels,)), "bias": Weight((channels,))} if self.affine else {}
        return trained | {
            "running_mean": Weight((channels,), "buffer"),
            "running_var": Weight((channels,), "buffer"),
            "num_batches_tracked": Weight((), "buffer"),
        }

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        channels = inputs[0].shape[1]
        assert isinstance(channels, int)
        if self.affine:
            yield Line("parameters", f"2×{channels}", f"{2 * channels:,}")
