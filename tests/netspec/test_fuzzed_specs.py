"""Whatever stands in a file, checking it gives diagnostics and never an exception; each can be shown in every form."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netspec.diagnostics import Diagnostic
from netspec.loading import Checked, check, check_source
from netspec.render import ansi, as_github, as_json, as_text
from netspec.source import Source, Span
from netspec.summary import summarise
from netspec.zoo import zoo

# Small ones that stand alone: what they extend or use would be looked for beside the text.
SPECS = {name: path.read_text(encoding="utf-8") for name, path in zoo() if path.parent.name == "digits"}

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def is_inside(span: Span) -> bool:
    """Whether a span lies in its source; it may end at the start of the line after the last."""
    lines = [*span.source.text.splitlines(), ""]
    if not 1 <= span.line <= span.end_line <= len(lines):
        return False
    if (span.line, span.column) > (span.end_line, span.end_column):
        return False
    # an end after the last character is one past it
    return 1 <= span.column <= len(lines[span.line - 1]) + 1 and span.end_column <= len(lines[span.end_line - 1]) + 2


def examine(checked: Checked) -> None:
    """What holds of every outcome."""
    errors = [diagnostic for diagnostic in checked.diagnostics if diagnostic.severity == "error"]
    assert checked.valid == (not errors), "an invalid spec says why"
    for diagnostic in checked.diagnostics:
        show(diagnostic)
    if checked.network is not None:
        assert checked.network.outputs, "a valid network gives something"
        json.dumps(summarise(checked.network))


def show(diagnostic: Diagnostic) -> None:
    spans = [diagnostic.span, *(label.span for label in diagnostic.labels), *(f.span for f in diagnostic.expansion)]
    for span in spans:
        assert is_inside(span), (diagnostic.code, diagnostic.message, span, span.source.text)
    text = as_text(diagnostic)
    assert text.startswith(f"{diagnostic.severity}[{diagnostic.code}]: ")
    assert str(diagnostic.span) in text
    assert re.sub(r"\x1b\[[0-9;]*m", "", as_text(diagnostic, ansi)) == text
    found = json.loads(json.dumps(as_json(diagnostic)))
    assert (found["line"], found["column"]) == (diagnostic.span.line, diagnostic.span.column)
    annotation = as_github(diagnostic)
    assert annotation.startswith(f"::{diagnostic.severity} file=")
    assert "\n" not in annotation


def check_text(text: str) -> Checked:
    checked = check_source(Source("spec.yaml", text))
    examine(checked)
    return checked


# -- a spec with slips in it

TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|\d+|[^\sA-Za-z0-9_]")
WORDS = sorted(
    {token for text in SPECS.values() for token in TOKEN.findall(text)}
    | {"in", "i", "when", "repeat", "from", "add", "concat", "~", "null", "&a", "*a", "!!int", "<<", "0x10", "012",
       "1e3", "-1", "0", "1.5", "999999999", "99999999999999999999", ".nan", ".inf", "on", "2**99", "%", "@", "`",
       "|", ">", "---"}
)  # fmt: skip


def _drop(lines: list[str], at: int, draw: Any) -> None:
    del lines[at]


def _twice(lines: list[str], at: int, draw: Any) -> None:
    lines.insert(at, lines[at])


def _swap(lines: list[str], at: int, draw: Any) -> None:
    other = draw(st.integers(0, len(lines) - 1))
    lines[at], lines[other] = lines[other], lines[at]


def _indent(lines: list[str], at: int, draw: Any) -> None:
    lines[at] = " " * draw(st.integers(0, 8)) + lines[at].lstrip()


def _insert(lines: list[str], at: int, draw: Any) -> None:
    place = draw(st.integers(0, len(lines[at])))
    lines[at] = lines[at][:place] + draw(st.text(max_size=3)) + lines[at][place:]


def _token(lines: list[str], at: int, draw: Any) -> None:
    found = list(TOKEN.finditer(lines[at]))
    if found:
        token = draw(st.sampled_from(found))
        lines[at] = lines[at][: token.start()] + draw(st.sampled_from(WORDS)) + lines[at][token.end() :]


def _number(lines: list[str], at: int, draw: Any) -> None:
    numbers = st.integers(-2, 70) | st.floats() | st.integers(-(2**70), 2**70)
    lines[at] = re.sub(r"\d+", lambda _: str(draw(numbers)), lines[at], count=1)


def _cut(lines: list[str], at: int, draw: Any) -> None:
    lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]


@st.composite
def mutated(draw: Any) -> str:
    lines = SPECS[draw(st.sampled_from(sorted(SPECS)))].splitlines()
    slips = (_drop, _twice, _swap, _indent, _insert, _token, _token, _token, _number, _number, _cut)
    for _ in range(draw(st.integers(1, 4))):
        if lines:
            draw(st.sampled_from(slips))(lines, draw(st.integers(0, len(lines) - 1)), draw)
    return draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"])).join(lines) + draw(st.sampled_from(["\n", ""]))


@settings(quick, max_examples=400)
@given(mutated())
def test_slips_in_a_spec(text: str) -> None:
    check_text(text)


@quick
@given(st.text() | st.binary(max_size=40).map(lambda data: data.decode("latin-1")))
def test_any_text(text: str) -> None:
    check_text(text)


# -- any tree under the real keys

NAMES = ["a", "b", "c", "x", "in", "i", "image", "block", "1", "class", "a.b", "conv1"]
EXPRESSIONS = [
    "a", "in", "in.channels", "in.height", "2*a", "a if i else b", "i == 0", "a[0]", "in[0]", "min(a, 2)", "1/0",
    "a//0", "not in", "in and 1", "in == in", "a.b", "(", "9**9**9", "-a", "[a, b]", "abs(in)", "floor(a/2)",
    "1 < 2 < 3",
]  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 40)
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.sampled_from(NAMES + EXPRESSIONS)
    | st.text(max_size=5)
)
KINDS = [
    "conv", "linear", "relu", "add", "concat", "flatten", "maxpool", "avgpool", "batchnorm", "dropout", "softmax",
    "global_avgpool", "leaky_relu", "identity", "net", "block", "no_such_op",
]  # fmt: skip
ARGUMENTS = [
    "from",
    "when",
    "repeat",
    "kernel",
    "stride",
    "padding",
    "groups",
    "axis",
    "bias",
    "dilation",
    "ceil",
    "a",
    "p",
]
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
)
small = st.integers(1, 4) | st.sampled_from(EXPRESSIONS)
references = st.sampled_from(NAMES) | st.lists(st.sampled_from(NAMES), max_size=3)


def layers_of(layer: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    bodies = st.dictionaries(st.sampled_from(NAMES), layer, max_size=5) | st.lists(layer, max_size=4)
    arguments = st.dictionaries(st.sampled_from(ARGUMENTS), small | references | values, max_size=4)
    modifiers = st.fixed_dictionaries({}, optional={"from": references, "when": small, "repeat": small})
    written = st.tuples(st.sampled_from(KINDS), small | references | bodies | values, arguments, modifiers)
    return (
        st.sampled_from(KINDS)
        | bodies
        | written.map(lambda parts: {**parts[2], **parts[3], parts[0]: parts[1]})
        | st.tuples(bodies, modifiers).map(lambda parts: {"net": parts[0], **parts[1]})
    )


layers = st.recursive(st.sampled_from(KINDS), layers_of, max_leaves=8)
bodies = st.dictionaries(st.sampled_from(NAMES), layers, max_size=5) | st.lists(layers, max_size=4)
shapes = st.lists(st.sampled_from(["N", "H", "W", "a", 3, 8, 32, 0]), max_size=5)
parameters = st.dictionaries(
    st.sampled_from(NAMES), small | st.sampled_from(["int", "list", "str"]) | values, max_size=3
)
inputs = st.dictionaries(
    st.sampled_from(NAMES),
    st.fixed_dictionaries(
        {"shape": shapes},
        optional={
            "sizes": st.dictionaries(st.sampled_from(["H", "W", "N"]), small),
            "dtype": st.sampled_from(["uint8", "x"]),
        },
    )
    | values,
    max_size=2,
)
trees = st.fixed_dictionaries(
    {
        "netspec": st.just(1),
        "inputs": st.sampled_from([["N", 3, 8, 8], ["N", 3, "H", "W"]]).map(lambda shape: {"image": {"shape": shape}})
        | inputs,
        "net": bodies,
    },
    optional={
        "name": values,
        "args": parameters,
        "blocks": st.dictionaries(
            st.sampled_from(["block", "b", "in"]),
            st.fixed_dictionaries({"net": bodies}, optional={"args": parameters}) | values,
            max_size=2,
        ),
        "outputs": references | values,
        "expect": st.dictionaries(
            st.sampled_from(["parameters", "macs", "depth", "shapes", "receptive_field", "x"]),
            st.dictionaries(st.sampled_from([*NAMES, "total"]), values, max_size=2) | values,
            max_size=3,
        ),
        "train": st.dictionaries(
            st.sampled_from(["data", "loss", "optimizer", "schedule", "epochs", "batch_size", "x"]),
            st.dictionaries(st.sampled_from(["adam", "sgd", "digits", "folder", "cosine", "lr", "x"]), values) | values,
        )
        | values,
        "deploy": st.dictionaries(st.sampled_from(["preprocess", "postprocess", "labels", "x"]), values) | values,
    },
)  # fmt: skip


@settings(quick, max_examples=400)
@given(trees)
def test_any_tree_under_the_real_keys(tree: dict[str, Any]) -> None:
    check_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None))


@quick
@given(st.sampled_from(sorted(SPECS)), st.lists(st.tuples(st.sampled_from(
    ["classes", "width", "train", "train.epochs", "train.optimizer.lr", "deploy.preprocess.mean", "net.a", "x"]
), st.sampled_from(EXPRESSIONS) | st.integers().map(str) | st.text(min_size=1, max_size=6)), max_size=3))  # fmt: skip
def test_any_settings(name: str, pairs: list[tuple[str, str]]) -> None:
    checked = check(name, [f"{key}={value}" for key, value in pairs])
    assert checked.valid == all(diagnostic.severity != "error" for diagnostic in checked.diagnostics)
    for diagnostic in checked.diagnostics:
        as_text(diagnostic)
        json.dumps(as_json(diagnostic))
        as_github(diagnostic)


def test_the_specs_that_are_mutated_are_valid() -> None:
    """Else the slips would test nothing."""
    assert len(SPECS) >= 3
    assert all(check_source(Source("spec.yaml", text)).valid for text in SPECS.values())


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_line_can_be_left_out(name: str) -> None:
    """A mistake in one line is told, or makes another valid network: never an exception."""
    lines = SPECS[name].splitlines(keepends=True)
    for at in range(len(lines)):
        check_text("".join(lines[:at] + lines[at + 1 :]))
