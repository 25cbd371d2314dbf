"""Samples written in the forms that are read: COCO, Pascal VOC, YOLO, and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from compiler.datasets.coco import write_annotations
from compiler.datasets.folders import shown
from compiler.datasets.masks import write_mask
from compiler.datasets.outlines import runs_of
from compiler.datasets.sample import Dataset, Sample
from compiler.datasets.voc import write_annotation
from compiler.datasets.yolo import write_boxes
from compiler.files import whole_file, write_text

Form = Literal["coco", "voc", "yolo", "masks"]
IMAGES_IN = {"coco": "images", "voc": "JPEGImages", "yolo": "images", "masks": "images"}


def write_dataset(data: Dataset, form: Form, folder: Path) -> None:
    """Writes samples and what is to be found in them, and with `coco` where the pixels of each object are, if known.

    Raises:
        CompilerError: a file can't be written, or a sample can't be read.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    one: dict[str, Callable[[Sample], None]] = {
        "coco": lambda sample: _add_coco(sample, images, annotations),
        "voc": lambda sample: _write_voc(sample, data.labels, folder),
        "yolo": lambda sample: _write_yolo(sample, folder),
        "masks": lambda sample: _write_mask(sample, folder),
    }
    for sample in shown(map(data.read, range(len(data))), len(data), f"writing {folder}"):
        with whole_file(folder / IMAGES_IN[form] / f"{sample.name}.png") as temporary:
            Image.fromarray(sample.image).save(temporary, format="PNG")
        one[form](sample)
    if form == "coco":
        write_annotations(folder / "annotations.json", images, annotations, data.labels)
    elif form == "voc":
        _write_lines(folder / "ImageSets" / "Main" / "all.txt", data.names)
    else:
        _write_lines(folder / "names.txt", data.mask_labels if form == "masks" else data.labels)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))


def _size(sample: Sample) -> tuple[int, int]:
    return sample.image.shape[1], sample.image.shape[0]


def _add_coco(sample: Sample, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    width, height = _size(sample)
    number = len(images) + 1
    images.append({"id": number, "file_name": f"{sample.name}.png", "width": width, "height": height})
    for index, (left, top, right, bottom) in enumerate(sample.boxes.tolist()):
        box = [left, top, right - left, bottom - top]
        annotation = {
            "id": len(annotations) + 1,
            "image_id": number,
            "category_id": int(sample.labels[index]) + 1,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(sample.ignore[index]),
        }
        if sample.instances is not None:
            own = sample.instances == index + 1
            annotation |= {"segmentation": runs_of(own), "area": int(own.sum())}
        annotations.append(annotation)


def _write_voc(sample: Sample, labels: tuple[str, ...], folder: Path) -> None:
    path = folder / "Annotations" / f"{sample.name}.xml"
    classes = [labels[label] for label in sample.labels]
    write_annotation(path, f"{sample.name}.png", _size(sample), sample.boxes, classes, sample.ignore.tolist())


def _write_yolo(sample: Sample, folder: Path) -> None:
    path = folder / "labels" / f"{sample.name}.txt"
    write_boxes(path, sample.boxes.tolist(), sample.labels.tolist(), _size(sample))


def _write_mask(sample: Sample, folder: Path) -> None:
    assert sample.mask is not None
    write_mask(folder / "masks" / f"{sample.name}.png", sample.mask)
