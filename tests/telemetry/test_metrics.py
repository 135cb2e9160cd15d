"""Counters become Prometheus series, each named once, and a reader gets them over HTTP."""

import gc
import socket
import subprocess
import sys
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ids_appliance.errors import MetricsError
from ids_appliance.telemetry import exposition
from ids_appliance.telemetry.metrics import Metrics
from ids_appliance.telemetry.series import OUTCOMES, PREFIX, ROWS, series, untold
from ids_appliance.types import Outcome
from tests.architecture.sources import ROOT

COUNTERS = {
    "delivered": 100,
    "judged": 60,
    "screened": 40,
    "kernel_drops": 3,
    "in_ring": 2,
    "elements_lan": 5,
    "dropped_packets_flood": 7,
    "decisions_standing": 1,
    "decisions_quarantine": 4,
    "classifier_unanswered": 9,
    "unanswered": 1,
    "something_new": 8,
}


@pytest.fixture
def metrics():
    metrics = Metrics({"version": "0.1"})
    metrics.update(COUNTERS)
    yield metrics
    metrics.close()


def samples(text: str) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_become_series(metrics) -> None:
    found = samples(metrics.text())
    assert found[PREFIX + "delivered_total",] == 100
    assert found[PREFIX + "frames_total", ("outcome", "judged")] == 60
    assert found[PREFIX + "frames_total", ("outcome", "unanswered")] == 1
    assert found[PREFIX + "classifier_answers_total", ("status", "unanswered")] == 9
    assert found[PREFIX + "kernel_drops_total",] == 3
    assert found[PREFIX + "ring_packets",] == 2
    assert found[PREFIX + "set_elements", ("set", "lan")] == 5
    assert found[PREFIX + "dropped_packets_total", ("rule", "flood")] == 7
    assert found[PREFIX + "decisions_standing",] == 1
    assert found[PREFIX + "decisions_total", ("what", "quarantine")] == 4
    assert found[PREFIX + "info", ("version", "0.1")] == 1
    assert found["process_resident_memory_bytes",] > 1e6


def test_what_nobody_has_told_of_is_shown_all_the_same(metrics) -> None:
    assert samples(metrics.text())[PREFIX + "other_something_new",] == 8
    assert list(untold(COUNTERS)) == ["something_new"]


def test_each_series_is_there_once_with_help_and_type(metrics) -> None:
    text = metrics.text()
    for word in ("# HELP ", "# TYPE "):
        names = [line.split()[2] for line in text.splitlines() if line.startswith(word)]
        assert len(names) == len(set(names)) > 10
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(row.help.endswith(".") and len(row.help) > 10 for row in ROWS)


def test_every_outcome_is_told() -> None:
    names = {o.name.lower() for o in Outcome if o is not Outcome.WAITING}
    assert set(OUTCOMES.split("|")) == names
    (one,) = series(dict.fromkeys(names, 1))
    assert set(one.values) == names


def test_two_names_of_one_thing_add_up() -> None:
    (one,) = series({"classifier_rows": 3, "classifier_cells": 4})
    assert one.values == {"": 7}


def test_an_update_replaces_all(metrics) -> None:
    metrics.update({"judged": 1})
    metrics.set_info(mode="offloaded")
    found = samples(metrics.text())
    assert found[PREFIX + "frames_total", ("outcome", "judged")] == 1
    assert (PREFIX + "delivered_total",) not in found
    assert found[PREFIX + "info", ("mode", "offloaded"), ("version", "0.1")] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_reader_gets_them_over_http(metrics, host: str) -> None:
    where = metrics.serve((host, 0))
    shown = f"[{host}]" if ":" in host else host
    with urllib.request.urlopen(f"http://{shown}:{where[1]}/metrics", timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert samples(answer.read().decode())[PREFIX + "delivered_total",] == 100
    metrics.close()
    metrics.close()
    with pytest.raises(OSError):
        socket.create_connection(where, timeout=1)
    gc.collect()


def test_readers_that_say_nothing_hold_up_nobody_for_long(metrics, monkeypatch) -> None:
    monkeypatch.setattr(exposition._Handler, "timeout", 0.3)
    where = metrics.serve(("127.0.0.1", 0))
    silent = [socket.create_connection(where) for _ in range(exposition.READERS + 4)]
    for one in silent:
        one.settimeout(60)
        assert one.recv(1) == b"", "given up or turned away"
        one.close()
    with urllib.request.urlopen(f"http://127.0.0.1:{where[1]}/", timeout=60) as answer:
        assert answer.status == 200


def test_an_address_in_use_is_one_clear_line(metrics) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(MetricsError, match=r"metrics\.listen: cannot listen at 127\.0\.0\.1"):
            metrics.serve(taken.getsockname())


def test_a_gateway_without_metrics_does_not_pay_for_them() -> None:
    code = (
        "import sys\nfrom ids_appliance.telemetry.metrics import Metrics\n"
        "m = Metrics()\nm.update({'delivered': 1})\n"
        "assert 'prometheus_client' not in sys.modules\nm.text()\n"
        "assert 'prometheus_client' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
