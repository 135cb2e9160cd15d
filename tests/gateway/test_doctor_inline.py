"""What `doctor` says about the queue in which packets wait: real queues in a namespace."""

from collections.abc import Iterator

import msgspec
import pytest

from ids_appliance.capture.nfqueue import PacketQueue, QueueOptions
from ids_appliance.config import Config
from ids_appliance.config.inline import Inline
from ids_appliance.enforce.nft import Nft
from ids_appliance.enforce.queue_rule import TABLE, QueueRule
from ids_appliance.gateway.doctor_inline import inline
from tests.net.namespaces import Network, require

pytest.importorskip("netfilterqueue", reason="needs the extra `gateway`")
QUEUE = 7931
CONFIG = Config(interfaces=("lan0",), inline=Inline(enabled=True, queue=QUEUE))
DEAD = (
    f"table inet {TABLE} {{ set owner {{ type ifname; "
    'comment "ids-appliance schema 1 pid 4194305 start 1 boot 0"; }\n}\n'
)


@pytest.fixture
def net() -> Iterator[Network]:
    require()
    with Network("doq", "gw", "lan") as made:
        made.veth(("gw", "lan0"), ("lan", "eth0"))
        yield made


def said(net: Network, config: Config = CONFIG) -> tuple[str, str]:
    with net.inside("gw"):
        (one,) = inline(config)
    return one.state, one.text


def test_nothing_is_said_of_what_is_not_used() -> None:
    assert list(inline(Config(interfaces=("lan0",)))) == []


@pytest.mark.net
def test_rules_without_a_reader(net: Network) -> None:
    assert said(net) == ("ok", f"queue {QUEUE} is free; nobody holds packets")
    for text, state, words in (
        (f"table inet {TABLE} {{ }}", "fail", "not ours"),
        (DEAD, "warn", "of a gateway that has died (4194305)"),
    ):
        with net.inside("gw"):
            Nft().run(text)
        found = said(net)
        assert found[0] == state and words in found[1]
        with net.inside("gw"):
            Nft().run(f"delete table inet {TABLE}")


@pytest.mark.net
def test_queues_with_a_reader_and_without_a_rule(net: Network) -> None:
    with net.inside("gw"):
        queue = PacketQueue(QueueOptions(number=QUEUE), lambda packet: packet.accept())
    try:
        found = said(net)
        assert found[0] == "fail" and "another program" in found[1]
        with net.inside("gw"):
            rule = QueueRule(QUEUE, max_clean=16)
            rule.install(["lan0"])
        assert said(net)[0] == "ok" and "0 of 1,024 packets wait, none was" in said(net)[1]
        full = msgspec.structs.replace(CONFIG, inline=Inline(enabled=True, queue=QUEUE, length=16))
        assert said(net, full)[0] == "ok"
    finally:
        queue.close()
    found = said(net)
    assert found[0] == "warn" and f"nobody reads queue {QUEUE}" in found[1]
    with net.inside("gw"):
        assert rule.remove()


@pytest.mark.net
def test_each_of_several_queues_has_its_line(net: Network) -> None:
    both = msgspec.structs.replace(CONFIG, inline=Inline(enabled=True, queue=QUEUE, queues=2))
    with net.inside("gw"):
        second = PacketQueue(QueueOptions(number=QUEUE + 1), lambda packet: packet.accept())
        try:
            found = [(one.state, one.text) for one in inline(both)]
        finally:
            second.close()
    assert found[0] == ("ok", f"queue {QUEUE} is free; nobody holds packets")
    assert found[1][0] == "fail" and f"queue {QUEUE + 1} is held by another" in found[1][1]


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ids_appliance.gateway.doctor_inline.PACKAGE", "there_is_no_such_package")
    settings = Inline(enabled=True, queue=QUEUE, reader="package")
    first = next(inline(msgspec.structs.replace(CONFIG, inline=settings)))
    assert first.state == "fail" and "libnetfilter-queue-dev" in first.remedy
    assert "NetfilterQueue" not in next(inline(CONFIG)).text
