"""`netspec validate` as a whole process against a process that only imports yaml, pydantic and networkx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import Result, alternate, as_installed, medians, netspec_command, paired_ratio, publish

ROUNDS = 25
SPEC = Path(__file__).parent.parent / "specs" / "digits" / "resnet.yaml"


def measure() -> Result:
    command = netspec_command()

    def run(*words: str) -> None:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=as_installed())

    times = alternate(
        {
            "netspec validate": lambda: run(command, "validate", str(SPEC)),
            "imports": lambda: run(sys.executable, "-c", "import yaml, pydantic, networkx"),
        },
        ROUNDS,
    )
    return Result(
        "validate_startup",
        "`netspec validate specs/digits/resnet.yaml` over `import yaml, pydantic, networkx`, whole processes",
        paired_ratio(times, "netspec validate", "imports"),
        1.6,
        True,
        medians(times),
        {"rounds": ROUNDS},
    )


if __name__ == "__main__":
    publish(measure)
