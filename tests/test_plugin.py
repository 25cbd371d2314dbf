"""The example package under `examples/plugin`, installed as a user installs it: an op, its lowering and a spec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def netspec_with(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`netspec …` in a process that has the package installed."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--target", str(site), str(ROOT / "examples" / "plugin")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}

    def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "netspec", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)

    return run


def test_a_spec_of_the_package_is_in_the_zoo(netspec_with: Run, tmp_path: Path) -> None:
    listed = json.loads(netspec_with("list", "--format", "json", cwd=tmp_path).stdout)["specs"]
    assert [spec["parameters"] for spec in listed if spec["name"] == "gem_resnet18"] == [11_689_513]
    assert netspec_with("validate", "gem_resnet18", cwd=tmp_path).returncode == 0


def test_its_op_is_known_with_its_arguments(netspec_with: Run, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        "netspec: 1\ninputs: {x: {shape: [N, 4, H, W]}}\nnet: {pool: {gem_pool: 0.5}, p: {gem_pol: 2.0}}\n"
    )
    done = netspec_with("validate", "net.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "`p` must be at least 1.0, got 0.5" in done.stderr + done.stdout
    assert "did you mean `gem_pool`?" in done.stderr + done.stdout
    ops = json.loads(netspec_with("list", "--ops", "--format", "json", cwd=tmp_path).stdout)["ops"]
    assert [op["arguments"] for op in ops if op["name"] == "gem_pool"] == [["p", "eps"]]


def test_it_trains_nothing_new_to_export_and_compile(netspec_with: Run, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        "netspec: 1\ninputs: {x: {shape: [N, 4, H, W], sizes: {H: 8, W: 9}}}\n"
        "net: {conv: {conv: 3, kernel: 3}, pool: {gem_pool: 2.5}, flat: flatten, fc: {linear: 2}}\n"
    )
    done = netspec_with("export", "net.yaml", "--verify", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert netspec_with("compile", "net.yaml", "-o", "net.py", cwd=tmp_path).returncode == 0
    assert "class GeneralisedMean(nn.Module):" in (tmp_path / "net.py").read_text()


def test_without_the_package_its_op_is_unknown(netspec: Run, tmp_path: Path) -> None:
    spec = ROOT / "examples" / "plugin" / "netspec_gem" / "zoo" / "gem_resnet18.yaml"
    done = netspec("validate", spec, cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no op or block called `gem_pool`" in done.stderr + done.stdout
