"""How one image becomes what a model takes: which input it is for, and the row that the input gets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from runtime.answering.answer import Described
from runtime.errors import InputError
from runtime.images import as_input
from runtime.metadata import ImageContract, ImagePixels
from runtime.proposals import is_proposals
from runtime.tensors import TensorSpec


@dataclass(frozen=True)
class ImageInput:
    """The input that an image is for.

    Attributes:
        spec: the input.
        contract: how pixels become it.
        regions: the inputs that take regions of the image beside it.
    """

    spec: TensorSpec
    contract: ImageContract
    regions: tuple[TensorSpec, ...]

    @property
    def prepared_pixels(self) -> int:
        """The pixels that every image is resized to; 0 where it is left as it is."""
        size = None if isinstance(self.contract, ImagePixels) else self.contract.size
        return 0 if size is None else size[0] * size[1]

    def row(self, name: str, image: Image.Image) -> np.ndarray:
        """The image, decoded for this contract, as the input takes it, without the batch dimension.

        Raises:
            InputError: the model takes pixels of another size; the image is called `name`.
        """
        if isinstance(self.contract, ImagePixels):
            self._check_size(name, image)
        return as_input(image, self.contract)

    def _check_size(self, name: str, image: Image.Image) -> None:
        height, width = self.spec.shape[1:3] if self.spec.shape else (None, None)
        if (isinstance(height, int) and image.height != height) or (isinstance(width, int) and image.width != width):
            raise InputError(
                f"{name} is {image.width} × {image.height} pixels, and the model takes {width} × {height}",
                help="resize the image, or export the model with a free height and width",
            )


def image_input(name: str, model: Described) -> ImageInput:
    """The input of a model that an image is for; the image is called `name`.

    Raises:
        InputError: the model has none, or several, or does not say how an image becomes it.
    """
    regions = tuple(spec for spec in model.inputs if is_proposals(spec) and len(model.inputs) > 1)
    spec = only_input(name, [spec for spec in model.inputs if spec not in regions])
    contract = model.metadata.preprocess.get(spec.name)
    if contract is None:
        raise InputError(
            f"cannot prepare {name}: the model does not say how an image becomes its input '{spec.name}'",
            help="say it in the spec's `deploy.preprocess` and export again, or give the prepared tensor as a .npy "
            f"file: {spec}",
        )
    return ImageInput(spec, contract, regions)


def takes_pixels(model: Described) -> bool:
    """Whether an input of the model takes the pixels of an image as they are."""
    return any(isinstance(contract, ImagePixels) for contract in model.metadata.preprocess.values())


def only_input(name: str, inputs: Sequence[TensorSpec]) -> TensorSpec:
    """The only one of the inputs, for the one array or image that is called `name`.

    Raises:
        InputError: there are several, or none.
    """
    if len(inputs) == 1:
        return inputs[0]
    names = ", ".join(f"'{spec.name}'" for spec in inputs)
    raise InputError(
        f"{name} is one array, but the model has {len(inputs)} inputs: {names}",
        help="give a .npz file that holds an array for each",
    )
