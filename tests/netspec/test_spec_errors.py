"""Errors as values, and the names by which people know the ops from elsewhere."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import netspec
from netspec.diagnostics import SpecError
from netspec.layers import CONTAINERS
from netspec.ops.base import discover
from netspec.other_names import _OPS, known_elsewhere
from netspec.render import as_text


def test_an_error_survives_pickling(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text("netspec: 1\ninputs: {x: {shape: [N, 4]}}\nnet: {a: rellu, b: {linear: }}\n")
    with pytest.raises(SpecError) as caught:
        netspec.load(tmp_path / "net.yaml")
    assert len(caught.value.diagnostics) == 2
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, SpecError)
    assert str(again) == str(caught.value)
    assert [as_text(d) for d in again.diagnostics] == [as_text(d) for d in caught.value.diagnostics]


def test_an_error_comes_out_of_a_worker_process() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, pytest.raises(SpecError, match="no-such-net"):
        pool.submit(netspec.load, "no-such-net").result()


@pytest.mark.parametrize(
    ("word", "op"),
    [
        ("nn.Conv2d", "conv"),
        ("Conv2DTranspose", "conv_transpose"),
        ("ConvTranspose2d", "conv_transpose"),
        ("MaxPooling2D", "maxpool"),
        ("max_pool2d", "maxpool"),
        ("InnerProduct", "linear"),
        ("BatchNormalization", "batchnorm"),
        ("LeakyReLU", "leaky_relu"),
        ("nn.MultiheadAttention", "attention"),
        ("Dropout2d", "channel_dropout"),
        ("space_to_depth", "pixel_unshuffle"),
        ("rellu", None),
        ("2d", None),
    ],
)
def test_names_of_other_tools(word: str, op: str | None) -> None:
    assert known_elsewhere(word) == op


def test_every_name_leads_to_something_that_is_here() -> None:
    here = {*discover(), *CONTAINERS}
    assert set(_OPS.values()) <= here
    assert all(_OPS[name] == name for name in _OPS.keys() & here)
