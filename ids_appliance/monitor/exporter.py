"""A way to look at the monitor in, its series over HTTP for Prometheus out."""

import threading
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ids_appliance.errors import MonitorError
from ids_appliance.monitor.metrics import PREFIX, families
from ids_appliance.monitor.status import Status
from ids_appliance.telemetry.exposition import Server

FRESH_S: Final = 1.0
"""Looking costs processes: within this time readers get the same answer."""


class Figures(Collector):
    """The series of one monitor, looked up when they are asked for, by one reader at a time."""

    def __init__(self, look: Callable[[], Status], *, clock: Callable[[], float]) -> None:
        """`look` may raise MonitorError; `clock` gives seconds that only grow."""
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._at = -FRESH_S
        self._found: tuple[Metric, ...] = ()

    def collect(self) -> Iterator[Metric]:
        """Yield the present series; of a switch that does not answer only that it does not."""
        with self._lock:
            now = self._clock()
            if not self._found or now - self._at >= FRESH_S:
                self._found, self._at = tuple(self._now()), now
            found = self._found
        yield from found

    def _now(self) -> Iterator[Metric]:
        answers = GaugeMetricFamily(PREFIX + "switch_answers", "Whether Open vSwitch answers.")
        try:
            status = self._look()
        except MonitorError:
            answers.add_metric([], 0)
            yield answers
            return
        answers.add_metric([], 1)
        yield answers
        yield from families(status)


def _registry(figures: Figures) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    return registry


def text(look: Callable[[], Status], *, clock: Callable[[], float]) -> str:
    """Return all series in Prometheus' text format."""
    return generate_latest(_registry(Figures(look, clock=clock))).decode("utf-8")


def serve(
    look: Callable[[], Status], listen: tuple[str, int], *, clock: Callable[[], float]
) -> Server:
    """Answer GET /metrics at (host, port) from now on, port 0 for a free one: `where` tells it.

    `close` ends it. Raises MetricsError: the address cannot be used."""
    return Server(_registry(Figures(look, clock=clock)), listen)
