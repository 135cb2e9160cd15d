"""Several tools on one mirror: each sees every frame once, and none of them slows another."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ids_appliance.classify.bundle import save_bundle
from tests.monitor.capturing import capturing
from tests.monitor.mirrored import BOTH, Mirrored, mirrored
from tests.monitor.ovs import require
from tests.monitor.test_capture_command import numbers
from tests.net.namespaces import wait_for

pytestmark = pytest.mark.net

FRAMES = 500
BURST = 50


@pytest.fixture(scope="module")
def mirror() -> Iterator[Mirrored]:
    require()
    with tempfile.TemporaryDirectory() as place, mirrored(Path(place), "mm") as network:
        yield network


def send(mirror: Mirrored, n: int, *, copied: tuple[str, ...] = ("a", "b")) -> None:
    """Send n numbered frames from host a to host b, and as many back; await the copies of each.

    A few at a time: on a busy machine the userspace switch misses frames of a burst, and those
    neither the mirror nor anybody after it has ever seen."""
    macs = {host: mirror.net.mac(host, "eth0") for host in ("a", "b")}
    for host, other in (("a", "b"), ("b", "a")):
        with mirror.net.packet_socket(host, "eth0") as raw:
            raw.setblocking(True)
            for low in range(0, n, BURST):
                seen = mirror.link("mon")["rx_packets"]
                for number in range(low, min(n, low + BURST)):
                    mark = number + (0x8000 if host == "b" else 0)
                    raw.send(macs[other] + macs[host] + b"\x88\xb5" + mark.to_bytes(2) + bytes(52))
                if host in copied:
                    due = seen + min(n - low, BURST)
                    wait_for(lambda due=due: mirror.link("mon")["rx_packets"] >= due, seconds=30)


FROM_A = list(range(100))
FROM_B = [n + 0x8000 for n in FROM_A]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (BOTH, FROM_A + FROM_B),
        pytest.param("select-src-port=@a", FROM_A, marks=pytest.mark.nightly),
        pytest.param("select-dst-port=@a", FROM_B, marks=pytest.mark.nightly),
        pytest.param("select-all=true", FROM_A + FROM_B, marks=pytest.mark.nightly),
    ],
    ids=["both", "from a", "to a", "all"],
)
def test_what_is_selected_comes_exactly_once(
    mirror: Mirrored, tmp_path: Path, what: str, expected: list[int]
) -> None:
    path = tmp_path / "a.pcap"
    mirror.select(what)
    copied = tuple(host for host, marks in (("a", FROM_A), ("b", FROM_B)) if marks[0] in expected)
    with capturing(mirror.capture("--filter=ether proto 0x88b5", "--write", str(path))) as one:
        send(mirror, 100, copied=copied)
        one.end()
    assert sorted(numbers(path)) == sorted(expected)


def test_one_tool_that_hangs_costs_the_others_nothing(
    mirror: Mirrored, tmp_path: Path, small_bundle: object
) -> None:
    """tcpdump writes, the appliance judges, a third tool reads; the third is stopped."""
    mirror.select(BOTH)
    save_bundle(small_bundle, tmp_path / "model")  # type: ignore[arg-type]
    path = tmp_path / "a.pcap"
    inside = ["ip", "netns", "exec", mirror.monitor]
    watch = subprocess.Popen(
        [*inside, sys.executable, "-m", "ids_appliance", "watch", "eth0", "--promiscuous"]
        + ["--model", str(tmp_path / "model"), "--format", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    third = subprocess.Popen(
        [*inside, "tcpdump", "-i", "eth0", "-n", "-w", "/dev/null", "-B", "256"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watch.stderr and watch.stdout and third.stderr
    try:
        assert "watching eth0" in watch.stderr.readline()
        assert "listening" in third.stderr.readline()
        os.kill(third.pid, signal.SIGSTOP)
        with capturing(mirror.capture("--filter=ether proto 0x88b5", "--write", str(path))) as one:
            send(mirror, FRAMES)
            counters: dict[str, int] = {}
            while counters.get("kernel_packets", 0) < 2 * FRAMES:
                counters = json.loads(watch.stdout.readline())["counters"]
            out = one.end()
        assert "kernel dropped 0" in out and counters["kernel_drops"] == 0
        assert sorted(numbers(path)) == [*range(FRAMES), *(n + 0x8000 for n in range(FRAMES))]
    finally:
        for process in (watch, third):
            process.kill()
            process.wait()
        for pipe in (watch.stdout, watch.stderr, third.stderr):
            pipe.close()
