"""OpenTelemetry traces: a span for each request, with its stages as spans below it. Off unless asked for.

A client's own ``traceparent`` is taken over, so that its span is the parent. What spans are called and carry follows
the semantic conventions for HTTP and RPC.
"""

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.protocol.description import server_metadata
from runtime.server.access import ALL_MODELS, MODEL_PATH, model_of
from runtime.serving.request import InferenceResult, observer

log = logging.getLogger(__name__)

OTLP_PATH = "/v1/traces"
# Probes and metrics are asked for every few seconds, and nobody looks for them in traces.
UNTRACED = ("/v2/health/", "/metrics")
FLUSH_SECONDS = 2.0


def otlp_exporter(url: str) -> OTLPSpanExporter:
    """Sends spans by OTLP over HTTP to a collector's address, to which ``/v1/traces`` is added where it has no path."""
    return ToldExporter(url if urlsplit(url).path.strip("/") else url.rstrip("/") + OTLP_PATH)


class ToldExporter(OTLPSpanExporter):
    """Tells once of a collector that takes no spans, and again when it does and doesn't; not with every batch."""

    def __init__(self, url: str) -> None:
        """Sends spans to this address."""
        super().__init__(url)
        self._url = url
        self._is_failing = False
        if not log.isEnabledFor(logging.DEBUG):  # it tells of every try and every span that is lost
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends spans, again and again for some seconds."""
        result = super().export(spans)
        was_failing, self._is_failing = self._is_failing, result is not SpanExportResult.SUCCESS
        if self._is_failing and not was_failing:
            log.warning("no traces reach %s, and none are kept; --log-level debug tells why", self._url)
        if was_failing and not self._is_failing:
            log.info("traces reach %s again", self._url)
        return result


class Tracing:
    """Makes spans and has them exported in the background."""

    def __init__(self, exporter: SpanExporter) -> None:
        """Gives the spans to `exporter`; OpenTelemetry's environment variables name the service and the sampler."""
        ours = Resource({SERVICE_NAME: "netspec", SERVICE_VERSION: server_metadata()["version"]})
        resource = ours.merge(OTELResourceDetector().detect())
        self._exporter = exporter
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("netspec")
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Exports what is left, unless that takes too long: a collector that is not there is tried again and again."""
        flushing = threading.Thread(target=self._provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)
        if flushing.is_alive():
            self._exporter.shutdown()

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str], attributes: Mapping[str, str]) -> Iterator[Span]:
        """A span around a request; the stages of every inference that is made meanwhile become spans below it."""
        parent: Context = self._propagator.extract(headers)
        with self._tracer.start_as_current_span(name, parent, SpanKind.SERVER, attributes) as span:
            below = set_span_in_context(span)
            token = observer.set(lambda result: self._stages(result, below))
            try:
                yield span
            finally:
                observer.reset(token)

    def _stages(self, result: InferenceResult, context: Context) -> None:
        stages = {
            "queue": result.queue_ns,
            "input": result.input_ns,
            "compute": result.infer_ns,
            "output": result.output_ns,
        }
        begin = time.time_ns() - sum(stages.values())
        for stage, duration in stages.items():
            self._tracer.start_span(stage, context, start_time=begin).end(begin + duration)
            begin += duration


class Traced:
    """An ASGI application around another one, which makes a span for each request."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        """Traces what `app` is asked."""
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has one request answered within a span."""
        path = scope["path"]
        if path.startswith(UNTRACED):
            await self._app(scope, receive, send)
            return
        route = route_of(path)
        attributes = {"http.request.method": scope["method"], "http.route": route, "url.path": path}
        if (model := model_of(path)) is not None:
            attributes["netspec.model"] = model
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracing.request(f"{scope['method']} {route}", headers, attributes) as span:
            await self._app(scope, receive, _noting_status(send, span))


def _noting_status(send: Send, span: Span) -> Send:
    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                span.set_status(StatusCode.ERROR)
        await send(message)

    return noted


def route_of(path: str) -> str:
    """A path with placeholders where it names a model or version, so that there are few different ones."""
    found = MODEL_PATH.fullmatch(path)
    if found is None or path == ALL_MODELS:
        return path
    behind = re.sub("^/versions/[^/]+", "/versions/{version}", path[found.end(1) :])
    return f"{path[: found.start(1)]}{{model}}{behind}"
