"""The `netspec` command: formats, exit codes, the zoo, settings, and what it does not import."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import netspec
from netspec.cli.main import GROUP, ORDER, cli, home_of
from netspec.zoo import zoo

GOOD = "netspec: 1\ninputs: {image: {shape: [N, 3, 8, 8]}}\nnet: {a: {conv: 4, kernel: 3}, b: relu}\n"
WARNED = GOOD.replace("b: relu", "b: relu, c: {relu, from: a}")
BAD = GOOD.replace("kernel: 3", "kernl: 3").replace("relu", "rely")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def specs(tmp_path: Path) -> dict[str, Path]:
    paths = {}
    for name, text in {"good": GOOD, "warned": WARNED, "bad": BAD}.items():
        paths[name] = tmp_path / f"{name}.yaml"
        paths[name].write_text(text, encoding="utf-8")
    return paths


# -- validate


def test_a_valid_spec(specs: dict[str, Path]) -> None:
    result = run("validate", specs["good"])
    assert result.exit_code == 0
    assert result.output == f"{specs['good']}: valid, 2 layers, 112 parameters\n"


def test_a_warning_leaves_a_spec_valid(specs: dict[str, Path]) -> None:
    result = run("validate", specs["warned"])
    assert result.exit_code == 0
    assert f"warning[unused-layer]: nothing reads the layer `b`\n --> {specs['warned']}:3:35\n" in result.output
    assert result.output.endswith(f"{specs['warned']}: valid, 3 layers, 112 parameters, 1 warning\n")


def test_mistakes_are_all_told(specs: dict[str, Path]) -> None:
    result = run("validate", specs["bad"])
    assert result.exit_code == 1
    assert f"error[unknown-argument]: `conv` has no argument `kernl`\n --> {specs['bad']}:3:20\n" in result.output
    assert "  = help: did you mean `kernel`?\n" in result.output
    assert "error[unknown-op]: there is no op or block called `rely`\n" in result.output
    assert result.output.endswith(f"{specs['bad']}: 2 errors\n")


def test_several_specs_are_all_checked(specs: dict[str, Path]) -> None:
    result = run("validate", specs["bad"], specs["good"], "lenet5", "mlp")
    assert result.exit_code == 1
    ends = [line.partition(": ")[2] for line in result.output.splitlines() if re.match(r"\S+\.yaml: ", line)]
    assert ends == [
        "2 errors",
        "valid, 2 layers, 112 parameters",
        "valid, 12 layers, 61,706 parameters",
        "valid, 8 layers, 26,122 parameters",
    ]


def test_json(specs: dict[str, Path]) -> None:
    result = run("validate", specs["bad"], specs["warned"], "--format", "json")
    assert result.exit_code == 1
    bad, warned = json.loads(result.output)["specs"]
    assert (bad["file"], bad["valid"]) == (str(specs["bad"]), False)
    assert (warned["file"], warned["valid"]) == (str(specs["warned"]), True)
    first = bad["diagnostics"][0]
    assert {
        key: first[key] for key in ("code", "severity", "message", "file", "line", "column", "end_column", "help")
    } == {
        "code": "unknown-argument",
        "severity": "error",
        "message": "`conv` has no argument `kernl`",
        "file": str(specs["bad"]),
        "line": 3,
        "column": 20,
        "end_column": 25,
        "help": "did you mean `kernel`?",
    }
    assert [found["severity"] for found in warned["diagnostics"]] == ["warning"]


def test_json_of_a_mismatch_in_a_block(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "netspec: 1\ninputs: {image: {shape: [N, 3, 8, 8]}}\n"
        "blocks:\n  b: {net: {c: {conv: 4, kernel: 1}, sum: {add: [c, in]}}}\nnet: {a: b}\n"
    )
    (found,) = json.loads(run("validate", path, "--format", "json").output)["specs"][0]["diagnostics"]
    assert found["code"] == "shape-mismatch"
    assert [(label["line"], label["text"]) for label in found["labels"]] == [
        (4, "`a.c` gives N × 4 × 8 × 8"),
        (2, "`image` gives N × 3 × 8 × 8"),
    ]
    assert [(frame["path"], frame["block"], frame["line"]) for frame in found["expansion"]] == [("a", "b", 5)]
    assert "{conv: 4, kernel: 1, bias: false}" in found["help"]


def test_github(specs: dict[str, Path]) -> None:
    result = run("validate", specs["bad"], specs["warned"], "--format", "github")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == (
        f"::error file={specs['bad']},line=3,col=20,title=unknown-argument,endColumn=25::"
        "`conv` has no argument `kernl`%0Ahelp: did you mean `kernel`?"
    )
    assert lines[-1].startswith(f"::warning file={specs['warned']},line=3,col=35,title=unused-layer,")
    assert len(lines) == 3


def test_github_escapes_what_would_end_a_property(tmp_path: Path) -> None:
    path = tmp_path / "a,b:c%.yaml"
    path.write_text("[]\n")
    assert run("validate", path, "--format", "github").output.startswith(
        f"::error file={tmp_path}/a%2Cb%3Ac%25.yaml,line=1,col=1,"
    )


def test_only_so_many_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    layers = "".join(f"  a{k}: nothing_{k}\n" for k in range(150))
    path.write_text("netspec: 1\ninputs: {image: {shape: [N, 3, 8, 8]}}\nnet:\n" + layers)
    result = run("validate", path)
    assert result.output.count("error[unknown-op]") == 100
    assert result.output.endswith(": 100 errors (50 more not shown)\n")
    assert json.loads(run("validate", path, "--format", "json").output)["specs"][0]["omitted"] == 50


# -- the zoo, settings


def test_the_zoo_is_valid_by_name_and_by_path() -> None:
    names = dict(zoo())
    for name in ("lenet5", "mlp", "resnet"):
        path = names[name]
        by_name, by_path = (json.loads(run("summary", spec, "--format", "json").output) for spec in (name, path))
        assert by_name["parameters"] == by_path["parameters"] > 0
        assert by_name["name"] == name


def test_a_file_in_the_folder_hides_one_of_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lenet5").write_text(GOOD)
    assert run("validate", "lenet5").output == "lenet5: valid, 2 layers, 112 parameters\n"


def test_settings() -> None:
    assert run("validate", "lenet5", "--set", "classes=3").exit_code == 0
    result = run("validate", "lenet5", "--set", "classes=3", "--set", "classes=0")
    assert result.exit_code == 1
    assert "`features` must be at least 1, got 0" in result.output
    result = run("validate", "lenet5", "--set", "clases=3")
    assert result.exit_code == 1
    assert "error[unknown-argument]: the spec has no argument `clases`\n --> --set:1:1\n" in result.output
    assert "did you mean `classes`?" in result.output


def test_expectations_are_of_the_specs_own_arguments() -> None:
    """With other arguments the counts are others; that they were not held against the spec is told."""
    result = run("validate", "lenet5", "--set", "classes=3")
    assert "valid, 12 layers, 61,111 parameters, `expect` not checked" in result.output
    assert "not checked" not in run("validate", "lenet5", "--set", "classes=10").output


# -- exit codes


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate"],
        ["validate", "lenet5", "--format", "xml"],
        ["validate", "lenet5", "--set"],
        ["validate", "lenet5", "--set", "classes"],
        ["validate", "lenet5", "--set", "=3"],
        ["validate", "lenet5", "--set", "classes="],
        ["validate", "--no-such-option", "lenet5"],
        ["summary"],
        ["summary", "lenet5", "mlp"],
        ["summary", "lenet5", "--format", "yaml"],
        ["explain", "lenet5"],
        ["nothing"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.output or "requires an argument" in result.output
    assert "Error: " in result.output


def test_a_setting_that_is_none_is_answered_with_the_form() -> None:
    output = run("validate", "lenet5", "--set", "classes").output
    assert "'--set': `classes` is no setting; write `--set name=value`" in output


def test_ctrl_c_is_130_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("netspec.cli.validate.check", interrupted)
    result = run("validate", "lenet5")
    assert (result.exit_code, result.output) == (130, "interrupted\n")


# A package that takes long to import, and calls whatever goes wrong in it an error of its own, as NumPy does.
SLOW_PACKAGE = """
import time
print("importing", flush=True)
try:
    time.sleep(60)
except BaseException as error:
    raise RuntimeError("no such luck") from error
"""


def test_ctrl_c_while_a_command_is_imported_is_130_too(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(SLOW_PACKAGE)
    command = [sys.executable, "-m", "netspec", "train", "mlp", "--out", "run"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "interrupted\n")


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    assert "there is no command `validte`; did you mean `validate`?" in run("validte", "lenet5").output


def test_help_names_every_command_and_loads_none() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in ("validate", "summary", "explain", "train", "export", "predict", "serve"):
        assert re.search(rf"^  {name} +\S", result.output, re.MULTILINE), name
    for name in ("validate", "summary", "explain"):
        assert run(name, "--help").exit_code == 0


def test_version() -> None:
    assert run("--version").output == f"netspec {netspec.__version__}\n"


# -- as a library


def test_load_gives_a_network_or_raises(specs: dict[str, Path]) -> None:
    assert netspec.load("lenet5").parameters() == 61_706
    assert netspec.load(specs["good"]).name == "good"
    with pytest.raises(netspec.SpecError) as caught:
        netspec.load(specs["bad"])
    assert [found.code for found in caught.value.diagnostics] == ["unknown-argument", "unknown-op"]
    assert str(caught.value) == f"{specs['bad']}:3:20: `conv` has no argument `kernl`"


def test_check_never_raises(specs: dict[str, Path]) -> None:
    checked = netspec.check(specs["bad"])
    assert not checked.valid
    assert checked.network is None
    assert netspec.check("no_such_spec").diagnostics[0].code == "unknown-spec"
    assert netspec.check(specs["good"], ["nothing=1"]).diagnostics[0].code == "unknown-argument"


# -- in a process of its own

HEAVY = {"torch", "onnx", "onnxruntime", "numpy", "PIL", "sklearn", "matplotlib"}


def python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "lenet5", "mlp", "resnet"],
        ["validate", "resnet", "--format", "json"],
        ["validate", "lenet5", "--set", "classes=0"],
        ["summary", "resnet"],
        ["explain", "resnet", "conv1"],
        ["--help"],
    ],
)
def test_authoring_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from netspec.cli.main import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = python(code, *arguments)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "netspec" in loaded
    assert not loaded & (HEAVY | {"compiler", "runtime"})


def test_the_console_script_and_the_module_are_the_same() -> None:
    for command in ([str(Path(sys.executable).with_name("netspec"))], [sys.executable, "-m", "netspec"]):
        done = subprocess.run([*command, "validate", "lenet5", "--set", "classes=0"], capture_output=True, text=True)
        assert done.returncode == 1
        assert "error[out-of-range]" in done.stdout
        assert done.stderr == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX's")
@pytest.mark.parametrize("command", [("compile", "lenet5", "-o"), ("schema", "-o"), ("export", "lenet5", "-o")])
def test_no_file_takes_the_place_of_a_device_or_a_pipe(command: tuple[str, ...], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    for path in (pipe, link):
        result = run(*command, path)
        assert result.exit_code != 0 and result.exc_info is not None and result.exc_info[0] is SystemExit
        assert "device or a pipe" in result.output
    assert pipe.is_fifo() and link.is_symlink()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="standard output is a link in Linux's /proc")
def test_standard_output_is_no_name_for_a_file_unless_it_is_one(tmp_path: Path) -> None:
    link = tmp_path / "stdout"  # as /dev/stdout is
    link.symlink_to("/proc/self/fd/1")
    command = [sys.executable, "-m", "netspec", "schema", "-o", str(link)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "device or a pipe" in done.stderr
    with (tmp_path / "schema.json").open("w") as file:
        subprocess.run(command, stdout=file, check=True)
    assert json.loads((tmp_path / "schema.json").read_text())["$schema"]
    assert link.is_symlink()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        for arguments in (("summary", "lenet5"), ("explain", "lenet5", "conv1"), ("list",)):
            command = [sys.executable, "-m", "netspec", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
            assert done.returncode == 1
            assert done.stderr == "Error: no space is left on the disk that the output goes to\n"


def test_a_pipe_that_closes_early_is_passed_over_in_silence() -> None:
    command = f"{sys.executable} -m netspec summary resnet | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith("resnet: image")


def test_no_colour_in_a_pipe_and_with_no_color() -> None:
    done = python("from netspec.cli.main import main; main()", "validate", "lenet5", "--set", "classes=0")
    assert "\x1b" not in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("no_color", [False, True])
def test_colour_on_a_terminal(no_color: bool) -> None:
    import pty

    main, worker = pty.openpty()
    environment = {**os.environ, **({"NO_COLOR": "1"} if no_color else {})}
    if not no_color:
        environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "netspec", "validate", "lenet5", "--set", "classes=0"]
    done = subprocess.run(command, stdout=worker, stderr=worker, env=environment)
    os.close(worker)
    output = os.read(main, 100_000).decode()
    os.close(main)
    assert done.returncode == 1
    assert "out-of-range" in output
    assert ("\x1b[1;31m" in output) == (not no_color)


def test_our_commands_are_where_the_entry_points_say() -> None:
    """Other tools find them by the group; the command line itself goes by the rule."""
    named = {entry.name: (entry.module, entry.attr) for entry in entry_points(group=GROUP)}
    assert named == {name: home_of(name)[1:] for name in ORDER}
    assert home_of("no_such_command") is None
