"""A mirror under load: is every frame that was mirrored received, and does no tool slow another?

    python -m tests.campaigns.monitor_mirror --frames 100000 --pps 10000

A private Open vSwitch (userspace datapath), two hosts, a monitor. tcpreplay sends numbered frames
from host a to host b; each is followed by what everybody on its way counts: tcpreplay, the switch's
port and its packet socket (ss), the mirror, the output port, the monitor's interface, tcpdump, the
file. Then the same with three tools on the mirror (`monitor capture`, `watch`, and Zeek or a second
tcpdump), all running, and with the third one stopped (SIGSTOP). Needs root; exit code 1 where more
than 0.01 % of what was mirrored is missing, or a frame is unexplained.
"""

import argparse
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.monitor.capturing import capturing
from tests.monitor.mirrored import Mirrored, mirrored
from tests.net.packets import checksum

MODEL = Path(__file__).resolve().parents[2] / "models" / "iot-top20"
ALLOWED = 1e-4
"""Share of the mirrored frames that may be missing."""
_DROPS = re.compile(r"skmem:\(.*?,d(\d+)\)")
_COUNT = re.compile(r"(\d+) packets? (captured|received by filter|dropped by kernel)")


def frames(mirror: Mirrored, path: Path, n: int) -> None:
    """Write n UDP frames from a to b, each with its number and 60 bytes of payload."""
    ethernet = mirror.net.mac("b", "eth0") + mirror.net.mac("a", "eth0") + b"\x08\x00"
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
        for number in range(n):
            payload = struct.pack("!I", number).ljust(60, b"x")
            udp = struct.pack("!HHHH", 1000 + number % 50_000, 9999, 8 + len(payload), 0) + payload
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, 17, 0)
            head += bytes((192, 168, 1, 222, 192, 168, 1, 223))
            head = head[:10] + checksum(head).to_bytes(2) + head[12:]
            frame = ethernet + head + udp
            file.write(struct.pack("=IIII", number // 10_000, number % 10_000 * 100,
                                   len(frame), len(frame)) + frame)  # fmt: skip


def numbers(path: Path) -> Counter[int]:
    """Return how often each number is in a capture, as tshark reads it."""
    words = ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "udp.payload"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    # What is no frame of ours counts as one, twice if there are several.
    return Counter(int(line[:8] or "ffffffff", 16) for line in done.stdout.splitlines())


def switch_port(mirror: Mirrored, port: str) -> dict[str, int]:
    """Return what the switch counts at a port now."""
    text = mirror.switch.ofctl("dump-ports", "s1", port)
    rx, tx = (
        re.search(r"rx pkts=(\d+)", text),
        re.search(r"tx pkts=(\d+), bytes=\d+, drop=(\d+)", text),
    )  # noqa: E501
    assert rx is not None and tx is not None, text
    return {"rx": int(rx[1]), "tx": int(tx[1]), "tx_drops": int(tx[2])}


def socket_drops(mirror: Mirrored) -> int:
    """Return how many frames found the switch's packet sockets full."""
    return sum(map(int, _DROPS.findall(mirror.switch.run("ss", "-0mn"))))


def counted(mirror: Mirrored) -> dict[str, int]:
    """Return every counter on the way, once the switch has stopped moving frames."""
    link = mirror.link("mon")
    first, copies = switch_port(mirror, "p1"), switch_port(mirror, "pm")
    return {
        "port_received": first["rx"],
        "switch_socket_drops": socket_drops(mirror),
        "output_port_sent": copies["tx"],
        "output_port_drops": copies["tx_drops"],
        "monitor_received": link["rx_packets"],
    }


def settled(look: Callable[[], Any]) -> Any:
    """Return what `look` returns once it returns the same for a second."""
    before, since = look(), time.monotonic()
    end = since + 60
    while time.monotonic() - since < 1.0 and time.monotonic() < end:
        time.sleep(0.2)
        if (now := look()) != before:
            before, since = now, time.monotonic()
    return before


def mirrored_frames(mirror: Mirrored, sent: int) -> int:
    """Return the mirror's own count, which reaches the database every five seconds."""
    wait = ["ovs-vsctl", "--timeout=12", "wait-until", "mirror", "espejo"]
    words = mirror.switch.words(*wait, f"statistics:tx_packets>={sent}")
    # Where frames are lost it never comes so far, and two of the database's turns are enough.
    subprocess.run(words, env=mirror.switch.environment, capture_output=True, check=False)
    return mirror.statistics("mirror", "espejo").get("tx_packets", 0)


def replay(mirror: Mirrored, path: Path, pps: int) -> dict[str, float]:
    """Send the frames from host a; return what tcpreplay says."""
    words = ["tcpreplay", "-i", "eth0", f"--pps={pps}", "--preload-pcap", str(path)]
    done = subprocess.run(mirror.net.command("a", *words), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sent = re.search(r"Actual: (\d+) packets .* sent in ([\d.]+) seconds", done.stdout)
    assert sent is not None, done.stdout
    return {"sent": int(sent[1]), "pps": round(int(sent[1]) / float(sent[2]))}


def passage(mirror: Mirrored, where: Path, *, n: int, pps: int) -> dict[str, Any]:
    """One tool, every counter: where is each of the n frames?"""
    path, out = where / "frames.pcap", where / "capture.pcap"
    mirror.select("select-src-port=@a")
    before = counted(mirror)
    with capturing(mirror.capture("--write", str(out))) as one:
        sent = replay(mirror, path, pps)
        after = settled(lambda: counted(mirror))
        copied = mirrored_frames(mirror, n)
        said = one.end()
    way: dict[str, Any] = sent | {name: after[name] - before[name] for name in after}
    found = numbers(out)
    dropped = re.search(r"kernel dropped ([\d,]+)", said)
    assert dropped is not None
    way |= {
        "mirrored": copied,
        "tcpdump_kernel_drops": int(dropped[1].replace(",", "")),
        "in_file": sum(found.values()),
        "in_file_twice": sum(count > 1 for count in found.values()),
    }
    way["missing"] = way["mirrored"] - way["in_file"]
    explained = way["output_port_drops"] + way["tcpdump_kernel_drops"]
    way["unexplained_after_mirror"] = way["missing"] - explained
    lost_before = way["sent"] - way["mirrored"]
    way["unexplained_before_mirror"] = lost_before - way["switch_socket_drops"]
    return way


def third_tool(mirror: Mirrored, where: Path) -> tuple[str, subprocess.Popen[str]]:
    """Start Zeek, or a second tcpdump, at the mirror."""
    zeek = shutil.which("zeek")
    words = ["tcpdump", "-i", "eth0", "-n", "-w", "/dev/null"]
    if zeek:
        words = [zeek, "-b", "-C", "-i", "eth0"]
    process = subprocess.Popen(
        mirror.net.command("mon", *words), cwd=where, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "listening on" not in (line := process.stderr.readline()):
        assert line, "the third tool did not start"
    return "zeek" if zeek else "tcpdump", process


def together(mirror: Mirrored, where: Path, *, n: int, pps: int, stop: bool) -> dict[str, Any]:
    """Three tools on the mirror; what each has lost, the third one running or stopped."""
    out = where / "together.pcap"
    mirror.select("select-src-port=@a")
    before = mirror.link("mon")["rx_packets"]
    with ExitStack() as stack:
        words = [sys.executable, "-m", "ids_appliance", "watch", "eth0", "--promiscuous"]
        log = stack.enter_context((where / "watch.jsonl").open("w+"))
        watch = subprocess.Popen(
            mirror.net.command("mon", *words, "--model", str(MODEL), "--format", "jsonl"),
            stdout=log,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(watch.wait)
        stack.callback(watch.kill)
        assert watch.stderr is not None and "watching" in watch.stderr.readline()
        name, third = third_tool(mirror, where)
        stack.callback(third.wait)
        stack.callback(third.kill)
        one = stack.enter_context(capturing(mirror.capture("--write", str(out))))
        if stop:
            os.kill(third.pid, signal.SIGSTOP)
        sent = replay(mirror, where / "frames.pcap", pps)
        received = settled(lambda: mirror.link("mon")["rx_packets"]) - before
        said = one.end()
        if stop:
            os.kill(third.pid, signal.SIGCONT)
        time.sleep(2.0)  # one more report of watch's, and of what the third has missed
        third.send_signal(signal.SIGINT)
        _, errors = third.communicate(timeout=60)
        watch.send_signal(signal.SIGINT)
        watch.wait(60)
        log.seek(0)
        counters = json.loads(log.read().splitlines()[-1])["counters"]
    dropped = re.search(r"([\d,]+) frames · kernel dropped ([\d,]+)", said)
    assert dropped is not None
    kept, lost = (int(text.replace(",", "")) for text in dropped.groups())
    own = {what: int(number) for number, what in _COUNT.findall(errors)}
    return sent | {
        "third_tool": name,
        "stopped": stop,
        "received": received,
        "capture_kept": kept,
        "capture_lost": lost,
        "capture_in_file_once": len(numbers(out)),
        "watch_seen": counters["kernel_packets"],
        "watch_lost": counters["kernel_drops"],
        "third": own or errors.strip().splitlines()[-1:],
    }


def main() -> int:
    """Run all of it, print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--pps", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="copy the capture there")
    given = parser.parse_args()
    with TemporaryDirectory() as place:
        where = Path(place)
        where.chmod(0o755)
        with mirrored(where / "ovs", "mq") as mirror:
            frames(mirror, where / "frames.pcap", given.frames)
            for host, other, address in (("a", "b", 223), ("b", "a", 222)):
                # Else the hosts' questions for each other's MACs would be frames that nobody sent.
                mac = mirror.net.mac(other, "eth0").hex(":")
                line = f"neigh replace 192.168.1.{address} lladdr {mac} dev eth0 nud permanent"
                mirror.net.ip(host, line)
            way = passage(mirror, where, n=given.frames, pps=given.pps)
            print(json.dumps({"passage": way}, indent=1), flush=True)
            tools = [
                together(mirror, where, n=given.frames, pps=given.pps, stop=stop)
                for stop in (False, True)
            ]
            print(json.dumps({"three_tools": tools}, indent=1))
        if given.keep:
            shutil.copy(where / "capture.pcap", given.keep)
    good = way["missing"] <= way["mirrored"] * ALLOWED
    good &= way["unexplained_after_mirror"] == way["unexplained_before_mirror"] == 0
    good &= way["in_file_twice"] == 0
    for one in tools:
        lost = one["received"] - one["capture_kept"]
        good &= lost == one["capture_lost"] and one["capture_lost"] + one["watch_lost"] == 0
    print("good" if good else "NOT good")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
