"""What Prometheus reads: the models' counts, looked at when it asks, so that no request pays for them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.server.rest.openapi import operation
from runtime.server.rest.schemas import STRING
from runtime.serving.model import ServedModel
from runtime.serving.repository import Repository
from runtime.serving.statistics import LATENCY_BOUNDS, Histogram, Statistics

OPEN_METRICS = "application/openmetrics-text"
MODEL = ("model", "version")
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ModelCollector(Collector):
    """Gives the counts of the models that are served, as they are at that moment."""

    def __init__(self, repository: Repository) -> None:
        """Reads `repository`."""
        self._repository = repository

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: models come and go."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family of metrics."""
        models = self._repository.models()
        yield GaugeMetricFamily("netspec_ready", "1 where the server takes requests.", self._repository.ready())
        yield self._states()
        yield _devices(models)
        yield from _counters(models)
        yield _errors(models)
        yield from _gauges(models)
        yield _latencies(models)
        yield _batches(models)

    def _states(self) -> Metric:
        family = GaugeMetricFamily("netspec_model_ready", "1 where a version is served.", labels=MODEL)
        for entry in self._repository.index():
            family.add_metric((entry.name, entry.version), entry.state == "READY")
        return family


def _labels(model: ServedModel) -> tuple[str, str]:
    return model.name, model.version


def _devices(models: Iterable[ServedModel]) -> Metric:
    family = InfoMetricFamily("netspec_model", "Where a model runs.", labels=MODEL)
    for model in models:
        family.add_metric(_labels(model), {"device": model.device, "reason": model.device_reason})
    return family


def _counters(models: Iterable[ServedModel]) -> Iterator[Metric]:
    requests = CounterMetricFamily("netspec_requests", "Requests answered with a result.", labels=MODEL)
    rows = CounterMetricFamily("netspec_rows", "Rows of the requests answered.", labels=MODEL)
    runs = CounterMetricFamily("netspec_runs", "Runs of the model.", labels=MODEL)
    for model in models:
        statistics = model.statistics
        requests.add_metric(_labels(model), statistics.success.count)
        rows.add_metric(_labels(model), statistics.inference_count)
        runs.add_metric(_labels(model), statistics.execution_count)
    yield from (requests, rows, runs)


def _errors(models: Iterable[ServedModel]) -> Metric:
    family = CounterMetricFamily(
        "netspec_errors", "Requests without a result, by what stood against it.", labels=(*MODEL, "kind")
    )
    for model in models:
        for reason, count in model.statistics.failures.items():
            family.add_metric((*_labels(model), reason.name.lower()), count)
        family.add_metric((*_labels(model), "abandoned"), model.statistics.abandoned)
    return family


def _gauges(models: Iterable[ServedModel]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("netspec_queue_depth", "Requests that wait to be run.", labels=MODEL)
    inside = GaugeMetricFamily("netspec_in_flight", "Requests that wait or run.", labels=MODEL)
    for model in models:
        waiting.add_metric(_labels(model), model.queue_depth)
        inside.add_metric(_labels(model), model.statistics.in_flight)
    yield from (waiting, inside)


def _latencies(models: Iterable[ServedModel]) -> Metric:
    family = HistogramMetricFamily(
        "netspec_latency_seconds",
        f"Time of the requests answered, by stage: {', '.join(Statistics.STAGES)}; request is the whole.",
        labels=(*MODEL, "stage"),
    )
    for model in models:
        for stage, histogram in model.statistics.latencies.items():
            family.add_metric((*_labels(model), stage), _buckets(histogram), histogram.ns / 1e9)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, LATENCY_BOUNDS), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, accumulate(histogram.counts), strict=True)]


def _batches(models: Iterable[ServedModel]) -> Metric:
    family = HistogramMetricFamily("netspec_batch_rows", "Rows that were run together.", labels=MODEL)
    for model in models:
        counts = {rows: batch.compute_infer.count for rows, batch in model.statistics.batches.items()}
        buckets = [
            (str(bound), float(sum(count for rows, count in counts.items() if rows <= bound))) for bound in BATCH_BOUNDS
        ]
        buckets.append(("+Inf", float(sum(counts.values()))))
        family.add_metric(_labels(model), buckets, sum(rows * count for rows, count in counts.items()))
    return family


def metrics_routes(repository: Repository, connections: Callable[[], int]) -> list[Route]:
    """``GET /metrics``: the models, the process (memory, CPU, open files) and the platform, as the asker wants them."""
    registry = CollectorRegistry()
    registry.register(ModelCollector(repository))
    open_now = Gauge("netspec_connections", "HTTP connections that are open.", registry=registry)
    open_now.set_function(connections)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return [Route("/metrics", metrics)]


def metrics_paths() -> dict[str, Any]:
    """The metrics in the OpenAPI document."""
    about = operation("Metrics for Prometheus", {})
    about["responses"]["200"]["content"] = {kind: {"schema": STRING} for kind in ("text/plain", OPEN_METRICS)}
    return {"/metrics": {"get": about}}
