"""A monitor's status in, its series for Prometheus out; imported only where they are asked for."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ids_appliance.monitor.status import Status

PREFIX: Final = "ids_appliance_monitor_"


def families(status: Status) -> Iterator[Metric]:
    """Yield the series of one monitor."""
    bridge = status.bridge
    yield _gauge("up", "Whether the bridge is there.", [((bridge,), status.up)])
    yield _gauge("missing", "Changes that `up` would make.", [((bridge,), len(status.missing))])
    yield _gauge("flows", "Flow entries of the bridge.", [((bridge,), status.flows)])
    if status.controller:
        yield _gauge(
            "controller_connected",
            "Whether the controller is connected.",
            [((bridge,), status.controller.connected)],
        )
    for name, text, field in (
        ("port_receive_packets", "Frames that came in.", "rx_packets"),
        ("port_receive_bytes", "Bytes that came in.", "rx_bytes"),
        ("port_transmit_packets", "Frames that went out.", "tx_packets"),
        ("port_transmit_bytes", "Bytes that went out.", "tx_bytes"),
        ("port_dropped", "Frames lost, with errors.", "dropped"),
    ):
        ports = [((bridge, port.name), getattr(port, field)) for port in status.ports]
        yield _counter(name, text, "port", ports)
    yield _gauge(
        "port_up",
        "Whether a port has a link.",
        [((bridge, port.name), port.link == "up") for port in status.ports],
        label="port",
    )
    for name, text, field in (
        ("mirror_packets", "Frames copied.", "tx_packets"),
        ("mirror_bytes", "Bytes copied.", "tx_bytes"),
        ("mirror_dropped", "Copies lost.", "dropped"),
    ):
        mirrors = [((bridge, one.name), getattr(one, field)) for one in status.mirrors]
        yield _counter(name, text, "mirror", mirrors)


Values = Iterable[tuple[tuple[str, ...], float]]


def _gauge(name: str, text: str, values: Values, *, label: str = "") -> Metric:
    labels = ["bridge", label] if label else ["bridge"]
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in values:
        family.add_metric(list(key), value)
    return family


def _counter(name: str, text: str, label: str, values: Values) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=["bridge", label])
    for key, value in values:
        family.add_metric(list(key), value)
    return family
