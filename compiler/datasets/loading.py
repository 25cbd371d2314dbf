"""The data set that a spec names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compiler.datasets.coco import load_coco
from compiler.datasets.folders import located
from compiler.datasets.masks import load_masks
from compiler.datasets.proposals import with_proposals
from compiler.datasets.sample import Parts
from compiler.datasets.scenes import digit_scenes
from compiler.datasets.voc import load_voc
from compiler.datasets.yolo import load_yolo
from netspec.data_choices import Coco, Masks, Pictures, Scenes, Voc, YoloText


def load_pictures(choice: Pictures, base: Path) -> Parts:
    """Images with their boxes or masks, to train on and held out.

    Args:
        base: the folder against which relative paths are taken: the spec's.

    Raises:
        CompilerError: files are missing, damaged, or say what can't be; it says which one, and where in it.
    """
    if isinstance(choice, Scenes):
        return digit_scenes(choice)
    if isinstance(choice, Coco):
        return _with_regions(load_coco(choice, base), choice, base)
    if isinstance(choice, Voc):
        return _with_regions(load_voc(choice, located(base, choice.path)), choice, base)
    if isinstance(choice, YoloText):
        return _with_regions(load_yolo(choice, located(base, choice.path)), choice, base)
    assert isinstance(choice, Masks)
    return load_masks(choice, located(base, choice.path))


def _with_regions(parts: Parts, choice: Coco | Voc | YoloText, base: Path) -> Parts:
    """The same with the regions of the file that the choice names, where it names one."""
    if choice.proposals is None:
        return parts
    path = located(base, choice.proposals)
    return replace(parts, train=with_proposals(parts.train, path), test=with_proposals(parts.test, path))
