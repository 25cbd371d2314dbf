"""What the page at ``/`` consists of: its own files, under a policy that lets in nothing from elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import jsonschema
import numpy as np
import pytest

from runtime.answering.drawing import PALETTE
from runtime.server.guard import Guard
from runtime.server.keys import Keys, Ring, digest
from runtime.server.page.files import FOLDER
from runtime.serving.statistics import LATENCY_BOUNDS
from tests.runtime.predict_server import ADMIN, Serve, serving
from tests.runtime.rest_server import error_of
from tests.runtime.served import serving as serving_process
from tests.runtime.test_predict_images import digit, encoded, probabilities

FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".html", ".js", ".css", ".svg"))


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as serve:
        yield serve


def test_every_file_comes_under_the_policy(serve: Serve, classifier: Path) -> None:
    server = serve(m=classifier)
    kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    for name in FILES:
        reply = server.get("/" if name == "index.html" else f"/page/{name}")
        assert reply.status_code == 200
        assert reply.content == (FOLDER / name).read_bytes()
        assert reply.headers["content-type"].partition(";")[0] == kinds[name.rpartition(".")[2]]
        assert reply.headers["x-content-type-options"] == "nosniff"
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        again = server.get(reply.request.url.path, headers={"if-none-match": reply.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_command_serves_the_page_and_answers_images(classifier: Path) -> None:
    with serving_process(classifier) as served:
        assert "<title>netspec</title>" in httpx.get(served.url).text
        told = httpx.post(f"{served.url}/v1/predict/model", files={"image": ("digit.png", encoded(digit()))}).json()
        assert told["index"] == np.argmax(probabilities(classifier, digit()))
        (model,) = httpx.get(f"{served.url}/v1/status").json()["models"]
        assert (model["name"], model["statistics"]["requests"]) == ("model", 1)
        paths = httpx.get(f"{served.url}/openapi.json").json()["paths"]
        assert {"/v1/predict/{model}", "/v1/status"} <= paths.keys()


def test_files_name_only_files_of_the_page() -> None:
    linked = set()
    for name in FILES:
        text = (FOLDER / name).read_text()
        assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), name
        assert "innerHTML" not in text
        linked |= set(re.findall(r'(?:from "\./|="page/)([\w.]+)"', text))
    assert linked == set(FILES) - {"index.html"}


def test_there_is_nothing_else_below_the_page(serve: Serve, classifier: Path) -> None:
    server = serve(m=classifier)
    for path in ("/page/", "/page/files.py", "/page/%2e%2e/rest/app.py", "/page/../rest/app.py", "/page/x.js"):
        assert "there is nothing at" in error_of(server.get(path), 404)


def test_the_page_is_open_and_what_it_shows_is_not(serve: Serve, classifier: Path) -> None:
    server = serve(m=classifier)
    key = "0123456789abcdef0123456789abcdef"
    users = Ring(keys={digest(key): "somebody"})
    server.app = Guard(server.app, Keys(users, Ring(), is_open=False))
    assert [server.get(path).status_code for path in ("/", "/page/main.js", "/page/style.css")] == [200, 200, 200]
    for path in ("/v1/status", "/v1/predict/m"):
        assert "a key is needed" in error_of(server.get(path), 401)
    assert server.get("/v1/status", headers={"x-api-key": key}).status_code == 200


def test_the_colours_are_those_of_drawn_pictures() -> None:
    written = re.findall(r'"#(\w{6})"', (FOLDER / "palette.js").read_text())
    assert [tuple(bytes.fromhex(colour)) for colour in written] == list(PALETTE)


def test_the_status_of_models(serve: Serve, classifier: Path, detector: Path, segmenter: Path, adder: Path) -> None:
    broken = classifier.with_name("broken.onnx")
    broken.write_bytes(classifier.read_bytes()[:200])
    server = serve(labels=classifier, boxes=detector, mask=segmenter, adder=adder, broken=broken)
    status = server.get("/v1/status").json()
    models = {model.pop("name"): model for model in status["models"]}
    assert (status["ready"], status["admin"]) == (True, False)
    assert server.get("/v1/status", headers=ADMIN).json()["admin"]
    assert {name: (model.get("answers"), model.get("image")) for name, model in models.items()} == {
        "labels": ("labels", True),
        "boxes": ("objects", True),
        "mask": ("mask", True),
        "adder": ("tensors", False),
        "broken": (None, None),
    }
    schema = server.get("/openapi.json").json()["paths"]["/v1/status"]["get"]["responses"]["200"]["content"]
    jsonschema.validate(server.get("/v1/status").json(), schema["application/json"]["schema"])
    assert models["broken"]["state"] == "UNAVAILABLE"
    assert "broken.onnx" in models["broken"]["reason"]
    image = {"name": "image", "datatype": "FP32", "shape": [-1, 1, 4, 4], "example": [1, 1, 4, 4]}
    assert models["labels"]["inputs"] == [image]
    assert models["boxes"]["inputs"][0]["example"] == [1, 224, 224, 3]
    assert models["adder"]["inputs"][0]["example"] == [1, 2]

    tensors = [{"name": name, "datatype": "FP32", "shape": [3, 2], "data": [0] * 6} for name in "ab"]
    assert server.infer(*tensors, model="adder").status_code == 200
    models = {model["name"]: model for model in server.get("/v1/status").json()["models"]}
    counts = models["adder"]["statistics"]
    assert (counts["requests"], counts["rows"], counts["runs"], counts["errors"]) == (1, 3, 1, 0)
    assert sum(counts["buckets"]) == 1
    assert counts["bounds"] == list(LATENCY_BOUNDS)
    assert all(counts["stages"][stage] > 0 for stage in ("queue", "input", "compute", "output"))
