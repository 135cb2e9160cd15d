"""The configuration as Zeek gets it: each setting its scripts have, and no program of others."""

import re
from pathlib import Path

import pytest

from ids_appliance.config import ArpSpoof, Dos, Trigger
from ids_appliance.trigger.zeek_mirror import LIMITED_MAC, Mirror, ruleset
from ids_appliance.trigger.zeek_settings import Sight, redefs

SCRIPTS = Path(__file__).parents[2] / "ansible/roles/zeek/files/ids-appliance-zeek/scripts"
DECLARED = re.compile(r"^\tconst (\w+)(?:: [^=]*)? = (.*) &redef;$", re.M)
SET = re.compile(r"^redef IdsAppliance::(\w+) = (.*);$", re.M)


def declared() -> dict[str, str]:
    return dict(DECLARED.findall((SCRIPTS / "settings.zeek").read_text()))


def rendered(trigger: Trigger, sight: Sight | None = None) -> dict[str, str]:
    return dict(SET.findall(redefs(trigger, sight or Sight())))


def number(text: str) -> float:
    found = re.match(r"[\d.]+", text)
    assert found is not None
    return float(found[0])


def test_every_setting_of_the_scripts_is_rendered() -> None:
    direct, mirrored = rendered(Trigger()), rendered(Trigger(), Sight(limited_mac=LIMITED_MAC))
    assert direct.keys() | mirrored.keys() == declared().keys()


def test_the_defaults_are_the_same() -> None:
    here = rendered(Trigger(), Sight(limited_mac=LIMITED_MAC))
    for name, value in declared().items():
        if value[0].isdigit():
            assert number(here[name]) == number(value), name


def test_values_arrive() -> None:
    trigger = Trigger(
        rule_window_s=2.5,
        dos=Dos(enabled=False),
        arp_spoof=ArpSpoof(unsolicited=7),
        bindings={"192.0.2.1": "02:00:00:00:00:0A"},
    )
    sight = Sight(
        own_macs=("02:aa:00:00:00:01",),
        own_addresses=("192.0.2.254", "2001:db8::1"),
        limited_mac=LIMITED_MAC,
    )
    there = rendered(trigger, sight)
    assert there["window_length"] == "2.5 secs"
    assert there["dos_syns"] == "0" and there["arp_unsolicited"] == "7"
    assert there["configured_bindings"] == '{ [192.0.2.1] = "02:00:00:00:00:0a" }'
    assert there["own_macs"] == '{ "02:aa:00:00:00:01" }'
    assert there["own_addresses"] == "{ 192.0.2.254, [2001:db8::1] }"
    assert there["limited_mac"] == f'"{LIMITED_MAC}"' and "own_headers" not in there
    assert "redef use_conn_size_analyzer = T;" in redefs(trigger, Sight())


@pytest.mark.parametrize("text", ['02:00:00:00:00:01"; system("id"); "', "02:00", "", "x" * 17])
def test_what_is_no_mac_is_no_program(text: str) -> None:
    with pytest.raises(ValueError, match="neither a MAC nor an address"):
        redefs(Trigger(), Sight(own_macs=(text,)))


def test_the_mirrors_rules_hold_what_they_were_asked_for() -> None:
    mirror = Mirror(("lan0", "lan1"), ("lan0", "lan1", "br0"), ("192.0.2.0/24",), rate_pps=77)
    text = ruleset(mirror)
    assert text.count("rate 77/second") == 2 + 4  # both families, both ways of both ports
    assert 'iifname != { "lan0", "lan1", "br0" } ip saddr { 192.0.2.0/24 } return' in text
    assert "ip6 saddr {" not in text
    for port in mirror.ports:
        assert text.count(f'device "{port}"') == 2
