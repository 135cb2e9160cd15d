"""Our controller and a real switch: forwards, is seen once by mirrors, stays within bounds."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.asked import call
from tests.monitor.controlled import HOSTS, Controlled, controlled, mac
from tests.net.namespaces import require, wait_for

pytest.importorskip(
    "os_ken", reason="os-ken is not installed: pip install 'ids-appliance[monitor]'"
)
pytestmark = pytest.mark.net

LLDP, BDDP, ICMP = b"\x88\xcc", b"\x89\x42", b"\x08\x00"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    require()
    with controlled(tmp_path_factory.mktemp("oc"), "oc") as made:
        yield made


@pytest.fixture
def place(whole: Controlled) -> Iterator[Controlled]:
    whole.connect()
    yield whole
    whole.switch.vsctl("del-controller", "s1")
    whole.switch.ofctl("del-flows", "s1")


def drained(tap: socket.socket) -> list[bytes]:
    found = []
    try:
        while True:
            found.append(tap.recv(2048))
    except BlockingIOError:
        return found


def test_it_forwards_and_the_mirror_sees_every_frame_once(place: Controlled) -> None:
    with (
        place.net.packet_socket("mon", "eth1") as tap,
        place.controller("--discovery", "0.5"),
    ):
        for host in HOSTS:
            place.net.ip(host, "neigh flush all")
        assert place.ping("h1", "h2", count=5)
        seen: list[bytes] = []

        def all_kinds() -> bool:
            seen.extend(drained(tap))
            kinds = [frame[12:14] for frame in seen]
            return kinds.count(ICMP) >= 10 and LLDP in kinds and BDDP in kinds

        wait_for(all_kinds)
        ours = [f for f in seen if f[12:14] in (ICMP, b"\x08\x06") and f[6:11] == b"\2" + bytes(4)]
        echoes = [frame for frame in ours if frame[12:14] == ICMP]
        assert len(echoes) == 10 and len(set(echoes)) == 10  # ids and numbers differ
        assert len(ours) == len(set(ours))  # and of ARP, too: nobody asked twice
        assert "actions=NORMAL" in place.entries(1)
        assert place.entries(0).count("send_flow_rem") >= 2


def test_by_entries_it_is_a_switch_as_well(place: Controlled) -> None:
    with place.controller("--forward", "entries"):
        assert place.ping("h1", "h2") and place.ping("h3", "h1")
        wait_for(lambda: place.entries(1).count("actions=output:") >= 3)
        assert re.search(rf"dl_dst={mac('h1')} actions=output:1\n", place.entries(1))
        with place.net.packet_socket("h3", "eth1") as other:
            assert place.ping("h1", "h2", count=3)
            strangers = [f for f in drained(other) if f[12:14] == ICMP]
        assert not [f for f in strangers if f[:6].hex(":") == mac("h2")]


def test_forged_addresses_fill_neither_memory_nor_the_switch(place: Controlled) -> None:
    with place.controller("--max-macs-per-port", "20", "--discovery", "0") as running:
        assert place.ping("h2", "h3")
        with place.net.packet_socket("h1", "eth1") as out:
            out.setblocking(True)

            def full() -> bool:
                for n in range(100):
                    out.send(b"\xff" * 6 + b"\2\1\0\0" + n.to_bytes(2, "big") + bytes(48))
                return "priority=10,in_port=1" in place.entries(0)

            wait_for(full)
        learned = re.findall(r"priority=20,in_port=1,dl_src", place.entries(0))
        assert 1 <= len(learned) <= 20
        assert place.ping("h2", "h3", count=3) and place.ping("h1", "h2")
        found = place.totals(running)
        assert found["seen_full"] > 0 and found["muted"] > 0
        assert found["addresses"] <= 20 + len(HOSTS) + 8  # others: IPv6 of the ports themselves


@pytest.mark.nightly
def test_others_entries_are_not_touched(place: Controlled) -> None:
    others = [
        "table=0,cookie=0x1d5a000000000001,priority=64000,reg15=0,dl_src=02:00:00:00:00:aa,"
        "actions=resubmit(,253)",
        "table=253,cookie=0x1d5a000000000002,priority=100,arp,actions=drop",
        "table=0,cookie=0x7,priority=5,dl_src=02:00:00:00:00:bb,actions=drop",
    ]
    for _ in range(2):
        with place.controller():
            for line in others:
                place.switch.ofctl("add-flow", "s1", line)
            assert place.ping("h1", "h2")
    left = place.switch.ofctl("--no-names", "--no-stats", "dump-flows", "s1")
    assert all(cookie in left for cookie in ("0x1d5a000000000001", "0x1d5a000000000002", "=0x7,"))


@pytest.mark.parametrize("mode", ["secure", pytest.param("standalone", marks=pytest.mark.nightly)])
def test_a_controller_that_is_killed_and_comes_again(place: Controlled, mode: str) -> None:
    place.switch.ofctl("del-flows", "s1")
    place.connect(mode)
    if mode == "secure":  # nobody has told the switch anything yet
        assert not place.ping("h1", "h2", wait_s=1)
    with place.controller("--discovery", "0.5") as running:
        assert place.ping("h1", "h2")
        running.send_signal(signal.SIGKILL)
        running.wait()
        wait_for(lambda: not place.connected())
        # What stands in the switch goes on, for those it knows and for others.
        assert place.ping("h1", "h2", count=3) and place.ping("h3", "h2")
    with place.controller():
        assert place.ping("h1", "h2", count=3) and place.ping("h3", "h1")
        wait_for(place.connected)
        assert place.entries(1).count("NORMAL") == 1


@pytest.mark.nightly
def test_a_switch_that_comes_again_and_again_leaves_nothing(place: Controlled) -> None:
    with place.controller("--discovery", "0.2") as running:
        tasks = Path(f"/proc/{running.pid}/task")
        before = len(list(tasks.iterdir()))
        for _ in range(4):
            place.switch.vsctl("del-controller", "s1")
            place.connect()
            wait_for(place.connected)
        with place.net.inside("sw"):
            for _ in range(10):
                socket.create_connection(("127.0.0.1", 6653)).close()
        assert place.ping("h1", "h2")
        wait_for(lambda: len(list(tasks.iterdir())) <= before + 1)
        found = place.totals(running)
        assert found["connected"] >= 5 and found["switches"] <= 2


def certificates(where: Path) -> None:
    """An authority, and certificates of the controller and of the switch."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    lines = [f"req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=ca -days 2"]
    for name in ("controller", "switch"):
        lines.append(f"req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        signed = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2"
        lines.append(f"x509 -req -in {name}.csr -out {name}.crt {signed}")
    for line in lines:
        subprocess.run(["openssl", *line.split()], cwd=where, capture_output=True, check=True)


@pytest.mark.nightly
def test_with_certificates_nobody_comes_without(place: Controlled, tmp_path: Path) -> None:
    require("openssl")
    certificates(tmp_path)
    files = [str(tmp_path / name) for name in ("switch.key", "switch.crt", "ca.crt")]
    place.switch.vsctl("set-ssl", *files, "--", "set-controller", "s1", "ssl:127.0.0.1:6653")
    words = [f"--cert={tmp_path}/controller.crt", f"--key={tmp_path}/controller.key"]
    words.append(f"--ca={tmp_path}/ca.crt")
    with place.controller(*words) as running:
        assert place.ping("h1", "h2")
        hello = bytes.fromhex("0400000800000001")
        with place.net.inside("sw"), socket.create_connection(("127.0.0.1", 6653)) as plain:
            plain.settimeout(60)
            plain.sendall(hello)
            try:
                assert plain.recv(100)[:1] != b"\4"  # no OpenFlow: an alert of TLS, or the end
            except ConnectionResetError:
                pass
        assert place.totals(running)["connected"] == 1
    place.switch.vsctl("del-ssl")


def test_bad_addresses_are_named() -> None:
    words = [sys.executable, "-m", "ids_appliance", "monitor", "controller", "--listen"]
    with socket.create_server(("127.0.0.1", 0)) as held:
        there = f"127.0.0.1:{held.getsockname()[1]}"
        done = subprocess.run([*words, there], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and f"cannot listen on {there}" in done.stderr
    assert done.stderr.count("\n") == 1
    for bad in (["--listen", "localhost:1"], ["--listen", "127.0.0.1:0"], ["--cert", "x"]):
        assert call("monitor", "controller", *bad).exit_code == 2
