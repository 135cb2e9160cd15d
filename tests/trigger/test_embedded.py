"""The section [trigger] becomes a screen: what is on, what is off, what is refused."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ids_appliance._features import HostIdentity
from ids_appliance._screen import SETTINGS
from ids_appliance.config import Dos, Mirai, PortScan, Trigger
from ids_appliance.config.further import Convicting, Rate, Slow
from ids_appliance.config_file import load
from ids_appliance.errors import ConfigError
from ids_appliance.trigger import embedded
from ids_appliance.types import TriggerEvent
from tests.ext.screening import batch
from tests.ext.test_screen import syns

HOST = HostIdentity().packed()
PUBLISHED = {"dos_syns", "scan_ports", "mirai_hosts", "mirai_echo_hosts", "mirai_arp_targets"}
PUBLISHED |= {"arp_unsolicited", "arp_mac_changes", "dos_handshake_ratio", "scan_failed_ratio"}
PUBLISHED |= {"mirai_top_ports", "mirai_top_ports_ratio", "mirai_failed_or_brief_ratio"}
PUBLISHED |= {"mirai_brief_packets", "overflow"}
TABLES = {name for name in SETTINGS if name.startswith("max_") or name.endswith("_ns")}
OFF = {"dos_syns", "scan_ports", "mirai_hosts", "mirai_echo_hosts", "mirai_arp_targets"}


def test_every_setting_of_the_screen_has_its_number() -> None:
    assert set(embedded.settings(Trigger())) == set(SETTINGS)


def test_further_rules_are_on_where_they_earn_it() -> None:
    numbers = embedded.settings(Trigger())
    off = {"connection_rate", "udp_rate", "idle_connections"}
    assert {name for name in off if numbers[name]} == set()
    earning = {"repeated_connections", "slow_repeated", "repeated_alone", "slow_repeated_alone"}
    earning |= {"udp_exchanges", "icmp_rate", "arp_sweep", "arp_insistence", "slow_ports"}
    earning |= {"unsolicited_answers", "failed_connections", "impossible_flags"}
    earning |= {"scan_alone", "mirai_alone", "slow_ports_alone", "slow_hosts_alone", "flags_alone"}
    assert all(numbers[name] for name in earning)
    changed = Trigger(slow_scan=Slow(enabled=True), udp_rate=Rate(enabled=True, count=7))
    numbers = embedded.settings(changed)
    assert (numbers["slow_ports"], numbers["slow_hosts"], numbers["udp_rate"]) == (8, 64, 7)


def test_the_published_profile_has_the_four_rules_alone(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    lines = ['interfaces = ["eth1"]', 'model = "/m"', 'profile = "paper"', 'mode = "offloaded"']
    lines += ["[node]", 'addresses = ["node:7447"]', "plaintext = true"]
    file.write_text("\n".join(lines))
    numbers = embedded.settings(load(file).trigger)
    counts = {name for name, number in numbers.items() if number and name not in TABLES}
    assert counts == PUBLISHED


def test_a_rule_that_is_off_convicts_nobody() -> None:
    off = Convicting(enabled=False, count=2, alone=3)
    assert embedded.settings(Trigger(icmp_rate=off))["icmp_alone"] == 0
    still = Trigger(port_scan=PortScan(enabled=False), mirai=Mirai(enabled=False))
    numbers = embedded.settings(still)
    assert (numbers["scan_alone"], numbers["mirai_alone"]) == (0, 0)


def test_a_rule_that_looks_late_convicts_when_it_fires() -> None:
    late = Trigger(
        icmp_rate=Convicting(enabled=True, count=600, alone=500),
        port_scan=PortScan(ports=60, alone=50),
        mirai=Mirai(hosts=64),
        slow_scan=Slow(ports=60, ports_alone=0),
    )
    numbers = embedded.settings(late)
    names = ("icmp_alone", "scan_alone", "mirai_alone", "slow_ports_alone", "slow_hosts_alone")
    assert [numbers[name] for name in names] == [600, 60, 64, 0, 64]
    embedded.build(late)


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
        (Trigger(mirai=Mirai(alone=65)), "mirai_alone is at most 64"),
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
