"""The `events` command."""

import json
import signal
import subprocess
import sys

import pytest

from tests.cli.asked import call, one_line

TRIGGER = {
    "timestamp": "2026-01-01T12:00:00.123456+00:00",
    "event_type": "trigger",
    "src_ip": "192.0.2.66",
    "src_mac": "02:00:00:00:77:66",
    "device": {"name": "Camera \x1b[31m"},
    "trigger": {"rule": "port_scan", "detail": "20 ports", "packets": 20, "list": [1]},
}


def test_an_event_is_a_line(live):
    live.gateway.control.publish(TRIGGER)
    (line,) = live.table("events")
    assert line.endswith("trigger   02:00:00:00:77:66 (Camera ?[31m) port_scan 20 ports packets=20")
    assert line[2] == ":" and line[8:12] == ".123"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event_type": "window", "timestamp": "never"},
        {"event_type": 7, "timestamp": 7, "trigger": []},
        {"event_type": "stats", "stats": {"n" * 50: "x" * 500}},
        {"event_type": "trigger", "device": "no object", "trigger": {"rule": "\x1b[2J\u202e"}},
    ],
)
def test_strange_events_are_lines_as_well(live, event):
    live.gateway.control.publish(event)
    assert len(live.table("events")) == 1


def test_json_is_an_object_a_line(live):
    for number in range(30):
        live.gateway.control.publish(TRIGGER | {"number": number})
    lines = live("events", "-n", "3", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["number"] for line in lines] == [27, 28, 29]
    assert json.loads(lines[0])["device"] == TRIGGER["device"]
    assert "\x1b" not in lines[0]


def test_following_goes_on_until_the_gateway_stops(live):
    live.gateway.control.publish(TRIGGER | {"number": 0})
    command = [sys.executable, "-m", "ids_appliance", "events", "--follow", "--format", "json"]
    command += ["--run-dir", str(live.run_dir)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert json.loads(process.stdout.readline())["number"] == 0
        live.gateway.control.publish(TRIGGER | {"number": 1})
        assert json.loads(process.stdout.readline())["number"] == 1
        live.gateway.close()
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (0, "", "the gateway has stopped\n")


def test_ctrl_c_ends_following(live):
    live.gateway.control.publish(TRIGGER)
    command = [sys.executable, "-m", "ids_appliance", "events", "-f", "--run-dir"]
    with subprocess.Popen(
        [*command, str(live.run_dir)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert "port_scan" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (0, "", "")


def test_nobody_there_is_one_line(tmp_path):
    assert one_line(call("events", "--follow", "--run-dir", str(tmp_path)))
