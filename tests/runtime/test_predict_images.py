"""``POST /v1/predict/MODEL``: an image in, labels, boxes or a mask out, as JSON or drawn."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from PIL import Image
from pycocotools import mask as coco_mask

from runtime.server.rest.bodies import BodyLimits
from runtime.session import Session
from tests.runtime.conftest import CLASSIFIER_METADATA, COLOURS, LABELS, SaveModel
from tests.runtime.predict_server import Serve, serving
from tests.runtime.rest_server import error_of
from tests.runtime.test_runtime_predict import report
from tests.runtime.test_runtime_predict_objects import BLUE, GREEN, RED, saved

PATCHES = (((10, 5, 30, 25), BLUE), ((20, 8, 50, 32), RED))
NUMBERS = {RED: 1, GREEN: 2, BLUE: 3}


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as serve:
        yield serve


@pytest.fixture
def street(tmp_path: Path) -> Path:
    return saved(tmp_path / "street.png", (60, 40), *PATCHES)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def digit(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8))


def probabilities(path: Path, image: Image.Image) -> np.ndarray:
    """What the classifier says of an image of its own size, by ONNX Runtime's own run and the metadata's words."""
    tensor = (np.asarray(image, np.float32)[None, None] / 255 - 0.5) / 0.5
    scores = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": tensor})[0][0]
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def test_labels_are_those_of_the_model(serve: Serve, classifier: Path) -> None:
    image = digit()
    told = serve(digits=classifier).predict("digits", encoded(image)).json()
    expected = probabilities(classifier, image)
    order = np.argsort(-expected)
    assert [one["index"] for one in told["top"]] == order.tolist()
    assert [one["label"] for one in told["top"]] == [LABELS[index] for index in order]
    np.testing.assert_allclose([one["probability"] for one in told["top"]], expected[order], rtol=1e-5)
    assert {key: told[key] for key in ("model_name", "model_version", "width", "height", "label")} == {
        "model_name": "digits",
        "model_version": "1",
        "width": 4,
        "height": 4,
        "label": LABELS[order[0]],
    }


def test_the_command_and_the_server_answer_alike(
    serve: Serve, classifier: Path, detector: Path, segmenter: Path, street: Path
) -> None:
    server = serve(classifier=classifier, detector=detector, segmenter=segmenter)
    for path, options in ((classifier, ["--top", 5]), (detector, []), (segmenter, [])):
        by_server = server.predict(path.stem.replace("model", "classifier"), street.read_bytes()).json()
        by_command = report(path, street, "--device", "cpu", *options)["predictions"][0]
        for key in ("file", "row"):
            del by_command[key]
        assert {key: by_server[key] for key in by_command} == by_command


def test_boxes_lie_in_pixels_of_the_image(serve: Serve, detector: Path, street: Path) -> None:
    server = serve(colours=detector)
    told = server.predict("colours", street.read_bytes()).json()
    assert [(one["label"], one["box"]) for one in told["objects"]] == [
        ("red", [20, 8, 50, 32]),
        ("blue", [10, 5, 30, 25]),
    ]
    sure = server.predict("colours", street.read_bytes(), "?score=0.9").json()["objects"]
    assert [one["label"] for one in sure] == ["red"]


def test_masks_as_png_and_as_run_lengths(serve: Serve, segmenter: Path, street: Path) -> None:
    server = serve(colours=segmenter)
    expected = np.zeros((40, 60), np.uint8)
    for (left, top, right, bottom), colour in PATCHES:
        expected[top:bottom, left:right] = NUMBERS[colour]
    told = server.predict("colours", street.read_bytes()).json()
    numbers = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["mask"]))))
    np.testing.assert_array_equal(numbers, expected)
    for one in told["classes"]:
        assert (one["pixels"], one["share"]) == ((expected == one["index"]).sum(), (expected == one["index"]).mean())
    assert [one["label"] for one in told["classes"]] == ["background", "red", "blue"]

    told = server.predict("colours", street.read_bytes(), "?mask=rle").json()
    assert "mask" not in told
    for one in told["classes"]:
        runs = coco_mask.frPyObjects(one["segmentation"], *one["segmentation"]["size"])
        np.testing.assert_array_equal(coco_mask.decode(runs), expected == one["index"])


def test_many_classes_make_a_mask_of_16_bits(serve: Serve, save_model: SaveModel) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["numbers", "last"], ["sums"], keepdims=0),
        helper.make_node("Identity", ["sums"], ["mask"]),
    ]
    sides = ["batch", "height", "width"]
    metadata = {
        "netspec.preprocess": json.dumps({"image": {"pixels": True, "channels": 3}}),
        "netspec.task": json.dumps({"kind": "segmentation", "mask": "mask"}),
    }
    path = save_model(
        nodes,
        [("image", TensorProto.UINT8, [*sides, 3])],
        [("mask", TensorProto.INT64, sides)],
        {"last": np.array([3])},
        metadata,
    )
    told = serve(m=path).predict("m", encoded(Image.new("RGB", (2, 3), (255, 255, 90)))).json()
    numbers = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["mask"]))))
    assert numbers.tolist() == [[600, 600]] * 3


@pytest.mark.parametrize("ask", [{"query": "?format=png"}, {"accept": "image/png"}, {"accept": "image/*, */*;q=0.1"}])
def test_the_answer_drawn_on_the_image(
    ask: dict[str, str], serve: Serve, classifier: Path, detector: Path, segmenter: Path, tmp_path: Path
) -> None:
    image = saved(tmp_path / "large.png", (300, 200), ((100, 50, 200, 150), RED))
    server = serve(labels=classifier, boxes=detector, mask=segmenter)
    drawn = {}
    for name in ("labels", "boxes", "mask"):
        reply = server.predict(name, image.read_bytes(), **ask)
        assert reply.headers["content-type"] == "image/png"
        drawn[name] = np.asarray(Image.open(io.BytesIO(reply.content)).convert("RGB"))
    assert drawn["labels"].shape[0] > 200 < drawn["mask"].shape[0]  # names stand below
    assert drawn["boxes"].shape == (200, 300, 3)
    assert drawn["boxes"][100, 150].tolist() == list(RED)  # nothing lies within the box
    assert drawn["boxes"][100, 100].tolist() == [230, 159, 0]  # its edge has the first class's colour
    assert drawn["mask"][100, 150].tolist() not in (list(RED), [0, 0, 0])
    assert drawn["mask"][10, 10].tolist() == [0, 0, 0]


def test_json_is_what_comes_when_nothing_is_preferred(serve: Serve, classifier: Path) -> None:
    server = serve(m=classifier)
    for accept in ("*/*", "application/json", "text/html", "image/png;q=0.5, application/json", "nonsense;q=x"):
        reply = server.predict("m", encoded(digit()), accept=accept)
        assert reply.headers["content-type"] == "application/json", accept
    assert server.predict("m", encoded(digit()), "?format=json", accept="image/png").json()["top"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("TIFF", {}), ("BMP", {})],
)
def test_formats(kind: str, options: dict[str, Any], serve: Serve, detector: Path) -> None:
    image = Image.new("RGB", (32, 32))
    image.paste(RED, (8, 8, 24, 24))
    reply = serve(m=detector).predict("m", encoded(image, kind, **options), kind=f"image/{kind.lower()}")
    assert reply.json()["objects"][0]["box"] == pytest.approx([8, 8, 24, 24], abs=1)


def test_pixels_are_read_as_the_command_reads_them(serve: Serve, detector: Path) -> None:
    server = serve(m=detector)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter clockwise
    image = Image.new("RGB", (32, 16))
    image.paste(RED, (0, 0, 8, 16))
    turned = server.predict("m", encoded(image, "JPEG", exif=exif, quality=95), kind="image/jpeg").json()
    assert (turned["width"], turned["height"]) == (16, 32)
    assert turned["objects"][0]["box"] == pytest.approx([0, 0, 16, 8], abs=1)
    for mode in ("CMYK", "L", "P", "RGBA"):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        reply = server.predict("m", encoded(Image.new("RGB", (8, 8), "white").convert(mode), kind), kind="image/tiff")
        assert [one["label"] for one in reply.json()["objects"]] == COLOURS, mode
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert len(server.predict("m", animated, kind="image/gif").json()["objects"]) == 3
    deep = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    assert len(server.predict("m", encoded(deep)).json()["objects"]) == 3


def test_a_form_with_one_image(serve: Serve, classifier: Path) -> None:
    server = serve(m=classifier)
    plain = server.predict("m", encoded(digit())).json()
    for part in (("a.png", encoded(digit())), ("a.bin", encoded(digit()), "application/octet-stream")):
        assert server.post("/v1/predict/m", files={"image": part}).json() == plain
    for files, data, said in (
        ([("a", ("a.png", b"x")), ("b", ("b.png", b"x"))], {}, "the form holds 2 files instead of one image"),
        ([], {"top": "5"}, 'the form has the field "top"'),
        ([("a", ("a.png", encoded(digit())))], {"top": "5"}, "options stand in the URL"),
        ([("a", ("a.png", b""))], {}, "the image is empty"),
    ):
        boundary = {} if files else {"content-type": "multipart/form-data; boundary=x"}
        content = {"files": files, "data": data} if files else {"content": FIELD}
        assert said in error_of(server.post("/v1/predict/m", headers=boundary, **content), 400)
    text = {"a": ("a.txt", b"hello", "text/plain")}
    assert "text/plain" in error_of(server.post("/v1/predict/m", files=text), 415)
    for broken in (b"", b"--x", b"--y\r\n\r\n--y--", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nv'):
        headers = {"content-type": "multipart/form-data; boundary=x"}
        error_of(server.post("/v1/predict/m", content=broken, headers=headers), 400)
    headers = {"content-type": "multipart/form-data"}
    assert "boundary" in error_of(server.post("/v1/predict/m", content=b"x", headers=headers), 400)


FIELD = b'--x\r\nContent-Disposition: form-data; name="top"\r\n\r\n5\r\n--x--\r\n'


@pytest.mark.parametrize("kind", ["", "text/plain", "application/octet-stream", "image/svg+xml", "application/json"])
def test_what_is_said_to_be_no_image(kind: str, serve: Serve, classifier: Path) -> None:
    said = error_of(serve(m=classifier).predict("m", encoded(digit()), kind=kind), 415)
    assert "image/jpeg" in said
    assert kind in said


def test_what_is_no_image_whatever_it_is_said_to_be(serve: Serve, classifier: Path) -> None:
    server = serve(m=classifier, limits=BodyLimits(max_body=10**6))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    assert "the image is empty" in error_of(server.predict("m", b""), 400)
    for content in (b"\x89PNG\r\n\x1a\n", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        assert error_of(server.predict("m", content), 400) == "the upload is no image"
    for name in ("PNG", "JPEG", "TIFF", "BMP"):
        cut = encoded(noise, name)[:1000]
        assert "cannot read the upload" in error_of(server.predict("m", cut), 400), name
    bomb = encoded(Image.new("1", (20_000, 20_000)))
    assert "more than 89,478,485 pixels" in error_of(server.predict("m", bomb), 400)
    float_image = encoded(Image.new("F", (2, 2), 0.5), "TIFF")
    assert "no known range" in error_of(server.predict("m", float_image, kind="image/tiff"), 400)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?top=0", "'top' is a whole number from 1 on, not \"0\""),
        ("?top=many", "'top'"),
        ("?top=1e3", "'top'"),
        ("?top=1&top=2", "'top' is given twice"),
        ("?score=0.5", "'score' is for detectors"),
        ("?mask=rle", "'mask' is for"),
        ("?format=jpeg", "'format' is json or png, not \"jpeg\""),
        ("?threshold=1", 'no option "threshold"; there are top, score, format, mask'),
    ],
)
def test_options_that_are_wrong(query: str, said: str, serve: Serve, classifier: Path) -> None:
    assert said in error_of(serve(m=classifier).predict("m", encoded(digit()), query), 400)


def test_options_of_other_models(serve: Serve, detector: Path, segmenter: Path, street: Path) -> None:
    server = serve(boxes=detector, mask=segmenter)
    for model, query, said in (
        ("boxes", "?top=2", "'top' is for classifiers"),
        ("boxes", "?score=1.5", "a number from 0 to 1"),
        ("boxes", "?score=nan", "a number from 0 to 1"),
        ("mask", "?mask=coco", "'mask' is png or rle"),
        ("mask", "?mask=rle&format=png", "'mask' is for"),
    ):
        assert said in error_of(server.predict(model, street.read_bytes(), query), 400)
    assert len(server.predict("boxes", street.read_bytes(), "?score=0").json()["objects"]) == 2


def test_how_many_labels_come(serve: Serve, classifier: Path) -> None:
    server = serve(m=classifier)
    assert [len(server.predict("m", encoded(digit()), f"?top={top}").json()["top"]) for top in (1, 2, 50)] == [1, 2, 3]


def test_models_that_are_not_there_or_take_no_image(
    serve: Serve, adder: Path, classifier: Path, save_region_detector: SaveModel, save_classifier: SaveModel
) -> None:
    silent = save_classifier(metadata={}, name="silent.onnx")
    server = serve(adder=adder, m=classifier, regions=save_region_detector(name="r.onnx"), silent=silent)
    image = encoded(digit())
    assert "there is no model 'x' here" in error_of(server.predict("x", image), 404)
    assert "no version '7'" in error_of(server.predict("m/versions/7", image), 404)
    assert server.predict("m/versions/1", image).status_code == 200
    assert "ask /v2/models/adder/infer with the tensors" in error_of(server.predict("adder", image), 400)
    assert "does not say how an image becomes its input 'image'" in error_of(server.predict("silent", image), 400)
    assert "its input 'proposals'" in error_of(server.predict("regions", image), 400)
    reply = server.get("/v1/predict/m")
    assert error_of(reply, 405) == "/v1/predict/m does not take GET"
    assert reply.headers["allow"] == "POST"


def test_other_models_give_their_outputs(serve: Serve, save_classifier: SaveModel) -> None:
    metadata = {"netspec.preprocess": CLASSIFIER_METADATA["netspec.preprocess"]}
    path = save_classifier(metadata=metadata)
    server = serve(m=path)
    told = server.predict("m", encoded(digit())).json()["outputs"]["fc"]
    tensor = (np.asarray(digit(), np.float32)[None, None] / 255 - 0.5) / 0.5
    expected = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": tensor})[0][0]
    assert (told["dtype"], told["shape"]) == ("float32", [3])
    np.testing.assert_allclose(told["data"], expected, rtol=1e-5)
    assert "nothing can be drawn" in error_of(server.predict("m", encoded(digit()), "?format=png"), 400)


def test_models_of_fixed_sizes(serve: Serve, save_detector: SaveModel, street: Path) -> None:
    server = serve(m=save_detector(batch=2, sides=(40, 60)))
    assert len(server.predict("m", street.read_bytes()).json()["objects"]) == 2
    said = error_of(server.predict("m", encoded(Image.new("RGB", (6, 4)))), 400)
    assert said == "the upload is 6 × 4 pixels, and the model takes 60 × 40"


def test_images_of_one_size_run_together(serve: Serve, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    run = Session.run

    def counted(session: Session, feeds: dict[str, np.ndarray], outputs: Any = None) -> dict[str, np.ndarray]:
        rows.append(len(feeds["image"]))
        return run(session, feeds, outputs)

    server = serve(m=classifier, options={"max_delay": 2.0, "max_batch": 6})
    monkeypatch.setattr(Session, "run", counted)
    images = [digit(seed) for seed in range(6)]

    async def ask_all() -> list[httpx.Response]:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            headers = {"content-type": "image/png"}
            posts = [client.post("/v1/predict/m", content=encoded(image), headers=headers) for image in images]
            return await asyncio.gather(*posts)

    replies = server.run(ask_all())
    for image, reply in zip(images, replies, strict=True):
        assert reply.json()["index"] == int(np.argmax(probabilities(classifier, image)))
    assert rows == [6]


def test_the_document_of_the_api_is_kept(
    serve: Serve, classifier: Path, detector: Path, segmenter: Path, street: Path
) -> None:
    server = serve(labels=classifier, boxes=detector, mask=segmenter)
    document = server.get("/openapi.json").json()
    about = document["paths"]["/v1/predict/{model}"]["post"]
    schema = about["responses"]["200"]["content"]["application/json"]["schema"]
    for model, query in (("labels", ""), ("boxes", ""), ("mask", ""), ("mask", "?mask=rle")):
        told = server.predict(model, street.read_bytes(), query).json()
        jsonschema.validate(told, schema)
        assert set(told) <= set(schema["properties"])
    assert {parameter["name"] for parameter in about["parameters"]} == {"top", "score", "format", "mask"}
    assert "image/jpeg" in about["requestBody"]["content"]
