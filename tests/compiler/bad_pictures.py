"""Data of each form that tests spoil, and what is said when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compiler.datasets.loading import load_pictures
from compiler.datasets.sample import Parts, SampleError
from compiler.errors import CompilerError
from netspec.data_choices import Coco, Masks, Pictures, Voc, YoloText

NAMES = ("a", "b", "c", "d")
SIZE = {"width": 40, "height": 20}
NEITHER = "it is damaged, or something else"


def picture(path: Path, width: int = 40, height: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(path)


def coco_file(folder: Path, **changes: Any) -> Coco:
    """Four images, each with a box, and changes to lists of the file."""
    content: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{name}.png", **SIZE} for n, name in enumerate(NAMES)],
        "annotations": [{"id": 10 + n, "image_id": n, "category_id": 1, "bbox": [1, 2, 3, 4]} for n in range(4)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    for name in NAMES:
        picture(folder / f"{name}.png")
    for key, value in changes.items():
        name, _, place = key.partition("_")
        if place:
            content[name][int(place)] |= value
        else:
            content[name] = value
    (folder / "boxes.json").write_text(json.dumps(content))
    return Coco(path="boxes.json")


def voc_file(folder: Path, box: str = "<xmin>2</xmin><ymin>3</ymin><xmax>4</xmax><ymax>6</ymax>", **more: str) -> Voc:
    """Four images, each with a box; of the second it is `box`."""
    (folder / "Annotations").mkdir(exist_ok=True)
    for name in NAMES:
        picture(folder / "JPEGImages" / f"{name}.png")
        own = box if name == "b" else "<xmin>2</xmin><ymin>3</ymin><xmax>4</xmax><ymax>6</ymax>"
        label = more.get("label", "cat") if name == "b" else "cat"
        size = more.get("size", "<width>40</width><height>20</height>")
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation>\n<size>{size}</size>\n"
            f"<object><name>{label}</name>{more.get('extra', '')}\n<bndbox>{own}</bndbox></object>\n</annotation>\n"
        )
    return Voc(path=".", labels=("cat", "dog"))


def yolo_file(folder: Path, line: str = "0 0.5 0.5 0.25 0.5") -> YoloText:
    """Four images, each with a box; of the second it is `line`."""
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "names.txt").write_text("cat\ndog\n")
    for name in NAMES:
        picture(folder / "images" / f"{name}.png")
        (folder / "labels" / f"{name}.txt").write_text(f"{line if name == 'b' else '0 0.5 0.5 0.25 0.5'}\n")
    return YoloText(path=".")


def mask_files(folder: Path) -> Masks:
    """Four images, each with a mask."""
    for name in NAMES:
        picture(folder / "images" / f"{name}.png")
        (folder / "masks").mkdir(exist_ok=True)
        Image.new("L", (40, 20), 1).save(folder / "masks" / f"{name}.png")
    return Masks(path=".", names=("background", "cat"))


def all_read(choice: Pictures, folder: Path) -> Parts:
    """The data, every sample of which is read once."""
    parts = load_pictures(choice, folder)
    for part in (parts.train, parts.test):
        for index in range(len(part)):
            try:
                part.read(index)
            except SampleError as error:
                parts.faults.met(error)
    return parts


def refused(choice: Pictures, folder: Path) -> str:
    with pytest.raises(CompilerError) as caught:
        all_read(choice, folder)
    return caught.value.message.replace(f"{folder}/", "")


def left_out(choice: Pictures, folder: Path) -> list[str]:
    """Why samples are left out where that is asked for."""
    parts = all_read(choice.model_copy(update={"on_error": "skip"}), folder)
    assert len(parts.train) >= 1
    return [message.replace(f"{folder}/", "") for message in parts.faults.skipped.values()]
