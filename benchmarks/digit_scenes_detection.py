"""Detectors trained from nothing on digit scenes: mean average precision at an IoU of 0.5, and minutes.

`python -m benchmarks.digit_scenes_detection yolov3` trains one of them.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.scenes import Variant, train

NAMES = ("yolov3", "anchor_free", "ssd", "faster_rcnn")


def main() -> bool:
    parser = argparse.ArgumentParser(description="Detectors on digit scenes.")
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(NAMES)}; all of them, if missing")
    parser.add_argument("--dry-run", action="store_true", help="print only, keep nothing")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(NAMES):
        parser.error(f"there is no {unknown.pop()}, only {', '.join(NAMES)}")
    variants = [Variant(name, "map50", "mAP50", 0.90, 15, "pictures/*.png") for name in chosen.names or NAMES]
    met = [train(variant, chosen.dry_run) for variant in variants]  # every one of them, whatever the others reach
    return all(met)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
