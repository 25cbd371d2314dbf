"""A model repository in Triton's layout, which our own server reads too."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

from google.protobuf import text_format

from runtime.deploy.models import Deployed
from runtime.deploy.written import Content
from runtime.errors import ModelError
from runtime.protocol.config_reply import config_of
from runtime.protocol.messages import Message

Backend = Literal["onnxruntime", "python", "netspec"]

MODEL_FILE = "model.onnx"
LABEL_FILE = "labels.txt"
_COMMENT = {
    "onnxruntime": "# Written by netspec deploy. The field names are those of Triton's model_config.proto.\n",
    "python": "# Written by netspec deploy: 1/model.py runs 1/model.onnx on ONNX Runtime in Triton's Python backend.\n",
    "netspec": "# Written by netspec deploy, for `netspec serve`.\n",
}


def repository(models: Sequence[Deployed], backend: Backend, gpu: bool) -> dict[str, Content]:
    """The files of a repository, by their paths in it.

    Args:
        models: what it holds.
        backend: what runs them: Triton's ONNX Runtime, its Python backend, or our own server.
        gpu: whether they run on a GPU.

    Raises:
        ModelError: a label can't stand in a file of labels.
    """
    written: dict[str, Content] = {}
    for deployed in models:
        folder = deployed.name
        written[f"{folder}/config.pbtxt"] = _config(deployed, backend, gpu).encode()
        written[f"{folder}/1/{MODEL_FILE}"] = deployed.model.path
        for name, side_file in deployed.side_files.items():
            written[f"{folder}/1/{name}"] = side_file
        for labels in deployed.labels.values():
            written[f"{folder}/{LABEL_FILE}"] = _label_lines(deployed, labels)
        if backend == "python":
            written[f"{folder}/1/model.py"] = files("runtime.deploy").joinpath("files", "triton_model.py").read_bytes()
    return written


def _config(deployed: Deployed, backend: Backend, gpu: bool) -> str:
    config = config_of(deployed.model)
    config.default_model_filename = ""
    if backend == "python":
        config.backend = "python"
        config.platform = ""
    if backend != "netspec":
        _give_dims(config)
    for output in config.output:
        if output.name in deployed.labels:
            output.label_filename = LABEL_FILE
    group = config.instance_group[0]
    group.name = ""  # Triton gives it one
    group.kind = group.Kind.Value("KIND_GPU" if gpu else "KIND_CPU")
    text: str = text_format.MessageToString(config, as_utf8=True)
    return _COMMENT[backend] + text


def _give_dims(config: Message) -> None:
    """Triton wants at least one dim beside the batch's: where the model has none, a dim of 1 stands for it."""
    for tensor in (*config.input, *config.output):
        if not tensor.dims:
            tensor.dims.append(1)
            tensor.reshape.SetInParent()
    for warmup in config.model_warmup:
        for given in warmup.inputs.values():
            if not given.dims:
                given.dims.append(1)


def _label_lines(deployed: Deployed, labels: Sequence[str]) -> bytes:
    for label in labels:
        if label.splitlines() not in ([], [label]):
            raise ModelError(
                f"{deployed.model.path}: the label {label!r} ends its line, and a file of labels has a line for each"
            )
    return "".join(f"{label}\n" for label in labels).encode()
