"""`monitor capture` with tcpdump in namespaces: what it leaves, whose it is, how it ends."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ids_appliance.cli import main
from ids_appliance.monitor.checksums import sha256
from tests.monitor.capturing import capturing, ended
from tests.monitor.mirrored import CAPTURE
from tests.net.namespaces import Network, require, wait_for

pytestmark = pytest.mark.net

DST = bytes.fromhex("020000000002")
SRC = bytes.fromhex("020000000001")


@pytest.fixture
def net() -> Iterator[Network]:
    """Two namespaces and a cable; nobody speaks unasked."""
    require()
    with Network("mc", "a", "b") as network:
        for host in ("a", "b"):
            network.write(host, "net/ipv6/conf/default/disable_ipv6", "1")
        network.veth(("a", "eth0"), ("b", "eth0"))
        yield network


def at(net: Network, *words: str) -> list[str]:
    return [*CAPTURE, "--engine=none", "--interface=eth0", f"--namespace={net.full('b')}", *words]


def send(net: Network, low: int, high: int, *, etype: int = 0x88B5) -> None:
    """Send frames that carry their numbers from a to b."""
    with net.packet_socket("a", "eth0") as raw:
        raw.setblocking(True)
        for n in range(low, high):
            raw.send(DST + SRC + etype.to_bytes(2) + n.to_bytes(2) + bytes(52))


def numbers(*paths: Path) -> list[int]:
    """Return the numbers of the frames in captures, as tcpdump itself reads them."""
    found = []
    for path in paths:
        done = subprocess.run(
            ["tcpdump", "-nxxr", str(path)], capture_output=True, text=True, check=True
        )
        rows = "".join(line.partition(":  ")[2] for line in done.stdout.splitlines()
                       if line.startswith("\t0x0000")).replace(" ", "")  # fmt: skip
        found += [int(rows[i + 28 : i + 32], 16) for i in range(0, len(rows), 32)]
    return found


def failed(*words: str) -> str:
    """Return the one line that a capture fails with."""
    done = CliRunner().invoke(main, words[words.index("monitor") :])
    assert done.exit_code == 2, (done.exit_code, done.output)
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    return done.stderr


def test_count_filter_and_snap_length(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    what = ["--count=20", "--filter=ether proto 0x88b5", "--snap=32"]
    words = at(net, *what, "--write", str(path))
    with capturing(words) as one:
        send(net, 1000, 1010, etype=0x88B6)
        send(net, 0, 30)
        out = one.end(0)
    assert numbers(path) == list(range(20))
    assert path.stat().st_size == 24 + 20 * (16 + 32)
    account, digest = out.splitlines()
    assert "20 frames · kernel dropped 0" in account and "unaccounted" not in account
    assert digest == f"{sha256(path)}  a.pcap"


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)]
)
def test_a_signal_ends_it_in_order_with_all_that_was_seen(
    net: Network, tmp_path: Path, number: int
) -> None:
    path = tmp_path / "a.pcap"
    with capturing(at(net, "--write", str(path))) as one:
        send(net, 0, 500)
        assert not path.exists()
        if number == signal.SIGINT:  # at night it has to be in time by itself
            size = 24 + 500 * (16 + 68)
            wait_for(lambda: [p.stat().st_size for p in tmp_path.glob("*.part")] == [size])
        out = one.end(number)
    assert numbers(path) == list(range(500))
    assert "500 frames · kernel dropped 0" in out
    assert [p.name for p in tmp_path.iterdir()] == ["a.pcap"]


def test_it_runs_as_nobody_with_one_capability(net: Network, tmp_path: Path) -> None:
    with capturing(at(net, "--write", str(tmp_path / "a.pcap"))) as one:
        place = Path(f"/proc/{one.tcpdump}")
        assert (place / "comm").read_text().strip() == "tcpdump"
        status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines())
        limits = (place / "limits").read_text()
        assert os.stat(place / "ns/net").st_ino == os.stat(f"/run/netns/{net.full('b')}").st_ino
        one.end()
    assert status["Uid"].split() == ["65534"] * 4 and status["Groups"].strip() == ""
    raw = f"{1 << 13:016x}"  # CAP_NET_RAW
    assert [status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd")] == [raw] * 3
    assert status["NoNewPrivs"].strip() == "1"
    assert [line.split()[3] for line in limits.splitlines() if "Max file size" in line] == ["0"]


def test_behind_sudo_the_file_is_the_callers(net: Network, tmp_path: Path) -> None:
    env = {**os.environ, "SUDO_UID": "1234", "SUDO_GID": "2345"}
    words = at(net, "--write", str(tmp_path / "a.pcap"), "--for=1s")
    done = CliRunner(env=env).invoke(main, words[words.index("monitor") :])
    assert done.exit_code == 0, done.output
    with capturing(at(net, "--ring", str(tmp_path / "ring")), env) as one:
        send(net, 0, 3)
        one.end()
    owned = [tmp_path / "a.pcap", tmp_path / "ring", *(tmp_path / "ring").iterdir()]
    assert len(owned) == 5  # a capture, SHA256SUMS and the events
    assert {(p.stat().st_uid, p.stat().st_gid) for p in owned} == {(1234, 2345)}


def test_killed_it_takes_tcpdump_along_and_the_next_one_cleans_up(
    net: Network, tmp_path: Path
) -> None:
    path = tmp_path / "a.pcap"
    with capturing(at(net, "--write", str(path))) as one:
        child = one.tcpdump
        one.process.kill()
        one.process.wait()
        ended(child)
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
    words = at(net, "--write", str(path), "--for=1s")
    done = CliRunner().invoke(main, words[words.index("monitor") :])
    assert done.exit_code == 0, done.output
    assert [p.name for p in tmp_path.iterdir()] == ["a.pcap"]


def test_a_killed_ring_loses_no_frame_that_was_written(net: Network, tmp_path: Path) -> None:
    words = at(net, "--ring", str(tmp_path), "--events", str(tmp_path / "log"))
    with capturing(words) as one:
        send(net, 0, 50)
        # Record and file head: all of them are in the unfinished file.
        size = 24 + 50 * (16 + 68)
        wait_for(lambda: [p.stat().st_size for p in tmp_path.glob("*.part")] == [size], seconds=30)
        one.process.kill()
        one.process.wait()
    with capturing(words) as one:
        send(net, 50, 60)
        one.end()
    assert numbers(*sorted(tmp_path.glob("*.pcap"))) == list(range(60))
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_a_ring_waits_for_an_interface_that_goes_away(net: Network, tmp_path: Path) -> None:
    with capturing(at(net, "--ring", str(tmp_path))) as one:
        send(net, 0, 10)
        wait_for(lambda: any(p.stat().st_size > 24 for p in tmp_path.glob("*.part")), seconds=30)
        net.ip("a", "link del eth0")
        assert "nothing is captured" in one.line()
        net.veth(("a", "eth0"), ("b", "eth0"))

        def seen() -> bool:
            send(net, 10, 11)
            return len(list(tmp_path.glob("eth0-000002-*"))) > 0

        wait_for(seen, seconds=60)
        out = one.end()
    assert "interrupted: 1" in out
    found = numbers(*sorted(tmp_path.glob("*.pcap")))
    assert found[:10] == list(range(10)) and set(found[10:]) == {10}
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["health"]["what"] for e in events if "health" in e] == ["capture_interrupted"]
    assert events[-1]["stats"]["capture"]["kept"] == len(found)


def test_what_the_kernel_drops_is_told(net: Network, tmp_path: Path) -> None:
    """With tcpdump stopped and the smallest buffer, the buffer overflows for certain."""
    words = at(net, "--buffer-mib=1", "--ring", str(tmp_path))
    with capturing(words) as one:
        os.kill(one.tcpdump, signal.SIGSTOP)
        with net.packet_socket("a", "eth0") as raw:
            raw.setblocking(True)
            for _ in range(3000):
                raw.send(DST + SRC + b"\x88\xb5" + bytes(1480))
        os.kill(one.tcpdump, signal.SIGCONT)
        out = one.end()
    said = next(line for line in one.said if "the kernel dropped" in line)
    dropped = int(said.split()[3])
    assert dropped > 0
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    told = [e["health"] for e in events if e["event_type"] == "health"]
    assert sum(t["frames"] for t in told if t["what"] == "capture_kernel_drops") >= dropped
    last = events[-1]["stats"]["capture"]
    assert last["kept"] + last["kernel_drops"] == 3000 and "kernel dropped 0" not in out


def test_bad_input_is_one_line(net: Network, tmp_path: Path) -> None:
    to = ["--write", str(tmp_path / "a.pcap")]
    here = [*CAPTURE, "--engine=none"]
    said = failed(*at(net, "--filter=foo bar", *to))
    assert "'foo bar'" in said and "can't parse filter expression: syntax error" in said
    assert "No such device" in failed(*here, "--interface=nosuch0", *to)
    assert "no network namespace 'nosuch'" in failed(
        *here, "--interface=eth0", "--namespace=nosuch", *to
    )
    assert "--write FILE or --ring FOLDER" in failed(*at(net))
    assert "cannot write" in failed(*at(net, "--write", str(tmp_path / "no" / "a.pcap")))
    net.ip("b", "link set eth0 down")
    assert "not up" in failed(*at(net, *to))
    assert list(tmp_path.iterdir()) == []


def test_without_the_capability_it_is_named(net: Network, tmp_path: Path) -> None:
    drop = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    words = [*drop, *CAPTURE, "--engine=none", "--interface=lo", "--write", str(tmp_path / "a")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "CAP_NET_RAW" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_interface_that_is_no_port_of_a_switch(tmp_path: Path) -> None:
    require()
    path = tmp_path / "lo.pcap"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
        words = [*CAPTURE, "--engine=none", "--interface=lo", f"--filter=udp port {port}"]
        with capturing([*words, "--count=1", "--write", str(path)]) as one:
            asked.sendto(b"x", ("127.0.0.1", port))
            one.end(0)
    assert path.stat().st_size > 24 + 16
