"""The data of dense prediction and detection, as `train` names them."""

from netspec.choices import Data, Share


class Masks(Data):
    """A folder with `images/` and, under the same names, `masks/`: PNG whose numbers are the classes of the pixels.

    `train/` and `test/` in it, with such folders, are used where they stand.
    Source: Everingham et al. 2010, "The Pascal visual object classes challenge", section 3.2: palette images, in which
    255 marks what is of no class.
    """

    kind = "masks"
    images = True
    path: str
    test: Share = 0.25
