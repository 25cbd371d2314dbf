"""Our average precision against pycocotools', run on the files that `netspec evaluate` writes, and the exported file's.

A small detector is trained for an epoch on digit scenes, so that it finds some of the digits and not others.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.measuring import Result, netspec_command, publish, worst
from benchmarks.scenes import SPECS

LIMIT = 1e-6
SERVED = 1e-3  # of which of two boxes of equal score is kept, rounding decides
NAMES = ("map", "map50", "map75", "small", "medium", "large")


def theirs(truth: Path, results: Path) -> dict[str, float]:
    """What pycocotools says of the files."""
    with contextlib.redirect_stdout(io.StringIO()):
        images = COCO(str(truth))
        measured = COCOeval(images, images.loadRes(str(results)), "bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return dict(zip(NAMES, map(float, measured.stats), strict=False))


def measure() -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        run, truth, results = Path(folder) / "run", Path(folder) / "truth.json", Path(folder) / "results.json"
        netspec = netspec_command()
        spec = str(SPECS / "scenes_anchor_free.yaml")
        subprocess.run([netspec, "train", spec, "--out", str(run), "--device", "cpu", "--epochs", "1"], check=True)
        subprocess.run([netspec, "export", str(run)], check=True)
        evaluate = [netspec, "evaluate", str(run), "--format", "json"]
        files = ["--coco", str(results), "--coco-truth", str(truth)]
        ours = json.loads(subprocess.run([*evaluate, *files], check=True, capture_output=True).stdout)
        exported = [*evaluate, "--model", str(run / "model.onnx")]
        served = json.loads(subprocess.run(exported, check=True, capture_output=True).stdout)
        measured = theirs(truth, results)
    apart = {name: abs(ours[name] - measured[name]) for name in NAMES if ours[name] is not None}
    served_apart = {name: abs(ours[name] - served[name]) for name in ("map", "map50")}
    details = {"ours": {name: ours[name] for name in NAMES}, "pycocotools": measured}
    what = "average precision, its difference from"
    return [
        worst("coco_evaluation", f"{what} pycocotools' on the written files", apart, LIMIT, True, {}, details),
        worst("coco_evaluation_exported", f"{what} the exported file's", served_apart, SERVED, True, {}, {}),
    ]


if __name__ == "__main__":
    sys.exit(0 if publish(measure) else 1)
