"""The models to deploy: opened here once, for their signature, and to see what can be said of how to serve them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.answering.answer import classifier_output
from runtime.deploy.side_files import side_files
from runtime.engine_options import EngineOptions
from runtime.errors import ModelError
from runtime.model_path import find_model
from runtime.probing import probe
from runtime.serving.model import ServedModel
from runtime.serving.options import ModelOptions, Warmup, WarmupInput
from runtime.serving.rows import rows_are_independent
from runtime.session import Session

# What is a name to every engine: a folder, a part of a URL, a word of YAML.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Deployed:
    """A model to deploy.

    Attributes:
        model: what its configuration is made of. It was never started, and answers nothing.
        side_files: the files that hold its weights, by the names that the model has for them.
        labels: the names of the classes, by the output that has a score for each.
    """

    model: ServedModel
    side_files: dict[str, Path]
    labels: dict[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        return self.model.name


def open_models(paths: Sequence[Path], name: str | None, options: ModelOptions) -> list[Deployed]:
    """Opens the models, on the CPU wherever they are to run.

    Args:
        paths: an ``.onnx`` file each, or a directory that holds ``model.onnx``.
        name: the name of the only model; None for that of its file or directory.
        options: how they are to be served.

    Raises:
        ModelError: a model can't be loaded, or its name won't do.
    """
    names: dict[str, Path] = {}
    for path in paths:
        chosen = name if name is not None else path.resolve().name if path.is_dir() else path.stem
        if not _NAME.fullmatch(chosen):
            raise ModelError(
                f"'{chosen}' is no name for a model: it takes letters, digits, '.', '_' and '-', 63 at most",
                help="name it with --name",
            )
        if chosen in names:
            raise ModelError(
                f"{names[chosen]} and {path} would both be named '{chosen}'",
                help="rename one, or name the directories that they are in: the model is then named as its directory",
            )
        names[chosen] = path
    return [_open(chosen, find_model(path), options) for chosen, path in names.items()]


def _open(name: str, path: Path, options: ModelOptions) -> Deployed:
    session = Session(path, EngineOptions("cpu"))
    for spec in (*session.inputs, *session.outputs):
        if not spec.shape:
            raise ModelError(
                f"{path}: '{spec.name}' is a scalar, or of a shape that the model doesn't say; model repositories of "
                "Triton's layout know neither",
                help="export it with a shape: [1] for one number, and -1 or a name for a size that is free; "
                "`netspec serve` takes the model as it is",
            )
    batched = options.max_batch > 1 and rows_are_independent(session)
    options = replace(options, warmup=_warmups(session, options.max_batch if batched else 0))
    model = ServedModel(name, "1", session, options, batched)
    classes = classifier_output(session)
    labels = session.metadata.labels
    return Deployed(model, side_files(path), {classes: labels} if classes is not None and labels else {})


def _warmups(session: Session, max_batch: int) -> tuple[Warmup, ...]:
    """Runs on zeros, of one row and of the largest batch; none where a size is free and nothing tells what to try."""
    shapes = {name: array.shape for name, array in probe(session, 1).items()}
    if not shapes:
        return ()
    if not max_batch:
        return (Warmup("zeros", {name: WarmupInput(shape, "zero") for name, shape in shapes.items()}),)
    inputs = {name: WarmupInput(shape[1:], "zero") for name, shape in shapes.items()}
    return tuple(Warmup(f"zeros-{rows}", inputs, rows) for rows in (1, max_batch))
