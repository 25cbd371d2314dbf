"""Detectors against torchvision, stage by stage: parameters, state-dict, levels, heads, anchors, regions, detections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks.torchvision_reference import TOLERANCE, difference, drawn_input, drawn_weight, reference
from compiler.export import export
from compiler.module import build
from netspec import Network, load
from netspec.deployed import deployed
from netspec.loading import check_source
from netspec.source import Source

# The layer that a stage of the reference is.
SSD = {f"backbone.{i}": f"backbone.{layer}" for i, layer in enumerate(["c4", "c7", "c8", "c9", "c10", "c11"])}
