"""Boxes in the form of Pascal VOC: an XML file for each image.

Pixels are numbered from 1 there, and a box holds its outermost ones: from `xmin` 1 to `xmax` 10 it is ten pixels wide,
from 0 to 10 as boxes are written here. Source: Everingham et al. 2010, development kit of VOC2012, section 3.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from compiler.datasets.checking import clipped, fault_of_box
from compiler.datasets.folders import MAX_BYTES, Part, class_names, divided, each, file_names, folder, images_of, places
from compiler.datasets.images import Cache, look_at, read_image
from compiler.datasets.sample import Array, Dataset, Faults, Parts, Sample, SampleError
from compiler.files import whole_file
from netspec.data_choices import Voc
from netspec.diagnostics import did_you_mean

MAX_DEPTH = 32
LINE = "netspec line"  # an attribute that no file can have, as names have no blanks
UNBOUNDED = float("inf")


@dataclass(frozen=True, slots=True)
class _Annotation:
    """What a file says. `size` is the image's width and height, where it says them."""

    file: Path
    size: tuple[int, int] | None
    boxes: Array
    classes: tuple[str, ...]
    lines: tuple[int, ...]
    difficult: Array


def load_voc(choice: Voc, root: Path) -> Parts:
    """The images and boxes of a folder.

    Raises:
        CompilerError: files are missing, or one is wrong.
    """
    folder(root, "which `voc:` names")
    faults, cache = Faults(choice.on_error), Cache()
    read = {place: _annotations(place, choice, faults) for place in places(root)}
    occurring = {name for annotations in read.values() for one in annotations.values() for name in one.classes}
    labels = class_names(choice.labels, root) if choice.labels else tuple(sorted(occurring))

    def part(place: Path) -> Part:
        images = images_of(place / choice.images_in)
        found = list(read[place])
        return Part(_dataset(images, read[place], labels, cache, faults, place / choice.images_in), found)

    return divided(root, choice, [part(place) for place in read], faults)


def _annotations(place: Path, choice: Voc, faults: Faults) -> dict[str, _Annotation]:
    folder_ = folder(place / choice.boxes_in, "which should hold the boxes")
    files = sorted(folder_.rglob("*.xml"))
    found = each(files, _read_annotation, faults, "reading boxes")
    return {one.file.relative_to(folder_).with_suffix("").as_posix(): one for one in found}


def _dataset(
    images: dict[str, Path],
    annotations: dict[str, _Annotation],
    labels: tuple[str, ...],
    cache: Cache,
    faults: Faults,
    where: Path,
) -> Dataset:
    def checked(name: str) -> tuple[str, Array]:
        one = annotations[name]
        if name not in images:
            message = f"`{one.file}` has boxes, and there is no image `{where / name}.…`"
            raise SampleError(one.file, message, "put the image there, or remove the file")
        look_at(images[name])
        return name, np.array([_label(one, number, labels) for number in range(len(one.classes))], dtype=np.int64)

    numbers = dict(each(list(annotations), checked, faults, "checking boxes and opening images"))
    names = list(numbers)
    shown_as = file_names(names, images)

    def read(index: int) -> Sample:
        name = names[index]
        one = annotations[name]
        (image,) = cache.get(images[name], lambda: (read_image(images[name], one.size),))
        height, width = image.shape[:2]
        _check_boxes(one, width, height)
        boxes = clipped(one.boxes, width, height).astype(np.float32)
        return Sample(shown_as[index], image, boxes, numbers[name], one.difficult)

    return Dataset(labels, (), shown_as, read, [len(numbers[name]) for name in names])


def _label(one: _Annotation, number: int, labels: tuple[str, ...]) -> int:
    name = one.classes[number]
    if name not in labels:
        message = f"`{one.file}`, line {one.lines[number]}: there is no class `{name}`"
        raise SampleError(one.file, message, did_you_mean(name, labels))
    return labels.index(name)


def _check_boxes(one: _Annotation, width: float, height: float) -> None:
    for box, line in zip(one.boxes, one.lines, strict=True):
        fault = fault_of_box(tuple(box.tolist()), width, height)
        if fault:
            raise SampleError(one.file, f"`{one.file}`, line {line}: {fault}")


# -- XML


def _read_annotation(path: Path) -> _Annotation:
    root = parse_xml(path)
    objects = root.findall("object")
    size = None
    written = root.find("size")
    if written is not None:
        width, height = (_number(written, side, path) for side in ("width", "height"))
        if 1 <= width < UNBOUNDED and 1 <= height < UNBOUNDED:  # some tools write 0 where they don't know
            size = int(width), int(height)
    rows, classes, difficult = [], [], []
    for item in objects:
        box = item.find("bndbox")
        if box is None:
            raise SampleError(path, f"`{path}`, line {item.get(LINE)}: the object has no `bndbox`")
        left, top, right, bottom = (_number(box, side, path) for side in ("xmin", "ymin", "xmax", "ymax"))
        rows.append((left - 1, top - 1, right, bottom))
        name = (item.findtext("name") or "").strip()
        if not name:
            raise SampleError(path, f"`{path}`, line {item.get(LINE)}: the object has no `name`")
        classes.append(name)
        difficult.append((item.findtext("difficult") or "0").strip() == "1")
    lines = tuple(int(item.get(LINE) or 0) for item in objects)
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 4)
    found = _Annotation(path, size, boxes, tuple(classes), lines, np.array(difficult, dtype=bool))
    _check_boxes(found, *(size or (UNBOUNDED, UNBOUNDED)))
    return found


def _number(parent: ET.Element, name: str, path: Path) -> float:
    element = parent.find(name)
    text = (element.text or "").strip() if element is not None else ""
    try:
        return float(text)
    except ValueError:
        line = (element if element is not None else parent).get(LINE)
        what = f"`{name}` is missing" if element is None else f"`{name}` is `{text[:40]}`, which is no number"
        raise SampleError(path, f"`{path}`, line {line}: {what}") from None


def parse_xml(path: Path) -> ET.Element:
    """An XML file as a tree, each element with its line.

    Document type declarations are refused, and with them entities: VOC has none, and they can stand for anything.

    Raises:
        SampleError: the file can't be read, or is no such XML.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise SampleError(path, f"`{path}` is nested more than {MAX_DEPTH} deep")
        builder.start(tag, {LINE: str(parser.CurrentLineNumber)})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def doctype(*_: Any) -> None:
        message = f"`{path}`, line {parser.CurrentLineNumber}: document type declarations are not read"
        raise SampleError(path, message, "remove `<!DOCTYPE …>`")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SampleError(path, f"`{path}` is larger than {MAX_BYTES // 1024**2} MiB")
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        reason = expat.errors.messages.get(error.code, "it is damaged")
        raise SampleError(path, f"`{path}`, line {error.lineno}: this is no XML: {reason}") from None
    except OSError as error:
        raise SampleError(path, f"`{path}` can't be read: {error.strerror or error}") from None
    root: ET.Element = builder.close()
    return root


def write_annotation(
    path: Path, image: str, size: tuple[int, int], boxes: Array, classes: Sequence[str], difficult: Iterable[bool]
) -> None:
    """Writes the boxes of an image of a width and height.

    Raises:
        CompilerError: the file can't be written.
    """
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = image
    written = ET.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        ET.SubElement(written, name).text = str(value)
    for (left, top, right, bottom), label, hard in zip(boxes.tolist(), classes, difficult, strict=True):
        item = ET.SubElement(root, "object")
        ET.SubElement(item, "name").text = label
        ET.SubElement(item, "difficult").text = str(int(hard))
        box = ET.SubElement(item, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), (left + 1, top + 1, right, bottom), strict=True):
            ET.SubElement(box, name).text = f"{value:.9g}"
    ET.indent(root)
    with whole_file(path) as temporary:
        ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
