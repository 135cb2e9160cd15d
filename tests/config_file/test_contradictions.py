"""Settings that cannot be meant together are refused, each with what to do."""

import grp

import msgspec
import pytest

from ids_appliance import config
from ids_appliance.config import Config
from ids_appliance.config_file.contradictions import contradictions

GOOD = Config(interfaces=("eth1",), model="/m")
OFFLOADED = msgspec.structs.replace(
    GOOD, mode="offloaded", node=config.Node(addresses=("n:7447",), plaintext=True)
)


def changed(start: Config, place: str, value: object) -> Config:
    section, _, key = place.rpartition(".")
    if not section:
        return msgspec.structs.replace(start, **{key: value})
    names = section.split(".")
    owners = [start]
    for name in names:
        owners.append(getattr(owners[-1], name))
    inner = msgspec.structs.replace(owners[-1], **{key: value})
    for owner, name in zip(reversed(owners[:-1]), reversed(names), strict=True):
        inner = msgspec.structs.replace(owner, **{name: inner})
    return inner


@pytest.mark.parametrize("start", [GOOD, OFFLOADED])
def test_nothing_is_wrong_with_a_good_one(start) -> None:
    assert contradictions(start) == []


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("interfaces", (), "interfaces is empty"),
        ("interfaces", ("eth1", "eth1"), "interfaces: 'eth1' is there twice"),
        ("interfaces", ("a" * 16,), f"interfaces: '{'a' * 16}' is not the name of an interface"),
        ("interfaces", ("a/b",), "interfaces: 'a/b' is not the name"),
        ("state_dir", "var", "state_dir = 'var': an absolute path"),
        ("run_dir", "", "run_dir = '': an absolute path"),
        ("group", "no-such-group-x", "group = 'no-such-group-x': there is no such group"),
        ("model", "", 'mode = "gateway-only" needs a model'),
        ("routers", ("02:00",), "routers: '02:00' is not a MAC"),
        ("routers", ("02-00-5e-00-53-01",), "routers: '02-00-5e-00-53-01' is not a MAC: write 02:"),
        ("routers", ("ff:ff:ff:ff:ff:ff",), "routers: 'ff:ff:ff:ff:ff:ff' is the MAC of a group"),
        ("names", {"plug": "x"}, "names: 'plug' is neither a MAC nor an address"),
        ("names", {"192.0.2.1": "a\x1b[2J"}, "names: 'a\\x1b[2J' is no name"),
        ("names", {"192.0.2.1": ""}, "names: '' is no name"),
        ("taps", ("eth2",), "taps: 'eth2' is not among `interfaces`"),
        ("taps", ("eth1",), "taps: nothing passes this machine there"),
        ("enforce.backend", "openflow", 'enforce.backend = "openflow" needs enforce.openflow.'),
        ("enforce.openflow.bridge", "a/b", "enforce.openflow.bridge: 'a/b' is not the name"),
        ("enforce.openflow.target", "s1", "enforce.openflow.target = 's1': tcp:HOST:PORT"),
        ("enforce.openflow.target", "ssl:n:6654", "enforce.openflow.target = ssl:... needs"),
        ("enforce.openflow", config.OpenFlow(bridge="s1", target="unix:/x"), "enforce.openflow.br"),
        ("enforce.openflow.uplinks", ("a b/",), "enforce.openflow.uplinks: 'a b/' is not the name"),
        ("zeek.log", "trigger.log", "zeek.log = 'trigger.log': an absolute path"),
        ("trigger.bindings", {"192.0.2.300": "02:00:5e:00:53:01"}, "trigger.bindings: '192.0.2.3"),
        ("trigger.bindings", {"::1": "02:00:5e:00:53:01"}, "trigger.bindings: '::1': bindings are"),
        ("trigger.bindings", {"192.0.2.1": "x"}, "trigger.bindings: 'x' is not a MAC"),
        ("trigger.slow_scan", config.Slow(enabled=True, window_s=5), "trigger.slow_scan.window_s"),
        ("trigger.udp_rate", config.Rate(enabled=True), "trigger.udp_rate.count = 0 fires on ever"),
        ("trigger.no_answer_s", 6.0, "trigger.no_answer_s has to be at most"),
        ("window.window_s", 601.0, "window.window_s has to be at most window.max_window_s"),
        ("window.sample_every_s", 2.0, "window.sample_s has to be shorter"),
        ("policy.priors", {"port_scam": 1.0}, "policy.priors: there is no rule 'port_scam': did y"),
        ("policy.durations_s", (), "policy.durations_s is empty"),
        ("policy.durations_s", (600.0, 60.0), "policy.durations_s has to grow"),
        ("enforce.ceiling", "deprioritise", 'enforce.ceiling = "deprioritise" needs traffic cl'),
        ("notices.webhook.url", "ftp://x/", "notices.webhook.url is no URL: write https://"),
        ("notices.webhook", config.notices.Webhook(url="http://x/", url_file="y"), "notices.webho"),
        ("notices.mqtt.broker", "x", "notices.mqtt.broker: 'x' is not an address: write HOST"),
        ("notices.mqtt.password_file", "x", "notices.mqtt.password_file needs notices.mqtt.us"),
        ("notices.mqtt.ca", "x", "notices.mqtt.ca needs notices.mqtt.tls = true"),
        ("notices.mqtt.topic", "a/#", "notices.mqtt.topic and .discovery: words with / betw"),
        ("notices.syslog.address", "log", "notices.syslog.address: 'log' is not an address"),
        ("tc.rates", {"a b/": "auto"}, "tc.rates: 'a b/' is not the name of an interface"),
        ("tc.rates", {"wan0": "fast"}, "tc.rates.wan0: 'fast' is no rate of a link: write"),
        ("tc.rates", {"wan0": "1 kbit"}, "tc.rates.wan0: '1 kbit' is no rate of a link"),
        ("enforce.ceilings", {"x": "observe"}, "enforce.ceilings: 'x' is neither a MAC nor"),
        ("enforce.ceilings", {"192.0.2.1": "deprioritise"}, "enforce.ceilings: '192.0.2.1': depri"),
        ("protect.administrators", ("me",), "protect.administrators: 'me' is not a network: write"),
        ("protect.administrators", ("192.0.2.1/24",), "protect.administrators: '192.0.2.1/24' has"),
        ("protect.administrators", ("0.0.0.0/0",), "protect.administrators: '0.0.0.0/0' covers ne"),
        ("protect.administrators", ("::/0",), "protect.administrators: '::/0' covers nearly every"),
        (
            "protect.administrators",
            ("192.0.2.0/24@",),
            "protect.administrators: '' is not the name",
        ),
        ("protect.addresses", ("224.0.0.1",), "protect.addresses: '224.0.0.1' is not the address"),
        ("protect.addresses", ("fe80::1%eth0",), "protect.addresses: 'fe80::1%eth0' names a zone"),
        ("protect.macs", ("02:00:5e:00:53:01",), "protect.macs: '02:00:5e:00:53:01' does not say"),
        ("metrics.listen", "9107", "metrics.listen: '9107' is not an address: write HOST:PORT"),
        ("metrics.listen", "::1:9107", "metrics.listen: '::1:9107' is not an address: write an IP"),
        ("events.file", "events.jsonl", "events.file = 'events.jsonl': an absolute path"),
        ("failure.on_overload", ("suspect", "suspect"), "failure.on_overload names somebody twice"),
        ("node.addresses", ("n",), "node.addresses: 'n' is not an address: write HOST:PORT"),
        ("node.cert", "c", "node.cert needs node.key beside it"),
        ("node.crl", "c", "node.crl needs node.cert beside it"),
        ("node.plaintext", True, ""),
    ],
)
def test_one_wrong_setting_is_one_line(place: str, value: object, line: str) -> None:
    found = contradictions(changed(GOOD, place, value))
    assert len(found) == bool(line) and "".join(found).startswith(line)


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("node.addresses", (), 'mode = "offloaded" needs node.addresses'),
        ("node.plaintext", False, 'mode = "offloaded" needs node.cert, node.key and node.ca, or'),
        ("node.ca", "c", "node.plaintext and certificates (node.ca) exclude each other"),
        ("model", "", 'failure.on_classifier_down = "local" needs a model'),
    ],
)
def test_offloaded_needs_a_node_and_its_certificates(place, value, line) -> None:
    found = contradictions(changed(OFFLOADED, place, value))
    assert len(found) == 1 and found[0].startswith(line)


def test_offloaded_without_model_is_fine_where_nobody_stands_in() -> None:
    start = changed(OFFLOADED, "failure.on_classifier_down", "open")
    assert contradictions(changed(start, "model", "")) == []


def test_good_texts_of_every_kind() -> None:
    good = changed(
        GOOD, "protect.administrators", ("192.0.2.0/24@eth0", "2001:db8::/64", "1.1.1.1")
    )
    good = changed(good, "protect.macs", ("02:00:5E:00:53:01@br0",))
    good = changed(good, "names", {"02:00:5e:00:53:01": "plug", "192.0.2.9": "plug", "::2": "ü"})
    good = changed(good, "metrics.listen", "[::1]:9107")
    good = changed(good, "group", grp.getgrgid(0).gr_name)
    assert contradictions(good) == []


def test_a_group_nearly_right_is_named() -> None:
    name = grp.getgrgid(0).gr_name
    (line,) = contradictions(changed(GOOD, "group", name + "x"))
    assert "did you mean" in line


def test_queues_end_where_the_kernels_numbers_do() -> None:
    last = config.Inline(enabled=True, queue=65_534, queues=2)
    assert contradictions(msgspec.structs.replace(GOOD, inline=last)) == []
    more = msgspec.structs.replace(last, queues=3)
    (line,) = contradictions(msgspec.structs.replace(GOOD, inline=more))
    assert line.startswith("inline.queues = 3: from 65534 on there are only 2 queues")
