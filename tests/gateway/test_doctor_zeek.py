"""The doctor looks at Zeek's last sign of life and at its mirror's counters."""

import json
import socket
from pathlib import Path

import msgspec
import pytest

from ids_appliance.config import Config, Trigger, Zeek
from ids_appliance.enforce.nft import Nft
from ids_appliance.gateway import doctor_zeek, mirror
from ids_appliance.gateway.mirror import Names
from tests.net.namespaces import Network, require

NOW = 1_800_000_000.0
ALIVE = {"kind": "alive", "packets": 1200, "lost": 0, "entries": 7, "resting": False}


def config(log: Path) -> Config:
    return Config(interfaces=("lan0",), trigger=Trigger(kind="zeek"), zeek=Zeek(log=str(log)))


def write(path: Path, *lines: dict[str, object] | str) -> Config:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts))
    return config(path)


def test_who_does_not_ask_for_zeek_hears_nothing(tmp_path) -> None:
    asked = msgspec.structs.replace(config(tmp_path / "none"), trigger=Trigger())
    assert list(doctor_zeek.examine(asked, NOW)) == []


def test_a_zeek_that_writes(tmp_path) -> None:
    trigger = {"ts": NOW, "kind": "trigger", "rule": "dos", "key": "x"}
    asked = write(tmp_path / "log", {"ts": NOW - 1, **ALIVE}, trigger, "{no line", '{"ts": ')
    one = doctor_zeek.writes(asked, NOW)
    assert one.state == "ok" and "1,200 packets, 0 lost" in one.text and "7 entries" in one.text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"ts": NOW - 60, **ALIVE}, "for 60 s: our own rules prescreen"),
        ({"ts": NOW + 60, **ALIVE}, "60 s ahead of the clock"),
        ({"ts": NOW, **ALIVE, "resting": True, "lost": 9}, "rest, packets were lost: 1,200"),
        ({"ts": NOW, "kind": "trigger"}, "no sign of life"),
        ("x" * 200_000, "no sign of life"),
    ],
)
def test_a_zeek_that_does_not(tmp_path, line, says) -> None:
    one = doctor_zeek.writes(write(tmp_path / "log", line), NOW)
    assert one.state == "warn" and says in one.text and one.remedy


def test_no_log_and_what_is_no_log(tmp_path) -> None:
    one = doctor_zeek.writes(config(tmp_path / "none"), NOW)
    assert one.state == "warn" and "no such file" in one.text and "ids-appliance-zeek" in one.remedy
    assert "has no sign of life" in doctor_zeek.writes(config(Path("/dev/null")), NOW).text
    link = tmp_path / "link"
    link.symlink_to(write(tmp_path / "log", {"ts": NOW, **ALIVE}).zeek.log)
    assert doctor_zeek.writes(config(link), NOW).state == "warn"


@pytest.mark.net
def test_the_mirror_in_the_kernel(tmp_path) -> None:
    require()
    asked = config(tmp_path / "none")
    names = Names(namespace="idsdoczeek")
    with Network("dzk", "gw", "lan") as net:
        net.veth(("gw", "lan0"), ("lan", "eth0"))
        with net.inside("gw"):
            assert "there is no idszeek0" in doctor_zeek.copies(asked).text
            mirror.up(asked, names)
            try:
                assert doctor_zeek.copies(asked).state == "ok"
                # Everything counts as past the limit, and one packet goes out.
                Nft().run("insert rule ip ids_zeek answering counter name limited")
                net.ip("gw", "addr add 192.0.2.1/24 dev lan0")
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"x", ("192.0.2.9", 9))
                one = doctor_zeek.copies(asked)
                assert one.state == "warn" and "held back at 5,000 a second" in one.text
                Nft().run("delete table ip ids_zeek")
                assert "table ids_zeek is gone" in doctor_zeek.copies(asked).text
            finally:
                mirror.down(names)
