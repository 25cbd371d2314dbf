"""`netspec summary resnet152` as a whole process against one that builds it in PyTorch and asks torchinfo."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.measuring import Result, alternate, as_installed, medians, netspec_command, paired_ratio, publish

ROUNDS = 7
PARAMETERS = "60,192,808"
RIVAL = """
import resnet152, torchinfo
torchinfo.summary(resnet152.Resnet152(), (1, 3, 224, 224))
"""


def output(folder: str, *words: str) -> str:
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True, env=as_installed()).stdout


def measure() -> Result:
    netspec = netspec_command()
    with tempfile.TemporaryDirectory() as folder:
        output(folder, netspec, "compile", "resnet152", "-o", str(Path(folder) / "resnet152.py"))
        calls = {
            "netspec summary": partial(output, folder, netspec, "summary", "resnet152"),
            "torchinfo": partial(output, folder, sys.executable, "-c", RIVAL),
        }
        assert all(PARAMETERS in call() for call in calls.values())
        times = alternate(calls, ROUNDS, warm_up=1)
    return Result(
        "summary_speed",
        "a process that builds ResNet-152 in PyTorch and runs torchinfo over `netspec summary resnet152`",
        paired_ratio(times, "torchinfo", "netspec summary"),
        8,
        False,
        medians(times),
        {"rounds": ROUNDS},
    )


if __name__ == "__main__":
    publish(measure)
