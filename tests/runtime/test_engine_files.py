"""Weights in side files: read from the model's own folder, refused from elsewhere, wherever a model names them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper

from runtime.engine import Cancellation
from runtime.engine_options import EngineOptions
from runtime.errors import ModelError
from runtime.session import Session

CPU = EngineOptions("cpu", threads=1)
WEIGHTS = np.arange(4, dtype=np.float32)
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])


def external(location: str) -> TensorProto:
    """The tensor w [4] whose data is in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def sparse(location: str) -> SparseTensorProto:
    indices = numpy_helper.from_array(np.arange(4), "indices")
    return SparseTensorProto(values=external(location), indices=indices, dims=[4])


def constant(location: str) -> NodeProto:
    value = AttributeProto(name="value", type=AttributeProto.TENSOR, t=external(location))
    return NodeProto(op_type="Constant", output=["w"], attribute=[value])


ADD = helper.make_node("Add", ["x", "w"], ["y"])


def initializer(location: str) -> GraphProto:
    return helper.make_graph([ADD], "g", [X], [Y], [external(location)])


def sparse_initializer(location: str) -> GraphProto:
    return helper.make_graph([ADD], "g", [X], [Y], sparse_initializer=[sparse(location)])


def attribute(location: str) -> GraphProto:
    return helper.make_graph([constant(location), ADD], "g", [X], [Y])


def branch(location: str) -> GraphProto:
    """The constant inside a graph inside a node, where ONNX Runtime looks at it with other code."""
    inner = helper.make_graph([constant(location), ADD], "inner", [], [Y])
    node = helper.make_node("If", ["is_on"], ["y"], then_branch=inner, else_branch=inner)
    return helper.make_graph([node], "g", [X], [Y], [numpy_helper.from_array(np.array(True), "is_on")])


def test_a_load_that_nobody_waits_for_is_ended(save_echo: Callable[..., Path]) -> None:
    cancellation = Cancellation()
    Session(save_echo(), CPU, cancellation)
    cancellation.cancel()
    with pytest.raises(ModelError, match="cancel"):
        Session(save_echo(), CPU, cancellation)


PLACES = [initializer, sparse_initializer, attribute, branch]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The model's folder, with weights inside, and outside of it more, to which links lead."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for file in (folder / "in.bin", folder / "sub" / "in.bin", tmp_path / "out.bin"):
        file.write_bytes(WEIGHTS.tobytes())
    (folder / "link.bin").symlink_to(Path("..") / "out.bin")
    (folder / "up").symlink_to("..")
    return folder


def save(folder: Path, graph: GraphProto) -> Path:
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["in.bin", "sub/in.bin"])
def test_weights_in_the_models_folder(folder: Path, place: Callable[[str], GraphProto], location: str) -> None:
    session = Session(save(folder, place(location)), CPU)
    np.testing.assert_array_equal(session.run({"x": np.ones(4, np.float32)})["y"], WEIGHTS + 1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["../out.bin", "sub/../../out.bin", "link.bin", "up/out.bin", "{folder}/in.bin"])
def test_weights_outside_of_it_are_refused(folder: Path, place: Callable[[str], GraphProto], location: str) -> None:
    path = save(folder, place(location.format(folder=folder)))
    with pytest.raises(ModelError, match=r"model\.onnx wants to read weights from outside its own folder") as caught:
        Session(path, CPU)
    assert "relative paths" in str(caught.value.help)
    assert "\n" not in caught.value.message


def test_a_file_of_the_system_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="from outside its own folder"):
        Session(save(folder, initializer("/etc/passwd")), CPU)


def test_a_model_that_is_a_link_to_another_folder(folder: Path, tmp_path: Path) -> None:
    path = save(folder, initializer("in.bin"))
    (tmp_path / "linked").mkdir()
    link = tmp_path / "linked" / "model.onnx"
    link.symlink_to(path)
    os.link(folder / "in.bin", tmp_path / "linked" / "in.bin")
    assert Session(link, CPU).run({"x": np.zeros(4, np.float32)})["y"].tolist() == WEIGHTS.tolist()


def test_a_side_file_that_is_too_short(folder: Path) -> None:
    (folder / "in.bin").write_bytes(b"\0" * 8)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        Session(save(folder, initializer("in.bin")), CPU)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX's")
@pytest.mark.parametrize("place", PLACES)
def test_a_side_file_that_is_a_pipe_is_not_waited_for(folder: Path, place: Callable[[str], GraphProto]) -> None:
    os.mkfifo(folder / "pipe.bin")
    with pytest.raises(ModelError, match=r"^cannot .*model\.onnx: .*(is not (a )?regular file|get file size)"):
        Session(save(folder, place("pipe.bin")), CPU)
