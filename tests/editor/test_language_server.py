"""What an editor makes of the schema, by the YAML language server that VS Code, Neovim and others run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from netspec.cli.main import cli
from netspec.zoo import zoo
from tests.editor.language_server import LanguageServer

HERE = Path(__file__).parent
PROGRAM = HERE / "node_modules" / "yaml-language-server" / "out" / "server" / "src" / "server.js"
HEAD = "netspec: 1\ninputs:\n  image: {shape: [N, 3, 8, 8]}\n"
BLOCKS = "blocks: {b: {args: {dropout: 0.1}, net: [relu]}}\n"

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="node and npm, which run the language server, are missing",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageServer]:
    lock, installed = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=HERE, check=True)
    schema = tmp_path_factory.mktemp("schema") / "netspec.schema.json"
    assert CliRunner().invoke(cli, ["schema", "-o", str(schema)]).exit_code == 0
    with LanguageServer(PROGRAM, schema) as running:
        yield running


@pytest.mark.parametrize("name", dict(zoo()))
def test_nothing_is_said_of_the_zoo(name: str, server: LanguageServer) -> None:
    assert server.open(dict(zoo())[name].read_text(encoding="utf-8")).diagnostics() == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("net:\n  a: {conv: 64, kernel: 3, pading: 1}\n", "pading: Property pading is not allowed."),
        ("net:\n  a: {konv: 64, kernel: 3}\n", "konv: Property konv is not allowed."),
        ("net:\n  a: {conv: 64, kernel: 0}\n", "0: Value is below the minimum of 1."),
        ("net:\n  a: {conv: 64, kernel: true}\n", 'true: Incorrect type. Expected "integer | array | string".'),
        (BLOCKS + "net:\n  a: {conv: 64, kernel: 3, bias: 7}\n", '7: Incorrect type. Expected "boolean | string".'),
        ("nett:\n  a: relu\nnet:\n  a: relu\n", "nett: Property nett is not allowed."),
        ("net:\n  a: relu\ntrain: {data: digits, epochs: 0}\n", "0: Value is below the minimum of 1."),
    ],
)
def test_a_mistake_is_marked(body: str, said: str, server: LanguageServer) -> None:
    assert server.open(HEAD + body).diagnostics() == [said]


def test_blocks_are_not_marked(server: LanguageServer) -> None:
    assert server.open(HEAD + BLOCKS + "net:\n  a: {b: 0.3, dropout: [1]}\n  c: b\n").diagnostics() == []


def test_ops_are_offered_where_a_layer_stands(server: LanguageServer) -> None:
    found = server.open(HEAD + "net:\n  a: ").completions("a: ")
    assert {"relu", "batchnorm", "{conv: …}", "{add: …}", "{net: …}"} <= found.keys()
    assert found["relu"]["insertText"] == "relu"
    assert found["{conv: …}"]["insertText"] == "{conv: ${1:channels}, kernel: ${2:kernel}}"
    assert "Nair & Hinton" in found["relu"]["documentation"]["value"]
    assert "Convolution (cross-correlation)" in found["{conv: …}"]["documentation"]["value"]
    assert {"relu", "{conv: …}"} <= server.open(HEAD + "net:\n  - ").completions("- ").keys()
    assert "conv:" in server.open(HEAD + "net:\n  a: {con}\n").completions("{con")


@pytest.mark.parametrize("before", ["", BLOCKS])
@pytest.mark.parametrize(("layer", "after"), [("{conv: 64, ker}", "ker"), ("\n    conv: 64\n    ", "64\n    ")])
def test_the_arguments_of_an_op_are_offered(before: str, layer: str, after: str, server: LanguageServer) -> None:
    found = server.open(HEAD + before + f"net:\n  a: {layer}").completions(after)
    assert {"kernel", "stride", "padding", "bias", "from", "when", "repeat"} <= found.keys()
    assert not {"channels", "linear:", "features"} & found.keys()
    assert "1 if missing" in found["stride"]["documentation"]["value"]


def test_sections_and_choices_are_offered(server: LanguageServer) -> None:
    sections = server.open(HEAD).completions("8]}\n")
    assert {"args", "blocks", "net", "expect", "train", "deploy"} <= sections.keys()
    assert "asserts of itself" in sections["expect"]["documentation"]["value"]
    assert "{sgd: …}" in server.open(HEAD + "train:\n  optimizer: ").completions("optimizer: ")


@pytest.mark.parametrize("before", ["", BLOCKS])
def test_documentation_is_shown(before: str, server: LanguageServer) -> None:
    layers = "net:\n  a: {conv: 64, kernel: 3, from: image}\n  b: relu\n  c: {repeat: 2, net: [relu]}\n"
    spec = server.open(HEAD + before + layers)
    assert "Dumoulin & Visin" in spec.hover("a: {conv")
    assert "A whole number of at least 1, or a list of them" in spec.hover("kernel")
    assert "in place of the layer above" in spec.hover("from")
    assert "Nair & Hinton" in spec.hover("b: relu")
    assert "one after the other" in spec.hover("repeat")
    assert "The tensors that come in" in spec.hover("inputs")
