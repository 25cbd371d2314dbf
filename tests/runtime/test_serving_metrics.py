"""What a server tells of itself: metrics as Prometheus' own parser reads them, the log, traces."""

import contextlib
import io
import json
import logging
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from runtime.cli.serve import command
from runtime.server.access import model_of
from runtime.server.logs import JsonFormatter, TextFormatter, logging_to_stderr
from runtime.server.tracing import Tracing, otlp_exporter, route_of
from runtime.serving.request import InferenceResult, observer
from runtime.serving.statistics import LATENCY_BOUNDS, Statistics
from tests.runtime.conftest import SaveModel
from tests.runtime.served import Served, infer, serving

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def scraped(served: Served) -> Samples:
    """Every sample, by its name and labels."""
    with urllib.request.urlopen(f"{served.url}/metrics", timeout=10) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain")
        families = list(text_string_to_metric_families(reply.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset({"model": "model", "version": "1", **labels}.items())]


def test_metrics_count_what_was_asked(classifier: Path) -> None:
    with serving(classifier) as served:
        assert value(scraped(served), "netspec_requests_total") == 0
        for rows in (1, 1, 3):
            infer(served.url, "model", rows=rows)
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{served.url}/v2/models/model/infer", b'{"inputs": []}', timeout=10)
        samples = scraped(served)
    assert value(samples, "netspec_requests_total") == 3
    assert value(samples, "netspec_rows_total") == 5
    assert value(samples, "netspec_runs_total") == 3
    assert value(samples, "netspec_errors_total", kind="invalid") == 1
    assert value(samples, "netspec_in_flight") == value(samples, "netspec_queue_depth") == 0
    assert value(samples, "netspec_model_ready") == samples["netspec_ready", frozenset()] == 1
    assert value(samples, "netspec_model_info", device="cpu", reason="as asked") == 1
    assert value(samples, "netspec_batch_rows_bucket", le="1") == 2
    assert value(samples, "netspec_batch_rows_bucket", le="4") == value(samples, "netspec_batch_rows_count") == 3
    assert value(samples, "netspec_batch_rows_sum") == 5
    for stage in Statistics.STAGES:
        counts = [value(samples, "netspec_latency_seconds_bucket", stage=stage, le=str(le)) for le in LATENCY_BOUNDS]
        assert counts == sorted(counts)
        assert value(samples, "netspec_latency_seconds_bucket", stage=stage, le="+Inf") == 3
        assert value(samples, "netspec_latency_seconds_count", stage=stage) == 3
    stages = sum(
        value(samples, "netspec_latency_seconds_sum", stage=s) for s in ("queue", "input", "compute", "output")
    )
    assert 0 < stages <= value(samples, "netspec_latency_seconds_sum", stage="request") < 5
    assert samples["process_resident_memory_bytes", frozenset()] > 10_000_000
    assert samples["process_cpu_seconds_total", frozenset()] > 0
    assert samples["netspec_connections", frozenset()] >= 1


def test_what_is_refused_before_it_is_read_is_counted(classifier: Path) -> None:
    infer, image = "/v2/models/model/infer", {"Content-Type": "image/png"}
    requests: list[tuple[str, bytes, dict[str, str]]] = [
        (infer, b"{}", {"Inference-Header-Content-Length": "-1"}),
        (infer, b"{}", {"Content-Encoding": "gzip"}),
        (infer, b"{}", {"Content-Encoding": "br"}),
        (infer, bytes(2000), {}),
        (infer, bytes(2000), {"Content-Encoding": "identity"}),
        ("/v1/predict/model", b"no image", image),
        ("/v1/predict/model?top=0", b"no image", image),
        ("/v1/predict/model", bytes(2000), image),
        ("/v1/predict/model", b"text", {"Content-Type": "text/plain"}),
    ]
    with serving(classifier, "--max-body", "1000") as served:
        for path, body, headers in requests:
            asked = urllib.request.Request(f"{served.url}{path}", body, headers)
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(asked, timeout=10)
        samples = scraped(served)
    kinds = {"invalid": 4, "unsupported_media": 2, "too_large": 3}
    assert {kind: value(samples, "netspec_errors_total", kind=kind) for kind in kinds} == kinds


def test_counts_go_on_when_a_model_is_replaced_or_unloaded_and_loaded(classifier: Path) -> None:
    def act(name: str) -> None:
        urllib.request.urlopen(f"{served.url}/v2/repository/models/model/{name}", b"{}", timeout=10).close()

    with serving(classifier) as served:
        infer(served.url, "model", rows=2)
        for acts in (["load"], ["unload", "load"]):
            before = scraped(served)
            for name in acts:
                act(name)
            infer(served.url, "model", rows=2)
            after = scraped(served)
            for name in ("netspec_requests_total", "netspec_runs_total", "netspec_batch_rows_count"):
                assert value(after, name) == value(before, name) + 1
            assert value(after, "netspec_rows_total") == value(before, "netspec_rows_total") + 2
            for part in ("count", "sum"):
                name = f"netspec_latency_seconds_{part}"
                assert value(after, name, stage="request") > value(before, name, stage="request")
        assert value(after, "netspec_in_flight") == 0
        with urllib.request.urlopen(f"{served.url}/v2/models/model/stats", timeout=10) as reply:
            assert json.load(reply)["model_stats"][0]["inference_count"] == 6


def test_a_broken_model_is_not_ready_in_the_metrics(save_classifier: SaveModel, tmp_path: Path) -> None:
    save_classifier(name="models/model/1/model.onnx")
    (tmp_path / "models" / "broken" / "1").mkdir(parents=True)
    (tmp_path / "models" / "broken" / "1" / "model.onnx").write_bytes(b"noise")
    with serving("--repository", tmp_path / "models") as served:
        samples = scraped(served)
    assert value(samples, "netspec_model_ready") == 1
    assert value(samples, "netspec_model_ready", model="broken") == 0


def test_metrics_in_the_newer_format(classifier: Path) -> None:
    with serving(classifier) as served:
        asked = urllib.request.Request(f"{served.url}/metrics", headers={"Accept": "application/openmetrics-text"})
        with urllib.request.urlopen(asked, timeout=10) as reply:
            assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
            assert reply.read().endswith(b"# EOF\n")


def records(served: Served) -> list[dict[str, Any]]:
    """The access log's records."""
    return [record for line in served.lines if (record := json.loads(line))["message"] == "request"]


def test_the_access_log_tells_of_requests_but_not_what_they_carry(classifier: Path) -> None:
    with serving(classifier, "--access-log", "--log-format", "json", rpc=True) as served:
        infer(served.url, "model", 0.8125)
        named = urllib.request.Request(f"{served.url}/v2?secret=hidden", headers={"X-Request-ID": "mine"})
        with urllib.request.urlopen(named, timeout=10) as reply:
            assert reply.headers["X-Request-ID"] == "mine"
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"{served.url}/v2/models/other%0a", timeout=10)
        drawn = raised.value.headers["X-Request-ID"]
        with grpc.insecure_channel(served.rpc) as channel:
            channel.unary_unary("/inference.GRPCInferenceService/ServerReady")(b"", timeout=5)
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"\x0a\x05other", timeout=5)
        served.process.terminate()
        assert served.end() == 0
        first, second, third, fourth, fifth = records(served)
    assert (
        first.items() >= {"method": "POST", "path": "/v2/models/model/infer", "model": "model", "status": 200}.items()
    )
    assert first["request_bytes"] > 100 < first["response_bytes"]
    assert 0 < first["ms"] < 10_000
    assert first["client"] == "127.0.0.1"
    assert (second["path"], second["request_id"]) == ("/v2", "mine")
    assert (third["path"], third["status"], third["request_id"]) == ("/v2/models/other%0a", 404, drawn)
    assert fourth.items() >= {"protocol": "grpc", "method": "ServerReady", "status": "OK"}.items()
    assert fifth.items() >= {"method": "ModelInfer", "model": "other", "status": "NOT_FOUND"}.items()
    assert "0.8125" not in served.log
    assert "hidden" not in served.log


def test_libraries_do_not_tell_what_images_and_forms_carry(classifier: Path) -> None:
    image = io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "TIFF", tiffinfo={270: "hidden"})  # where cameras write what is seen
    with serving(classifier, "--log-level", "debug") as served:
        ask = urllib.request.Request(f"{served.url}/v1/predict/model", image.getvalue(), {"Content-Type": "image/tiff"})
        with urllib.request.urlopen(ask, timeout=10) as reply:
            assert "label" in json.load(reply)
        ask = urllib.request.Request(ask.full_url, b"x", {"Content-Type": "multipart/form-data; boundary=y"})
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(ask, timeout=10)
        served.process.terminate()
        assert served.end() == 0
    assert "stopping" in served.log
    assert "hidden" not in served.log
    assert "boundary" not in served.log


def test_without_an_access_log_requests_are_not_told(classifier: Path) -> None:
    with serving(classifier, "--log-level", "warning") as served:
        infer(served.url, "model")
        served.process.terminate()
        assert served.end() == 0
    assert served.log == ""


def logged(formatter: logging.Formatter, message: str, **fields: Any) -> str:
    record = logging.LogRecord("runtime", logging.WARNING, "", 0, message, (), None)
    record.fields = fields
    record.created, record.msecs = 1_700_000_000.5, 500
    return formatter.format(record)


def test_lines_of_the_log() -> None:
    line = logged(TextFormatter(), "a\nb \x1b[31m", status=200, path="/a b", empty="")
    assert line == r'2023-11-14T22:13:20.500Z warning a\nb \x1b[31m status=200 path="/a b" empty=""'
    assert json.loads(logged(JsonFormatter(), "a\nb", status=200)) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "warning",
        "message": "a\nb",
        "logger": "runtime",
        "status": 200,
    }


def test_a_call_that_its_client_gives_up_is_logged_as_that(classifier: Path) -> None:
    image = InferInput("image", [1, 1, 4, 4], "FP32")
    image.set_data_from_numpy(np.zeros((1, 1, 4, 4), np.float32))
    with serving(classifier, "--access-log", "--max-delay", "60", rpc=True) as served:
        with closing(InferenceServerClient(served.rpc)) as client, pytest.raises(InferenceServerException):
            client.infer("model", [image], client_timeout=0.2)
        served.wait_for("method=ModelInfer model=model status=CANCELLED")


def test_a_log_that_nobody_reads_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    go_on = threading.Event()

    class Stuck:
        def write(self, text: str) -> None:
            go_on.wait(10)
            written.append(text)

        def flush(self) -> None:
            pass

    monkeypatch.setattr("runtime.server.logs.MAX_WAITING", 10)
    monkeypatch.setattr("sys.stderr", Stuck())
    with logging_to_stderr("text", "info"):
        for number in range(1000):
            logging.getLogger("netspec").info("line %d", number)
        go_on.set()
    assert 10 <= len(written) < 30


def test_no_client_fills_the_log_with_what_it_sends(classifier: Path, pem: Path) -> None:
    """In clear text, also where TLS is spoken, which gRPC would tell of in lines of its own."""
    tls = ("--certificate", pem / "server.pem", "--private-key", pem / "server.key")
    for options in ((), tls):
        with serving(classifier, *options, "--log-format", "json", rpc=True) as served:
            host, _, port = served.rpc.rpartition(":")
            for address in (served.address, (host, int(port))):
                with socket.create_connection(address, timeout=10) as client:
                    client.sendall(b"\x01 no request of any kind\r\n\r\n")
                    with contextlib.suppress(ConnectionError):
                        client.recv(1000)
            served.process.terminate()
            assert served.end() == 0
        assert {json.loads(line)["level"] for line in served.lines} == {"info"}


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector of traces: its address, and the spans that it is sent by OTLP over HTTP."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server looks for
            sent = ExportTraceServiceRequest()
            sent.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            spans.extend(s for group in sent.resource_spans for scope in group.scope_spans for s in scope.spans)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", spans
    server.shutdown()
    server.server_close()


def test_traces_of_both_protocols_reach_a_collector(classifier: Path, collector: tuple[str, list[Any]]) -> None:
    url, spans = collector
    with serving(classifier, "--traces", url, rpc=True) as served:
        body = {"inputs": [{"name": "image", "shape": [1, 1, 4, 4], "datatype": "FP32", "data": [0.5] * 16}]}
        request = urllib.request.Request(
            f"{served.url}/v2/models/model/infer", json.dumps(body).encode(), {"traceparent": PARENT}
        )
        with urllib.request.urlopen(request, timeout=10):
            pass
        urllib.request.urlopen(f"{served.url}/v2/health/ready", timeout=10).close()
        with grpc.insecure_channel(served.rpc) as channel, pytest.raises(grpc.RpcError):
            infer_call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            infer_call(b"\x0a\x05model", timeout=5, metadata=[("traceparent", PARENT)])
        served.process.terminate()
        assert served.end() == 0
    http, rpc = (next(span for span in spans if span.name.startswith(start)) for start in ("POST", "inference"))
    assert {span.trace_id.hex() for span in spans} == {PARENT.split("-")[1]}
    assert http.parent_span_id.hex() == rpc.parent_span_id.hex() == PARENT.split("-")[2]
    assert http.name == "POST /v2/models/{model}/infer"
    said = {each.key: each.value for each in http.attributes}
    assert said["http.response.status_code"].int_value == 200
    assert said["netspec.model"].string_value == "model"
    stages = [span for span in spans if span.parent_span_id == http.span_id]
    assert [stage.name for stage in stages] == ["queue", "input", "compute", "output"]
    for before, after in pairwise(stages):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    assert stages[2].end_time_unix_nano > stages[2].start_time_unix_nano
    assert http.start_time_unix_nano <= stages[0].start_time_unix_nano + 1_000_000
    said = {each.key: each.value for each in rpc.attributes}
    assert said["rpc.grpc.status_code"].int_value == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert said["rpc.method"].string_value == "ModelInfer"


def test_a_span_has_the_stages_of_what_is_inferred_within_it() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    with tracing.request("GET /", {}, {"http.route": "/"}):
        observe = observer.get()
        assert observe is not None
        observe(InferenceResult({}, 10, 20, 30, 40))
    assert observer.get() is None
    tracing.close()
    *stages, request = exporter.get_finished_spans()
    assert [(stage.name, stage.end_time - stage.start_time) for stage in stages] == [
        ("queue", 10),
        ("input", 20),
        ("compute", 30),
        ("output", 40),
    ]
    assert all(stage.parent.span_id == request.context.span_id for stage in stages)
    assert request.resource.attributes["service.name"] == "netspec"


def test_a_collector_that_is_not_there_is_told_of_once_and_harms_nobody(classifier: Path) -> None:
    quickly = {**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}
    with serving(classifier, "--traces", "http://127.0.0.1:9", "--drain", "1", env=quickly) as served:
        for _ in range(2):
            infer(served.url, "model")
            served.wait_for("warning no traces reach http://127.0.0.1:9/v1/traces")
            time.sleep(0.2)
        served.process.terminate()
        assert served.end(15) == 0
    assert [line.split()[1] for line in served.lines] == ["info", "warning", "info", "info"], served.log


def test_traces_without_their_package_are_refused(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "runtime.server.tracing", None)
    result = CliRunner().invoke(command, [str(classifier), "--port", "0", "--traces", "http://127.0.0.1:4318"])
    assert result.exit_code == 1
    assert "error: --traces needs" in result.stderr
    assert "pip install 'netspec[telemetry]'" in result.stderr


def test_addresses_of_collectors() -> None:
    for url in ("http://collector:4318", "http://collector:4318/", "http://collector:4318/v1/traces"):
        assert otlp_exporter(url)._endpoint == "http://collector:4318/v1/traces"


@pytest.mark.parametrize(
    ("path", "model", "route"),
    [
        ("/v2/models/a/infer", "a", "/v2/models/{model}/infer"),
        ("/v2/models/a/versions/3/infer", "a", "/v2/models/{model}/versions/{version}/infer"),
        ("/v2/models/models", "models", "/v2/models/{model}"),
        ("/v2/repository/models/v2/load", "v2", "/v2/repository/models/{model}/load"),
        ("/v1/predict/a", "a", "/v1/predict/{model}"),
        ("/v2/models/stats", None, "/v2/models/stats"),
        ("/v2", None, "/v2"),
        ("/", None, "/"),
    ],
)
def test_routes_and_models_of_paths(path: str, model: str | None, route: str) -> None:
    assert model_of(path) == model
    assert route_of(path) == route


def test_no_record_has_an_id_that_breaks_it(classifier: Path) -> None:
    with serving(classifier, "--access-log") as served:
        asked = urllib.request.Request(f"{served.url}/v2", headers={"X-Request-ID": "x" * 500})
        with urllib.request.urlopen(asked, timeout=10) as reply:
            assert re.fullmatch("[0-9a-f]{16}", reply.headers["X-Request-ID"])
