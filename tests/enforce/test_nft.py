"""libnftables through ctypes: answers, errors in one line, threads, and a machine without it."""

import threading

import pytest

from ids_appliance.config import Enforce
from ids_appliance.enforce import nft as module
from ids_appliance.enforce.generation import generation
from ids_appliance.enforce.nft import TERSE, Nft, NftError
from ids_appliance.enforce.nftables import NftEnforcer
from ids_appliance.enforce.probe import Capabilities, probe
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.errors import EnforceError
from tests.net.namespaces import Network, require


def test_a_machine_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIBRARY", "libnosuchthing.so.9")
    with pytest.raises(EnforceError, match="install libnftables1"):
        NftEnforcer(Enforce(), interfaces=(), protected=ProtectedSets(), clock=lambda: 0.0)


def test_what_is_missing_is_named_in_one_line() -> None:
    lacking = Capabilities({"ingress": "netdev ingress chains (refused)", "synproxy": "synproxy"})
    with pytest.raises(EnforceError) as said:
        lacking.demand()
    assert "netdev ingress" in str(said.value) and "\n" not in str(said.value)
    assert "synproxy" not in str(said.value) and not lacking.synproxy
    fine = Capabilities({"synproxy": "synproxy: slower"})
    fine.demand()
    assert fine.limits(Enforce()) == ["missing synproxy: slower"]
    assert fine.limits(Enforce(synproxy=False)) == []


@pytest.mark.net
def test_commands_errors_and_generations() -> None:
    require()
    with Network("en", "gw") as net, net.inside("gw"):
        nft = Nft()
        assert nft.run("list ruleset") == ""
        before = generation()
        nft.run("add table inet t\nadd set inet t s { type ipv4_addr; size 2; }")
        assert generation() == before + 1
        nft.run("add element inet t s { 10.0.0.1 }")
        assert "10.0.0.1" in nft.run("list set inet t s")
        assert "10.0.0.1" not in nft.run("list table inet t", flags=TERSE)
        now = generation()
        with pytest.raises(NftError) as said:
            nft.run("add element inet t s { 10.0.0.2, 10.0.0.3 }")
        assert said.value.full and "\n" not in str(said.value)
        assert "10.0.0.2" not in nft.run("list set inet t s")  # all of a batch or none
        with pytest.raises(NftError) as said:
            nft.run("list table inet nosuch")
        assert said.value.missing
        with pytest.raises(NftError, match="syntax error"):
            nft.run("add nonsense {")
        nft.run("add table inet never", check=True)
        assert generation() == now and "never" not in nft.run("list tables")
        assert probe().missing == {}
        assert nft.run("list tables").split() == ["table", "inet", "t"]


@pytest.mark.net
def test_each_thread_has_its_own_context() -> None:
    require()
    with Network("et", "gw") as net:
        with net.inside("gw"):
            nft = Nft()
            nft.run("add table inet t\nadd set inet t s { type ipv4_addr; }")
        failed: list[str] = []

        def work(number: int) -> None:
            with net.inside("gw"):
                for turn in range(50):
                    nft.run(f"add element inet t s {{ 10.{number}.0.{turn} }}")
                    try:
                        nft.run(f"list set inet t no{number}")
                    except NftError as error:
                        failed.append(str(error))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with net.inside("gw"):
            assert nft.run("list set inet t s").count("10.") == 200
        assert len(failed) == 200
