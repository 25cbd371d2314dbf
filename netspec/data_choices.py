"""The data of detection and segmentation, as `train.data` names them, and how they are varied while training.

Paths of folders and files inside a data set are taken relative to its own folder.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Argument

from netspec.choices import Data, Fraction, FromZero, Share, Whole

OnError = Literal["refuse", "skip"]
Part = Share | str  # a share that is held out, or the file that lists what is
UpToOne = Annotated[float, Argument(ge=0, le=1)]
Positive = Annotated[float, Argument(gt=0, le=100)]
Side = Annotated[int, Argument(ge=16, le=8000)]
Few = Annotated[int, Argument(ge=0, le=250)]


class Pictures(Data):
    """Images with boxes, with a mask, or with both."""

    images = True
    has_boxes: ClassVar[bool] = True

    @property
    def has_masks(self) -> bool:
        """Whether there is a mask of every image."""
        return False


class Scenes(Pictures):
    """Handwritten digits of scikit-learn at varied scale on cluttered canvases, made from a seed.

    Scenes of the held-out part are made of held-out digits. Boxes are tight around the ink.

    Attributes:
        count, test: how many scenes there are to train on, and held out.
        size: the height and width of a scene, or one number for both.
        shown: the least and the most digits of a scene.
        scale: the least and the greatest height of a digit, as shares of the scene's shorter side.
        overlap: what a digit may cover of another's box, at most, as a share of the smaller box.
        clutter: how much there is on the canvas that is no digit; 0 leaves it plain.
    """

    kind = "scenes"
    count: Whole = 2000
    test: Whole = 400
    size: Side | tuple[Side, Side] = 128
    shown: tuple[Few, Few] = (1, 6)
    scale: tuple[Share, Share] = (0.15, 0.5)
    overlap: Fraction = 0.1
    clutter: UpToOne = 1.0
    seed: FromZero = 0

    @property
    def has_masks(self) -> bool:
        return True


class Coco(Pictures):
    """A COCO annotation file and a folder of images. Source: Lin et al. 2014; cocodataset.org, "Data format".

    Attributes:
        path: the annotation file.
        images_in: the folder of the images; the annotation file's own, if missing.
        test: the annotation file of the held-out part, or the share of the images that is held out.
        test_images_in: the folder of its images; `images_in`, if missing.
        outlines: whether masks are made of the objects' outlines, for a network that tells the classes of pixels.
        proposals: a file of regions of the images, for nets that look at regions; `netspec proposals` writes one.
    """

    kind = "coco"
    path: str
    images_in: str | None = None
    test: Part = 0.25
    test_images_in: str | None = None
    outlines: bool = False
    on_error: OnError = "refuse"
    proposals: str | None = None

    @property
    def has_masks(self) -> bool:
        return self.outlines


class Voc(Pictures):
    """A folder in the form of Pascal VOC. Source: Everingham et al. 2010, development kit of VOC2012, section 3.

    Attributes:
        path: the folder.
        images_in, boxes_in: its folders of images and of XML files.
        train, test: its files that list the images of each part; or, as `test`, the share that is held out.
        labels: the names of the classes in order; those that occur, in the order of the alphabet, if missing.
        proposals: a file of regions of the images, for nets that look at regions; `netspec proposals` writes one.
    """

    kind = "voc"
    path: str
    images_in: str = "JPEGImages"
    boxes_in: str = "Annotations"
    train: str | None = None
    test: Part = 0.25
    labels: tuple[str, ...] = ()
    on_error: OnError = "refuse"
    proposals: str | None = None


class YoloText(Pictures):
    """A folder of images with a text file for each: lines of class, centre x, centre y, width, height as shares.

    `train/` and `test/` in it, with such folders, are used where they stand. Source: Redmon's Darknet, "Training YOLO
    on VOC".

    Attributes:
        path: the folder.
        images_in, boxes_in: its folders of images and of text files.
        names: the names of the classes, or the file that lists them.
        train, test: its files that list the images of each part; or, as `test`, the share that is held out.
        proposals: a file of regions of the images, for nets that look at regions; `netspec proposals` writes one.
    """

    kind = "yolo"
    path: str
    images_in: str = "images"
    boxes_in: str = "labels"
    names: str | tuple[str, ...] = "names.txt"
    train: str | None = None
    test: Part = 0.25
    on_error: OnError = "refuse"
    proposals: str | None = None


class Masks(Pictures):
    """A folder with `images/` and, under the same names, `masks/`: PNG whose numbers are the classes of the pixels.

    `train/` and `test/` in it, with such folders, are used where they stand.
    Source: Everingham et al. 2010, "The Pascal visual object classes challenge", section 3.2: palette images, in which
    255 marks what is of no class.

    Attributes:
        path: the folder.
        images_in, masks_in: its folders of images and of masks.
        names: the names of the classes from 0, or the file that lists them; without it, numbers are their names.
        train, test: its files that list the images of each part; or, as `test`, the share that is held out.
    """

    kind = "masks"
    has_boxes = False
    path: str
    images_in: str = "images"
    masks_in: str = "masks"
    names: str | tuple[str, ...] = ()
    train: str | None = None
    test: Part = 0.25
    on_error: OnError = "refuse"

    @property
    def has_masks(self) -> bool:
        return True


class Augment(BaseModel):
    """How every image is varied anew in every epoch of training, its boxes and its mask with it.

    The geometry is one map: mirrored, turned, scaled and sheared about the centre, and moved.

    Attributes:
        flip, flip_vertical: how often the image is mirrored left to right, and top to bottom.
        scale: the least and the greatest factor of its size.
        translate: how far it is moved at most, as a share of its width and height.
        rotate, shear: the greatest angle, in degrees, to either side.
        brightness: how much is added at most, or taken away, as a share of white.
        contrast, saturation: the greatest change of the factor 1.
        hue: how far colours are turned at most, as a share of the whole circle.
        visible: what has to be left of a box, as a share of its area, that it is kept.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)

    flip: UpToOne = 0.0
    flip_vertical: UpToOne = 0.0
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    translate: Fraction = 0.0
    rotate: Annotated[float, Argument(ge=0, le=180)] = 0.0
    shear: Annotated[float, Argument(ge=0, lt=90)] = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: UpToOne = 0.0
    hue: Annotated[float, Argument(ge=0, le=0.5)] = 0.0
    visible: UpToOne = 0.25
