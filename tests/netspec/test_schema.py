"""The JSON Schema of the language: what is valid passes, structural mistakes don't, everything is documented."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from netspec.cli.main import cli
from netspec.diagnostics import SpecError
from netspec.layers import CONTAINERS, MODIFIERS
from netspec.loading import check_source
from netspec.ops.base import discover
from netspec.schema.sections import spec_schema
from netspec.source import Source
from netspec.yaml_reader import Node, Scalar, Sequence, parse
from netspec.zoo import zoo

ROOT = Path(__file__).resolve().parent.parent.parent
ZOO = dict(zoo())
HEAD = "netspec: 1\ninputs: {image: {shape: [N, 3, 8, 8]}}\n"
BLOCK = "blocks: {b: {args: {width: int, dropout: 0.5, act: layer}, net: {c: {conv: width, kernel: 1}, act: act}}}\n"

# Mistakes in how a spec is built, not in what its names and numbers mean.
STRUCTURAL = frozenset({"bad-name", "missing-section", "not-a-spec", "reserved-name", "unknown-choice", "version"})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def plain(node: Node) -> Any:
    """The data of a tree."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(entry.value) for key, entry in node.entries.items()}


def validator(*arguments: str) -> jsonschema.Draft7Validator:
    result = run("schema", *arguments)
    assert result.exit_code == 0, result.output
    schema = json.loads(result.output)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.fixture(scope="module")
def general() -> jsonschema.Draft7Validator:
    return validator()


def flagged(schema: jsonschema.Draft7Validator, text: str) -> bool:
    return not schema.is_valid(plain(parse(Source("spec.yaml", text))))


def blocks_of(*pages: Path) -> list[str]:
    found = [re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL) for page in pages]
    return [block for page in found for block in page if block.startswith("netspec: 1")]


DOCUMENTED = blocks_of(ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
CASES = blocks_of(*sorted((ROOT / "tests" / "diagnostics").glob("*.md")))


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_valid(name: str, general: jsonschema.Draft7Validator) -> None:
    assert not flagged(general, ZOO[name].read_text(encoding="utf-8"))


def test_what_is_valid_is_not_flagged(general: jsonschema.Draft7Validator) -> None:
    valid = [text for text in DOCUMENTED + CASES if check_source(Source("spec.yaml", text)).valid]
    assert len(valid) > 20
    assert [text for text in valid if flagged(general, text)] == []


def test_structural_mistakes_are_flagged(general: jsonschema.Draft7Validator) -> None:
    caught = 0
    for text in CASES:
        try:
            found = flagged(general, text)
        except SpecError:  # not YAML, for one
            continue
        caught += found
        codes = {diagnostic.code for diagnostic in check_source(Source("spec.yaml", text)).diagnostics}
        assert found or not codes or not codes <= STRUCTURAL, text
    assert caught >= 60


@pytest.mark.parametrize(
    "net",
    [
        "{a: {conv: 8, kernl: 3, kernel: 3}}",
        "{a: {conv: 8}}",
        "{a: {konv: 8, kernel: 3}}",
        "{a: rely}",
        "{a: conv}",
        "{a: {conv: 0, kernel: 3}}",
        "{a: {conv: 8, kernel: 3.5}}",
        "{a: {conv: 8, kernel: [3, 3, 3, 3]}}",
        "{a: {conv: 8, kernel: 3, bias: 1}}",
        "{a: {conv: 8, kernel: 3, linear: 3}}",
        "{a: {dropout: 1}}",
        "{a: {branches: {b: {konv: 1}}, merge: add}}",
        "{a: {repeat: -1, net: [relu]}}",
        "[3]",
        "{a: {relu: 3}}",
    ],
)
def test_a_wrong_layer_is_flagged(net: str, general: jsonschema.Draft7Validator) -> None:
    assert not flagged(general, HEAD + "net: {a: {conv: 8, kernel: 3}}\n")
    assert flagged(general, HEAD + f"net: {net}\n")


@pytest.mark.parametrize(
    "net",
    [
        "{a: {conv: 2*width, kernel: 3, stride: 2 if i == 0 else 1, bias: width > 3, padding: same}}",
        "{a: {conv: 4_096, kernel: [3, width], from: in, when: width > 2}}",
        "{a: {maxpool: 3, stride: ~}, b: {add: [a, image]}, c: {relu, from: a}, d: {concat: , from: [a, b]}}",
        "{a: {conv: , channels: 8, kernel: 1}}",
        "{a: [relu, {net: {b: relu}}, {branches: {b: relu, c: [relu]}, merge: concat}], b: {share: a}}",
    ],
)
def test_expressions_and_forms_pass(net: str, general: jsonschema.Draft7Validator) -> None:
    assert not flagged(general, HEAD + f"args: {{width: 3}}\nnet: {net}\n")


def test_blocks_that_are_not_known_are_let_through(general: jsonschema.Draft7Validator) -> None:
    for layer in ("{b: 8, dropout: [1, 2]}", "{b: 8, strid: 3}", "b", "{conv: true, other: 3}"):
        for known in ("use: blocks.yaml", "extends: resnet50", BLOCK.strip()):
            assert not flagged(general, HEAD + f"{known}\nnet: {{a: {layer}}}\n")
    assert flagged(general, HEAD + BLOCK + "net: {a: {conv: true, kernel: 3}}\n"), "a known op is checked there too"


def test_layers_as_arguments_are_kinds(general: jsonschema.Draft7Validator) -> None:
    assert not flagged(general, HEAD + "args: {act: {type: layer, default: relu}}\nnet: {a: act}\n")
    assert flagged(general, HEAD + "args: {width: {type: int, default: 3}}\nnet: {a: act}\n") is False  # may be one
    assert flagged(general, HEAD + "args: {width: 3}\nnet: {a: act}\n")


def test_the_schema_of_a_spec_knows_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD + BLOCK + "net: {a: {b: 8, act: relu}}\n", encoding="utf-8")
    schema = validator(str(path))
    for right in ("{b: 8, act: relu}", "{b: 2*i, repeat: 2, act: {leaky_relu: 0.1}, dropout: 0.1}", "relu"):
        assert not flagged(schema, HEAD + BLOCK + f"net: {{a: {right}}}\n")
    for wrong in ("{b: 8, strid: 3, act: relu}", "{b: 8}", "{b: true, act: relu}", "{c: 8}", "b"):
        assert flagged(schema, HEAD + BLOCK + f"net: {{a: {wrong}}}\n"), wrong


def test_a_layer_given_as_an_argument_may_be_completed_where_it_is_used(tmp_path: Path) -> None:
    blocks = (
        "blocks:\n"
        "  wide: {args: {width: int}, net: [{conv: width, kernel: 3, padding: 1}, relu]}\n"
        "  twice: {args: {unit: layer, width: int}, net: {a: {unit: width}, b: {unit: width}}}\n"
        "  pixel: {args: {unit: layer}, net: {a: {unit: 8, kernel: 1}}}\n"
    )
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD + blocks + "net: {a: {twice: wide, width: 8}, b: {pixel: conv}}\n", encoding="utf-8")
    schema = validator(str(path))
    for right in ("{twice: wide, width: 8}", "{pixel: conv}", "{pixel: {conv: 8, kernel: 1}}"):
        assert not flagged(schema, HEAD + blocks + f"net: {{a: {right}}}\n"), right
    assert check_source(Source("spec.yaml", path.read_text(encoding="utf-8"))).valid
    for wrong in ("{pixel: convv}", "{pixel: net}", "{pixel: {conv: 8}}", "wide", "conv"):
        assert flagged(schema, HEAD + blocks + f"net: {{a: {wrong}}}\n"), wrong


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121"])
def test_the_schema_of_a_spec_of_the_zoo_takes_it(name: str) -> None:
    assert not flagged(validator(name), ZOO[name].read_text(encoding="utf-8"))


def test_every_key_is_documented() -> None:
    schema = spec_schema()
    found = schema["definitions"]
    assert all(section["description"] for section in schema["properties"].values())
    assert all(known["description"] for known in schema["properties"]["expect"]["properties"].values())
    layer = found["any.layer"]["anyOf"][1]
    assert list(layer["properties"]) == list(MODIFIERS)
    assert all(modifier["description"] for modifier in layer["properties"].values())
    assert all(found[f"any.{name}"]["properties"][key]["description"] for name, c in CONTAINERS.items() for key in c)
    for kind, op in discover(plugins=True).items():
        keys = found[f"op.{kind}"]["properties"]
        assert keys.keys() == {kind, *op.model_fields} - {op.primary()}
        assert all(key["markdownDescription"] for key in keys.values()), kind
        assert str(op.__doc__).split(".")[0].strip()[:40] in keys[kind]["markdownDescription"]


def test_types_ranges_and_defaults_come_from_the_ops() -> None:
    stride = spec_schema()["definitions"]["op.conv"]["properties"]["stride"]
    assert {"type": "integer", "minimum": 1, "maximum": 2**31 - 1} in stride["anyOf"]
    assert {"type": "string"} in stride["anyOf"]
    assert stride["default"] == 1
    assert stride["description"] == "A whole number of at least 1, or a list of them; 1 if missing"


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "netspec.schema.json"
    assert run("schema", "-o", path).exit_code == 0
    assert json.loads(path.read_text(encoding="utf-8"))["$schema"].endswith("draft-07/schema#")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    refused = run("schema", "-o", path / "below")
    assert refused.exit_code == 1
    assert "can't be written" in refused.output


def test_a_spec_without_a_network_is_refused(tmp_path: Path) -> None:
    assert "unknown-spec" in run("schema", "lenet4").output
    library = run("schema", "convolution")  # a library's blocks are known as well
    assert (library.exit_code, '"conv_bn_relu"' in library.output) == (0, True)
    broken = tmp_path / "broken.yaml"
    broken.write_text("netspec: 1\n", encoding="utf-8")
    result = run("schema", broken)
    assert (result.exit_code, "error[missing-section]" in result.output) == (1, True)
