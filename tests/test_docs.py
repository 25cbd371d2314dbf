"""The documentation says what is so."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from netspec import load
from netspec.cli.main import cli
from netspec.loading import check_source
from netspec.source import Source

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_reference_of_the_ops_is_current() -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "generate_ops.py"))["text"]()
    assert (ROOT / "docs" / "ops.md").read_text() == generated, "run: python docs/generate_ops.py"


def test_the_table_of_macs_is_current() -> None:
    page = (ROOT / "docs" / "macs.md").read_text()
    rows = re.findall(r"^\| ([a-z0-9]+) \| ([\d,]+) \| ([\d,]+) \|", page, re.MULTILINE)
    assert len(rows) == 7
    for name, *shown in rows:
        network = load(name)
        assert shown == [f"{network.parameters():,}", f"{network.macs():,}"], "run: python -m benchmarks.macs_table"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page}: {target}"


def specs() -> list[object]:
    found = []
    for page in PAGES:
        for index, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            if block.startswith("netspec: 1"):
                found.append(pytest.param(block, id=f"{page.name}-{index}"))
    return found


@pytest.mark.parametrize("text", specs())
def test_every_spec_in_the_documentation_is_valid(text: str) -> None:
    checked = check_source(Source("page.yaml", text))
    assert checked.valid, [d.message for d in checked.diagnostics]


def shown_commands() -> list[object]:
    """Commands whose whole output a page shows: `$ netspec …` in a console block."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```console\n\$ (netspec .*?)```", page.read_text(), re.DOTALL):
            line, _, output = block.partition("\n")
            found.append(pytest.param(line, output, id=line))
    return found


@pytest.mark.parametrize(("line", "output"), shown_commands())
def test_commands_print_what_the_pages_show(line: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(cli, shlex.split(line)[1:])
    found = "\n".join(part.rstrip() for part in done.output.splitlines())
    assert found.strip() == output.strip()


def test_the_tutorial_shows_the_specs_that_lie_beside_it() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    files = {path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "tutorial").glob("*.yaml")}
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    shown = [block for block in blocks if block.startswith("netspec: 1")]
    assert len(shown) >= 8
    assert set(shown) <= files
