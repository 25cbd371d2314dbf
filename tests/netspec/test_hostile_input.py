"""What a careless or hostile file may hold: each gets a diagnostic with code and place, at once, and no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netspec.cli.main import cli

SECONDS = 0.2
HEAD = "netspec: 1\ninputs: {image: {shape: [N, 3, 32, 32]}}\n"


def layers(*lines: str) -> str:
    return HEAD + "net:\n" + "".join(f"  {line}\n" for line in lines)


def blocks(*lines: str, net: str) -> str:
    return HEAD + "blocks:\n" + "".join(f"  {line}\n" for line in lines) + f"net: {net}\n"


def alias_bomb(levels: int = 20) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, levels)]
    return "\n".join(lines) + "\n"


def alias_tower(height: int = 60, levels: int = 16) -> str:
    """Few nodes, but each alias stands at the bottom of as many levels as a file may have."""
    lines = [f"a0: &a0 {'[' * height}x{']' * height}"]
    lines += [f"a{k}: &a{k} {'[' * height}*a{k - 1}{']' * height}" for k in range(1, levels)]
    return "\n".join(lines) + "\n"


def in_expression(text: str) -> str:
    return layers(f"conv1: {{conv: '{text}', kernel: 3}}")


# What the file holds, and the code of the diagnostic.
TEXTS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "empty-file"),
    "only a byte order mark": (b"\xef\xbb\xbf", "empty-file"),
    "only line breaks": ("\n" * 100_000, "empty-file"),
    "null": ("null\n", "empty-file"),
    "binary": (bytes(range(256)) * 64, "not-text"),
    "NUL bytes": ("netspec: 1\0\nnet: {}\n", "not-text"),
    "all NUL bytes": (b"\0" * 10_000, "not-text"),
    "invalid UTF-8": (b"netspec: 1\nname: caf\xe9\n", "not-text"),
    "UTF-16": ("netspec: 1\n".encode("utf-16"), "not-text"),
    "a control character after other alphabets": ("name: café ☕ 𝕏\nx: \x07\n", "not-text"),
    "alias bomb": (alias_bomb(), "alias-expansion"),
    "alias tower": (alias_tower(), "nested-too-deep"),
    "alias in itself": ("a: &a [*a]\n", "alias-cycle"),
    "nesting 10,000 deep": ("net: " + "[" * 10_000 + "]" * 10_000, "nested-too-deep"),
    "mappings 10,000 deep": ("net: " + "{a: " * 10_000 + "}" * 10_000, "nested-too-deep"),
    "unclosed nesting": ("[" * 100_000, "nested-too-deep"),
    "indentation 2,000 deep": ("".join(" " * k + "a:\n" for k in range(2_000)), "nested-too-deep"),
    "python object": ("!!python/object/apply:os.system ['true']\n", "yaml-tag"),
    "python name": (layers("a: !!python/name:os.system"), "yaml-tag"),
    "local tag": (layers("a: !include other.yaml"), "yaml-tag"),
    "unhashable key": (layers("? {a: b}", ": relu"), "key-not-a-name"),
    "list as a key": ("[1, 2]: 3\n", "key-not-a-name"),
    "merge key": ("<<: {netspec: 1}\n", "merge-key"),
    "a long line": ("netspec: 1\nname: " + "x" * 1_000_000 + ": y\n", "yaml-syntax"),
    "a long key": ("x" * 500_000 + ": 1\n", "yaml-syntax"),
    "a long name of an op": (layers("a: " + "x" * 100_000), "unknown-op"),
    "a long name of a section": (HEAD + "net: {a: relu}\n" + "x" * 1_000 + ": 1\n", "unknown-key"),
    "300 unknown ops": (layers(*(f"a{k}: no_such_op_{k}" for k in range(300))), "unknown-op"),
    "a huge whole number": (layers(f"a: {{conv: {'9' * 5_000}, kernel: 3}}"), "number-too-large"),
    "a huge hexadecimal number": (layers(f"a: {{conv: 0x{'f' * 5_000}, kernel: 3}}"), "number-too-large"),
    "a huge float": (layers("a: {dropout: 1e999999}"), "wrong-type"),
    "a number over 64 bits": (layers("a: {conv: 99999999999999999999, kernel: 3}"), "out-of-range"),
    "not a number": (layers("a: {dropout: .nan}"), "wrong-type"),
    "infinity": (layers("a: {leaky_relu: .inf}"), "wrong-type"),
    "a kernel of two thousand million": (layers("a: {conv: 8, kernel: 2147483647}"), "kernel-too-large"),
    "repeat: 1_000_000_000": (layers("a: {repeat: 1_000_000_000, relu}"), "too-large"),
    "nested repeats": (layers("a: {repeat: 1000, net: [{repeat: 1000, net: [{repeat: 1000, relu}]}]}"), "too-large"),
    "nested repeats of nothing": (
        layers("a: {repeat: 1000, net: [{repeat: 1000, net: [{repeat: 1000, relu, when: false}]}]}"),
        "too-large",
    ),
    "nested repeats of an empty net": (layers("a: {repeat: 1000, net: [{repeat: 1000, net: []}]}"), "too-large"),
    "blocks that multiply": (
        blocks(
            *(f"b{k}: {{net: [{', '.join([f'b{k + 1}'] * 10)}]}}" for k in range(30)), "b30: {net: [relu]}", net="[b0]"
        ),
        "too-large",
    ),
    "blocks nested deep": (
        blocks(
            *(f"b{k}: {{net: {'[' * 50}b{k + 1}{']' * 50}}}" for k in range(100)), "b100: {net: [relu]}", net="{a: b0}"
        ),
        "too-large",
    ),
    "sizes that double": (
        "netspec: 1\ninputs: {image: {shape: [N, 3, H, W]}}\n"
        "blocks: {b: {net: {p: {maxpool: 2}, q: {maxpool: 3, from: in}, c: {concat: [p, q], axis: 2}}}}\n"
        "net: {a: {repeat: 60, b}}\n",
        "too-large",
    ),
    "9**9**9": (in_expression("9**9**9"), "expression"),
    "a negative power tower": (in_expression("(-9)**(9**9)"), "expression"),
    "factors": (in_expression("*".join(["9999999999"] * 30)), "expression"),
    "a huge float power": (in_expression("9.9**9999"), "expression"),
    "5,000 terms": (in_expression(" + ".join(["1"] * 5_000)), "expression"),
    "nested parentheses": (in_expression("(" * 5_000 + "1" + ")" * 5_000), "expression"),
    "nested parentheses within the length": (in_expression("(" * 150 + "1" + ")" * 150), "expression"),
    "nested indices": (in_expression("a[" * 100 + "1" + "]" * 100), "expression"),
    "powers in a chain": (in_expression("**".join(["1"] * 130)), "expression"),
    "minus signs": (in_expression("-" * 399 + "x"), "unknown-name"),
    "dunder": (in_expression("().__class__.__bases__[0].__subclasses__()"), "expression"),
    "import": (in_expression('__import__("os")'), "unknown-name"),
    "reference cycle": (layers("a: {relu, from: b}", "b: {relu, from: a}"), "forward-reference"),
    "a layer that reads itself": (layers("a: {conv: 8, kernel: 1, from: a}"), "forward-reference"),
    "a block in itself": (blocks("b: {net: {x: b}}", net="{a: b}"), "block-cycle"),
    "a block in itself, ten times": (blocks(f"b: {{net: [{', '.join(['b'] * 10)}]}}", net="{a: b}"), "block-cycle"),
    "a ring of blocks": (
        blocks(*(f"b{k}: {{net: {{x: b{(k + 1) % 50}}}}}" for k in range(50)), net="{a: b0}"),
        "block-cycle",
    ),
    "a spec that extends itself": ("netspec: 1\nextends: spec.yaml\n", "extension-cycle"),
    "a missing argument": (layers("a: {conv: 8}"), "missing-argument"),
    "a negative kernel": (layers("a: {conv: 8, kernel: -3}"), "out-of-range"),
    "a kernel larger than its input": (layers("a: {conv: 8, kernel: 33}"), "kernel-too-large"),
    "2,000 arguments": (
        layers("a: {relu, " + ", ".join(f"k{k}: 1" for k in range(2_000)) + "}"),
        "unknown-argument",
    ),
}  # fmt: skip

PLACE = re.compile(
    r"^error\[(?P<code>[a-z-]+)\]: \S.*\n +--> (?P<file>.+):(?P<line>\d+):(?P<column>\d+)$", re.MULTILINE
)


def validate(path: Path | str, *options: str) -> Result:
    return CliRunner().invoke(cli, ["validate", str(path), *options])


def fastest(call: Callable[[], object], times: int = 3) -> float:
    """The shortest of a few runs; no more are made than are needed."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        if best < SECONDS:
            break
    return best


def refused(path: Path | str, code: str) -> Result:
    """Checks that the outcome is a diagnostic of that code with a place, within the time."""
    result = validate(path)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    found = PLACE.findall(result.output)
    assert code in {name for name, *_ in found}, result.output[:2000]
    assert all(file == str(path) and int(line) >= 1 and int(column) >= 1 for _, file, line, column in found)
    assert len(result.output) < 100_000
    assert fastest(lambda: validate(path)) < SECONDS
    return result


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """What a first call pays for, imports above all, is not what is measured."""
    validate("lenet5")
    validate("no_such_spec")


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text(name: str, tmp_path: Path) -> None:
    content, code = TEXTS[name]
    path = tmp_path / "spec.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(path, code)


def test_a_file_of_100_mb(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    refused(path, "file-too-large")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "unreadable-file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX's")
def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spec.yaml")
    assert "is a named pipe" in refused(tmp_path / "spec.yaml", "unreadable-file").output


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="standard input is no path here")
def test_what_a_shell_pipes_in_is_read() -> None:
    command = [sys.executable, "-m", "netspec", "validate", "/dev/stdin"]
    text = "netspec: 1\nname: piped\ninputs: {image: {shape: [N, 4]}}\nnet: {fc: {linear: 3}}\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.stdout == "/dev/stdin: valid, 1 layer, 15 parameters\n"


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "spec.yaml", "unreadable-file")


def test_a_missing_name() -> None:
    assert "did you mean `lenet5`?" in refused("lenet4", "unknown-spec").output


@pytest.mark.parametrize("name", ["\0", "a\0.yaml", "x" * 10_000, "x" * 10_000 + ".yaml", ""])
def test_a_name_that_no_file_can_have(name: str) -> None:
    result = validate(name)
    assert result.exit_code == 1
    assert re.search(r"^error\[(unknown-spec|unreadable-file)\]: ", result.output), result.output


@pytest.mark.parametrize("name", [b"\xe9", b"\xe9.yaml"])
def test_a_name_that_is_not_utf_8(name: bytes) -> None:
    done = subprocess.run([sys.executable, "-m", "netspec", "validate", name], capture_output=True)
    assert done.returncode == 1
    assert done.stderr == b""
    assert re.match(rb"error\[(unknown-spec|unreadable-file)\]: .*\\udce9", done.stdout)


@pytest.mark.parametrize(
    "setting",
    ["classes=\udce9", "classes=\0", "classes=\x07", "classes=[" * 3, "classes=" + "[" * 1_000, "classes=!!int 3",
     "classes=*a", "classes=&a [*a]", "classes={a: 1}", "classes=9**9**9", "classes=1\n---\n2", "classes=012",
     "clas\nses=3", "train=3", "train.=3", ".=3", "train..epochs=3",
     "train.optimizer.adam.lr.x=3", "classes=#", "classes='"],
)  # fmt: skip
def test_a_hostile_setting(setting: str) -> None:
    result = validate("lenet5", "--set", setting)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert re.search(r"^error\[[a-z-]+\]: ", result.output), result.output
    data = json.loads(validate("lenet5", "--set", setting, "--format", "json").output)
    assert not data["specs"][0]["valid"]
    assert data["specs"][0]["diagnostics"]


@pytest.mark.parametrize("setting", ["=", "\n=1", "classes", "classes=", "classes= ", "\udce9"])
def test_what_is_no_setting_is_wrong_usage(setting: str) -> None:
    result = validate("lenet5", "--set", setting)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Error: Invalid value for '--set'" in result.output


def test_the_place_of_a_control_character(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("name: café ☕ 𝕏\nnet: {é: \x07}\n", encoding="utf-8")
    assert f"{path}:2:10\n" in refused(path, "not-text").output


def test_a_bomb_does_not_hide_in_what_is_valid(tmp_path: Path) -> None:
    """The bounds are wide of what people write: a network of 2,000 layers is checked in its stride."""
    path = tmp_path / "spec.yaml"
    path.write_text(layers("a: {repeat: 1000, net: [{conv: 3, kernel: 3, padding: 1}, relu]}"))
    result = validate(path)
    assert result.exit_code == 0, result.output
    assert result.output == f"{path}: valid, 2000 layers, 84,000 parameters\n"
