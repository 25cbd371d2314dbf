"""``netspec predict`` for models that take pixels and give boxes or a mask."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from pycocotools import mask as run_length
from pycocotools.coco import COCO

from tests.runtime.conftest import COLOURS, DETECTOR_METADATA, SaveModel
from tests.runtime.test_runtime_predict import refused, report, run

RED, GREEN, BLUE = (255, 0, 0), (0, 204, 0), (0, 0, 153)  # scores 1, 0.8 and 0.6


def saved(path: Path, size: tuple[int, int], *patches: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> Path:
    """A black image of width × height with coloured patches: left, top, right, bottom."""
    image = Image.new("RGB", size)
    for box, colour in patches:
        image.paste(colour, box)
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def street(tmp_path: Path) -> Path:
    return saved(tmp_path / "street.png", (60, 40), ((10, 5, 30, 25), BLUE), ((20, 8, 50, 32), RED))


@pytest.fixture
def night(tmp_path: Path) -> Path:
    return saved(tmp_path / "night.png", (60, 40))


STREET = [
    {"label": "red", "index": 0, "score": 1.0, "box": [20.0, 8.0, 50.0, 32.0]},
    {"label": "blue", "index": 2, "score": 0.6, "box": [10.0, 5.0, 30.0, 25.0]},
]


def objects(*arguments: object) -> list[list[dict[str, Any]]]:
    """The objects of every file, scores rounded to 6 digits."""
    predictions = report(*arguments)["predictions"]
    return [[one | {"score": round(one["score"], 6)} for one in told["objects"]] for told in predictions]


def test_objects_in_pixels_of_the_image(detector: Path, street: Path, night: Path) -> None:
    told = report(detector, street, night, "--device", "cpu")["predictions"]
    assert [(one["file"], one["width"], one["height"]) for one in told] == [(str(street), 60, 40), (str(night), 60, 40)]
    assert objects(detector, street, night) == [STREET, []]


@pytest.mark.parametrize("options", [(), ("--batch-size", 1), ("--batch-size", 3), ("--batch-size", 64)])
def test_images_of_several_sizes(detector: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    sizes = [(9, 7)] * 5 + [(1, 1), (300, 2), (9, 7), (2, 300)] * 3
    files = [
        saved(tmp_path / f"{number}.png", size, ((0, 0, 1 + number % size[0], size[1]), GREEN))
        for number, size in enumerate(sizes)
    ]
    boxes = [[one["box"] for one in found] for found in objects(detector, *files, *options)]
    assert boxes == [[[0, 0, 1 + number % size[0], size[1]]] for number, size in enumerate(sizes)]


def test_a_model_of_fixed_sizes(save_detector: SaveModel, street: Path, night: Path, tmp_path: Path) -> None:
    fixed = save_detector(batch=2, sides=(40, 60))
    assert objects(fixed, street, night, street) == [STREET, [], STREET]
    small = saved(tmp_path / "small.png", (6, 4))
    error = refused(fixed, small)
    assert f"{small} is 6 × 4 pixels, and the model takes 60 × 40" in error
    assert "export the model with a free height and width" in error


def test_pixels_as_an_array(detector: Path, street: Path, night: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "both.npy", np.stack([np.asarray(Image.open(file)) for file in (night, street)]))
    assert objects(detector, tmp_path / "both.npy") == [[], STREET]


def test_the_table_says_where_nothing_is(detector: Path, street: Path, night: Path) -> None:
    lines = [line for line in run(detector, street, night).stdout.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert cells == [
        [str(street), "red", "1.000", "20.0", "8.0", "50.0", "32.0"],
        ["", "blue", "0.600", "10.0", "5.0", "30.0", "25.0"],
        [str(night), "nothing found", "", "", "", "", ""],
    ]


def test_a_score_leaves_out_what_is_not_sure(detector: Path, street: Path) -> None:
    assert objects(detector, street, "--score", 0.7) == [STREET[:1]]
    assert objects(detector, street, "--score", 1) == [STREET[:1]]
    assert (
        "nothing found"
        in run(detector, saved(street.parent / "b.png", (9, 9), ((1, 1, 5, 5), BLUE)), "--score", 0.7).stdout
    )


def test_classes_without_a_name_are_told_by_number(save_detector: SaveModel, street: Path) -> None:
    metadata = DETECTOR_METADATA | {"netspec.labels": '["red"]'}
    assert [one["label"] for one in objects(save_detector(metadata=metadata), street)[0]] == ["red", "2"]


def test_raw_outputs(detector: Path, street: Path, night: Path, tmp_path: Path) -> None:
    report(detector, night, street, "--output", tmp_path / "raw.npz")
    with np.load(tmp_path / "raw.npz") as raw:
        assert raw["counts"].tolist() == [0, 2]
        assert raw["labels"].tolist() == [[-1, -1, -1], [0, 2, -1]]


def test_a_mask_by_classes(segmenter: Path, street: Path, night: Path) -> None:
    told = report(segmenter, street, night)["predictions"]
    # 30·24 red; blue 20·20 without the 10·17 that red covers; the rest of 60·40 is dark
    assert [(one["label"], one["index"], one["pixels"]) for one in told[0]["classes"]] == [
        ("background", 0, 2400 - 720 - 230),
        ("red", 1, 720),
        ("blue", 3, 230),
    ]
    assert told[0]["classes"][1]["share"] == 0.3
    assert [one["label"] for one in told[1]["classes"]] == ["background"]
    text = run(segmenter, street).stdout
    assert "1,450" in text
    assert "30.00%" in text


def coco(*arguments: object) -> list[dict[str, Any]]:
    result = run(*arguments, "--format", "coco")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_coco_results_of_numbered_files(detector: Path, tmp_path: Path) -> None:
    files = [saved(tmp_path / f"{name}.png", (60, 40), ((10, 5, 30, 25), GREEN)) for name in ("000031", "7")]
    assert coco(detector, *files) == [
        {"image_id": number, "category_id": 2, "bbox": [10.0, 5.0, 20.0, 20.0], "score": pytest.approx(0.8)}
        for number in (31, 7)
    ]


@pytest.mark.parametrize("names", [("a", "3"), ("7", "007"), ("1_0", "11"), ("5", "9" * 19)])
def test_other_files_are_numbered_by_place(detector: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    files = [saved(tmp_path / f"{name}.png", (9, 9), ((1, 1, 5, 5), GREEN)) for name in names]
    assert [entry["image_id"] for entry in coco(detector, *files)] == [1, 2]


ANNOTATIONS = {
    "images": [
        {"id": 501, "file_name": "street.png", "width": 60, "height": 40},
        {"id": 502, "file_name": "by/night.png", "width": 60, "height": 40},
        {"id": 503, "file_name": "at/night.png", "width": 60, "height": 40},
    ],
    "categories": [{"id": 10, "name": "blue"}, {"id": 90, "name": "red"}],
    "annotations": [
        {"id": 1, "image_id": 501, "category_id": 90, "bbox": [20, 8, 30, 24], "area": 720, "iscrowd": 0},
        {"id": 2, "image_id": 501, "category_id": 10, "bbox": [10, 5, 20, 20], "area": 400, "iscrowd": 0},
    ],
}


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(ANNOTATIONS))
    return path


def test_coco_results_by_an_annotation_file(
    detector: Path, street: Path, annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = [
        saved(tmp_path / where / "night.png", (9, 9), ((1, 1, 5, 5), GREEN), ((2, 2, 4, 4), RED))
        for where in ("at", "by")
    ]
    results = coco(detector, *nights, street, "--coco-images", annotations)
    # green is no category of the annotations and is left out
    assert [(entry["image_id"], entry["category_id"]) for entry in results] == [
        (503, 90),
        (502, 90),
        (501, 90),
        (501, 10),
    ]
    loaded = COCO(annotations).loadRes(results)
    assert loaded.annToMask(loaded.loadAnns(loaded.getAnnIds(imgIds=501))[0]).sum() == 720


def test_masks_as_coco_run_lengths(segmenter: Path, street: Path, annotations: Path) -> None:
    results = coco(segmenter, street)
    assert [(entry["image_id"], entry["category_id"]) for entry in results] == [(1, 1), (1, 3)]
    pixels = np.asarray(Image.open(street))
    np.testing.assert_array_equal(run_length.decode(results[0]["segmentation"]), pixels[..., 0] > 127)
    np.testing.assert_array_equal(run_length.decode(results[1]["segmentation"]), pixels[..., 2] > 127)
    named = coco(segmenter, street, "--coco-images", annotations)
    assert [(entry["image_id"], entry["category_id"]) for entry in named] == [(501, 90), (501, 10)]


def test_masks_without_pycocotools(
    segmenter: Path, detector: Path, street: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    assert "masks as COCO results need pycocotools, which is not installed" in refused(
        segmenter, street, "--format", "coco"
    )
    assert len(coco(detector, street)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON file"),
        ("[]", "is no COCO annotation file"),
        ('{"categories": []}', "it has no list `images`"),
        ('{"images": [{"id": 1}], "categories": []}', "`images[0]` has no `file_name`"),
        ('{"images": [], "categories": [{"name": "red"}]}', "`categories[0]` has no `name`, which is text, or no `id`"),
        (
            '{"images": [], "categories": [{"name": "cat", "id": 1}]}',
            "none of the model's classes; its categories are cat",
        ),
        ('{"images": [], "categories": [{"name": "red", "id": 1}, {"name": "red", "id": 2}]}', "two categories"),
        ('{"images": [], "categories": [{"name": "red", "id": 1}]}', "has no image that is named as"),
        (
            '{"images": [{"file_name": "a/street.png", "id": 1}, {"file_name": "a/street.png", "id": 2}], '
            '"categories": [{"name": "red", "id": 1}]}',
            "has no image that is named as",
        ),
    ],
)
def test_annotation_files_that_do_not_fit(
    detector: Path, street: Path, annotations: Path, content: str, message: str
) -> None:
    annotations.write_text(content)
    assert message in refused(detector, street, "--format", "coco", "--coco-images", annotations)


def test_coco_is_about_one_image_a_file(detector: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", np.zeros((2, 9, 9, 3), np.uint8))
    assert "is an array of 2 images" in refused(detector, tmp_path / "two.npy", "--format", "coco")


def test_regions_beside_the_image(save_region_detector: SaveModel, street: Path, night: Path, tmp_path: Path) -> None:
    small = saved(tmp_path / "small.png", (6, 4))
    boxes = [[1, 2, 9, 8], [0, 0, 3, 3.5]]
    regions = {
        street.name: np.array(boxes),
        night.name: np.zeros((0, 4)),
        small.name: np.array([[0, 1, 2, 3]], np.uint8),
    }
    np.savez(tmp_path / "regions.npz", **regions)
    for room in ("regions", 5):
        model = save_region_detector(room)
        told = objects(model, street, night, small, street, "--proposals", tmp_path / "regions.npz")
        assert [[one["box"] for one in found] for found in told] == [boxes, [], [[0, 1, 2, 3]], boxes]


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ({"other.png": np.zeros((1, 4))}, "has no regions for"),
        ({"street.png": np.zeros((4, 1, 4))}, "has float64 [4, 1, 4], not boxes: numbers [regions, 4]"),
        ({"street.png": np.array([["a"] * 4])}, "not boxes"),
        ({"street.png": np.full((2, 4), np.nan)}, "a box of 'street.png' is NaN or infinite"),
        ({"street.png": np.zeros((3, 4))}, "'street.png' has 3 regions, and the model takes 2"),
        ({"street.png": np.array([[{}] * 4])}, "are damaged, or no numbers"),
    ],
)
def test_regions_that_do_not_fit(
    save_region_detector: SaveModel, street: Path, tmp_path: Path, regions: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "regions.npz", **regions)
    assert message in refused(save_region_detector(2), street, "--proposals", tmp_path / "regions.npz")


def test_regions_that_are_missing(
    save_region_detector: SaveModel, detector: Path, street: Path, tmp_path: Path
) -> None:
    model = save_region_detector()
    error = refused(model, street)
    assert "its input 'proposals', float32 [batch, regions, 4]" in error
    assert "give them with --proposals FILE.npz" in error
    assert "there is no file" in refused(model, street, "--proposals", tmp_path / "none.npz")
    assert "as a NumPy archive" in refused(model, street, "--proposals", street)
    np.savez(tmp_path / "regions.npz", **{street.name: np.zeros((0, 4))})
    assert "takes no regions beside an image" in refused(detector, street, "--proposals", tmp_path / "regions.npz")


@pytest.fixture
def broken(tmp_path: Path) -> list[Path]:
    """Files that are no image, or no whole one."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / "half.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "half.jpg").read_bytes()[:900])
    (tmp_path / "text.png").write_text("no image")
    return [tmp_path / "half.jpg", tmp_path / "text.png", tmp_path / "nothing.png"]


def test_a_broken_image_ends_the_command(detector: Path, street: Path, broken: list[Path]) -> None:
    for path in broken:
        assert path.name in refused(detector, street, path)


def test_broken_images_are_skipped_told_and_counted(
    detector: Path, street: Path, night: Path, broken: list[Path]
) -> None:
    result = run(detector, broken[0], street, *broken[1:], night, "--on-error", "skip", "--format", "json")
    assert result.exit_code == 1
    assert [told["file"] for told in json.loads(result.stdout)["predictions"]] == [str(street), str(night)]
    lines = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["skipped"] * 3
    assert all(path.name in line for path, line in zip(broken, lines, strict=False))
    assert lines[3:] == ["skipped 3 of 5 files"]


def test_nothing_but_broken_images(detector: Path, broken: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "raw.npz"
    result = run(detector, *broken, "--on-error", "skip", "--format", "coco", "--output", output)
    assert (result.exit_code, result.stdout) == (1, "[]\n")
    assert f"skipped 3 of 3 files; {output} is not written" in result.stderr
    assert not output.exists()


def test_skipping_is_1_only_when_something_was_skipped(detector: Path, street: Path) -> None:
    assert run(detector, street, "--on-error", "skip").exit_code == 0


def test_the_row_at_fault_is_told(picker: Path, tmp_path: Path) -> None:
    for name, index in (("good", 1), ("bad", 9), ("fine", 2)):
        np.save(tmp_path / f"{name}.npy", np.array([index]))
    files = [tmp_path / f"{name}.npy" for name in ("good", "bad", "fine")]
    assert f"{files[1]}: the model cannot compute on this input" in refused(picker, *files)
    result = run(picker, *files, "--on-error", "skip", "--format", "json")
    rows = [told["outputs"]["row"]["data"] for told in json.loads(result.stdout)["predictions"]]
    assert (result.exit_code, rows) == (1, [[2.0, 3.0], [4.0, 5.0]])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"counts": 4}, "it found 4 objects, and gives 3 boxes"),
        ({"counts": -1}, "it found -1 objects"),
        ({"scores": np.nan}, "NaN or infinity"),
        ({"boxes": np.inf}, "NaN or infinity"),
    ],
)
def test_answers_that_make_no_sense(
    save_detector: SaveModel, street: Path, outputs: dict[str, float], message: str
) -> None:
    path = save_detector()
    model = onnx.load(path)
    ((name, value),) = outputs.items()
    for node in model.graph.node:
        node.output[:] = [f"{name}_before" if output == name else output for output in node.output]
    dtype = np.int64 if name == "counts" else np.float32
    zero, other = (
        onnx.numpy_helper.from_array(dtype(number), key) for number, key in ((0, "nought"), (value, "other"))
    )
    model.graph.initializer.extend([zero, other])
    model.graph.node.append(onnx.helper.make_node("Mul", [f"{name}_before", "nought"], [f"{name}_nought"]))
    model.graph.node.append(onnx.helper.make_node("Add", [f"{name}_nought", "other"], [name]))
    onnx.save(model, path)
    error = refused(path, street)
    assert message in error
    assert street.name in error


def test_a_mask_of_another_size(save_segmenter: SaveModel, street: Path) -> None:
    path = save_segmenter()
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "whole"
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(values), key)
        for key, values in (("begin", [0]), ("end", [20]), ("along", [1]))
    )
    model.graph.node.append(onnx.helper.make_node("Slice", ["whole", "begin", "end", "along"], ["mask"]))
    onnx.save(model, path)
    assert f"{street}: the model gives a mask of 60 × 20 pixels for an image of 60 × 40" in refused(path, street)


def test_options_without_meaning(
    detector: Path, segmenter: Path, classifier: Path, street: Path, tmp_path: Path
) -> None:
    assert "--top is for classifiers" in refused(detector, street, "--top", 1)
    assert "--score leaves out objects" in refused(detector, street, "--top", 3)
    assert "--top is for classifiers" in refused(segmenter, street, "--top", 2)
    for model in (classifier, segmenter):
        assert "--score is for detectors" in refused(model, street, "--score", 0.5)
    assert "nothing can be drawn" in refused(classifier, street, "--draw", tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()
    assert "COCO results are boxes or masks" in refused(classifier, street, "--format", "coco")
    assert run(detector, street, "--coco-images", "a.json").exit_code == 2
    assert run(detector, street, "--score", 1.5).exit_code == 2


def test_grey_transparent_deep_and_moving_images(detector: Path, tmp_path: Path) -> None:
    white = Image.new("L", (8, 6))
    white.paste(255, (2, 1, 5, 4))
    everywhere = [[2, 1, 5, 4]] * 3
    white.save(tmp_path / "grey.png")
    Image.fromarray(np.asarray(white).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    white.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("L", (8, 6))])
    clear = Image.merge("LA", (Image.new("L", (8, 6)), Image.eval(white, lambda value: 255 - value)))
    clear.save(tmp_path / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter clockwise: a width of 8 becomes a height
    white.save(tmp_path / "turned.png", exif=exif)
    files = [tmp_path / name for name in ("grey.png", "deep.png", "moving.gif", "clear.png", "turned.png")]
    told = [[one["box"] for one in found] for found in objects(detector, *files)]
    assert told[:4] == [everywhere] * 4
    assert told[4] == [[2, 2, 5, 5]] * 3
    assert {one["label"] for one in objects(detector, files[0])[0]} == set(COLOURS)


def test_huge_images(save_region_detector: SaveModel, tmp_path: Path) -> None:
    huge, beyond = tmp_path / "huge.png", tmp_path / "beyond.png"
    Image.new("1", (8000, 8000)).save(huge)
    Image.new("1", (10_000, 10_000)).save(beyond)
    np.savez(tmp_path / "regions.npz", **{"huge.png": np.array([[100, 200, 7900, 7800]])})
    model = save_region_detector()
    assert [one["box"] for one in objects(model, huge, "--proposals", tmp_path / "regions.npz")[0]] == [
        [100, 200, 7900, 7800]
    ]
    assert "has more than 89,478,485 pixels" in refused(model, beyond, "--proposals", tmp_path / "regions.npz")
