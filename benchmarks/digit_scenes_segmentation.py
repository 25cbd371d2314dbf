"""A small U-Net trained from nothing on digit scenes: mean IoU, and minutes."""

from __future__ import annotations

import sys

from benchmarks.scenes import Variant, train

UNET = Variant("unet", "miou", "mean IoU", 0.85, 10, "pictures/*.png")

if __name__ == "__main__":
    sys.exit(0 if train(UNET, "--dry-run" in sys.argv) else 1)
