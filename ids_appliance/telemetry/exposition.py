"""A Metrics in, what Prometheus reads out, by prometheus_client; imported only when needed."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any, Final, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ids_appliance.errors import MetricsError
from ids_appliance.telemetry.series import PREFIX, Number, series

READERS: Final = 8
"""Readers served at a time; others find the connection closed."""
READ_S: Final = 5.0
"""A reader that takes longer for its request is given up."""

_FAMILIES: Final = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "unknown": UnknownMetricFamily,
}


class Counted(Protocol):
    """telemetry.metrics.Metrics."""

    @property
    def counters(self) -> "dict[str, Number]":
        """Name -> value."""

    @property
    def info(self) -> "dict[str, str]":
        """Labels of the info series."""


class Exposition(Collector):
    """One registry of our own, so that nothing that other libraries register comes in."""

    def __init__(self, metrics: Counted) -> None:
        self._metrics = metrics
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the present series."""
        yield InfoMetricFamily(
            PREFIX.rstrip("_"), "Which appliance this is.", dict(self._metrics.info)
        )
        for one in series(self._metrics.counters):
            row = one.row
            labels = [row.label] if row.label else []
            family: Any = _FAMILIES[row.kind](PREFIX + row.name, row.help, labels=labels)
            for label, value in sorted(one.values.items()):
                family.add_metric([label] if labels else [], value)
            yield family

    def text(self) -> str:
        """Return all series as text."""
        return generate_latest(self.registry).decode("utf-8")

    def serve(self, listen: tuple[str, int]) -> "Server":
        """Begin to answer. Raises MetricsError."""
        return Server(self.registry, listen)


class _Handler(WSGIRequestHandler):
    timeout = READ_S

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape every few seconds is no news."""


class _HttpServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = READERS

    def __init__(self, listen: tuple[str, int]) -> None:
        self._room = threading.BoundedSemaphore(READERS)
        if ":" in listen[0]:
            self.address_family = socket.AF_INET6
        super().__init__(listen, _Handler)

    def server_bind(self) -> None:
        """Bind without asking a resolver for our own name, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the reader has gone in the middle of its answer."""


class Server:
    """The HTTP server of one registry."""

    def __init__(self, registry: CollectorRegistry, listen: tuple[str, int]) -> None:
        """Raises MetricsError: the address cannot be used."""
        try:
            self._http = _HttpServer(listen)
        except OSError as error:
            raise MetricsError(
                f"metrics.listen: cannot listen at {listen[0]} port {listen[1]}: {error.strerror}"
            ) from error
        self._http.set_app(make_wsgi_app(registry, disable_compression=True))
        self.where: tuple[str, int] = (str(listen[0]), int(self._http.server_port))
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.2,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
