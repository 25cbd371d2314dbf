"""The order of the packages, and what a user gets who installs the wheel."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Which of these each package may import.
ALLOWED = {
    "netspec": {"netspec"},
    "compiler": {"netspec", "compiler", "torch", "onnx", "onnxruntime", "numpy"},
    "runtime": {"runtime", "onnxruntime", "numpy"},
}
WATCHED = {"netspec", "compiler", "runtime", "torch", "onnx", "onnxruntime", "numpy"}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_no_package_imports_one_above_it(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        assert imports(file) & WATCHED <= ALLOWED[package], file


def modules(package: str) -> dict[str, set[str]]:
    """Every module of a package with the modules of that package that it imports when it is imported."""
    graph = {}
    for file in (ROOT / package).rglob("*.py"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        top = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
        graph[name] = {node.module or "" for node in top if (node.module or "").startswith(package)} - {name}
    return graph


@pytest.mark.parametrize("package", ALLOWED)
def test_no_cycle_among_the_modules(package: str) -> None:
    graph = modules(package)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path, module))
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_every_file_fits_in_a_head() -> None:
    sizes = {file: len(file.read_text().splitlines()) for file in ROOT.glob("[ncr]*/**/*.py")}
    assert len(sizes) > 50
    assert {str(file): size for file, size in sizes.items() if size > 500} == {}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked: what an installation puts on the path."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


NO_CODE = {".yaml", ".js", ".css", ".html", ".svg", ".binpb"}


def test_the_wheel_has_every_file_that_is_no_code(wheel: Path) -> None:
    for package in ("netspec", "compiler", "runtime"):
        data = [path for path in (ROOT / package).rglob("*") if path.suffix in NO_CODE]
        missing = [path for path in data if not (wheel / path.relative_to(ROOT)).is_file()]
        assert missing == []
    assert list((wheel / "netspec" / "starters").glob("*.yaml"))


def test_the_zoo_works_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); import netspec; print(netspec.__file__)\n"
    code += "from netspec.cli.main import cli; cli(['validate', 'lenet5', 'mlp', 'resnet'])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith(str(wheel))
    assert len(rest) == 3
    assert all(f"{wheel}/netspec/specs/digits/" in line and ": valid" in line for line in rest)


def test_the_wheel_carries_types_licence_and_nothing_else(wheel: Path) -> None:
    tops = {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"netspec", "compiler", "runtime"}
    assert all((wheel / package / "py.typed").is_file() for package in tops)
    assert list(wheel.glob("*.dist-info/licenses/LICENSE"))
    assert "from netspec" in (wheel / "compiler" / "module.py").read_text()


def test_every_command_has_help_with_an_example() -> None:
    from netspec.cli.main import ORDER

    for name in ORDER:
        command = [sys.executable, "-m", "netspec", name, "--help"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"Example: netspec {name}" in done.stdout, name
