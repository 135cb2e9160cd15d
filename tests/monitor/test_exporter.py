"""What Prometheus gets: the switch's own figures, or that it does not answer."""

import urllib.request

import pytest

from ids_appliance.errors import MetricsError, SwitchDown
from ids_appliance.monitor.exporter import serve, text
from ids_appliance.monitor.status import MirrorStatus, PortStatus, Status


def port(name: str, packets: int, dropped: int) -> PortStatus:
    return PortStatus(
        name=name, host="", number=1, vlan=0, link="up", rx_packets=packets, rx_bytes=packets * 60,
        tx_packets=1, tx_bytes=60, dropped=dropped, error="",
    )  # fmt: skip


def status(packets: int = 7) -> Status:
    mirror = MirrorStatus(
        name="espejo", selects="", output="par_s1M", there=True, tx_packets=packets,
        tx_bytes=packets * 60, dropped=3,
    )  # fmt: skip
    return Status(
        name="s3", bridge="s1", up=True, missing=(), flows=4,
        ports=(port("par_s1h1", packets, 0), port("par_s1M", 0, 3)), mirrors=(mirror,),
    )  # fmt: skip


def value(page: str, series: str) -> float:
    (line,) = [line for line in page.splitlines() if line.startswith(series + " ")]
    return float(line.rpartition(" ")[2])


def test_ports_flows_and_what_the_mirror_has_lost() -> None:
    page = text(status, clock=lambda: 0.0)
    assert value(page, "ids_appliance_monitor_switch_answers") == 1
    assert value(page, 'ids_appliance_monitor_flows{bridge="s1"}') == 4
    one = 'ids_appliance_monitor_port_receive_packets_total{bridge="s1",port="par_s1h1"}'
    assert value(page, one) == 7
    lost = 'ids_appliance_monitor_mirror_dropped_total{bridge="s1",mirror="espejo"}'
    assert value(page, lost) == 3


def test_a_switch_that_does_not_answer_is_a_figure_too() -> None:
    def look() -> Status:
        raise SwitchDown("no")

    page = text(look, clock=lambda: 0.0)
    assert value(page, "ids_appliance_monitor_switch_answers") == 0
    assert "port_receive" not in page


def test_over_http_asked_again_only_after_a_second() -> None:
    now, looked = [10.0], [0]

    def look() -> Status:
        looked[0] += 1
        return status(packets=looked[0])

    server = serve(look, ("127.0.0.1", 0), clock=lambda: now[0])
    series = 'ids_appliance_monitor_mirror_packets_total{bridge="s1",mirror="espejo"}'
    try:
        where = f"http://{server.where[0]}:{server.where[1]}/metrics"
        seen = []
        for now[0] in (10.0, 10.5, 11.0, 13.0):
            with urllib.request.urlopen(where, timeout=30) as answer:
                seen.append(value(answer.read().decode(), series))
    finally:
        server.close()
    assert seen == [1, 1, 2, 3] and looked == [3]


def test_an_address_that_is_taken_is_named() -> None:
    server = serve(status, ("127.0.0.1", 0), clock=lambda: 0.0)
    try:
        with pytest.raises(MetricsError, match="cannot listen"):
            serve(status, server.where, clock=lambda: 0.0)
    finally:
        server.close()
