"""What `doctor` says about queues and notices."""

from pathlib import Path

import pytest

from ids_appliance.config import Config
from ids_appliance.config.notices import Mqtt, Notices, Syslog, Webhook
from ids_appliance.config.priorities import Tc
from ids_appliance.enforce import tc_kernel
from ids_appliance.gateway.doctor_outward import outward
from tests.net.namespaces import Network, require, run


def test_nothing_is_said_of_what_is_not_used() -> None:
    assert list(outward(Config(interfaces=("lan0",)))) == []


def test_notices_are_looked_at_without_telling_anybody(tmp_path: Path) -> None:
    hook = Webhook(url="http://192.0.2.1/x")
    made = Notices(webhook=hook, syslog=Syslog(address="192.0.2.1:514"))
    first, second = outward(Config(interfaces=(), notices=made))
    assert (first.state, first.text) == ("ok", "by webhook, syslog")
    assert second.state == "warn" and "not encrypted" in second.text
    missing = Mqtt(broker="192.0.2.1:1883", user="x", password_file=str(tmp_path / "none"))
    found = list(outward(Config(interfaces=(), notices=Notices(mqtt=missing))))
    assert found[0].state == "fail"


@pytest.mark.net
def test_queues_are_tried_and_the_interfaces_looked_at() -> None:
    require()
    rates = {"a0": "5 mbit", "b0": "auto", "c0": "1 mbit", "lo": "auto"}
    with Network("do", "gw") as net:
        net.ip("gw", "link add a0 type veth peer name b0")
        run(*net.command("gw", *"tc qdisc add dev a0 root handle 7: pfifo limit 9".split()))
        with net.inside("gw"):
            found = list(outward(Config(interfaces=(), tc=Tc(rates=rates))))
            missing = tc_kernel.missing_kinds()
    plain = {"fq_codel", "sfq"} <= set(missing)
    states = [one.state for one in found]
    assert states == (["warn"] if plain else []) + ["warn", "ok", "warn", "warn"]
    texts = [one.text for one in found][-4:]
    assert "pfifo 7:" in texts[0] and "Mbit/s in four classes" in texts[1]
    assert "c0 is not there" in texts[2] and "states no speed" in texts[3]
