"""Average precision against numbers worked out by hand, and against pycocotools run on the exported files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from compiler.evaluation.detection import Found, average_precision, coco_results, coco_truth

A, B = [10.0, 10.0, 50.0, 50.0], [60.0, 60.0, 90.0, 90.0]


def found(
    truth: list[tuple[list[float], int]],
    detections: list[tuple[list[float], int, float]],
    ignore: list[bool] | None = None,
) -> Found:
    return Found(
        name="image",
        size=(100, 100),
        truth=np.array([box for box, _ in truth], dtype=np.float32).reshape(-1, 4),
        truth_labels=np.array([label for _, label in truth], dtype=np.int64),
        ignore=np.array(ignore or [False] * len(truth), dtype=bool),
        boxes=np.array([box for box, _, _ in detections], dtype=np.float32).reshape(-1, 4),
        scores=np.array([score for _, _, score in detections], dtype=np.float32),
        labels=np.array([label for _, label, _ in detections], dtype=np.int64),
    )


def test_all_found_is_1_and_nothing_found_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    truth = [(A, 0), (B, 1)]
    best = average_precision([found(truth, [(A, 0, 0.9), (B, 1, 0.8)])], "ab")
    assert (best.map, best.map50, *best.of_class, *best.objects) == pytest.approx((1, 1, 1, 1, 1, 1))
    worst = average_precision([found(truth, [])], "ab")
    assert (worst.map, worst.map50, *worst.of_class) == (0, 0, 0, 0)
    assert capsys.readouterr().out == ""


def test_a_wrong_detection_before_the_right_one_halves_the_precision() -> None:
    """Ranked: wrong, right. Precision at every recall up to 1 is 1/2."""
    got = average_precision([found([(A, 0)], [(B, 0, 0.9), (A, 0, 0.8)])], "a")
    assert got.map50 == pytest.approx(0.5)


def test_one_of_two_objects_counts_for_51_of_101_levels_of_recall() -> None:
    """Found first and right, then nothing: precision is 1 at the recalls 0, 0.01, … 0.50 and 0 beyond."""
    got = average_precision([found([(A, 0), (B, 0)], [(A, 0, 0.9)])], "a")
    assert got.map == pytest.approx(51 / 101)


def test_a_box_that_overlaps_by_0_62_is_right_at_three_of_ten_thresholds() -> None:
    """40 × 40 against 40 × 24.8 within it: IoU 0.62, at least 0.50, 0.55 and 0.60."""
    got = average_precision([found([(A, 0)], [([10.0, 10.0, 50.0, 34.8], 0, 0.9)])], "a")
    assert (got.map, got.map50, got.map75) == pytest.approx((0.3, 1.0, 0.0))


def test_ignored_objects_are_neither_missed_nor_wrong_to_be_found() -> None:
    """Without `ignore` the first detection is right, so both count; with it, it counts neither way."""
    truth = [(A, 0), (B, 0)]
    missed = average_precision([found(truth, [(B, 0, 0.5)], [True, False])], "a")
    twice = average_precision([found(truth, [(A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.5)], [True, False])], "a")
    assert missed.map == twice.map == pytest.approx(1.0)
    assert missed.objects == (1,)


def test_classes_without_objects_do_not_count() -> None:
    got = average_precision([found([(A, 0)], [(A, 0, 0.9), (B, 1, 0.9)])], "ab")
    assert got.map == pytest.approx(1.0)
    assert math.isnan(got.of_class[1])
    assert math.isnan(average_precision([found([], [(A, 0, 0.9)])], "a").map)


def test_the_exported_files_give_the_same_to_pycocotools(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = []
    for _ in range(20):
        corner, side = generator.uniform(0, 60, (6, 2)), generator.uniform(10, 40, (6, 2))
        boxes = np.concatenate([corner, corner + side], axis=1)
        moved = np.repeat(boxes, 2, axis=0) + generator.normal(0, 3, (12, 4))
        truth = [(box.tolist(), int(generator.integers(4))) for box in boxes]
        labels = np.repeat([label for _, label in truth], 2)
        labels = np.where(generator.random(12) < 0.2, generator.integers(0, 4, 12), labels)
        detections = [
            (box.tolist(), int(label), float(generator.random())) for box, label in zip(moved, labels, strict=True)
        ]
        images.append(found(truth, detections, (generator.random(6) < 0.1).tolist()))
    ours = average_precision(images, "abcd")
    (tmp_path / "truth.json").write_text(json.dumps(coco_truth(images, "abcd")))
    (tmp_path / "results.json").write_text(json.dumps(coco_results(images)))
    truth = COCO(str(tmp_path / "truth.json"))
    theirs = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "bbox")
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    assert 0.2 < ours.map < 0.8
    values = (ours.map, ours.map50, ours.map75, ours.small, ours.medium, ours.large)
    np.testing.assert_allclose(values, [value if value > -1 else np.nan for value in theirs.stats[:6]], atol=1e-9)
    assert np.mean(ours.of_class) == pytest.approx(ours.map)
