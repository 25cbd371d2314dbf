"""Shells complete commands, options, specs, layers and settings, without importing what the commands need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from netspec.cli.main import GROUP, cli
from netspec.cli.outline import outline

COMMANDS = {entry.name: entry for entry in entry_points(group=GROUP)}
SHELLS = ["bash", "zsh", "fish"]
HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "networkx", "pydantic")

WATCHED = f"""
import atexit, sys
atexit.register(lambda: print("imported:", [name for name in {HEAVY} if name in sys.modules]))
from netspec.cli.main import main
main()
"""


def complete(line: str, folder: Path, code: str = "from netspec.cli.main import main; main()") -> list[str]:
    """What is offered at the end of a line."""
    words = line.split(" ")
    asked = {"_NETSPEC_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, cwd=folder, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def values(line: str, folder: Path) -> set[str]:
    return {item.partition(",")[2] for item in complete(line, folder) if item}


def test_commands(tmp_path: Path) -> None:
    assert values("netspec ", tmp_path) == set(COMMANDS)
    assert values("netspec tr", tmp_path) == {"train"}


def test_specs_of_the_zoo_and_files_here(tmp_path: Path) -> None:
    (tmp_path / "lenet-mine.yaml").touch()
    (tmp_path / "notes.txt").touch()
    for command in ("validate", "train", "export", "summary", "schema"):
        assert values(f"netspec {command} lenet", tmp_path) == {"lenet5", "lenet-mine.yaml"}
    assert {"mlp", "resnet18", "lenet-mine.yaml"} <= values("netspec validate mlp ", tmp_path)
    assert complete("netspec validate folder/x", tmp_path) == ["file,folder/x"]


def test_layers(tmp_path: Path) -> None:
    assert values("netspec explain resnet layer1.0.c", tmp_path) == {"layer1.0.conv1", "layer1.0.conv2"}
    assert values("netspec explain no_such_spec c", tmp_path) == set()


def test_containers_to_fold(tmp_path: Path) -> None:
    wanted = {"layer1.0", "layer1.1"}
    assert values("netspec draw resnet --fold layer1.", tmp_path) == wanted
    assert values("netspec draw resnet -o net.svg --unfold layer1.", tmp_path) == wanted


def test_settings(tmp_path: Path) -> None:
    assert values("netspec train lenet5 --set train.e", tmp_path) == {"train.epochs=30"}
    assert "classes=10" in values("netspec train lenet5 --set ", tmp_path)
    assert "classes=1000" in values("netspec validate resnet101 --set c", tmp_path), "of the spec that it extends"
    spec = tmp_path / "spec.yaml"
    spec.write_text("netspec: 1\nargs: {width: int, depths: [1, 2], mode: 'x'}\n", encoding="utf-8")
    assert values("netspec summary spec.yaml --set ", tmp_path) == {"width=", "depths=", "mode=x"}
    spec.write_text("netspec: {\n", encoding="utf-8")
    assert values("netspec summary spec.yaml --set ", tmp_path) == set()


def test_options_and_their_words(tmp_path: Path) -> None:
    assert {"--out", "--set", "--resume", "--device"} <= values("netspec train lenet5 --", tmp_path)
    assert values("netspec train lenet5 --device ", tmp_path) == {"auto", "cpu", "cuda"}
    assert "cpu" in values("netspec serve --device ", tmp_path)
    assert complete("netspec train lenet5 --out x", tmp_path) == ["file,x"]
    assert complete("netspec fmt x", tmp_path) == ["file,x"]


@pytest.mark.parametrize("line", ["netspec ", "netspec train ", "netspec export lenet5 --", "netspec serve --device "])
def test_nothing_heavy_is_imported(line: str, tmp_path: Path) -> None:
    assert complete(line, tmp_path, WATCHED)[-1] == "imported: []"


def facts(parameter: click.Parameter) -> dict[str, Any]:
    """What completion has to know of a parameter."""
    return {
        "kind": parameter.param_type_name,
        "names": (parameter.name, *parameter.opts, *parameter.secondary_opts),
        "flag": getattr(parameter, "is_flag", False),
        "multiple": parameter.multiple,
        "nargs": parameter.nargs,
        "words": list(parameter.type.choices) if isinstance(parameter.type, click.Choice) else None,
        "path": isinstance(parameter.type, click.Path),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_outline_is_the_command(name: str) -> None:
    real, outlined = COMMANDS[name].load(), outline(COMMANDS[name])
    assert [facts(known) for known in outlined.params] == [facts(known) for known in real.params]
    helps = {known.name: known.help for known in real.params if isinstance(known, click.Option)}
    written = {known.name: known.help for known in outlined.params if isinstance(known, click.Option) and known.help}
    assert written.items() <= helps.items()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_the_script(shell: str, tmp_path: Path) -> None:
    script = CliRunner().invoke(cli, ["completion", shell])
    assert script.exit_code == 0
    assert "_NETSPEC_COMPLETE" in script.output
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    assert subprocess.run([program, "-n"], input=script.output, text=True, cwd=tmp_path).returncode == 0


def test_bash_completes(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    command = tmp_path / "netspec"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m netspec "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    lines = [
        'eval "$(netspec completion bash)"',
        "COMP_WORDS=(netspec validate lenet); COMP_CWORD=2",
        "_netspec_completion netspec; echo ${COMPREPLY[@]}",
        "complete -p netspec",
    ]
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([bash, "-c", "\n".join(lines)], env=os.environ | path, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "lenet5", done.stderr
    assert "_netspec_completion netspec" in done.stdout


def test_another_shell_is_refused() -> None:
    result = CliRunner().invoke(cli, ["completion", "tcsh"])
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.output
