"""The routes of REST beside inference: health, metadata, configuration, statistics, repository, what isn't there."""

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from runtime.protocol import description
from tests.runtime.rest_server import Served, error_of

IMAGE = {"name": "image", "shape": [2, 1, 4, 4], "datatype": "FP32", "data": [0.5] * 32}


@pytest.fixture
def client(classifier: Path) -> Iterator[Served]:
    served = Served({"digits": classifier})
    yield served
    served.close()


@pytest.fixture
def folder(classifier: Path, tmp_path: Path) -> Iterator[Served]:
    """A repository whose model ``digits`` has versions 1 and 2."""
    root = tmp_path / "repository"
    for version in ("1", "2"):
        (root / "digits" / version).mkdir(parents=True)
        shutil.copy(classifier, root / "digits" / version / "model.onnx")
    (root / "digits" / "config.pbtxt").write_text("version_policy { all {} }")
    served = Served(root)
    yield served
    served.close()


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_health_and_metadata(client: Served, version: str) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/digits{version}/ready"):
        assert client.get(path).status_code == 200
    server = client.get("/v2").json()
    assert server["name"] == "netspec"
    assert {"binary_tensor_data", "classification", "statistics"} <= set(server["extensions"])
    assert client.get(f"/v2/models/digits{version}").json() == {
        "name": "digits",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 4, 4]}],
        "outputs": [{"name": "fc", "datatype": "FP32", "shape": [-1, 3]}],
    }


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_the_configuration_says_how_a_model_is_served(client: Served, version: str) -> None:
    config = client.get(f"/v2/models/digits{version}/config").json()
    assert (config["name"], config["platform"], config["max_batch_size"]) == ("digits", "onnxruntime_onnx", 8)
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["input"][0]["dims"] == [1, 4, 4]


def test_statistics_count_rows_and_runs(client: Served) -> None:
    before = client.get("/v2/models/digits/stats").json()["model_stats"][0]
    assert (before["last_inference"], before["inference_count"]) == (0, 0)
    assert client.infer(IMAGE, model="digits").status_code == 200
    for path in ("/v2/models/stats", "/v2/models/digits/stats", "/v2/models/digits/versions/1/stats"):
        (found,) = client.get(path).json()["model_stats"]
        assert (found["name"], found["version"]) == ("digits", "1")
        assert (found["inference_count"], found["execution_count"]) == (2, 1)
        assert found["last_inference"] > 1.7e12
        assert found["inference_stats"]["success"]["count"] == 1
        assert found["inference_stats"]["compute_infer"]["ns"] > 0
        (batch,) = found["batch_stats"]
        assert (batch["batch_size"], batch["compute_infer"]["count"]) == (2, 1)


def test_versions_of_a_model(folder: Served) -> None:
    assert folder.get("/v2/models/digits").json()["versions"] == ["1", "2"]
    for path, version in (("", "2"), ("/versions/1", "1"), ("/versions/2", "2")):
        reply = folder.post(f"/v2/models/digits{path}/infer", json={"inputs": [IMAGE]}).json()
        assert reply["model_version"] == version
    assert "no version '3'; it has 1, 2" in error_of(folder.get("/v2/models/digits/versions/3"), 404)
    assert len(folder.get("/v2/models/digits/stats").json()["model_stats"]) == 2
    assert len(folder.get("/v2/models/digits/versions/1/stats").json()["model_stats"]) == 1


def states(client: Served, **asked: Any) -> dict[str, str]:
    reply = client.post("/v2/repository/index", json=asked)
    return {entry["version"]: entry["state"] for entry in reply.json() if entry["name"] == "digits"}


def test_models_are_unloaded_and_loaded(folder: Served) -> None:
    assert states(folder) == {"1": "READY", "2": "READY"}
    unload = folder.post("/v2/repository/models/digits/unload", json={"parameters": {"unload_dependents": True}})
    assert unload.status_code == 200
    assert states(folder) == {"1": "UNAVAILABLE", "2": "UNAVAILABLE"}
    assert states(folder, ready=True) == {}
    assert "the model 'digits' is not ready: unloaded" in error_of(folder.get("/v2/models/digits/ready"), 503)
    assert folder.infer(IMAGE, model="digits").status_code == 503
    assert folder.post("/v2/repository/models/digits/load").status_code == 200
    assert folder.get("/v2/models/digits/ready").status_code == 200


def test_a_model_is_loaded_with_another_configuration(folder: Served) -> None:
    config = json.dumps({"max_batch_size": 4, "version_policy": {"latest": {"num_versions": 1}}})
    reply = folder.post("/v2/repository/models/digits/load", json={"parameters": {"config": config}})
    assert reply.status_code == 200, reply.text
    assert folder.get("/v2/models/digits/config").json()["max_batch_size"] == 4
    assert folder.get("/v2/models/digits").json()["versions"] == ["2"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[", "the body is not JSON"),
        (b"[]", "the request is not a JSON object"),
        (b'{"parameters": []}', "'parameters' is not an object"),
        (b'{"parameters": {"config": 1}}', "the parameter 'config' is not a string of JSON"),
        (b'{"parameters": {"config": "{"}}', "the model 'digits' can't be loaded"),
        (
            b'{"parameters": {"file:1/model.onnx": "AAAA"}}',
            "'file:1/model.onnx': models come from the repo",
        ),
        (b'{"parameters": {"confg": "{}"}}', "there is no parameter 'confg'; there is config"),
    ],
)
def test_load_requests_that_are_wrong(folder: Served, body: bytes, message: str) -> None:
    assert message in error_of(folder.post("/v2/repository/models/digits/load", content=body), 400)
    assert states(folder) == {"1": "READY", "2": "READY"}


def test_other_repository_requests_that_are_wrong(folder: Served) -> None:
    unload = folder.post("/v2/repository/models/digits/unload", json={"parameters": {"unload_dependents": 1}})
    assert "'unload_dependents' is neither true nor false" in error_of(unload, 400)
    assert "'ready' is 1, neither" in error_of(folder.post("/v2/repository/index", json={"ready": 1}), 400)
    for verb in ("load", "unload"):
        error_of(folder.post(f"/v2/repository/models/other/{verb}"), 404)
        error_of(folder.post(f"/v2/repository/models/%2e%2e%2fdigits/{verb}"), 404)


def test_what_is_not_there_is_404(client: Served) -> None:
    assert error_of(client.get("/v2/models/other"), 404) == "there is no model 'other' here; there is 'digits'"
    assert "there is no model 'other'" in error_of(client.get("/v2/models/other/ready"), 404)
    assert "there is no model 'other'" in error_of(client.infer(model="other"), 404)
    assert "has no version '2'" in error_of(client.get("/v2/models/digits/versions/2"), 404)
    assert "has no version '2'" in error_of(client.post("/v2/models/digits/versions/2/infer"), 404)
    for path in ("/v3", "/v2/", "/v2/models/digits/", "/v2/models/digits/nothing", "/v2/models/../../etc/passwd"):
        assert "there is nothing at" in error_of(client.get(path), 404)
    for path in ("/v2/models/a/b/infer", "/v2/models/digits/version/1/infer"):
        assert "there is nothing at" in error_of(client.post(path), 404)


def test_wrong_verbs_are_405_and_say_which_are_right(client: Served) -> None:
    response = client.get("/v2/models/digits/infer")
    assert "does not take GET" in error_of(response, 405)
    assert response.headers["allow"] == "POST"
    for path in ("/v2", "/v2/health/live", "/v2/models/digits", "/v2/models/digits/ready", "/v2/models/stats"):
        response = client.post(path)
        assert "does not take POST" in error_of(response, 405)
        assert "GET" in response.headers["allow"]
    assert "does not take GET" in error_of(client.get("/v2/repository/index"), 405)


def test_what_clients_have_and_this_server_has_not(client: Served) -> None:
    for kind in ("systemsharedmemory", "cudasharedmemory"):
        assert client.get(f"/v2/{kind}/status").json() == []
        assert "registered as 'r'" in error_of(client.get(f"/v2/{kind}/region/r/status"), 404)
        assert "no shared memory" in error_of(client.post(f"/v2/{kind}/region/r/register", json={}), 400)
        assert client.post(f"/v2/{kind}/region/r/unregister").status_code == 200
        assert client.post(f"/v2/{kind}/unregister").status_code == 200
    for path in ("/v2/trace/setting", "/v2/models/digits/trace/setting", "/v2/logging"):
        error_of(client.get(path), 400)
        error_of(client.post(path, json={}), 400)


def test_a_stopping_server_is_not_ready(client: Served) -> None:
    client.repository.draining = True
    assert client.get("/v2/health/live").status_code == 200
    assert error_of(client.get("/v2/health/ready"), 503) == "the server is stopping"
    assert error_of(client.infer(IMAGE, model="digits"), 503) == "the server is stopping"


def test_a_tree_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert description.server_metadata()["version"] == "unknown"
