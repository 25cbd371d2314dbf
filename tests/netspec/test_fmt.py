"""`netspec fmt`: one layout, the same meaning, every comment; files whole or untouched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netspec.cli.main import cli
from netspec.diagnostics import SpecError
from netspec.formatting import WIDTH, CannotFormat, format_spec
from netspec.source import Source
from netspec.yaml_reader import Node, Scalar, Sequence, parse
from netspec.zoo import zoo

ROOT = Path(__file__).resolve().parent.parent.parent
ZOO = dict(zoo())
UGLY = """\


# the head
netspec:   1



args: { classes: 10 , width:  16 }   # of digits
inputs:
    image: {shape: [N,1,8,8]}
net:
- { linear : width }
-   relu     # after


"""
TIDY = """\
# the head
netspec: 1

args: {classes: 10, width: 16}       # of digits
inputs:
  image: {shape: [N, 1, 8, 8]}
net:
  - {linear: width}
  - relu       # after
"""


def run(*arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["fmt", *map(str, arguments)], input=stdin)


def laid_out(text: str) -> str:
    return format_spec(Source("spec.yaml", text))


def data(node: Node) -> Any:
    if isinstance(node, Scalar):
        return node.value, node.quoted
    if isinstance(node, Sequence):
        return [data(item) for item in node.items]
    return [(key, data(entry.value)) for key, entry in node.entries.items()]


def meaning(text: str) -> Any:
    return data(parse(Source("spec.yaml", text)))


def examine(text: str) -> None:
    """What holds of every text that can be laid out."""
    once = laid_out(text)
    assert meaning(once) == meaning(text)
    assert laid_out(once) == once
    assert once.endswith("\n")
    assert not once.endswith("\n\n") or text.rstrip(" \n") != text


# -- the layout


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_laid_out(name: str) -> None:
    text = ZOO[name].read_text(encoding="utf-8")
    assert laid_out(text) == text


def blocks() -> list[str]:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests" / "diagnostics").glob("*.md")]
    found = [re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL) for page in pages]
    return [block for page in found for block in page]


def test_every_documented_spec_keeps_its_meaning() -> None:
    done = 0
    for text in blocks():
        try:
            parse(Source("spec.yaml", text))
        except SpecError:
            continue
        examine(text)
        done += 1
    assert done > 150


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (UGLY, TIDY),
        ("a: 1\r\nb: 2", "a: 1\nb: 2\n"),
        ("a: { b: 1,c: [ 1,2 ], d }\n", "a: {b: 1, c: [1, 2], d}\n"),
        ("a: {b: , c: }\n", "a: {b: , c: }\n"),
        ("a : 1\n'b' : 2\n", "a: 1\n'b': 2\n"),
        ("a:\n- 1\n-   - 2\n    - b: 3\n      c: 4\n", "a:\n  - 1\n  - - 2\n    - b: 3\n      c: 4\n"),
        ("a:\n    b:\n        c: 1\n", "a:\n  b:\n    c: 1\n"),
        ("a: &x [1]\nb: *x\n", "a: &x [1]\nb: *x\n"),
        ("a: 1   \n\n\n\nb: 2\n\n\n", "a: 1\n\nb: 2\n"),
        ("a: {\n b: 1,   # one\n     # own\n c: 2}\n", "a: {\n  b: 1,   # one\n  # own\n  c: 2}\n"),
        ("a: |\n     x\n       y\n\nb: 1\n", "a: |\n  x\n    y\n\nb: 1\n"),
        ("a: >-  # why\n x\n\n\n y\n", "a: >-  # why\n  x\n\n\n  y\n"),
        ("a: 'x\n   y'\nb: z\n      w\n", "a: 'x\n  y'\nb: z\n  w\n"),
        ("a: 1 # x\n", "a: 1  # x\n"),
        ("%YAML 1.2\n---\na:  1\n", "%YAML 1.2\n---\na: 1\n"),
        ("a:\n    b: 1\n    # end of a\n# of b\nb: 2\n", "a:\n  b: 1\n  # end of a\n# of b\nb: 2\n"),
        ("a:\n    # only this\nb: 2\n", "a:\n  # only this\nb: 2\n"),
        (
            "# yaml-language-server: $schema=x.json\nnetspec: 1\n",
            "# yaml-language-server: $schema=x.json\nnetspec: 1\n",
        ),
    ],
)
def test_layout(before: str, after: str) -> None:
    assert laid_out(before) == after
    assert laid_out(after) == after
    assert meaning(after) == meaning(before)


def test_comments_that_stand_in_a_column_stay_in_one() -> None:
    text = "a:\n    b: 1       # one\n    longer: {c:1,  d: 2}\n    e: 2       # two\n\n    f: 3   # three\n"
    text = text.replace("c:1", "c: 1")
    lines = laid_out(text).splitlines()
    assert lines[1].index("#") == lines[3].index("#")
    assert lines[5] == "  f: 3   # three", "one of another paragraph is left alone"


def test_what_does_not_fit_gets_a_line_for_each_entry() -> None:
    entries = ", ".join(f"argument_{i}: [{i}, {i}]" for i in range(8))
    text = f"net:\n  a: {{conv: 1, {entries}, set}}  # why\n  b:\n    - {{conv: 1, {entries}}}\n    - [{entries}]\n"
    written = laid_out(text)
    assert all(len(line) <= WIDTH for line in written.splitlines())
    assert written.startswith("net:\n  a:  # why\n    conv: 1\n    argument_0: [0, 0]\n")
    assert "    set:\n  b:\n    - conv: 1\n      argument_0: [0, 0]\n" in written
    assert "    - - argument_0: [0, 0]\n      - argument_1: [1, 1]\n" in written
    examine(text)


def test_what_fits_stays_as_it_is() -> None:
    text = "a:\n  conv: 64\n  kernel: 3\nb: {conv: 64, kernel: 3}\nc: [\n  1,\n  2,\n]\n"
    assert laid_out(text) == text


# -- the meaning

words = st.sampled_from(
    ["relu", "2*width", "a if i else b", "on", "1e-3", "0x10", "x: y", "# no", "é😀", "", " ", "- a"]
)
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | words
keys = st.sampled_from(["a", "b", "conv1", "in", "key with spaces", "é", "1", "-", "a#b"])
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=25,
)
quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
styles = st.fixed_dictionaries(
    {
        "default_flow_style": st.sampled_from([True, False, None]),
        "indent": st.integers(2, 9),
        "width": st.sampled_from([5, 40, 500]),
        "default_style": st.sampled_from([None, '"', "'", "|", ">"]),
        "allow_unicode": st.booleans(),
    }
)


@quick
@given(st.dictionaries(keys, trees, min_size=1, max_size=4), styles, st.data())
def test_any_tree_keeps_its_meaning(tree: Any, style: dict[str, Any], data: st.DataObject) -> None:
    lines = yaml.safe_dump(tree, sort_keys=False, **style).splitlines()
    for _ in range(data.draw(st.integers(0, 4))):  # comments and blank lines wherever they change nothing
        extra = data.draw(st.sampled_from(["", "# c", "      # deep", "   "]))
        lines.insert(data.draw(st.integers(0, len(lines))), extra)
    text = "\n".join(lines) + "\n"
    try:
        parse(Source("spec.yaml", text))
    except SpecError:  # tags, for one
        return
    examine(text)
    assert sorted(re.findall(r"# c$", text, re.MULTILINE)) == sorted(re.findall(r"# c$", laid_out(text), re.MULTILINE))


@quick
@given(st.sampled_from(sorted(ZOO)), st.data())
def test_a_spec_with_its_white_space_changed(name: str, data: st.DataObject) -> None:
    lines = ZOO[name].read_text(encoding="utf-8").splitlines()
    step = data.draw(st.sampled_from([1, 2, 3, 8]))
    for at, line in enumerate(lines):
        depth = (len(line) - len(line.lstrip())) // 2
        spaces = data.draw(st.sampled_from(["", "", " ", "   "]))
        changed = line.lstrip().replace("{", "{" + spaces).replace(",", spaces + ",").replace("]", spaces + "]")
        lines[at] = " " * (depth * step) + changed + spaces
    examine("\n".join(lines))


def test_what_would_change_its_meaning_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("netspec.formatting._written", lambda lines: "a: 2\n")
    with pytest.raises(CannotFormat):
        laid_out("a: 1\n")
    path = tmp_path / "spec.yaml"
    path.write_text("a: 1\n", encoding="utf-8")
    result = run(path)
    assert (result.exit_code, path.read_text(encoding="utf-8")) == (1, "a: 1\n")
    assert "left as it is" in result.output


# -- the command


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    ugly, tidy = tmp_path / "ugly.yaml", tmp_path / "tidy.yaml"
    ugly.write_text(UGLY, encoding="utf-8")
    tidy.write_text(TIDY, encoding="utf-8")
    return ugly, tidy


def test_files_are_written(files: tuple[Path, Path]) -> None:
    ugly, tidy = files
    ugly.chmod(0o640)
    before = tidy.stat()
    result = run(ugly, tidy)
    assert (result.exit_code, result.output) == (0, f"{ugly}: formatted\n")
    assert ugly.read_text(encoding="utf-8") == TIDY
    assert ugly.stat().st_mode & 0o777 == 0o640
    assert (tidy.stat().st_mtime_ns, tidy.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert sorted(ugly.parent.iterdir()) == sorted(files)


def test_check_writes_nothing(files: tuple[Path, Path]) -> None:
    ugly, tidy = files
    result = run(ugly, tidy, "--check")
    assert (result.exit_code, result.output) == (1, f"{ugly}: would change\n")
    assert ugly.read_text(encoding="utf-8") == UGLY
    assert run(tidy, "--check").exit_code == 0


def test_diff_shows_what_would_change(files: tuple[Path, Path]) -> None:
    ugly, _ = files
    result = run(ugly, "--diff")
    assert result.exit_code == 0
    assert "\n-netspec:   1\n" in result.output
    assert "\n+netspec: 1\n" in result.output
    assert ugly.read_text(encoding="utf-8") == UGLY
    assert run(ugly, "--diff", "--check").exit_code == 1


def test_standard_input() -> None:
    result = run("-", stdin=UGLY)
    assert (result.exit_code, result.output) == (0, TIDY)
    assert run("-", "--check", stdin=UGLY).exit_code == 1
    refused = run("-", stdin=b"\xff\xfe")
    assert (refused.exit_code, "not UTF-8" in refused.output) == (1, True)


def test_a_link_stays_one(files: tuple[Path, Path]) -> None:
    ugly, _ = files
    link = ugly.with_name("link.yaml")
    link.symlink_to(ugly)
    assert run(link).exit_code == 0
    assert link.is_symlink()
    assert ugly.read_text(encoding="utf-8") == TIDY


def test_what_is_not_yaml_is_told_and_left(files: tuple[Path, Path]) -> None:
    ugly, tidy = files
    broken = ugly.with_name("broken.yaml")
    broken.write_text("a: {b: 1\n", encoding="utf-8")
    result = run(broken, ugly, tidy.parent / "missing.yaml")
    assert result.exit_code == 1
    assert "error[yaml-syntax]" in result.output
    assert "error[unreadable-file]" in result.output
    assert broken.read_text(encoding="utf-8") == "a: {b: 1\n"
    assert ugly.read_text(encoding="utf-8") == TIDY, "the others are done"
