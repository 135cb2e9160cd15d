"""`watch` on a real gateway: totals per sender, the account, and what goes wrong in words."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ids_appliance._features import HostIdentity
from ids_appliance.capture.file import CaptureFile
from ids_appliance.capture.interfaces import identity
from ids_appliance.capture.ring import RingSource
from ids_appliance.classify.bundle import save_bundle
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.types import Outcome
from tests.net.namespaces import wait_for
from tests.net.packets import LAN4, UDP, ethernet, ipv4, udp
from tests.test_modes import Keep

pytestmark = pytest.mark.net

WATCH = [sys.executable, "-m", "ids_appliance", "watch"]


@pytest.fixture
def model(small_bundle, tmp_path):
    save_bundle(small_bundle, tmp_path / "model")
    return tmp_path / "model"


def udp_frames(net, n):
    """Return n frames from the LAN's sender to the one beyond the gateway."""
    target, source = net.mac("gw", "lan0"), net.mac("lan", "eth0")
    return [
        ethernet(
            ipv4(UDP, udp((1000 + i, 9999), b"x" * (i % 40)), to_wan=True, ident=i), target, source
        )
        for i in range(n)
    ]


def last_report(process, until):
    """Read reports until one satisfies `until`; the test's timeout is the limit."""
    for line in process.stdout:
        report = json.loads(line)
        if until(report):
            return report
    raise AssertionError(f"watch ended: {process.stderr.read()}")


@pytest.mark.parametrize("mode", ["local", "remote"])
def test_totals_come_once_a_second_and_add_up(routed, model, mode):
    net = routed
    node = None
    where = ["--model", str(model)]
    if mode == "remote":
        net.ip("gw", "link set lo up")
        command = net.command(
            "gw", sys.executable, "-c", "from ids_appliance.cli import main; main()"
        )
        node = subprocess.Popen(
            [
                *command,
                "classifier",
                "--listen",
                "127.0.0.1:0",
                "--plaintext",
                "--model",
                str(model),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        address = node.stdout.readline().split()[2].rstrip(",")
        where = ["--node", address, "--plaintext", "--deadline", "20"]
    process = subprocess.Popen(
        net.command("gw", *WATCH, "lan0", "--format", "jsonl", *where),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "watching lan0" in process.stderr.readline()
        mac = net.mac("lan", "eth0").hex(":")
        with net.packet_socket("lan", "eth0") as raw:
            for frame in udp_frames(net, 500):
                raw.send(frame)

        def arrived(report):
            return any(
                s["sender"].startswith(mac) and s["packets"] >= 500 for s in report["senders"]
            )

        last_report(process, arrived)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read().splitlines()
        assert process.wait(60) == 0
        counters = json.loads(rest[-1])["counters"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        if node is not None:
            node.terminate()
            assert node.wait(60) == 0
            node.stdout.close()
    assert (
        counters["kernel_packets"]
        == counters["delivered"] + counters["kernel_drops"] + counters["in_ring"]
    )
    names = ("judged", "unparsable", "own", "echo", "unanswered", "shed")
    assert counters["delivered"] == sum(counters[n] for n in names)
    assert counters["judged"] >= 500 and counters["unanswered"] == 0
    assert counters["under_way"] == 0


def test_live_and_file_give_the_same_verdicts(routed, small_bundle, tmp_path):
    net = routed
    path = tmp_path / "lan0.pcap"
    tcpdump = subprocess.Popen(
        net.command("gw", "tcpdump", "-i", "lan0", "-U", "-w", str(path), "udp and port 9999"),
        stderr=subprocess.PIPE,
        text=True,
    )
    keep = Keep()
    with net.inside("gw"):
        found = identity(("lan0",))
        source = RingSource("lan0")
    host = HostIdentity(found.macs, found.addresses)
    try:
        while "listening on" not in tcpdump.stderr.readline():
            assert tcpdump.poll() is None
        with net.packet_socket("lan", "eth0") as raw:
            for frame in udp_frames(net, 300):
                raw.send(frame)
        classifier = LocalClassifier(small_bundle)
        pipeline = Pipeline(source, classifier, keep, host=host, limits=Limits(shed=True))
        seen = lambda: sum(int((b.outcomes == Outcome.JUDGED).sum()) for b in keep.batches)  # noqa: E731
        pipeline.run(lambda: seen() >= 300)
        wait_for(lambda: path.exists() and path.stat().st_size >= 24 + 300 * (16 + 42))
    finally:
        source.close()
        tcpdump.terminate()
        tcpdump.communicate(timeout=60)
    offline = Keep()
    with_file = CaptureFile(path)
    Pipeline(with_file, LocalClassifier(small_bundle), offline, host=host).run()
    with_file.close()
    lan = np.frombuffer(net.mac("lan", "eth0"), np.uint8)

    def of_sender(batches):
        out = []
        for b in batches:
            which = (b.senders["mac"] == lan).all(axis=1) & (b.outcomes == Outcome.JUDGED)
            which &= b.senders["address"][:, 3] == LAN4[3]
            out.append(b.probabilities[which])
        return np.concatenate(out)

    live, read = of_sender(keep.batches), of_sender(offline.batches)
    assert len(live) == 300
    assert live.tobytes() == read.tobytes()


def test_no_such_interface_names_near_ones(routed, model):
    done = subprocess.run(
        routed.command("gw", *WATCH, "lan1", "--model", str(model)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "lan1" in done.stderr and "lan0" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_without_the_capability_it_is_named(routed, model):
    drop = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    done = subprocess.run(
        routed.command("gw", *drop, *WATCH, "lan0", "--model", str(model)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "CAP_NET_RAW" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def watching(net, *arguments):
    process = subprocess.Popen(
        net.command("gw", *WATCH, "lan0", "--format", "jsonl", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stderr.readline()
    assert "watching lan0" in line, line + process.stderr.read()
    return process


def ended(process):
    """End what may be left of a process and its pipes."""
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


def test_an_interface_that_goes_away_is_waited_for(routed, model):
    net = routed
    process = watching(net, "--model", str(model))
    try:
        net.ip("lan", "link del eth0")
        assert "lan0 is down or gone" in process.stderr.readline()
        before = last_report(process, lambda _: True)["counters"]["delivered"]
        net.veth(("lan", "eth0"), ("gw", "lan0"))
        assert "lan0 is up" in process.stderr.readline()
        with net.packet_socket("lan", "eth0") as raw:
            for frame in udp_frames(net, 10):
                raw.send(frame)
        last_report(process, lambda r: r["counters"]["delivered"] >= before + 10)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, process.stderr.read()
    finally:
        ended(process)


def caught(process):
    """Return the signals for which a process has a handler of its own (proc(5))."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return {number for number in signal.valid_signals() if mask >> number - 1 & 1}


def test_a_second_signal_does_not_wait_for_the_node(routed, model):
    """The first one waits for what is under way; with a hung node that lasts a deadline."""
    net = routed
    net.ip("gw", "link set lo up")
    node = subprocess.Popen(
        net.command("gw", sys.executable, "-m", "ids_appliance", "classifier")
        + ["--listen", "127.0.0.1:0", "--plaintext", "--model", str(model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    address = node.stdout.readline().split()[2].rstrip(",")
    process = watching(net, "--node", address, "--plaintext", "--deadline", "600")
    try:
        node.kill()
        node.wait()
        with net.packet_socket("lan", "eth0") as raw:
            for frame in udp_frames(net, 50):
                raw.send(frame)
        last_report(process, lambda r: r["counters"]["under_way"] >= 50)
        process.send_signal(signal.SIGINT)
        # Two of which the first was not taken yet are one (signal(7)).
        wait_for(lambda: signal.SIGTERM not in caught(process) or process.poll() is not None)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
        assert "Traceback" not in process.stderr.read()
    finally:
        ended(process)
        node.stdout.close()
