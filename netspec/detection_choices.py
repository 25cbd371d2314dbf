"""The losses of object detectors, as `train` names them.

Each reads the network's outputs by name; `docs/detection.md` lists which.
"""

from netspec.choices import Choice


class DetectionLoss(Choice):
    """A loss that compares boxes and their classes."""
