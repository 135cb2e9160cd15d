"""The doctor finds what a configuration needs and this machine lacks."""

import ipaddress
import os
from pathlib import Path

import msgspec
import pytest

from ids_appliance import config
from ids_appliance.classify.bundle import save_bundle
from ids_appliance.classify.certificates import Authority, Request
from ids_appliance.classify.tls import Role
from ids_appliance.config import Config
from ids_appliance.gateway import doctor
from ids_appliance.gateway.machine import Finding
from ids_appliance.policy.protect import SystemFound
from tests.classify.nodes import NodeProcess
from tests.net.namespaces import Network, require

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def model_path(small_bundle, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("doctor") / "model"
    save_bundle(small_bundle, path)
    return path


@pytest.fixture
def good(tmp_path, model_path) -> Config:
    return Config(
        interfaces=("lo",),
        model=str(model_path),
        state_dir=str(tmp_path / "state"),
        run_dir=str(tmp_path / "run"),
        protect=config.Protect(administrators=("192.0.2.0/24",)),
    )


def changed(start: Config, **fields) -> Config:
    return msgspec.structs.replace(start, **fields)


def states(findings) -> list[tuple[str, str]]:
    return [(one.topic, one.state) for one in findings]


def test_everything_is_looked_at(good) -> None:
    topics = [one.topic for one in doctor.examine(good, NOW)]
    for topic in ("interface", "forwarding", "memory", "state_dir", "run_dir", "model", "bounds"):
        assert topic in topics
    assert "node" not in topics and "certificate" not in topics
    offloaded = changed(good, node=config.Node(addresses=("127.0.0.1:1",), plaintext=True))
    topics = [one.topic for one in doctor.examine(offloaded, NOW)]
    assert "node" in topics and "certificate" in topics


def test_an_interface_that_is_not_there(good) -> None:
    (one,) = doctor.interfaces(changed(good, interfaces=("nosuch0",)))
    assert one.state == "fail" and "no interface 'nosuch0'" in one.text
    assert doctor.forwarding(changed(good, interfaces=("nosuch0",))).state == "unknown"


@pytest.mark.net
def test_interfaces_of_every_kind() -> None:
    require()
    with Network("doc", "a", "b") as net:
        net.veth(("a", "wan0"), ("b", "x0"))
        net.veth(("a", "lan0"), ("b", "x1"))
        net.veth(("a", "lan1"), ("b", "x2"))
        net.ip("a", "link add br0 type bridge")
        for port in ("lan0", "lan1"):
            net.ip("a", f"link set {port} master br0")
        net.ip("a", "link set lan1 down")
        net.write("a", "net/ipv4/ip_forward", "0")
        with net.inside("a"):
            found = list(doctor.interfaces(Config(interfaces=("br0",))))
            assert states(found) == [("interface", "ok"), ("interface", "warn")]
            assert "lan0 (veth of br0) is up" in found[0].text
            assert found[1].remedy == "ip link set lan1 up"
            assert doctor.forwarding(Config(interfaces=("br0",))).text == "bridged by br0"
            assert doctor.forwarding(Config(interfaces=("lan0",))).text == "bridged by lan0"
            routed = Config(interfaces=("wan0",))
            assert doctor.forwarding(routed).state == "warn"
        net.write("a", "net/ipv4/ip_forward", "1")
        with net.inside("a"):
            assert doctor.forwarding(routed).text == "ipv4 routed"


def test_directories(good, tmp_path) -> None:
    assert states(doctor.disk(good)) == [("state_dir", "ok"), ("run_dir", "ok")]
    assert not (tmp_path / "state").exists(), "nothing is made"
    (tmp_path / "file").write_text("")
    bad = changed(good, state_dir=str(tmp_path / "file" / "x"))
    assert next(doctor.disk(bad)).state in ("fail", "unknown")
    huge = changed(good, events=config.Events(rotate_mib=65_536.0, keep=1000))
    assert states(doctor.disk(huge))[0] == ("state_dir", "warn")
    elsewhere = changed(good, events=config.Events(file=str(tmp_path / "e.jsonl")))
    assert states(doctor.disk(elsewhere))[-1] == ("events.file", "ok")


@pytest.mark.net
def test_a_full_file_system() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: looks at a file system that takes nothing")
    (one, _) = doctor.disk(Config(interfaces=("lo",), state_dir="/proc/ids", run_dir="/tmp"))
    assert one.state in ("warn", "fail")


def test_models_and_bounds(good, tmp_path) -> None:
    found = list(doctor.model(good))
    assert found[0].state == "ok" and "12 features" in found[0].text
    assert (found[1].topic, found[1].state) == ("bounds", "warn"), (
        "the bounds that ship are for another model"
    )
    bad = changed(good, model=str(tmp_path / "none"), policy=config.Policy(bounds="/none"))
    assert states(doctor.model(bad)) == [("model", "fail"), ("bounds", "fail")]
    paper = changed(good, policy=config.Policy(kind="per_packet"))
    assert states(doctor.model(paper)) == [("model", "ok")]


@pytest.fixture
def link(tmp_path) -> config.Node:
    authority = Authority.create(tmp_path / "ca")
    cert, key = authority.issue(Request("gw", Role.GATEWAY))
    ca, crl = tmp_path / "ca" / "ca.crt", tmp_path / "ca" / "crl.pem"
    authority.issue(Request("node", Role.NODE, hosts=("127.0.0.1",)))
    paths = {"cert": cert, "key": key, "ca": ca, "crl": crl}
    return config.Node(
        addresses=("127.0.0.1:1",), **{name: str(path) for name, path in paths.items()}
    )


def test_certificates_and_how_long_they_are_good(good, link) -> None:
    end = doctor._ends(Path(link.cert)).timestamp()
    day = 86400.0
    with_link = changed(good, node=link)
    at = {days: list(doctor.certificates(with_link, end - days * day)) for days in (60, 3, -1)}
    assert [found[0].state for found in at.values()] == ["ok", "warn", "fail"]
    assert len(at[60]) == 3 and at[60][1].state == "ok"
    missing = changed(good, node=msgspec.structs.replace(link, key="/none"))
    assert states(doctor.certificates(missing, NOW)) == [("certificate", "fail")]
    plain = changed(good, node=config.Node(plaintext=True))
    assert states(doctor.certificates(plain, NOW)) == [("certificate", "warn")]


def test_keys_that_others_may_read_are_named(good, link) -> None:
    with_key = changed(good, node=config.Node(key=link.key))
    for mode in (0o600, 0o640):  # the group may be the service's own
        Path(link.key).chmod(mode)
        assert list(doctor.secrets(with_key)) == []
    Path(link.key).chmod(0o644)
    assert ("secrets", "warn") in states(doctor.examine(with_key, NOW))
    (one,) = doctor.secrets(with_key)
    assert "mode 644" in one.text and one.remedy == f"chmod 600 {link.key}"
    assert list(doctor.secrets(changed(good, node=config.Node(key="/none")))) == []


def test_nodes_are_reached_as_the_gateway_would(good, link, model_path, tmp_path) -> None:
    directory = Path(link.ca).parent
    options = ("--cert", directory / "node.crt", "--key", directory / "node.key", "--ca", link.ca)
    node = NodeProcess(model_path, tmp_path / "log", options=options)
    try:
        there = f"127.0.0.1:{node.address[1]}"
        with_node = changed(good, mode="offloaded", node=changed(link, addresses=(there,)))
        (one,) = doctor.nodes(with_node)
        assert one.state == "ok" and "judges with model" in one.text
        other = changed(with_node, model="/none")
        assert states(doctor.nodes(other)) == [("node", "ok")], "what is not there cannot differ"
    finally:
        node.close()
    (one,) = doctor.nodes(with_node)
    assert one.state == "warn", "the model here stands in"
    alone = changed(with_node, failure=config.Failure(on_classifier_down="open"))
    assert states(doctor.nodes(alone)) == [("node", "fail")]


def test_settings_worth_a_thought(good) -> None:
    quiet = list(doctor.settings(good))
    assert {one.state for one in quiet} == {"ok"}
    loud = changed(
        good,
        protect=config.Protect(),
        enforce=config.Enforce(enabled=True),
        metrics=config.Metrics(listen="0.0.0.0:9107"),
    )
    warned = [one.text for one in doctor.settings(loud) if one.state == "warn"]
    assert len(warned) == 2 and "administrators" in warned[0] and "metrics.listen" in warned[1]
    for host in ("localhost", "127.0.0.1", "[::1]"):
        local = changed(good, metrics=config.Metrics(listen=f"{host}:9107"))
        assert {one.state for one in doctor.settings(local)} == {"ok"}


def test_ipv6_on_the_protected_side_protects_by_mac_only(
    good, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ipaddress.ip_address("2001:db8:1::1").packed
    networks = (("lan0", here, 64), ("lan0", bytes([192, 0, 2, 1]), 24))
    found = SystemFound(captured=("lan0",), networks=networks)
    monkeypatch.setattr(doctor, "look", lambda _: found)
    beyond = ("192.0.2.0/24", "2001:db8:9::/64", "2001:db8:1::9@wan0")
    elsewhere = config.Protect(administrators=beyond)
    assert list(doctor.protected(changed(good, protect=elsewhere))) == []
    there = ("2001:db8:1::9", "2001:db8:9::9@lan0")
    (one, other) = doctor.protected(changed(good, protect=config.Protect(addresses=there)))
    assert there[0] in one.text and there[1] in other.text and "protect.macs" in one.remedy


def test_a_finding_is_one_line(good) -> None:
    for one in doctor.examine(changed(good, interfaces=("lo", "nosuch0")), NOW):
        assert isinstance(one, Finding) and "\n" not in one.text + one.remedy


def switched(start: Config, **more) -> Config:
    enforce = config.Enforce(backend="openflow", openflow=config.OpenFlow(**more))
    return changed(start, taps=start.interfaces, enforce=enforce)


def test_a_switch_that_is_not_there_fails_with_what_to_do(good, tmp_path) -> None:
    found = [
        one
        for one in doctor.examine(switched(good, bridge="s1", ovs_run_dir=str(tmp_path)), NOW)
        if one.topic in ("openflow", "forwarding")
    ]
    forwarding, switch = sorted(found, key=lambda one: one.topic)
    assert forwarding.state == "ok" and "mirror" in forwarding.text
    assert switch.state == "fail" and "Open vSwitch" in (switch.remedy + switch.text)
