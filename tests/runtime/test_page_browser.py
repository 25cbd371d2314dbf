"""The page at ``/`` as people use it: in Chromium, by mouse and by keyboard, light and dark, wide and narrow."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.types import Receive, Scope, Send

from runtime.answering.drawing import colour_of
from runtime.server.rest.bodies import BodyLimits
from runtime.serving.statistics import LATENCY_BOUNDS, Histogram, percentile
from tests.runtime.conftest import CLASSIFIER_METADATA, LABELS, SaveModel
from tests.runtime.predict_server import ADMIN, Serve, serving
from tests.runtime.test_predict_images import PATCHES, digit, probabilities
from tests.runtime.test_runtime_predict_objects import saved

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path (apt-get install chromium)")

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
NO_UPDATES = ("--disable-component-update", "--disable-sync")
WIDE, NARROW = {"width": 1200, "height": 800}, {"width": 360, "height": 740}

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *NO_UPDATES])
        yield browser
        browser.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as serve:
        yield serve


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens the page of a server; at the end nothing was asked of other hosts, and no script failed."""
    with contextlib.ExitStack() as stack:
        complaints: list[str] = []

        def open_it(server: Any, model: str = "", **options: Any) -> Any:
            host = stack.enter_context(server.listening())
            context = stack.enter_context(browser.new_context(**{"viewport": WIDE, **options}))
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("request", lambda request: complaints.append(request.url) if host not in request.url else None)
            page.goto(f"http://{host}/" + (f"#/{model}/1" if model else ""))
            return page

        yield open_it
        blobs = ("blob:", "Failed to load resource")  # the page's own, and refusals that it shows
        assert [complaint for complaint in complaints if not complaint.startswith(blobs)] == []


@pytest.fixture
def street(tmp_path: Path) -> Path:
    return saved(tmp_path / "street.png", (60, 40), *PATCHES)


def told(page: Any) -> list[str]:
    page.wait_for_selector(".answer")
    return [text.replace("\n", " ") for text in page.locator(".told li").all_inner_texts()]


def test_models_are_listed_with_state_and_signature(
    serve: Serve, open_page: Open, classifier: Path, adder: Path
) -> None:
    broken = classifier.with_name("broken.onnx")
    broken.write_bytes(b"no model")
    page = open_page(serve(adder=adder, broken=broken, digits=classifier))
    page.wait_for_selector("#models a")
    assert [text.splitlines() for text in page.locator("#models a").all_inner_texts()] == [
        ["adder, version 1", "ready"],
        ["broken, version 1", "unavailable"],
        ["digits, version 1", "ready"],
    ]
    assert page.locator("main h2").inner_text() == "adder"  # the first one, as none was chosen
    page.get_by_role("link", name="broken").click()
    page.get_by_text("broken.onnx is not an ONNX file").wait_for()
    page.get_by_role("link", name="digits").click()
    page.get_by_role("heading", name="digits").wait_for()
    cells = [row.split("\t") for row in page.locator("tbody tr").all_inner_texts()]
    assert cells == [["input", "image", "FP32", "[any, 1, 4, 4]"], ["output", "fc", "FP32", "[any, 3]"]]
    assert page.locator("[aria-current=page]").inner_text().startswith("digits")


def test_labels_as_bars(serve: Serve, open_page: Open, classifier: Path, tmp_path: Path) -> None:
    page = open_page(serve(digits=classifier), "digits")
    digit().save(tmp_path / "digit.png")
    page.set_input_files("#image", tmp_path / "digit.png")
    expected = probabilities(classifier, digit())
    order = np.argsort(-expected)
    assert told(page) == [f"{LABELS[index]} {expected[index] * 100:.1f}%".replace(".0%", "%") for index in order]
    widths = page.evaluate("[...document.querySelectorAll('.bar div')].map(bar => bar.offsetWidth)")
    assert widths[0] / widths[1] == pytest.approx(expected[order[0]] / expected[order[1]], rel=0.05)
    status = page.get_by_role("status").filter(has_text="digit.png")
    assert LABELS[order[0]] in status.inner_text()
    assert status.get_attribute("aria-live") == "polite"


def test_boxes_lie_where_the_objects_are(serve: Serve, open_page: Open, detector: Path, street: Path) -> None:
    page = open_page(serve(colours=detector), "colours")
    page.set_input_files("#image", street)
    assert [text.split()[:3] for text in told(page)] == [["red", "1.00", "20,"], ["blue", "0.60", "10,"]]
    image = page.locator(".picture img").bounding_box()
    box = page.locator(".box", has_text="red").bounding_box()
    found = [(box["x"] - image["x"]), (box["y"] - image["y"]), box["width"], box["height"]]
    assert [length * 60 / image["width"] for length in found] == pytest.approx([20, 8, 30, 24], abs=0.2)
    status = page.get_by_role("status").filter(has_text=street.name)
    assert "2 objects with a score of 0.3 or more" in status.inner_text()
    page.locator("#score").fill("0.8")
    assert "1 object with a score of 0.8 or more" in status.inner_text()
    assert [text.split()[0] for text in told(page)] == ["red"]
    assert page.locator(".box").count() == 1
    page.locator(".told li").focus()
    assert "lit" in page.locator(".box").get_attribute("class")
    page.get_by_text("A request's time, on average").wait_for()  # the next look at the server leaves it as it is
    assert [text.split()[0] for text in told(page)] == ["red"]


def test_of_many_objects_only_the_one_pointed_at_is_labelled(
    serve: Serve, open_page: Open, detector: Path, street: Path
) -> None:
    page = open_page(serve(colours=detector), "colours")
    found = [{"label": "red", "index": 0, "score": 0.9, "box": [place, 5, place + 9, 20]} for place in range(50)]
    page.route("**/v1/predict/**", lambda route: route.fulfill(json={"width": 60, "height": 40, "objects": found}))
    page.set_input_files("#image", street)
    assert len(told(page)) == 50
    shown = "[...document.querySelectorAll('.box span')].filter(label => label.checkVisibility()).length"
    assert page.evaluate(shown) == 0
    page.locator(".told li").nth(7).focus()
    assert page.evaluate(shown) == 1
    assert page.evaluate("document.querySelector('.told').offsetHeight <= 0.76 * innerHeight")


def test_a_mask_over_the_image(serve: Serve, open_page: Open, segmenter: Path, street: Path) -> None:
    page = open_page(serve(colours=segmenter), "colours")
    page.set_input_files("#image", street)
    assert [text.split()[0] for text in told(page)] == ["background", "red", "blue"]
    pixel = "([x, y]) => [...document.querySelector('canvas').getContext('2d').getImageData(x, y, 1, 1).data]"
    assert page.evaluate(pixel, [0, 0]) == [0, 0, 0, 0]  # the background is left as it is
    assert page.evaluate(pixel, [49, 31]) == [*colour_of(1), 255]
    assert page.evaluate(pixel, [10, 24]) == [*colour_of(3), 255]
    assert page.evaluate(pixel, [50, 31]) == [0, 0, 0, 0]
    page.get_by_role("checkbox", name="red").uncheck()
    assert page.evaluate(pixel, [49, 31]) == [0, 0, 0, 0]
    assert page.evaluate(pixel, [10, 24]) == [*colour_of(3), 255]


GIVE = """([how, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], `${how}.png`, {type: "image/png"}));
  const event = how === "drop" ? new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true})
    : new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true});
  document.querySelector(how === "drop" ? ".drop" : "#image").dispatchEvent(event);
}"""


def test_an_image_that_is_dropped_or_pasted(serve: Serve, open_page: Open, detector: Path, street: Path) -> None:
    page = open_page(serve(colours=detector), "colours")
    page.wait_for_selector("#image")
    for how in ("drop", "paste"):
        page.evaluate(GIVE, [how, list(street.read_bytes())])
        page.get_by_text(f"{how}.png: 2 objects").wait_for()
        assert len(told(page)) == 2


def test_an_image_that_only_the_server_can_show(
    serve: Serve, open_page: Open, detector: Path, street: Path, tmp_path: Path
) -> None:
    Image.open(street).save(tmp_path / "street.tiff")
    page = open_page(serve(colours=detector), "colours")
    page.set_input_files("#image", tmp_path / "street.tiff")
    picture = page.get_by_alt_text("the image with the answer drawn on it")
    picture.wait_for()
    page.wait_for_function("document.querySelector('.picture img').naturalWidth > 0")
    assert page.locator(".box").count() == 0
    assert len(told(page)) == 2


def test_what_is_no_image_is_told(serve: Serve, open_page: Open, classifier: Path, tmp_path: Path) -> None:
    page = open_page(serve(digits=classifier), "digits")
    (tmp_path / "note.png").write_text("no image")
    page.set_input_files("#image", tmp_path / "note.png")
    page.get_by_text("the upload is no image").wait_for()
    assert page.locator(".answer").count() == 0
    (tmp_path / "note.json").write_text("{}")
    page.set_input_files("#image", tmp_path / "note.json")
    page.get_by_text('"note.json" is application/json: an image is wanted').wait_for()


def test_a_model_that_is_not_there_is_told(serve: Serve, open_page: Open, classifier: Path) -> None:
    page = open_page(serve(digits=classifier), "nope")
    page.get_by_text("There is no model nope, version 1 here.").wait_for()
    assert page.url.endswith("#/nope/1")
    assert page.locator("[aria-current]").count() == 0
    page.get_by_role("link", name="digits").click()
    page.get_by_role("heading", name="digits").wait_for()
    assert page.get_by_text("There is no model").count() == 0


def test_skipping_to_the_model_keeps_it(serve: Serve, open_page: Open, adder: Path, classifier: Path) -> None:
    page = open_page(serve(adder=adder, digits=classifier), "digits")
    page.get_by_role("heading", name="digits").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "panel"
    page.wait_for_event("response", lambda response: response.url.endswith("/v1/status"))
    assert page.locator("main h2").inner_text() == "digits"


def test_where_nobody_has_a_key_none_can_be_given(serve: Serve, open_page: Open, classifier: Path) -> None:
    server = serve(digits=classifier)
    server.has_keys = False
    page = open_page(server, "digits")
    page.get_by_role("heading", name="digits").wait_for()
    assert page.get_by_role("button", name="API key").count() == 0
    assert page.get_by_role("button", name="Colours").count() == 1


def test_tensors_by_hand(serve: Serve, open_page: Open, adder: Path, segmenter: Path) -> None:
    page = open_page(serve(adder=adder, colours=segmenter, limits=BodyLimits()), "adder")
    request = page.get_by_label("The request, as JSON")
    text = request.input_value()
    request.fill(text.replace("[0,0]", "[1.5,2]"))
    page.get_by_role("button", name="Send").click()
    page.get_by_text("answered in").wait_for()
    rows = page.locator("tr", has=page.get_by_role("cell", name="sum")).first.inner_text().split("\t")
    assert rows == ["sum", "FP32", "[1, 2]", "3, 4"]
    request.fill(text.replace('"b"', '"c"'))
    page.get_by_role("button", name="Send").click()
    page.get_by_text("the model has no input").wait_for()
    request.fill("{")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("this can't be sent").wait_for()

    page.get_by_role("link", name="colours").click()  # too large to be written out: its data are left out
    page.get_by_text("Ask it with tensors").click()
    assert '"data":[]' in page.get_by_label("The request, as JSON").input_value()
    page.get_by_role("button", name="Send").click()
    page.get_by_role("cell", name="[1, 224, 224]").wait_for()  # the model takes images of any size


def test_names_and_labels_never_become_markup(
    serve: Serve, open_page: Open, save_classifier: SaveModel, save_detector: SaveModel, street: Path, tmp_path: Path
) -> None:
    evil = "<img src=x onerror=alert(1)>"
    metadata = CLASSIFIER_METADATA | {"netspec.labels": f'["{evil}", "<b>one", "&lt;two"]'}
    server = serve(**{"<b onclick=alert(1)>x": save_classifier(metadata=metadata)})
    page = open_page(server)
    page.on("dialog", lambda dialog: pytest.fail("a script of a label ran"))
    page.get_by_role("heading", name="<b onclick=alert(1)>x").wait_for()
    digit().save(tmp_path / "<i>digit.png")
    page.set_input_files("#image", tmp_path / "<i>digit.png")
    assert {text.rpartition(" ")[0] for text in told(page)} == {evil, "<b>one", "&lt;two"}
    assert page.locator("main b, main i, main img[src=x], nav b").count() == 0


FOCUSED = """() => {
  const node = document.activeElement;
  return [node.id || node.textContent, getComputedStyle(node).outlineStyle];
}"""


def test_everything_is_reached_by_keyboard(serve: Serve, open_page: Open, classifier: Path, detector: Path) -> None:
    page = open_page(serve(boxes=detector, digits=classifier))
    page.wait_for_selector("#image")
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        name, style = page.evaluate(FOCUSED)
        assert style != "none", name
        reached.append(name)
    assert reached == [
        "skip",
        "key-switch",
        "theme",
        "boxes, version 1ready",
        "digits, version 1ready",
        "image",
        "Ask it with tensors",
    ]
    page.get_by_role("link", name="digits").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="digits").wait_for()
    assert page.evaluate("document.activeElement.id") == "panel"  # what was asked for is read next
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED)[0] == "image"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED)[0] == "tensors"
    # the next looks at the server leave the focus where it is
    page.wait_for_event("response", lambda response: response.url.endswith("/v1/status"))
    assert page.evaluate(FOCUSED)[0] == "tensors"


# WCAG 2.2, 1.4.3: the contrast of every text with what lies behind it.
CONTRASTS = """() => {
  const light = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour.slice(0, 3);
    }
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.tagName === "NOSCRIPT") continue;
    const [one, other] = [numbers(getComputedStyle(node).color), behind(node)].map(c => light(c.slice(0, 3)) + 0.05);
    found.push([walker.currentNode.data, Math.max(one, other) / Math.min(one, other)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_wide_and_narrow(
    scheme: str, serve: Serve, open_page: Open, detector: Path, adder: Path, street: Path
) -> None:
    server = serve(**{"a-name-of-a-model-" * 5: adder, "boxes": detector})
    page = open_page(server, "boxes", color_scheme=scheme)
    page.set_input_files("#image", street)
    told(page)
    page.get_by_text("Ask it with tensors").click()
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}[scheme]
    for viewport in (WIDE, NARROW):
        page.set_viewport_size(viewport)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 30
        assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_the_colours_that_are_chosen_stay(serve: Serve, open_page: Open, classifier: Path) -> None:
    page = open_page(serve(digits=classifier), color_scheme="light")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    page.get_by_role("button", name="Colours: system").click()
    page.get_by_role("button", name="Colours: light").click()
    page.get_by_role("button", name="Colours: dark").wait_for()
    assert page.evaluate(ground) == "rgb(18, 22, 27)"
    page.reload()
    page.get_by_role("button", name="Colours: dark").wait_for()
    assert page.evaluate(ground) == "rgb(18, 22, 27)"


PERCENTILE = """async ([bounds, counts, share, greatest]) => {
  const { percentile } = await import("/page/history.js");
  return percentile(bounds, counts, share, greatest);
}"""


def test_figures_while_it_is_asked(serve: Serve, open_page: Open, adder: Path) -> None:
    server = serve(adder=adder)
    page = open_page(server, "adder")
    page.get_by_text("No requests in this time.").wait_for()
    for rows in (1, 3):
        tensors = [{"name": name, "datatype": "FP32", "shape": [rows, 2], "data": [0] * 2 * rows} for name in "ab"]
        assert server.infer(*tensors, model="adder").status_code == 200
    page.get_by_text("A request's time, on average: queue").wait_for()
    page.wait_for_function("document.querySelectorAll('.metric polyline').length >= 4")
    tiles = dict(tile.split("\n")[:2] for tile in page.locator(".metric").all_inner_texts())
    assert tiles["rows / batch"] == "2"
    assert tiles["waiting"] == "0"
    assert tiles["latency, p50"].endswith((" ms", " µs"))


SECOND_LOOK = """async ([first, second]) => {
  const { History } = await import("/page/history.js");
  const history = new History();
  history.add(0, first);
  history.add(2, second);
  return history.points[0];
}"""


def test_one_quick_request_after_a_slow_one_is_told_as_quick(serve: Serve, open_page: Open, adder: Path) -> None:
    server = serve(adder=adder)
    page = open_page(server)
    counts = server.get("/v1/status").json()["models"][0]["statistics"]
    histogram = Histogram()
    looks = []
    for ns in (2_400_000_000, 600_000_000):
        histogram.add(ns)
        told = {
            "buckets": histogram.counts.copy(),
            "latency": histogram.ns / 1e9,
            "greatest": histogram.greatest_ns / 1e9,
        }
        assert told.keys() <= counts.keys()
        looks.append(counts | told | {"requests": len(looks) + 1})
    assert 0.5 < page.evaluate(SECOND_LOOK, looks)["slow"] <= 0.6


def test_percentiles_lie_in_their_bucket_and_at_most_at_the_greatest_latency(
    serve: Serve, open_page: Open, adder: Path
) -> None:
    page = open_page(serve(adder=adder))
    generator = np.random.default_rng(0)
    for number in range(20):
        taken = 10 ** generator.uniform(-4, 1.5, generator.integers(1, 50))  # some of them above the last bound
        histogram = Histogram()
        for seconds in taken:
            histogram.add(int(seconds * 1e9))
        share = (0.5, 0.99, 1)[number % 3]
        found = percentile(histogram, share)
        asked = [LATENCY_BOUNDS, histogram.counts, share, histogram.greatest_ns / 1e9]
        assert page.evaluate(PERCENTILE, asked) == pytest.approx(found)
        exact = np.quantile(taken, share, method="inverted_cdf")
        edges = [0, *(bound for bound in LATENCY_BOUNDS if bound < taken.max()), taken.max()]
        bucket = np.searchsorted(edges, exact)
        assert edges[bucket - 1] < found <= edges[bucket] + 1e-9


def test_a_server_that_asks_for_a_key(serve: Serve, open_page: Open, classifier: Path) -> None:
    server = serve(digits=classifier)
    inner = server.app

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/v") and (b"x-api-key", b"secret") not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b'{"error": "a key is needed"}'})
        else:
            await inner(scope, receive, send)

    server.app = guarded
    page = open_page(server)
    page.get_by_text("a key is needed").wait_for()
    assert page.evaluate("document.activeElement.id") == "key"  # it is asked for at once
    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="digits").wait_for()
    assert page.evaluate("[Object.values(sessionStorage), Object.values(localStorage)]") == [["secret"], []]
    assert page.locator("#key").input_value() == ""


def test_loading_and_unloading_is_for_administrators(serve: Serve, open_page: Open, classifier: Path) -> None:
    page = open_page(serve(digits=classifier), "digits")
    page.wait_for_selector("#image")
    assert page.get_by_role("button", name="Unload").count() == 0
    page.get_by_role("button", name="API key").click()
    page.get_by_label("API key").fill(ADMIN["X-API-Key"])
    page.get_by_role("button", name="Use").click()
    page.once("dialog", lambda dialog: dialog.dismiss())  # it is asked again, as it concerns everybody
    page.get_by_role("button", name="Unload").click()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Unload").click()
    page.get_by_text("Version 1: unavailable").wait_for()
    assert page.locator("#image").count() == 0
    page.get_by_role("button", name="Load", exact=True).click()
    page.wait_for_selector("#image")
