"""Small variants of the zoo's networks, trained from nothing on digit scenes by `netspec train` on the CPU.

What the last weights find is measured, so nothing is chosen by the held-out scenes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, Result, keep, netspec_command

SPECS = Path(__file__).parent / "specs"


@dataclass(frozen=True)
class Variant:
    """A network that is trained, and what it has to reach.

    Attributes:
        name: of `specs/scenes_<name>.yaml`, and of its results.
        measure, title: what is measured, as `metrics.jsonl` has it and as people do.
        least: of it, and `minutes` the most time that training takes.
        pictures: of a run, of which the last one is kept.
    """

    name: str
    measure: str
    title: str
    least: float
    minutes: float
    pictures: str

    def results(self, epochs: list[dict[str, Any]], minutes: float) -> list[Result]:
        last = {name.removeprefix("test_"): value for name, value in epochs[-1].items() if name.startswith("test_")}
        by_epoch = [round(epoch[f"test_{self.measure}"], 4) for epoch in epochs if f"test_{self.measure}" in epoch]
        what = f"{self.name} on held-out digit scenes, {len(epochs)} epochs from nothing on {os.cpu_count()} cores"
        reached = f"scenes_{self.name}_{self.measure}"
        details = {"held out": last, f"{self.title} by epoch": by_epoch}
        return [
            Result(reached, f"{self.title} of {what}", last[self.measure], self.least, False, {}, details),
            Result(f"scenes_{self.name}_minutes", f"minutes of training {what}", minutes, self.minutes, True, {}),
        ]


def train(variant: Variant, dry: bool) -> bool:
    """Trains a variant, prints what it reached and how long that took, and keeps it if this is no dry run.

    Returns:
        Whether it reached what it has to.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, spec = Path(folder) / "run", SPECS / f"scenes_{variant.name}.yaml"
        begun = time.monotonic()
        subprocess.run([netspec_command(), "train", str(spec), "--out", str(out), "--device", "cpu"], check=True)
        minutes = (time.monotonic() - begun) / 60
        if not dry:
            shutil.copy(sorted(out.glob(variant.pictures))[-1], RESULTS / f"scenes_{variant.name}.png")
        epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return keep(variant.results(epochs, minutes), dry)
