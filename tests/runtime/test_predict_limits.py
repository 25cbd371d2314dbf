"""What ``POST /v1/predict/MODEL`` withstands: too much, too many, clients that go away, damaged images and forms."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from runtime.images import decode
from runtime.server.rest import predict as predict_module
from runtime.server.rest.bodies import BodyLimits
from runtime.server.rest.pixel_budget import PixelBudget
from runtime.serving.refused import Reason, Refused
from tests.runtime.predict_server import Serve, ServedPage, serving
from tests.runtime.rest_server import error_of
from tests.runtime.test_predict_images import digit, encoded

# What forms are made of, in any order.
PARTS = (b"--x", b"--x--", b"\r\n", b"\n", b":", b'Content-Disposition: form-data; name="a"', b'; filename="b"', b"\0")


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as serve:
        yield serve


def test_bodies_are_bounded(serve: Serve, classifier: Path) -> None:
    server = serve(m=classifier, limits=BodyLimits(max_body=1000))
    assert "larger than 1000 bytes" in error_of(server.predict("m", bytes(1001)), 413)
    assert "larger than 1000 bytes" in error_of(server.post("/v1/predict/m", files={"a": ("a.png", bytes(999))}), 413)
    assert server.predict("m", encoded(digit())).status_code == 200


def test_more_images_than_may_wait_are_refused(serve: Serve, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_module, "PIXELS_AT_ONCE", 16)
    monkeypatch.setattr(predict_module, "MAX_WAITING", 2)
    server = serve(m=classifier, options={"max_delay": 0.3})

    async def ask_all() -> list[httpx.Response]:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            headers = {"content-type": "image/png"}
            return await asyncio.gather(
                *(client.post("/v1/predict/m", content=encoded(digit()), headers=headers) for _ in range(5))
            )

    replies = server.run(ask_all())
    assert sorted(reply.status_code for reply in replies) == [200, 200, 200, 503, 503]
    late = next(reply for reply in replies if reply.status_code == 503)
    assert late.headers["retry-after"] == "1"
    assert "too many images" in error_of(late, 503)
    assert server.predict("m", encoded(digit())).status_code == 200  # the room was given back


def test_the_budget_is_first_come_first_served_and_given_back() -> None:
    async def run() -> list[str]:
        budget, events = PixelBudget(10, max_waiting=3), []

        async def work(name: str, pixels: int, entered: asyncio.Event, leave: asyncio.Event) -> None:
            async with budget.room_for(pixels):
                events.append(name)
                entered.set()
                await leave.wait()

        gates = {name: (asyncio.Event(), asyncio.Event()) for name in "abcd"}
        tasks = {}
        for name, pixels in (("a", 6), ("b", 6), ("c", 99), ("d", 4)):  # d would fit, but b and c came before
            tasks[name] = asyncio.create_task(work(name, pixels, *gates[name]))
            await asyncio.sleep(0)
        with pytest.raises(Refused) as refusal:
            async with budget.room_for(1):
                pass
        assert refusal.value.reason is Reason.OVERLOADED
        tasks["c"].cancel()  # who gives up lets those behind pass
        gates["a"][1].set()
        await gates["d"][0].wait()
        assert sorted(events) == ["a", "b", "d"]
        gates["b"][1].set()
        gates["d"][1].set()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        async with asyncio.timeout(1), budget.room_for(99):
            events.append("whole")
        return events

    assert asyncio.run(run())[-1] == "whole"


def test_an_abandoned_image_is_dropped_before_it_runs(serve: Serve, classifier: Path) -> None:
    server = serve(m=classifier, options={"max_delay": 1.0, "max_batch": 2})
    model = server.repository.model("m")

    async def go_away() -> None:
        messages = iter([{"type": "http.request", "body": encoded(digit())}, {"type": "http.disconnect"}])
        sent: list[Any] = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/predict/m",
            "query_string": b"",
            "headers": [(b"content-type", b"image/png")],
        }
        await asyncio.wait_for(server.app(scope, receive, send), 5)

    server.run(go_away())
    assert model.statistics.abandoned == 1
    assert model.statistics.execution_count == 0


def test_decoding_keeps_nobody_from_being_answered(
    serve: Serve, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(m=classifier)
    entered, leave = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Image.Image:
        entered.set()
        assert leave.wait(10)
        return decode(*arguments)

    monkeypatch.setattr(predict_module, "decode", slow)

    async def ask() -> tuple[int, int]:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            headers = {"content-type": "image/png"}
            waiting = asyncio.create_task(client.post("/v1/predict/m", content=encoded(digit()), headers=headers))
            await asyncio.to_thread(entered.wait, 10)
            other = await client.get("/v2/health/live")
            leave.set()
            return other.status_code, (await waiting).status_code

    assert server.run(ask()) == (200, 200)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    """A server of one model that takes pixels of any size, for many requests."""
    nodes = [helper.make_node("ReduceMean", ["numbers", "axes"], ["scores"], keepdims=0)]
    cast = helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT)
    graph = helper.make_graph(
        [cast, *nodes],
        "colour",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.array([1, 2]), "axes")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    pixels = json.dumps({"image": {"pixels": True, "channels": 3}})
    helper.set_model_props(
        model, {"netspec.preprocess": pixels, "netspec.postprocess": json.dumps({"scores": "softmax"})}
    )
    path = tmp_path_factory.mktemp("shared") / "model.onnx"
    onnx.save(model, path)
    with serving() as serve:
        yield serve(m=path)


KINDS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000")


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    end=st.floats(0.5, 1.2),
    form=st.booleans(),
)
def test_damaged_images_are_answered_or_refused(
    kind: str, changes: list[tuple[float, int]], end: float, form: bool, shared: ServedPage
) -> None:
    content = bytearray(encoded(Image.new("RGB", (16, 16), (250, 20, 90)), kind))
    for place, value in changes:
        content[int(place * len(content))] = value
    damaged = bytes(content[: int(end * len(content))])
    if form:
        body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + damaged + b"\r\n--x--\r\n"
        reply = shared.predict("m", body, kind="multipart/form-data; boundary=x")
    else:
        reply = shared.predict("m", damaged, kind="image/png")
    assert reply.status_code in (200, 400, 413), reply.text
    assert ("top" if reply.status_code == 200 else "error") in reply.json()


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=200) | st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join))
def test_broken_forms_are_refused(body: bytes, shared: ServedPage) -> None:
    reply = shared.predict("m", body, kind="multipart/form-data; boundary=x")
    assert error_of(reply, 400)
