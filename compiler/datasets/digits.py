"""The handwritten digits that scikit-learn carries. Source: Alpaydin & Kaynak 1998, UCI."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from compiler.datasets.folders import SPLIT_SEED
from compiler.datasets.sample import Array


def digit_images() -> tuple[Array, Array]:
    """The digits as 8-bit images, 1,797 × 8 × 8 with ink white, and their classes."""
    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64)


def digit_split(share: float) -> tuple[Array, Array]:
    """Indices of the training and held-out digits; every class has its share in both."""
    _, classes = digit_images()
    train, test = train_test_split(np.arange(len(classes)), test_size=share, random_state=SPLIT_SEED, stratify=classes)
    return np.sort(train), np.sort(test)
