"""``netspec deploy kserve``: manifests as KServe's own types have them, and the folders that they read."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from runtime.cli.deploy import command
from runtime.cli.serve import command as serve_command

SCHEMA = json.loads(Path(__file__).with_name("kserve_inference_service.schema.json").read_text())


def deploy(folder: Path, *arguments: str | Path, storage: str = "s3://bucket/models/") -> Result:
    return CliRunner().invoke(command, ["kserve", *map(str, arguments), "-o", str(folder), "--storage", storage])


def service(folder: Path, name: str) -> dict[str, Any]:
    """A manifest that was written, which is one that KServe knows."""
    manifest = yaml.safe_load((folder / f"{name}.yaml").read_text())
    jsonschema.validate(manifest, SCHEMA)
    return dict(manifest)


def test_triton_serves_the_folder_in_the_storage(classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kserve"
    assert deploy(folder, classifier, "--name", "Digits_2", "--threads", "2", "--memory", "512Mi").exit_code == 0
    manifest = service(folder, "digits-2")
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = manifest["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 1)
    model = predictor["model"]
    assert (model["modelFormat"], model["protocolVersion"]) == ({"name": "onnx"}, "v2")
    assert model["storageUri"] == "s3://bucket/models/digits-2"
    assert model["resources"]["limits"] == {"cpu": "2", "memory": "512Mi"}
    assert model["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": 8080}
    assert (folder / "digits-2" / "Digits_2" / "1" / "model.onnx").read_bytes() == classifier.read_bytes()


def test_an_image_serves_with_our_own_server(classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kserve"
    options = ("--image", "registry.example/netspec:1", "--max-replicas", "4", "--device", "cuda")
    assert deploy(folder, classifier, *options).exit_code == 0
    predictor = service(folder, "model")["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"], predictor["scaleMetric"]) == (1, 4, "concurrency")
    (container,) = predictor["containers"]
    assert container["image"] == "registry.example/netspec:1"
    assert container["env"] == [{"name": "STORAGE_URI", "value": "s3://bucket/models/model"}]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    name, subcommand, *options = container["command"]
    assert (name, subcommand) == ("netspec", "serve")
    assert {option for option in options if option.startswith("--")} <= options_of(serve_command)


def options_of(of: Any) -> set[str]:
    return {name for parameter in of.params for name in parameter.opts}


@pytest.mark.parametrize(
    ("storage", "options", "message"),
    [
        ("bucket/models", (), "--storage bucket/models is no URI"),
        ("s3://bucket", ("--memory", "much"), "--memory much is no quantity of Kubernetes"),
        ("s3://bucket", ("--replicas", "3", "--max-replicas", "2"), "--max-replicas 2 is less than --replicas 3"),
        ("", (), "kserve reads models from a storage: name with --storage where you put them"),
        ("s3://bucket", ("--name", "3d"), "the service '3d' would not begin with a letter"),
        ("s3://bucket", ("--backend", "python"), "--backend goes with triton, not with kserve"),
    ],
)
def test_what_makes_no_sense_is_refused(
    storage: str, options: tuple[str, ...], message: str, classifier: Path, tmp_path: Path
) -> None:
    done = deploy(tmp_path / "kserve", classifier, *options, storage=storage)
    assert done.exit_code == (1 if "3d" in options else 2)  # what is wrong is the usage, or a model's name
    assert message in done.output
    assert not (tmp_path / "kserve").exists()
