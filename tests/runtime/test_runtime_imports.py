"""A machine that serves needs neither PyTorch nor the compiler: no module of the runtime imports them."""

import subprocess
import sys

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
