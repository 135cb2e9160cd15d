"""Scenarios are data: those that ship are sound, and what is wrong in one is named."""

from pathlib import Path

import pytest

from ids_appliance.errors import LabError
from ids_appliance.lab import scenarios
from ids_appliance.lab.layouts import HOSTS
from ids_appliance.lab.scenarios import TOOLS, read

GOOD = """
name = "own"
about = "of one's own"

[[step]]
id = "one"
at = 0.0
seconds = 1.0
who = ["bot"]
tool = "hping3"
attack = "DoS"
victim = "dev01"
with = { target = "dev01" }
"""


@pytest.mark.parametrize("name", scenarios.names())
def test_shipped_ones_are_sound(name: str) -> None:
    scenario = read(name)
    assert scenario.name == name and scenario.about.endswith(".")
    hosts = {host.name for host in HOSTS} | {"devices"}
    for step in scenario.steps:
        assert {word.partition(":")[0] for word in step.who} <= hosts
        assert not (step.attack and step.twin_of)
        if step.attack:
            assert step.opens and step.victim in hosts
        if step.twin_of:
            assert any(s.attack for s in read(step.twin_of).steps)
            assert step.opens in {s.opens for s in read(step.twin_of).steps}


def test_every_rule_has_an_attack_and_a_twin() -> None:
    steps = [step for name in scenarios.names() for step in read(name).steps]
    for rule in ("dos", "port_scan", "mirai", "arp_spoof"):
        assert any(s.opens == rule and s.attack for s in steps)
        assert any(s.opens == rule and s.twin_of for s in steps)
    used = {step.tool for step in steps}
    assert set(TOOLS) - used == {"iperf3", "tcpreplay"}, "for scenarios of one's own"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('tool = "hping3"', 'tool = "hping"', "did you mean hping3"),
        ('target = "dev01"', 'targets = "dev01"', "hping3: .*targets"),
        ('target = "dev01"', 'target = "dev01", pps = "many"', r"Expected `int`.*\$\.pps"),
        ('target = "dev01"', 'target = "dev01", pps = 0', r">= 1.*\$\.pps"),
        ('target = "dev01"', 'target = "dev01", flags = "X"', r"regex.*\$\.flags"),
        ("seconds = 1.0", "seconds = 601.0", "within 600 s"),
        ("seconds = 1.0", "seconds = 0.0", "within 600 s"),
        ("at = 0.0", "at = -1.0", "within 600 s"),
        ('victim = "dev01"', "", "an attack has a victim"),
        ('attack = "DoS"', 'attack = "Dos"', "Invalid enum value 'Dos'"),
        ("at = 0.0", "ad = 0.0", "unknown field `ad`"),
        ('about = "of', 'layouts = ["star"]\nabout = "of', "no layout 'star'"),
        ('about = "of', "about = of", "own.toml: "),
        ("", GOOD[GOOD.index("[[") :], "two of this id"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(GOOD)
    assert read(str(path)).name == "own"
    path.write_text(GOOD.replace(old, new, 1) if old else GOOD + new)
    with pytest.raises(LabError, match=told):
        read(str(path))


def test_a_name_that_is_none() -> None:
    with pytest.raises(LabError, match="did you mean syn_flood"):
        read("sin_flood")


@pytest.mark.parametrize(
    ("tool", "given", "told"),
    [
        ("nmap", 'targets = "dev01", ports = "all"', r"\$\.ports"),
        ("nmap", 'targets = "dev01", pps = 0', r"\$\.pps"),
        ("mosquitto_pub", "every_s = 0.0", r"\$\.every_s"),
        ("poll", "every_s = -1.0", r"\$\.every_s"),
        ("reconnect", "telemetry_s = 0.0", r"\$\.telemetry_s"),
        ("curl", "mib = 7", r"\$\.mib"),
    ],
)
def test_numbers_that_no_tool_could_take_are_named(
    tool: str, given: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.toml"
    text = GOOD.replace('tool = "hping3"', f'tool = "{tool}"')
    path.write_text(text.replace('target = "dev01"', given))
    with pytest.raises(LabError, match=f"step one, {tool}: .*{told}"):
        read(str(path))
