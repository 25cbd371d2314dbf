"""The ways of doing each thing that `train` says: what data, which loss, which optimiser, which schedule.

A choice is written as a layer is: a word (`loss: cross_entropy`), or a mapping with one kind whose value is its primary
argument (`optimizer: {sgd: 0.1, momentum: 0.9}`).
"""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Argument

Positive = Annotated[float, Argument(gt=0)]
NonNegative = Annotated[float, Argument(ge=0)]
Fraction = Annotated[float, Argument(ge=0, lt=1)]
Share = Annotated[float, Argument(gt=0, lt=1)]
Whole = Annotated[int, Argument(ge=1, le=2**31 - 1)]
FromZero = Annotated[int, Argument(ge=0, le=2**31 - 1)]


class Choice(BaseModel):
    """One way of doing something; its first field is the primary argument."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)
    kind: ClassVar[str]


class Data(Choice):
    """What a network is trained on. `images` says that it is images, which are prepared as `deploy` states."""

    images: ClassVar[bool]


class Digits(Data):
    """The 1,797 handwritten digits, 8 × 8 pixels, that scikit-learn carries. Source: Alpaydin & Kaynak 1998, UCI."""

    kind = "digits"
    images = True
    test: Share = 0.25


class Folder(Data):
    """A folder with a folder of images for each class. `train/` and `test/` in it are used where they stand."""

    kind = "folder"
    images = True
    path: str
    test: Share = 0.25


class Npz(Data):
    """Arrays `x` and `y` of a NumPy file; `x_test` and `y_test` are used where they stand."""

    kind = "npz"
    images = False
    path: str
    test: Share = 0.25


class CrossEntropy(Choice):
    """−log softmax(y)ₜ, the mean over the batch, or over the pixels of a map whose class is not `ignore`.

    Source: Goodfellow et al. 2016, section 6.2.2.3; for maps Long et al. 2015, section 3.
    """

    kind = "cross_entropy"
    label_smoothing: Fraction = 0.0
    ignore: FromZero = 255


class MeanSquaredError(Choice):
    """(y − t)², the mean over all elements."""

    kind = "mse"


class L1(Choice):
    """|y − t|, the mean over all elements."""

    kind = "l1"


class Sgd(Choice):
    """Stochastic gradient descent, with momentum. Source: Sutskever et al. 2013, section 2."""

    kind = "sgd"
    lr: Positive
    momentum: Fraction = 0.0
    weight_decay: NonNegative = 0.0
    nesterov: bool = False


class Adam(Choice):
    """Source: Kingma & Ba 2014, algorithm 1."""

    kind = "adam"
    lr: Positive
    weight_decay: NonNegative = 0.0


class AdamW(Choice):
    """Adam with decoupled weight decay. Source: Loshchilov & Hutter 2017, algorithm 2."""

    kind = "adamw"
    lr: Positive
    weight_decay: NonNegative = 0.01


class Constant(Choice):
    """The learning rate as given, after a linear warm-up of `warmup` epochs."""

    kind = "constant"
    warmup: NonNegative = 0.0


class Cosine(Choice):
    """From the learning rate to `floor` times it along half a cosine. Source: Loshchilov & Hutter 2016, equation 5."""

    kind = "cosine"
    floor: Fraction = 0.0
    warmup: NonNegative = 0.0


class Step(Choice):
    """The learning rate times `factor` after every `every` epochs."""

    kind = "step"
    every: Whole
    factor: Share = 0.1
    warmup: NonNegative = 0.0
