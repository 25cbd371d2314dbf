"""What an exported file gives for held-out images: pixels in, as it is served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compiler.batches import Batch
from compiler.datasets.sample import Array, Sample
from compiler.errors import CompilerError
from compiler.verify import open_session
from netspec.deployed import deployed, is_pixels, takes_pixels
from netspec.network import Network

Outputs = Iterator[tuple[Batch, dict[str, Tensor]]]


def served_outputs(path: Path, network: Network, batches: Iterable[Batch]) -> Outputs:
    """Each batch with the outputs of the file by name; boxes are in pixels of the images, where it takes pixels.

    Images that it prepares itself go in one by one, as they are of many sizes; the outputs are then of a batch of one.

    Raises:
        CompilerError: ONNX Runtime refuses the file or can't run it, or it is not of this network.
    """
    session = open_session(path)
    form = deployed(network)
    given = [value.name for value in session.get_inputs()]
    if given != list(form.inputs) or not {value.name for value in session.get_outputs()} >= set(form.outputs):
        raise CompilerError(
            f"`{path}` is not the served form of `{network.name}`: it reads {', '.join(given)}",
            "export it from this spec or run, without `--as-trained`",
        )
    pixels = takes_pixels(network)
    for batch in batches:
        for single in _one_by_one(batch) if pixels else (batch,):
            feeds = {
                name: _fed(form, name, single.samples[0]) if pixels else value.numpy()
                for name, value in zip(form.inputs, single.inputs, strict=True)
            }
            try:
                outputs = session.run(list(form.outputs), feeds)
            except Exception as error:  # onnxruntime raises many types of its own
                raise CompilerError(f"ONNX Runtime can't run `{path}`: {str(error).splitlines()[0]}") from None
            yield single, {name: torch.from_numpy(np.asarray(v)) for name, v in zip(form.outputs, outputs, strict=True)}


def _one_by_one(batch: Batch) -> Iterator[Batch]:
    for index in range(len(batch)):
        yield Batch(
            tuple(value[index : index + 1] for value in batch.inputs),
            batch.targets[index : index + 1],
            batch.names[index : index + 1],
            batch.samples[index : index + 1],
            batch.places[index : index + 1],
        )


def _fed(form: Network, name: str, sample: Sample) -> Array:
    """What an input is fed for an image: its pixels, 1 × H × W × C, or its proposals, 1 × P × 4, in its pixels."""
    tensor = form.layer(name)["output"]
    if not is_pixels(tensor):
        assert sample.proposals is not None
        count = tensor.shape[1]
        padded = np.zeros((1, count if isinstance(count, int) else len(sample.proposals), 4), dtype=np.float32)
        kept = sample.proposals[: padded.shape[1]]
        padded[0, : len(kept)] = kept
        return padded
    grey = tensor.shape[3] == 1
    image = np.asarray(Image.fromarray(sample.image).convert("L"))[..., None] if grey else sample.image
    return np.ascontiguousarray(image[None])
