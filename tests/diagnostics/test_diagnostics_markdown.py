"""Every diagnostic as its users see it: the Markdown files beside this one are the specification, and are run here.

A case is a heading, a sentence on the rule, a `yaml` block and the complete text that netspec says of it in a `text`
block; a line `settings: name=value, …` above the YAML gives overrides as `--set` does. After a change of wording,
`pytest tests/diagnostics --update-diagnostics` writes the new texts, and the difference is to be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import netspec
from netspec.diagnostics import Diagnostic, SpecError
from netspec.loading import check_source
from netspec.overrides import parse_overrides
from netspec.render import as_text
from netspec.source import Source

HERE = Path(__file__).parent
CASE = re.compile(
    r"^## (?P<heading>[^\n]+)\n"
    r"(?P<prose>(?:(?!^## |^```).*\n)*)"
    r"^```yaml\n(?P<yaml>(?:(?!^```$).*\n)*)^```\n\s*"
    r"^```text\n(?P<text>(?:(?!^```$).*\n)*)^```$",
    re.MULTILINE,
)
SETTINGS = re.compile(r"^settings: (?P<settings>.+)$", re.MULTILINE)

# What is wrong with a file as a whole, or between files: tests/netspec/test_hostile_input.py has these.
NOT_OF_A_TEXT = frozenset({"library", "unreadable-file", "file-too-large", "not-text", "extension-cycle"})
# What no op of netspec does, but one of another package may: tests/netspec/test_language.py.
NOT_OF_OUR_OPS = frozenset({"empty-output"})
CODE = re.compile(r'(?:\b(?:Diagnostic|fail|refuse)\(\s*|\bcode(?:: str)? ?= ?)"(?P<code>[a-z]+(?:-[a-z]+)*)"')


@dataclass(frozen=True)
class Case:
    """One case as it stands in its file."""

    file: Path
    heading: str
    prose: str
    yaml: str
    text: str

    @property
    def settings(self) -> list[str]:
        found = SETTINGS.search(self.prose)
        return found["settings"].split(", ") if found else []

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        try:
            return check_source(Source("spec.yaml", self.yaml), parse_overrides(self.settings)).diagnostics
        except SpecError as error:  # a setting that can't be read
            return error.diagnostics


def _said(case: Case) -> str:
    return "\n".join(as_text(diagnostic) + "\n" for diagnostic in case.diagnostics())


def _cases() -> list[Case]:
    return [
        Case(path, found["heading"], found["prose"], found["yaml"], found["text"])
        for path in sorted(HERE.glob("*.md"))
        for found in CASE.finditer(path.read_text(encoding="utf-8"))
    ]


CASES = _cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file.stem}: {case.heading}")
def test_says(case: Case, request: pytest.FixtureRequest) -> None:
    said = _said(case)
    if request.config.getoption("--update-diagnostics", default=False) and said != case.text:
        _rewrite(case, said)
        return
    assert said == case.text


def _rewrite(case: Case, said: str) -> None:
    def replace(found: re.Match[str]) -> str:
        if found["heading"] != case.heading:
            return found[0]
        before = found[0][: found.start("text") - found.start()]
        return before + said + "```"

    text = case.file.read_text(encoding="utf-8")
    case.file.write_text(CASE.sub(replace, text), encoding="utf-8")


def test_every_heading_is_a_case() -> None:
    headings = sum(
        len(re.findall(r"^## ", path.read_text(encoding="utf-8"), re.MULTILINE)) for path in HERE.glob("*.md")
    )
    names = [(case.file.stem, case.heading) for case in CASES]
    assert headings == len(CASES) >= 60
    assert len(set(names)) == len(names)
    assert all(case.prose.strip() for case in CASES), "every case says what its rule is"


def test_every_code_has_a_case() -> None:
    package = Path(netspec.__file__).parent
    known = {
        found["code"] for path in package.rglob("*.py") for found in CODE.finditer(path.read_text(encoding="utf-8"))
    }
    assert {"shape-mismatch", "duplicate-key", "unused-layer", "unknown-choice", "yaml-syntax"} <= known
    shown = {diagnostic.code for case in CASES for diagnostic in case.diagnostics()}
    assert known - shown <= NOT_OF_A_TEXT | NOT_OF_OUR_OPS
    assert shown <= known
