"""When a SYN proxy begins: which connections connection tracking forgets, and which it keeps."""

import socket
import subprocess
import threading
import time

import pytest

from ids_appliance.config import Enforce
from ids_appliance.enforce.elements import HOSTS
from ids_appliance.enforce.nftables import NftEnforcer
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.ruleset import capacity
from tests.enforce.conftest import BEYOND, Scene, decide
from tests.enforce.test_floods import PORT, opens, victim
from tests.enforce.traffic import echo_server

TARGET = ("192.0.2.2", PORT)
PATIENCE_S = 20.0
HOLD = f"tcp dport {PORT} tcp flags & (syn | ack) == ack drop"


@pytest.mark.net
def test_a_handshake_under_way_is_completed(routed: Scene) -> None:
    enforcer = routed.enforcer()
    hold = "add table inet hold; add chain inet hold out { type filter hook output priority 0; };"
    with echo_server(routed.net, "dev", PORT):
        nft = routed.net.command("out", "nft")
        subprocess.run([*nft, f"{hold} add rule inet hold out {HOLD}"], check=True)
        with routed.net.inside("out"):
            plug = socket.create_connection(TARGET, timeout=PATIENCE_S)
        with plug:
            proxy_begins(routed, enforcer)
            subprocess.run([*nft, "delete table inet hold"], check=True)
            plug.sendall(b"y")
            assert plug.recv(1) == b"y"


@pytest.mark.net
def test_what_is_closed_at_one_end_goes_on_at_the_other(routed: Scene) -> None:
    enforcer = routed.enforcer()
    with routed.net.inside("dev"):
        server = socket.create_server(("", PORT))
    with server, routed.net.inside("out"):
        plug = socket.create_connection(TARGET, timeout=PATIENCE_S)
        server.settimeout(PATIENCE_S)
        peer, _ = server.accept()
        with plug, peer:
            peer.settimeout(PATIENCE_S)
            plug.shutdown(socket.SHUT_WR)
            assert peer.recv(1) == b"", "the client has said its last"
            peer.sendall(b"a")
            assert plug.recv(1) == b"a", "and that was acknowledged: CLOSE_WAIT"
            proxy_begins(routed, enforcer)
            assert enforcer.counters()["stale_flows"] == 0
            peer.sendall(b"nswer")
            peer.shutdown(socket.SHUT_WR)
            with plug.makefile("rb") as file:
                assert file.read() == b"nswer"


def proxy_begins(scene: Scene, enforcer: NftEnforcer) -> None:
    assert scene.apply(enforcer, decide(victim("192.0.2.2")))[0].done
    with scene.net.inside("gw"):
        enforcer.tidy()


@pytest.mark.net
def test_nothing_is_forgotten_for_a_decision_that_failed(routed: Scene) -> None:
    enforcer = routed.enforcer(Enforce(flood_set=1))
    with echo_server(routed.net, "dev", PORT), routed.net.inside("out"):
        assert opens((BEYOND[0], 41_000)), "conntrack knows of an ended connection"
    room = capacity(Enforce(flood_set=1), "flood4")
    strangers = ", ".join(f"192.0.2.9 . {port + 1}" for port in range(room))
    routed.nft(enforcer, f"add element {HOSTS} flood4 {{ {strangers} }}")
    (answer,) = routed.apply(enforcer, decide(victim("192.0.2.2")))
    assert not answer.done and "full" in answer.note
    with routed.net.inside("gw"):
        enforcer.tidy()
    assert enforcer.counters()["stale_flows"] == 0


def test_what_has_begun_is_taken_by_one_at_a_time() -> None:
    enforcer = NftEnforcer(
        Enforce(), interfaces=("lan0",), protected=ProtectedSets(), clock=time.monotonic
    )
    with enforcer._lock:
        tidying = threading.Thread(target=enforcer.tidy)
        tidying.start()
        tidying.join(0.2)
        assert tidying.is_alive(), "a decision may just be put there"
    tidying.join()
