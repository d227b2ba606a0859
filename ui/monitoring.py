"""Liveness, readiness, and numbers in Prometheus' format, without names and ids."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from blockrag.errors import BlockRAGError
from blockrag.events import Report
from storage.settings import APPLICATION
from ui.collection_service import CollectionService

CHECKED_S = 5.0
"""How long an answer of `/readyz` holds: everyone may ask, and each check writes."""

REGISTRY = CollectorRegistry()
REFUSALS = Counter("blockrag_refusals", "Requests refused, by reason", ["reason"], registry=REGISTRY)
FIRST_TOKEN_S = Histogram(
    "blockrag_first_token_seconds",
    "From the question to the first token of its answer, without waiting",
    ["mode"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
QUEUED_S = Histogram(
    "blockrag_queued_seconds", "Waiting of a question", buckets=(0.1, 1, 5, 15, 30, 60, 120), registry=REGISTRY
)
ProcessCollector(registry=REGISTRY)


def observe(report: Report) -> None:
    """Count an answer."""
    FIRST_TOKEN_S.labels(report.mode).observe(report.ttft_ms / 1000)
    QUEUED_S.observe(report.queued_ms / 1000)


class Monitoring:
    """Routes of a server.

    Parameters
    ----------
    service : CollectionService
    data_dir : Path
    stop : threading.Event
        Set when the server stops: it is alive then and not ready.
    metrics : bool
        Serve ``/metrics``.
    """

    def __init__(self, service: CollectionService, data_dir: Path, stop: threading.Event, *, metrics: bool = False):
        self._service, self._stop, self._metrics = service, stop, metrics
        self._numbers = _Numbers(service, data_dir)
        self._lock = threading.Lock()
        self._checked_at, self._is_ready = float("-inf"), False
        service.engine.observers.append(observe)
        service.on_model.append(lambda engine: engine.observers.append(observe))

    @property
    def routes(self) -> list[Route]:
        """``/livez``, ``/readyz``, ``/health`` (the same), and ``/metrics`` if it is served."""
        routes = [Route("/livez", self._live), Route("/readyz", self._ready), Route("/health", self._ready)]
        return [*routes, Route("/metrics", self._scrape)] if self._metrics else routes

    async def _live(self, _request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def _ready(self, _request: Request) -> JSONResponse:
        """Answer 200 if the database takes a write and the server does not stop, else 503; tell nothing of anyone."""
        is_ready = await anyio.to_thread.run_sync(self._check)
        return JSONResponse({"status": "ok"} if is_ready else {"status": "failing"}, 200 if is_ready else 503)

    def _check(self) -> bool:
        with self._lock:
            if time.monotonic() - self._checked_at > CHECKED_S:
                try:
                    self._service.library.store.settings.put(APPLICATION, {"checked_s": time.time()})
                    self._is_ready = True
                except BlockRAGError as error:
                    self._is_ready = False
                    REFUSALS.labels(f"not ready: {type(error).__name__}").inc()
                self._checked_at = time.monotonic()
            return self._is_ready and not self._stop.is_set()

    async def _scrape(self, _request: Request) -> Response:
        return Response(await anyio.to_thread.run_sync(self._text), media_type=CONTENT_TYPE_LATEST)

    def _text(self) -> bytes:
        engine = self._service.engine
        with self._lock:
            if observe not in engine.observers:
                engine.observers.append(observe)
            registry = CollectorRegistry()
            registry.register(self._numbers)
            return generate_latest(REGISTRY) + generate_latest(registry)


class _Numbers(Collector):
    """Numbers that are read when they are asked for."""

    def __init__(self, service: CollectionService, data_dir: Path):
        self._service, self._data_dir = service, data_dir

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        store, engine = self._service.library.store, self._service.engine
        database = store.database
        n_documents, n_chars = store.documents.totals()
        disk = shutil.disk_usage(self._data_dir)
        for name, text, value in (
            ("blockrag_questions_waiting", "Questions that wait", engine.queue.n_waiting),
            ("blockrag_collections", "Collections of all visitors", store.collections.count()),
            ("blockrag_documents", "Documents of all collections", n_documents),
            ("blockrag_document_characters", "Characters of all documents", n_chars),
            ("blockrag_disk_free_bytes", "Free bytes where the data folder is", disk.free),
            ("blockrag_deleted_text_in_log", "1 while the database's log holds deleted text", not database.is_wiped),
            ("blockrag_kv_misses", "Block KVs found in no tier since the start", engine.kv.n_misses),
        ):  # fmt: skip
            yield GaugeMetricFamily(name, text, float(value))
        hits = GaugeMetricFamily("blockrag_kv_hits", "Block KVs found in a tier since the start", labels=["tier"])
        nbytes = GaugeMetricFamily("blockrag_kv_bytes", "Bytes of block KV in a tier", labels=["tier"])
        for tier in engine.kv.local_tiers:
            hits.add_metric([tier.name], engine.kv.hits[tier.name])
            nbytes.add_metric([tier.name], tier.nbytes)
        yield from (hits, nbytes)
