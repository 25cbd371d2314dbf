"""Classifiers made fully convolutional: the same numbers, at the classifier's own size and at every place of a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

import netspec
from compiler.errors import CompilerError
from compiler.module import Container, build, submodule
from compiler.passes.convolutionalise import Convolutional, convolutionalise
from netspec.cli.main import cli
from netspec.loading import check_source
from netspec.network import Network
from netspec.source import Source

UNPADDED = """
inputs: {image: {shape: [N, 3, 17, 25]}}
net:
  conv1: {conv: 8, kernel: 3, stride: 2}
  relu1: relu
  pool1: {maxpool: 2}
  conv2: {conv: 12, kernel: 2}
  bn2: batchnorm
  flatten: flatten
  fc1: {linear: 10}
  norm: batchnorm
  gate: prelu
  drop: dropout
  fc2: {linear: 7, bias: false}
  scores: {softmax: -1}
"""


def network_of(text: str) -> Network:
    checked = check_source(Source("spec.yaml", "netspec: 1\n" + text))
    assert checked.network is not None, checked.diagnostics
    return checked.network


def both(made: Convolutional, seed: int = 0) -> tuple[Container, Container]:
    """The classifier and its convolutional form, with the same weights; running means are not those of a new net."""
    classifier = build(made.before, seed).eval()
    state = classifier.state_dict()
    for key, tensor in state.items():
        if key.endswith(("running_mean", "running_var")):
            tensor.uniform_(0.5, 1.5)
    return classifier, build(made.network, weights=made.weights(state)).eval()


def run(module: torch.nn.Module, image: Tensor) -> Tensor:
    with torch.inference_mode():
        given = module(image)
    assert isinstance(given, Tensor)
    return given


def test_a_dense_layer_over_a_map_is_a_convolution_with_as_many_weights() -> None:
    """4·4·16·10 = 2,560 weights, whichever it is."""
    made = convolutionalise(
        network_of("inputs: {x: {shape: [N, 16, 4, 4]}}\nnet: {flatten: flatten, fc: {linear: 10, bias: false}}")
    )
    assert made.changed
    assert made.network.parameters() == made.before.parameters() == 2_560
    assert made.network.layer("fc")["weights"]["weight"].shape == (10, 16, 4, 4)
    classifier, module = both(made)
    image = torch.randn(3, 16, 4, 4)
    assert torch.allclose(run(classifier, image), run(module, image)[:, :, 0, 0], atol=1e-6)


def test_alexnet_gives_the_same_scores_and_a_map_of_what_its_dense_layers_give() -> None:
    made = convolutionalise(netspec.load("alexnet"))
    classifier, module = both(made)
    assert made.network.parameters() == 61_100_840
    image = torch.randn(1, 3, 224, 224)
    scores = run(classifier, image)
    heat = run(module, image)
    assert heat.shape == (1, 1000, 1, 1)
    assert torch.allclose(heat.flatten(1), scores, rtol=1e-4, atol=1e-6)
    larger = torch.randn(1, 3, 288, 320)
    heat = run(module, larger)
    features = run(submodule(classifier, "features"), larger)
    assert (features.shape[2:], heat.shape[2:]) == ((8, 9), (3, 4))
    for y, x in ((0, 0), (1, 2), (2, 3)):
        window = features[:, :, y : y + 6, x : x + 6].flatten(1)
        assert torch.allclose(run(submodule(classifier, "classifier"), window), heat[:, :, y, x], rtol=1e-4, atol=1e-6)


def test_without_padding_every_place_is_the_classifier_on_its_part_of_the_image() -> None:
    made = convolutionalise(network_of(UNPADDED))
    classifier, module = both(made)
    image = torch.randn(2, 3, 37, 40)
    heat = run(module, image)
    stride = 4  # of the convolution and the pooling together
    assert heat.shape == (2, 7, 6, 4)
    for y in range(6):
        for x in range(4):
            crop = image[:, :, stride * y : stride * y + 17, stride * x : stride * x + 25]
            assert torch.allclose(run(classifier, crop), heat[:, :, y, x], atol=1e-5)


@pytest.mark.parametrize("name", ["lenet5", "mlp", "resnet18", "nin"])
def test_classifiers_of_the_zoo_give_the_same_scores_and_take_larger_images(name: str) -> None:
    made = convolutionalise(netspec.load(name))
    classifier, module = both(made)
    channels, height, width = (int(s) for s in made.before.concrete(made.before.layer("image")["output"].shape)[1:])
    image = torch.randn(1, channels, height, width)
    scores = run(classifier, image)
    scale = float(scores.abs().max())
    assert torch.allclose(run(module, image).flatten(1), scores, atol=1e-4 * scale)
    assert made.network.parameters() == made.before.parameters()
    heat = run(module, torch.randn(1, channels, height + 64, width + 96))
    assert heat.shape[2] > 1
    assert heat.shape[3] > heat.shape[2]


@pytest.mark.parametrize(
    ("pooling", "wanted", "places"),
    [
        ("{adaptive_avgpool: 6}", "identity", [3, 5]),  # 6 × 6, and 8 × 10 of the larger image
        ("{adaptive_avgpool: 3}", "avgpool", [2, 3]),  # windows of 2, two apart: 4 × 5 of them, and 3 × 3 are read
        ("{adaptive_maxpool: 1}", "maxpool", [3, 5]),  # one window of 6, which slides by one
        ("[global_avgpool, {conv: 8, kernel: 1}, relu]", "avgpool", [3, 5]),
    ],
)
def test_pooling_to_parts_gets_the_windows_of_the_classifiers_size(
    pooling: str, wanted: str, places: list[int]
) -> None:
    made = convolutionalise(
        network_of(
            "inputs: {image: {shape: [N, 2, H, W], sizes: {H: 12, W: 12}}}\n"
            f"net: {{conv: {{conv: 8, kernel: 2, stride: 2}}, pool: {pooling}, flatten: flatten, fc: {{linear: 3}}}}"
        )
    )
    kinds = {made.rewrites[path].op.kind for path in made.rewrites if path.startswith("pool")}
    assert kinds == {wanted}
    classifier, module = both(made)
    image = torch.randn(1, 2, 12, 12)
    assert torch.allclose(run(classifier, image), run(module, image).flatten(1), atol=1e-6)
    assert list(run(module, torch.randn(1, 2, 16, 20)).shape[2:]) == places


def test_blocks_arguments_and_branches_stay_as_they_are_written() -> None:
    made = convolutionalise(
        network_of(
            "args: {classes: 4, act: {type: layer, default: relu}}\n"
            "inputs: {image: {shape: [N, 1, 8, 8]}}\n"
            "blocks:\n  head: {args: {n: int, act: layer}, net: [flatten, {linear: n, bias: false}, act]}\n"
            "net:\n  left: {head: 5, act: act, from: image}\n  right: {head: 6, act: act, from: image}\n"
            "  both: {concat: [left, right], axis: -1}\n  fc: {linear: classes}\n"
            "train: {data: digits}\n".replace("classes: 4", "classes: 10")
        )
    )
    assert "head:" in made.network.text
    assert "{conv: n, kernel: 8, bias: false}" in made.network.text
    assert "both: {concat: [left, right]}" in made.network.text
    assert "train:" not in made.network.text
    classifier, module = both(made)
    image = torch.randn(2, 1, 8, 8)
    assert torch.allclose(run(classifier, image), run(module, image).flatten(1), atol=1e-6)
    assert list(run(module, torch.randn(1, 1, 10, 9)).shape) == [1, 10, 3, 2]


def test_arguments_given_from_outside_become_the_new_specs_own() -> None:
    made = convolutionalise(netspec.load("lenet5", classes=3))
    again = netspec.loading.check_source(Source("again.yaml", made.network.text)).network
    assert again is not None
    assert again.arguments["classes"] == 3
    assert again.parameters() == made.before.parameters()


def test_what_has_no_dense_layer_is_not_changed() -> None:
    network = netspec.load("fcn32s")
    made = convolutionalise(network)
    assert not made.changed
    assert made.network is network


HEAD = "inputs: {x: {shape: [N, 4, 6, 6]}}\nnet:\n"


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("inputs: {x: {shape: [N, 6]}}\nnet: {fc: {linear: 3}}", "only one image", "give it an image"),
        (
            "inputs: {x: {shape: [N, 4, 6, 6]}, y: {shape: [N, 3]}}\n"
            "net:\n  f: {flatten: , from: x}\n  c: {concat: [f, y]}\n  fc: {linear: 3}",
            "`x` and `y`",
            "",
        ),
        (HEAD + "  f: flatten\n  n: batchnorm\n  fc: {linear: 3}", "`n` (batchnorm) works on the features", "linear"),
        (HEAD + "  f: flatten\n  fc: {linear: 8}\n  n: layernorm\n  g: {linear: 3}", "`n` (layernorm)", "batchnorm"),
        (HEAD + "  f: flatten", "the output `f` is a map laid out as a vector", "let a `linear` follow"),
        (
            HEAD + "  p: {adaptive_avgpool: 4}\n  f: flatten\n  fc: {linear: 3}",
            "`p` (adaptive_avgpool) pools 6 places in 4 parts of unlike width",
            "let the parts divide the map",
        ),
        (
            HEAD + "  f: flatten\n  fc: {repeat: 2, linear: 8}",
            "`fc.1` is written together with other layers",
            "write them apart",
        ),
    ],
)
def test_what_can_not_slide_over_a_map_is_named_with_the_mend(text: str, message: str, help: str) -> None:
    with pytest.raises(CompilerError) as caught:
        convolutionalise(network_of(text))
    assert message in caught.value.message
    assert help in caught.value.help


def test_the_command_writes_a_spec_with_its_weights_and_a_model(tmp_path: Path) -> None:
    classifier = netspec.load("lenet5")
    module = build(classifier, seed=3).eval()
    torch.save(module.state_dict(), tmp_path / "lenet5.pt")
    runner = CliRunner()
    given = ["convolutionalise", "lenet5", "--weights", str(tmp_path / "lenet5.pt"), "--size", "40x56", "--verify"]
    for name in ("heat.yaml", "heat.onnx"):
        done = runner.invoke(cli, [*given, "-o", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    assert "fc1: linear → conv, N × 120 × 4 × 8, 48,120 weights as before" in done.output
    assert "fc3: N × 10 × 4 × 8, a place for every 4 × 4 pixels of `image`" in done.output
    assert "both agree within" in done.output
    heat = netspec.load(tmp_path / "heat.yaml").torch(weights=tmp_path / "heat.safetensors").eval()
    digits = torch.rand(1, 1, 40, 56).mul(255).round()
    image = (digits / 255 - 0.3) / 0.35
    wanted = run(heat, image).softmax(1)
    session = onnxruntime.InferenceSession(tmp_path / "heat.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": digits.permute(0, 2, 3, 1).numpy().astype(np.uint8)})
    assert found.shape == (1, 10, 4, 8)
    assert np.abs(found - wanted.numpy()).max() < 1e-5
    corner = run(module, image[:, :, :28, :28]).softmax(1)  # padded, so it differs a little from the crop's own
    assert torch.allclose(wanted[:, :, 0, 0], corner, atol=0.05)


def test_the_labels_of_a_run_go_into_the_new_spec() -> None:
    made = convolutionalise(netspec.load("mlp"), labels=tuple("0123456789"))
    assert made.network.sections["deploy"].labels == tuple("0123456789")
    assert 'labels: ["0", "1",' in made.network.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fcn8s", "-o", "x.yaml"], "fully convolutional already"),
        (["lenet5", "-o", "x.png"], "ends in none of .yaml, .yml, .onnx"),
        (["lenet5", "-o", "x.yaml", "--size", "3x3"], "less than the classifier's own, 28"),
        (["lenet5", "-o", "x.yaml", "--size", "30"], "1 sizes are given"),
        (["lenet5", "-o", "x.yaml", "--size", "big"], "`big` is no size"),
        (["lenet5", "-o", "x.yaml", "--weights", "none.pt"], "there is no weights file"),
        (["lenet9", "-o", "x.yaml"], "did you mean `lenet5`?"),
    ],
)
def test_the_command_says_what_it_can_not_do(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(cli, ["convolutionalise", *arguments])
    assert done.exit_code != 0
    assert words in done.output
    assert not Path(arguments[2]).exists()
