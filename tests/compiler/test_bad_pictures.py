"""What is said of data that can't be used, and that the rest is used where it is to be."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import netspec
from compiler.datasets.batching import picture_data
from compiler.datasets.folders import listed
from compiler.datasets.images import Cache, read_image
from compiler.datasets.loading import load_pictures
from compiler.datasets.sample import SampleError
from compiler.errors import CompilerError
from netspec.data_choices import Masks, Pictures, YoloText
from tests.compiler.bad_pictures import (
    NAMES,
    NEITHER,
    all_read,
    coco_file,
    left_out,
    mask_files,
    picture,
    refused,
    voc_file,
    yolo_file,
)

# -- boxes

COCO_BOXES = [
    ({"bbox": [5, 5, 0, 4]}, "the box (5, 5, 5, 9) has no area"),
    ({"bbox": [5, 5, 3, -1]}, "the box (5, 5, 8, 4) has no area"),
    ({"bbox": [50, 5, 3, 4]}, "the box (50, 5, 53, 9) is outside the image, which is 40 × 20"),
    (
        {"bbox": [35, 5, 10, 4]},
        "the box (35, 5, 45, 9) sticks out of the image, which is 40 × 20, by 5 pixels",
    ),
    ({"bbox": [float("nan"), 5, 10, 4]}, "the box (nan, 5, nan, 9) is not made of finite numbers"),
    ({"bbox": [1, 5, 10**400, 4]}, "the box (inf, inf, inf, inf) is not made of finite numbers"),
    ({"bbox": [1, 5, 10]}, "`bbox` is no list of x, y, width and height"),
    ({"bbox": [1, 5, "10", 4]}, '`bbox` is [1, 5, "10", 4], which are no four numbers'),
    ({"category_id": 7}, "there is no category with the id 7"),
    ({"category_id": None}, "there is no category with the id null"),
    ({"category_id": "3"}, 'there is no category with the id "3"'),
]


@pytest.mark.parametrize(("change", "reason"), COCO_BOXES)
def test_boxes_of_coco_that_are_none(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    choice = coco_file(tmp_path, annotations_1=change)
    message = f"`boxes.json`, annotation 11 of `b.png`: {reason}"
    assert refused(choice, tmp_path) == message
    assert left_out(choice, tmp_path) == [message]


def test_what_is_refused_is_told_with_a_way_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(CompilerError) as caught:
        all_read(coco_file(tmp_path, annotations_1={"bbox": [5, 5, 0, 4]}), tmp_path)
    assert caught.value.help == "mend it, or leave out what can't be used: `--on-error skip`"


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ("<xmin>5</xmin><ymin>3</ymin><xmax>4</xmax><ymax>6</ymax>", "the box (4, 2, 4, 6) has no area"),
        (
            "<xmin>51</xmin><ymin>3</ymin><xmax>60</xmax><ymax>6</ymax>",
            "the box (50, 2, 60, 6) is outside the image, which is 40 × 20",
        ),
        ("<xmin>nan</xmin><ymin>3</ymin><xmax>4</xmax><ymax>6</ymax>", "is not made of finite numbers"),
        ("<xmin>few</xmin><ymin>3</ymin><xmax>4</xmax><ymax>6</ymax>", "`xmin` is `few`, which is no number"),
        ("<xmin>1</xmin><ymin>3</ymin><xmax>4</xmax>", "`ymax` is missing"),
    ],
)
def test_boxes_of_voc_that_are_none(box: str, reason: str, tmp_path: Path) -> None:
    choice = voc_file(tmp_path, box)
    message = refused(choice, tmp_path)
    assert message.startswith("`Annotations/b.xml`, line ")
    assert message.endswith(reason)
    assert left_out(choice, tmp_path) == [message]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0 0.5", "the box has no area, it is 0 × 0.5"),
        ("0 nan 0.5 0.1 0.5", "the box is not made of finite numbers"),
        ("2 0.5 0.5 0.1 0.5", "there is no class 2; the names are 2, numbered from 0"),
        ("-1 0.5 0.5 0.1 0.5", "there is no class -1; the names are 2, numbered from 0"),
        ("0 20 10 10 5", "20 is no share; boxes are not in pixels here"),
        ("cat 0.5 0.5 0.1 0.5", "`cat` is no number"),
    ],
)
def test_boxes_of_yolo_that_are_none(line: str, reason: str, tmp_path: Path) -> None:
    choice = yolo_file(tmp_path, line)
    assert refused(choice, tmp_path) == f"`labels/b.txt`, line 1: {reason}"
    assert left_out(choice, tmp_path) == [f"`labels/b.txt`, line 1: {reason}"]


def test_a_line_with_a_number_too_few_and_a_box_that_sticks_out(tmp_path: Path) -> None:
    choice = yolo_file(tmp_path, "0 0.5 0.5 0.1")
    assert refused(choice, tmp_path) == "`labels/b.txt`, line 1 has 4 numbers, and a box is five"
    choice = yolo_file(tmp_path, "0 1 0.5 0.5 0.5")
    out = "the box (30, 5, 50, 15) sticks out of the image, which is 40 × 20, by 10 pixels"
    assert refused(choice, tmp_path) == f"`labels/b.txt`, box 1: {out}"


def test_rounded_boxes_are_cut_off_at_the_border(tmp_path: Path) -> None:
    choice = coco_file(tmp_path, annotations_1={"bbox": [-0.4, 0, 40.9, 20.7]})
    parts = all_read(choice, tmp_path)
    boxes = {tuple(s.boxes[0].tolist()) for p in (parts.train, parts.test) for s in map(p.read, range(len(p)))}
    assert (0, 0, 40, 20) in boxes


# -- images


def damaged(path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"no image at all", "truncated": whole[: len(whole) // 2]}[kind])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", f"can't be read as an image: {NEITHER}"),
        ("text", f"can't be read as an image: {NEITHER}"),
        ("truncated", "is a damaged image: "),
    ],
)
@pytest.mark.parametrize("form", [coco_file, voc_file, yolo_file])
def test_damaged_images_are_named(form: Callable[[Path], Pictures], kind: str, reason: str, tmp_path: Path) -> None:
    choice = form(tmp_path)
    (file,) = tmp_path.rglob("c.png")
    damaged(file, kind)
    assert reason in refused(choice, tmp_path)
    assert refused(choice, tmp_path).startswith(f"`{file.relative_to(tmp_path)}` ")
    assert len(left_out(choice, tmp_path)) == 1


@pytest.mark.parametrize("form", [coco_file, voc_file, yolo_file, mask_files])
@pytest.mark.parametrize("kind", ["empty", "text"])
def test_what_is_no_image_is_told_before_any_is_decoded(
    form: Callable[[Path], Pictures], kind: str, tmp_path: Path
) -> None:
    choice = form(tmp_path)
    damaged(next(tmp_path.rglob("c.png")), kind)
    with pytest.raises(SampleError, match="can't be read as an image"):
        load_pictures(choice, tmp_path)
    parts = load_pictures(choice.model_copy(update={"on_error": "skip"}), tmp_path)
    assert len(parts.faults.skipped) == 1
    assert len(parts.train) + len(parts.test) == 3


@pytest.mark.parametrize("form", [coco_file, voc_file, yolo_file])
def test_a_detector_is_not_trained_on_images_without_a_box(form: Callable[[Path], Pictures], tmp_path: Path) -> None:
    """Beside others that have some, an image without is no mistake; where none has, nothing could be learnt."""
    network = netspec.load("yolov2", classes=2, width=2)
    choice = form(tmp_path)
    for file in tmp_path.rglob("*.txt"):
        file.write_text("cat\ndog\n" if file.name == "names.txt" else "")
    for file in tmp_path.rglob("*.xml"):
        file.write_text("<annotation></annotation>")
    if form is coco_file:
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        choice = coco_file(tmp_path, annotations=[], categories=categories)
    with pytest.raises(
        CompilerError, match="none of the 3 images to train on has a box, so that nothing could be learnt"
    ):
        picture_data(network, choice, tmp_path)


def test_what_is_missing_is_told_with_what_to_do(tmp_path: Path) -> None:
    choice = yolo_file(tmp_path)
    (tmp_path / "names.txt").unlink()
    with pytest.raises(CompilerError, match="there is no list of classes") as caught:
        load_pictures(choice, tmp_path)
    assert caught.value.help == "write the names into it, one a line, or give them here: `[cat, dog]`"
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    with pytest.raises(CompilerError, match="holds no images") as caught:
        load_pictures(choice.model_copy(update={"names": ("cat", "dog")}), tmp_path)
    assert ".jpg, .pgm, .png" in caught.value.help


def test_annotations_of_images_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    choice: Pictures = coco_file(tmp_path / "coco")
    (tmp_path / "coco" / "b.png").unlink()
    message = "`boxes.json` has annotations for `b.png`, which is not there"
    assert refused(choice, tmp_path / "coco") == message
    assert left_out(choice, tmp_path / "coco") == [message]
    for form, where in ((voc_file, "Annotations/b.xml"), (yolo_file, "labels/b.txt")):
        folder = tmp_path / form.__name__
        folder.mkdir()
        choice = form(folder)
        next(folder.rglob("b.png")).unlink()
        assert refused(choice, folder).startswith(f"`{where}` has boxes, and there is no image `")
        assert len(left_out(choice, folder)) == 1


def test_an_annotation_of_no_image(tmp_path: Path) -> None:
    choice = coco_file(tmp_path, annotations_1={"image_id": 99})
    message = "`boxes.json`, annotation 11: there is no image with the id 99"
    assert refused(choice, tmp_path) == message
    assert left_out(choice, tmp_path) == [message]


def test_annotations_for_an_image_of_another_size(tmp_path: Path) -> None:
    choice: Pictures = coco_file(tmp_path, images_1={"width": 80, "height": 60})
    message = "`b.png` is 40 × 20, its annotations are for 80 × 60"
    assert refused(choice, tmp_path) == message
    assert left_out(choice, tmp_path) == [message]
    (tmp_path / "voc").mkdir()
    choice = voc_file(tmp_path / "voc", size="<width>50</width><height>20</height>")
    assert "is 40 × 20, its annotations are for 50 × 20" in refused(choice, tmp_path / "voc")


def test_images_are_turned_as_their_camera_says_unless_the_annotations_know_better(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, :10] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # turned clockwise by a quarter: the left side is on top
    image.save(tmp_path / "a.png", exif=exif)
    turned = read_image(tmp_path / "a.png")
    assert turned.shape == (40, 20, 3)
    assert turned[:10].min() == 255
    assert np.array_equal(read_image(tmp_path / "a.png", (20, 40)), turned)
    assert np.array_equal(read_image(tmp_path / "a.png", (40, 20)), pixels)


def test_images_from_one_pixel_to_64_million(tmp_path: Path) -> None:
    Image.new("1", (8_000, 8_000)).save(tmp_path / "large.png")
    Image.new("1", (8_001, 8_000)).save(tmp_path / "larger.png")
    Image.new("L", (1, 1)).save(tmp_path / "small.png")
    assert read_image(tmp_path / "small.png").shape == (1, 1, 3)
    assert read_image(tmp_path / "large.png").shape == (8_000, 8_000, 3)
    with pytest.raises(SampleError, match="has 8001 × 8000 pixels; more than 64,000,000 are refused"):
        read_image(tmp_path / "larger.png")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A head that says 60,000 × 60,000 pixels, with nothing behind it."""
    picture(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SampleError, match="has more than 64,000,000 pixels, which is refused"):
        read_image(tmp_path / "a.png")


def test_a_box_of_one_pixel_in_an_image_of_one(tmp_path: Path) -> None:
    choice = coco_file(tmp_path, images_1={"width": 1, "height": 1}, annotations_1={"bbox": [0, 0, 1, 1]})
    picture(tmp_path / "b.png", 1, 1)
    parts = all_read(choice, tmp_path)
    assert parts.faults.skipped == {}


def test_crowds_and_difficult_objects_are_to_be_ignored(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("coco", "voc")]
    for folder in folders:
        folder.mkdir()
    coco = load_pictures(coco_file(folders[0], annotations_1={"iscrowd": 1}), folders[0])
    ignored = {s.name: s.ignore.tolist() for p in (coco.train, coco.test) for s in map(p.read, range(len(p)))}
    assert ignored == {"a.png": [False], "b.png": [True], "c.png": [False], "d.png": [False]}
    voc = load_pictures(voc_file(folders[1], extra="<difficult>1</difficult>"), folders[1])
    assert all(voc.train.read(index).ignore.tolist() == [True] for index in range(len(voc.train)))


# -- files


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "`boxes.json`, line 1, column 1: this is no JSON: Expecting value"),
        ('{"images": [\n  {"id": 1,, }]}', "`boxes.json`, line 2, column 12: this is no JSON: "),
        ("[1, 2]", "`boxes.json` holds no object with `images`, `annotations` and `categories`"),
        ('{"images": []}', "`boxes.json` has no list `annotations`"),
        ("[" * 100_000, "`boxes.json` is no JSON"),
        ("\udcff", "`boxes.json` is no JSON"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "`boxes.json` has no images"),
        ('{"images": [], "annotations": [], "categories": []}', "`boxes.json` has no categories"),
        ('{"images": [5], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "entry 0 of `images` has no"),
    ],
)
def test_json_that_is_none(text: str, reason: str, tmp_path: Path) -> None:
    choice = coco_file(tmp_path)
    (tmp_path / "boxes.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert reason in refused(choice, tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images_1": {"id": 0}}, "has two images with the id 0 or the name `b.png`"),
        ({"images_1": {"file_name": "a.png"}}, "has two images with the id 1 or the name `a.png`"),
        ({"annotations_1": {"id": 10}}, "has two annotations with the id 10"),
        ({"annotations_1": {"id": None}}, "entry 1 of `annotations` has no `id`"),
        ({"categories": [{"id": 1, "name": "cat"}] * 2}, "has two categories with the id 1 or the name `cat`"),
        ({"images_1": {"width": 0}}, "image 1: `width` and `height` are 0 and 20"),
        ({"images_1": {"file_name": "../a.png"}}, "image 1: `../a.png` leads out of the folder of images"),
        ({"images_1": {"file_name": "/etc/a.png"}}, "image 1: `/etc/a.png` leads out of the folder of images"),
    ],
)
def test_files_of_coco_that_contradict_themselves(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    choice = coco_file(tmp_path, **change)
    assert reason in refused(choice, tmp_path)
    assert reason in refused(choice.model_copy(update={"on_error": "skip"}), tmp_path)  # no image is to blame


def test_categories_of_the_held_out_file_that_are_others(tmp_path: Path) -> None:
    coco_file(tmp_path, categories=[{"id": 1, "name": "dog"}])
    (tmp_path / "boxes.json").rename(tmp_path / "test.json")
    choice = coco_file(tmp_path).model_copy(update={"test": "test.json"})
    assert refused(choice, tmp_path) == "`boxes.json` and `test.json` have other categories: cat, dog"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: this is no XML: no element found"),
        ("<annotation>\n<object></annotation>", "line 2: this is no XML: mismatched tag"),
        ("<annotation>\n<object><name>cat</name></object></annotation>", "line 2: the object has no `bndbox`"),
        ("<a>" * 5_000, "is nested more than 32 deep"),
        (
            '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]>\n<a>&y;</a>',
            "line 2: document type declarations are not read",
        ),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
            "line 1: document type declarations are not read",
        ),
    ],
)
def test_xml_that_is_none(text: str, reason: str, tmp_path: Path) -> None:
    choice = voc_file(tmp_path)
    (tmp_path / "Annotations" / "b.xml").write_text(text)
    message = refused(choice, tmp_path)
    assert message.startswith("`Annotations/b.xml`")
    assert reason in message
    assert left_out(choice, tmp_path) == [message]


def test_a_class_that_is_not_in_the_list(tmp_path: Path) -> None:
    choice = voc_file(tmp_path, label="dogg")
    with pytest.raises(CompilerError) as caught:
        load_pictures(choice, tmp_path)
    assert caught.value.message.endswith("b.xml`, line 3: there is no class `dogg`")
    assert caught.value.help == "did you mean `dog`?"
    assert load_pictures(choice.model_copy(update={"labels": ()}), tmp_path).train.labels == ("cat", "dogg")


def test_empty_data_and_data_of_one_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "names.txt").write_text("cat\n")
    assert refused(YoloText(path="."), tmp_path) == "`images` holds no images"
    picture(tmp_path / "images" / "a.png")
    assert "has one image, which can't be both trained on and held out" in refused(YoloText(path="."), tmp_path)
    picture(tmp_path / "images" / "b.png")
    parts = load_pictures(YoloText(path="."), tmp_path)  # no text files: nothing is to be found in either
    assert [len(part.read(0).boxes) for part in (parts.train, parts.test)] == [0, 0]
    assert parts.train.labels == ("cat",)
    (tmp_path / "names.txt").write_text("\n")
    assert refused(YoloText(path="."), tmp_path) == "`names.txt` is empty"
    (tmp_path / "names.txt").write_text("cat\ncat\n")
    assert refused(YoloText(path="."), tmp_path) == "the class `cat` is named twice"
    assert refused(YoloText(path="nowhere"), tmp_path) == "there is no folder `nowhere`, which `yolo:` names"


def test_data_of_which_nothing_can_be_used(tmp_path: Path) -> None:
    choice = yolo_file(tmp_path).model_copy(update={"on_error": "skip"})
    for name in NAMES:
        (tmp_path / "labels" / f"{name}.txt").write_text("9 0 0 1 1\n")
    message = refused(choice, tmp_path)
    assert "has no images that can be used; " in message
    assert "line 1: there is no class 9" in message


def test_lists_say_which_images_belong_to_which_part(tmp_path: Path) -> None:
    yolo_file(tmp_path)
    (tmp_path / "train.txt").write_text("images/a.png\nb\n")
    (tmp_path / "test.txt").write_text("/elsewhere/c.png\n\n")
    parts = load_pictures(YoloText(path=".", train="train.txt", test="test.txt"), tmp_path)
    assert (list(parts.train.names), list(parts.test.names)) == (["a.png", "b.png"], ["c.png"])
    rest = load_pictures(YoloText(path=".", test="test.txt"), tmp_path)
    assert list(rest.train.names) == ["a.png", "b.png", "d.png"]
    (tmp_path / "train.txt").write_text("a\nc\n")
    assert "`c.png` is in both" in refused(YoloText(path=".", train="train.txt", test="test.txt"), tmp_path)
    (tmp_path / "test.txt").write_text("z\n")
    assert refused(YoloText(path=".", test="test.txt"), tmp_path) == "`test.txt` lists `z`, which is not there"
    with pytest.raises(CompilerError, match="lists `a` twice"):
        (tmp_path / "test.txt").write_text("a\na\n")
        listed(tmp_path / "test.txt", NAMES)


def test_folders_train_and_test_are_the_parts(tmp_path: Path) -> None:
    for part, names in (("train", "abc"), ("test", "de")):
        for name in names:
            picture(tmp_path / part / "images" / f"{name}.png")
            (tmp_path / part / "masks").mkdir(exist_ok=True)
            Image.new("L", (40, 20), 1).save(tmp_path / part / "masks" / f"{name}.png")
    parts = load_pictures(Masks(path="."), tmp_path)
    assert (list(parts.train.names), list(parts.test.names)) == (["a.png", "b.png", "c.png"], ["d.png", "e.png"])


# -- what is kept


def test_the_cache_keeps_to_its_bytes_and_gives_up_what_was_used_least() -> None:
    cache, made = Cache(1_000), []

    def image(name: str, size: int = 100) -> int:
        def make() -> tuple[np.ndarray, ...]:
            made.append(name)
            return (np.zeros(size, dtype=np.uint8),)

        return len(cache.get(name, make)[0])

    for name in "abcdefghij":
        image(name)
    assert cache.bytes == 1_000
    image("a")
    image("k")  # in the place of b, which was used before a
    image("a")
    image("b")
    assert "".join(made) == "abcdefghijkb"
    assert image("large", 300) == 300  # more than a quarter: not kept
    assert image("large", 300) == 300
    assert made[-2:] == ["large", "large"]
    assert cache.bytes <= 1_000


def test_a_run_goes_on_without_damaged_images_and_names_them(
    netspec: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    for name in "abcdefgh":
        picture(tmp_path / "data" / "images" / f"{name}.png", 8, 8)
        (tmp_path / "data" / "masks").mkdir(exist_ok=True)
        Image.new("L", (8, 8), 1).save(tmp_path / "data" / "masks" / f"{name}.png")
    damaged(tmp_path / "data" / "images" / "c.png", "truncated")
    (tmp_path / "net.yaml").write_text(
        "netspec: 1\ninputs: {image: {shape: [N, 3, 8, 8]}}\nnet: {map: {conv: 2, kernel: 1}}\n"
        "train: {data: {masks: data}, epochs: 2, batch_size: 2}\n"
    )
    done = netspec("train", "net.yaml", "--out", "run", "--on-error", "refuse")
    assert done.returncode == 1
    assert "c.png` is a damaged image" in done.stderr
    done = netspec("train", "net.yaml", "--out", "run", "--on-error", "skip", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("c.png` is a damaged image") == 1
    assert "samples left out: 1\n" in done.stdout
    assert "epoch   2" in done.stdout
