"""A machine that serves needs neither PyTorch nor the compiler: no module of the runtime imports them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import importlib, os, pkgutil, sys

FORBIDDEN = {"torch", "onnx", "netspec", "compiler"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"the runtime imports {name}")

sys.meta_path.insert(0, Refuse())
import runtime
names = [module.name for module in pkgutil.walk_packages(runtime.__path__, "runtime.")]
for name in names:
    importlib.import_module(name)
assert not FORBIDDEN & {name.partition(".")[0] for name in sys.modules}
print(len(names), os.environ["ORT_DISABLE_TELEMETRY"])
"""


def test_every_module_imports_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, telemetry = done.stdout.split()
    assert int(count) >= 20
    assert telemetry == "1"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux tells them")
@pytest.mark.skipif((os.cpu_count() or 1) == 1, reason="with one core nobody starts a thread for each further one")
def test_a_command_starts_no_threads_before_it_has_work_for_them() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    probe = "import runtime.cli.serve, os; print(len(os.listdir('/proc/self/task')))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["1"], done.stderr
