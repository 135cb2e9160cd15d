"""The `status` command: what matters first, all counters as JSON, and nobody there."""

import msgspec
import pytest

from ids_appliance.gateway.actions import Status
from tests.cli.asked import call, one_line
from tests.gateway.running import STATUS, WINDOW


def show(live, monkeypatch, **changes):
    status = msgspec.structs.replace(STATUS, **changes)
    monkeypatch.setattr(live.actions, "status", lambda: status)
    return "\n".join(live.table("status"))


def test_the_table_has_what_matters(live):
    text = "\n".join(live.table("status"))
    for part in ("process 4711", "1 d 2 h", "offloaded", "192.0.2.10:7447", "1 of 1", "br-lan"):
        assert part in text
    assert "enforcing      yes" in text
    assert "ALARM: 12 frames lost in the ring of br-lan" in text


def test_json_is_the_whole_answer(live):
    assert msgspec.convert(live.json("status"), Status) == STATUS


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"enforcing": False, "held": "observe: enforcement is off"}, "NO: observe"),
        ({"enforcing": False}, "NO: off"),
        ({"enforcing": False, "held": "paused", "paused_s": 60}, "paused, for another 1 m"),
        ({"window": WINDOW}, "number 3 is open, 123,000 packets judged: port_scan"),
        ({"found": 0}, "0 of 1 elements"),
        ({"profile": "paper", "node": "", "mode": "gateway-only"}, "here, profile paper"),
        ({"interfaces": (), "alarms": ()}, "none is open; 3 since the start"),
    ],
)
def test_what_is_not_as_usual_is_said(live, monkeypatch, changes, says):
    assert says in show(live, monkeypatch, **changes)


@pytest.mark.parametrize(
    ("counters", "says"),
    [
        ({"zeek_alive": 1, "zeek_packets": 1200, "zeek_lost": 0}, "Zeek: 1,200 packets"),
        ({"zeek_alive": 0, "zeek_packets": 0, "zeek_lost": 0}, "our own rules: Zeek is silent"),
        ({"zeek_alive": 1, "standin_blind": 1}, "Zeek lives but gets no packets"),
    ],
)
def test_zeek_where_it_prescreens(live, monkeypatch, counters, says):
    assert says in show(live, monkeypatch, counters=counters)
    assert "prescreener" not in show(live, monkeypatch, counters={})


def test_what_is_said_already_is_no_alarm_as_well(live, monkeypatch):
    text = show(live, monkeypatch, enforcing=False, held="paused", alarms=("paused", "other"))
    assert text.count("paused") == 1 and "ALARM: other" in text


def test_colours_only_on_a_terminal(live):
    assert "\x1b[" not in live("status").stdout
    coloured = live("status", colour=True).stdout
    assert "\x1b[32myes" in coloured and "\x1b[31mALARM" in coloured
    assert "\x1b[" not in live("status", "--format", "json", colour=True).stdout


def test_hostile_texts_are_harmless(live, monkeypatch):
    cause = "\x1b]0;owned\x07\u202e" + "long " * 100
    window = msgspec.structs.replace(WINDOW, cause=cause)
    text = show(live, monkeypatch, window=window, alarms=("\x1b[2J",) * 3)
    assert "?]0;owned" in text


def test_nobody_there_is_one_line(tmp_path):
    assert "systemctl status ids-appliance" in one_line(call("status", "--run-dir", str(tmp_path)))


def test_queues_are_shown_where_classes_stand(live, monkeypatch):
    counters = {"tc_packets_wan0/normal": 1200, "tc_waiting_wan0/normal": 7, "tc_missing": 1}
    counters |= {"tc_packets_wan0/suspect": 3, "tc_dropped_wan0/suspect": 2}
    text = show(live, monkeypatch, counters=counters)
    lines = [line.split() for line in text.splitlines()]
    assert ["wan0", "normal", "1,200", "0", "7", "0"] in lines
    assert ["wan0", "suspect", "3", "2", "0", "0"] in lines
    assert "no traffic classes on 1 of the interfaces" in text
    assert "wan0" not in show(live, monkeypatch, counters={})
