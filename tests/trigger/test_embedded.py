"""The section [trigger] becomes a screen: what is on, what is off, what is refused."""

import msgspec
import numpy as np
import pytest

from ids_appliance._features import HostIdentity
from ids_appliance._screen import SETTINGS
from ids_appliance.config import Dos, PortScan, Rate, Slow, Trigger
from ids_appliance.errors import ConfigError
from ids_appliance.trigger import embedded
from ids_appliance.types import TriggerEvent
from tests.ext.screening import batch
from tests.ext.test_screen import syns

HOST = HostIdentity().packed()
OFF = {"dos_syns", "scan_ports", "mirai_hosts", "mirai_echo_hosts", "mirai_arp_targets"}


def test_every_setting_of_the_screen_has_its_number() -> None:
    assert set(embedded.settings(Trigger())) == set(SETTINGS)


def test_further_rules_are_off_unless_switched_on() -> None:
    numbers = embedded.settings(Trigger())
    further = {"slow_ports", "slow_hosts", "connection_rate", "udp_rate", "icmp_rate"}
    further |= {"idle_connections", "unsolicited_answers", "failed_connections"}
    assert {name for name in further if numbers[name]} == set()
    on = Trigger(slow_scan=Slow(enabled=True), udp_rate=Rate(enabled=True, count=7))
    numbers = embedded.settings(on)
    assert (numbers["slow_ports"], numbers["slow_hosts"], numbers["udp_rate"]) == (40, 40, 7)


@pytest.mark.parametrize("kind", ["always", "manual"])
def test_other_kinds_of_trigger_have_no_rules(kind: str) -> None:
    trigger = msgspec.convert({"kind": kind}, Trigger)
    numbers = embedded.settings(trigger)
    assert {name for name in OFF if numbers[name]} == set() and not numbers["overflow"]


def test_events_have_names() -> None:
    screen = embedded.build(Trigger(dos=Dos(syns=3)))
    data, table = batch(syns(3))
    (fired,) = screen.screen(data, table, HOST, np.zeros(3, np.uint8))
    event = embedded.event(fired)
    assert isinstance(event, TriggerEvent)
    assert (event.rule, event.frame, event.decisive) == ("dos", 2, False)


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (Trigger(port_scan=PortScan(ports=100)), "scan_ports is at most 64"),
        (Trigger(dos=Dos(syns=0)), "at least 1"),
        (Trigger(dos=Dos(handshake_ratio=3)), "handshake_ratio"),
        (Trigger(rule_window_s=0), "window_ns"),
        (Trigger(bindings={"router": "02:00:00:00:00:01"}), "router"),
        (Trigger(bindings={"192.0.2.1": "02:00"}), "02:00"),
    ],
)
def test_what_cannot_be_meant_is_refused(trigger: Trigger, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        embedded.build(trigger)


def test_configured_bindings() -> None:
    screen = embedded.build(Trigger(bindings={"192.0.2.1": "02:00:00:00:00:0a"}))
    assert screen.bindings() == [
        (bytes([192, 0, 2, 1]), bytes([2, 0, 0, 0, 0, 10]), 0, 0, "configured")
    ]
