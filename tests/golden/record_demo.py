"""Network namespaces and real tools in, the demo's labelled capture out.

    plug  sensor  camera  hub  phone  bulb        192.168.77.0/24
       \\     \\      |     /    /     /
        +---- br0 in the gateway (192.168.77.1, forwards) ---- server 198.51.100.10
               ^ tcpdump -i br0, promiscuous: what the bridge forwards and what the gateway routes

The bulb is an ordinary device until its attacks begin. Run as root, with hping3, nmap, dsniff,
mosquitto, mosquitto-clients, dnsmasq, curl, tcpdump and iproute2 installed:

    python tests/golden/record_demo.py OUTPUT_DIRECTORY

Everything happens in namespaces of this process' own; they are removed whatever happens.
"""

import contextlib
import functools
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

GATEWAY_MAC = "02:00:00:00:77:01"
GATEWAY_IP = "192.168.77.1"
GATEWAY_WAN_IP = "198.51.100.1"
GATEWAY_LINK_LOCAL = "fe80::ff:fe00:7701"  # of the MAC (RFC 4291, appendix A)
SERVER_IP = "198.51.100.10"  # TEST-NET-2 (RFC 5737)
DEVICES = {"plug": 11, "sensor": 12, "camera": 13, "hub": 14, "phone": 15, "bulb": 66}
FORGED = [f"198.18.{n}.{7 + 5 * n}" for n in range(45)]  # benchmarking addresses (RFC 2544)
FORGED_PACKETS_EACH = 100
PLAIN_FLOOD_PACKETS = 1500
TOOLS = "ip ethtool tcpdump mosquitto mosquitto_pub mosquitto_sub dnsmasq curl ping hping3 nmap"
LIFE_BEFORE_S, LIFE_BETWEEN_S, SPOOFING_S = 40.0, 8.0, 10.0

NTP_ANSWERS = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 123))
while True:
    data, peer = s.recvfrom(512)
    s.sendto(bytes([0x24, 2, 6, 0xEC]) + bytes(36) + data[40:48], peer)
"""
NTP_ASKS = """
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.sendto(bytes([0x23]) + bytes(39) + os.urandom(8), (%r, 123))
s.recv(512)
"""


def ip_of(device: str) -> str:
    return f"192.168.77.{DEVICES[device]}"


def mac_of(device: str) -> str:
    return f"02:00:00:00:77:{DEVICES[device]:02x}"


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


class Lan:
    """The namespaces and every process started in them; leaving the context removes all of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.prefix = f"idsrec{os.getpid()}"
        self.stack = contextlib.ExitStack()
        self.started: list[subprocess.Popen[bytes]] = []
        self.over = threading.Event()
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> "Lan":
        try:
            for name in ("gateway", "server", *DEVICES):
                self._namespace(name)
            self._wire()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._end_processes()
        for thread in self.threads:
            thread.join()
        self._end_processes()  # what a thread started meanwhile
        self.stack.close()

    def _end_processes(self) -> None:
        for process in reversed(self.started.copy()):
            process.kill()
            process.wait()

    def _namespace(self, name: str) -> None:
        full = f"{self.prefix}-{name}"
        run("ip", "netns", "add", full)
        self.stack.callback(subprocess.run, ["ip", "netns", "del", full], check=False)
        settings = Path("/etc/netns") / full
        settings.mkdir(parents=True)
        self.stack.callback(shutil.rmtree, settings)
        (settings / "resolv.conf").write_text(f"nameserver {GATEWAY_IP}\n", encoding="ascii")
        run(*self.inside(name, "ip", "link", "set", "lo", "up"))

    def _wire(self) -> None:
        gateway, server = f"{self.prefix}-gateway", f"{self.prefix}-server"
        self.sh("gateway", "ip link add br0 type bridge stp_state 0 forward_delay 0")
        self.sh("gateway", f"ip link set br0 address {GATEWAY_MAC} up")
        self.sh("gateway", f"ip address add {GATEWAY_IP}/24 dev br0")
        for name in DEVICES:
            full = f"{self.prefix}-{name}"
            run(*f"ip link add eth0 netns {full} type veth peer {name} netns {gateway}".split())
            self.sh(name, f"ip link set eth0 address {mac_of(name)} up")
            self.sh(name, f"ip address add {ip_of(name)}/24 dev eth0")
            self.sh(name, f"ip route add default via {GATEWAY_IP}")
            self.sh("gateway", f"ip link set {name} master br0 up")
        run(*f"ip link add eth0 netns {server} type veth peer wan netns {gateway}".split())
        self.sh("server", "ip link set eth0 address 02:00:00:00:51:10 up")
        self.sh("server", f"ip address add {SERVER_IP}/24 dev eth0")
        self.sh("server", f"ip route add default via {GATEWAY_WAN_IP}")
        self.sh("gateway", "ip link set wan address 02:00:00:00:51:01 up")
        self.sh("gateway", f"ip address add {GATEWAY_WAN_IP}/24 dev wan")
        # Forged senders must get through, and the man in the middle relays without redirects.
        for name in ("gateway", "bulb"):
            for key, value in (("all", 0), ("default", 0), ("br0", 0), ("eth0", 0), ("wan", 0)):
                for knob in ("rp_filter", "send_redirects"):
                    self.set(name, f"net/ipv4/conf/{key}/{knob}", value)
            self.set(name, "net/ipv4/ip_forward", 1)
        # One frame per packet on the wire, with its real checksum.
        for name, links in (
            ("gateway", ["br0", "wan", *DEVICES]),
            ("server", ["eth0"]),
            *((device, ["eth0"]) for device in DEVICES),
        ):
            for link in links:
                self.sh(name, f"ethtool -K {link} tx off tso off gso off gro off")

    def inside(self, name: str, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.prefix}-{name}", *argv]

    def sh(self, name: str, line: str) -> None:
        run(*self.inside(name, *line.split()))

    def set(self, name: str, knob: str, value: int) -> None:
        path = f"/proc/sys/{knob}"
        run(*self.inside(name, "sh", "-c", f"[ ! -e {path} ] || echo {value} > {path}"))

    def start(
        self, name: str, *argv: str, feed: bool = False, errors: IO[str] | None = None
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self.inside(name, *argv),
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors or subprocess.DEVNULL,
            cwd=self.directory,
        )
        self.started.append(process)
        return process

    def once(self, name: str, *argv: str) -> None:
        """Run a tool to its end; a device's failed request is part of life under attack."""
        process = self.start(name, *argv)
        process.wait()
        self.started.remove(process)

    def every(self, period_s: float, what: Callable[[], None]) -> None:
        def loop() -> None:
            while not self.over.wait(period_s * random.uniform(0.8, 1.2)):
                what()

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        self.threads.append(thread)


def services(lan: Lan) -> None:
    """Start the broker, the web servers, the name server and the time server."""
    (lan.directory / "mosquitto.conf").write_text(
        f"listener 1883 {SERVER_IP}\nallow_anonymous true\nuser root\n", encoding="ascii"
    )
    words = "firmware segment relay meter valve lamp dimmer schedule table offset crc".split()
    text = " ".join(random.choices(words, k=140_000)).encode()[: 1 << 20]
    (lan.directory / "firmware.bin").write_bytes(text)
    (lan.directory / "snapshot.jpg").write_bytes(b"\xff\xd8\xff\xe0" + text[:30_000])
    (lan.directory / "status.json").write_text('{"state": "on", "uptime_s": 86400}\n')
    lan.start("server", "mosquitto", "-c", "mosquitto.conf")
    lan.start("server", sys.executable, "-m", "http.server", "80")
    lan.start("server", sys.executable, "-c", NTP_ANSWERS)
    lan.start("camera", sys.executable, "-m", "http.server", "80")
    lan.start("hub", sys.executable, "-m", "http.server", "8080")
    lan.start(
        "gateway",
        *("dnsmasq", "--keep-in-foreground", "--no-hosts", "--no-resolv", "--conf-file=/dev/null"),
        *("--interface=br0", "--bind-interfaces", "--pid-file", "--user=root"),
        f"--address=/cloud.home.test/{SERVER_IP}",
    )
    until(lan, lambda: answers(lan, "phone", "http://cloud.home.test/status.json"))
    until(lan, lambda: answers(lan, "phone", f"http://{ip_of('camera')}/status.json"))


def answers(lan: Lan, name: str, url: str) -> bool:
    argv = lan.inside(name, "curl", "--silent", "--fail", "--max-time", "2", url)
    return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode == 0


def until(lan: Lan, ready: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError("a service of the lab did not start")
        lan.over.wait(0.2)


def ordinary_life(lan: Lan) -> None:
    """Telemetry, names, web requests, time and echoes of every device, until the end."""
    cloud = "http://cloud.home.test"
    lan.start("phone", "mosquitto_sub", "-h", "cloud.home.test", "-t", "home/#", "-k", "10")
    for device, period_s in (("plug", 0.5), ("hub", 0.8), ("bulb", 1.0), ("camera", 2.0)):
        topic = ["-h", "cloud.home.test", "-t", f"home/{device}", "-k", "10", "-l"]
        pipe = lan.start(device, "mosquitto_pub", *topic, feed=True).stdin
        assert pipe is not None
        lan.every(period_s, functools.partial(say, pipe, device))
    reading = ["mosquitto_pub", "-h", "cloud.home.test", "-q", "1", "-t", "home/sensor", "-m"]
    lan.every(3.0, lambda: lan.once("sensor", *reading, f'{{"t": {random.gauss(21, 2):.2f}}}'))
    web = ["curl", "--silent", "--max-time", "8", "--output", "/dev/null"]
    lan.every(4.0, lambda: lan.once("phone", *web, f"http://{ip_of('camera')}/status.json"))
    lan.every(11.0, lambda: lan.once("phone", *web, f"http://{ip_of('camera')}/snapshot.jpg"))
    lan.every(6.0, lambda: lan.once("hub", *web, f"{cloud}/status.json"))
    lan.every(9.0, lambda: lan.once("bulb", *web, f"{cloud}/status.json"))
    lan.every(5.0, lambda: lan.once("plug", "ping", "-c", "2", "-i", "0.3", SERVER_IP))
    lan.every(7.0, lambda: lan.once("phone", "ping", "-c", "1", ip_of("hub")))
    for device in ("plug", "camera", "hub"):
        asks = [sys.executable, "-c", NTP_ASKS % SERVER_IP]
        lan.every(8.0, functools.partial(lan.once, device, *asks))


def say(pipe: IO[bytes], device: str) -> None:
    message = {"id": device, "watt": round(random.gauss(42, 6), 1), "n": random.randrange(10**6)}
    with contextlib.suppress(BrokenPipeError):
        pipe.write(json.dumps(message).encode() + b"\n")
        pipe.flush()


def attacks(lan: Lan) -> None:
    """The bulb's attacks, one after the other, with ordinary life before, between and after."""
    web = ("curl", "--silent", "--max-time", "8", "--output", "/dev/null")
    lan.over.wait(LIFE_BEFORE_S / 2)
    lan.once("phone", *web, "http://cloud.home.test/firmware.bin")
    lan.over.wait(LIFE_BEFORE_S / 2)

    flood = ["hping3", "-q", "-n", "-S", "-p", "80", "-i", "u2000", "-c"]
    for start in range(0, len(FORGED), 9):
        group = [
            lan.start("bulb", *flood, str(FORGED_PACKETS_EACH), "-a", forged, SERVER_IP)
            for forged in FORGED[start : start + 9]
        ]
        for process in group:
            process.wait()
    lan.over.wait(LIFE_BETWEEN_S)
    flood[flood.index("u2000")] = "u1000"
    lan.once("bulb", *flood, str(PLAIN_FLOOD_PACKETS), ip_of("camera"))
    lan.over.wait(LIFE_BETWEEN_S)
    scan = ("nmap", "-sS", "-Pn", "-n", "-T4", "--disable-arp-ping", "--max-rate", "400")
    lan.once("bulb", *scan, ip_of("hub"))
    lan.over.wait(LIFE_BETWEEN_S)
    spoof = ("arpspoof", "-i", "eth0", "-r", "-t", ip_of("plug"), GATEWAY_IP)
    process = lan.start("bulb", *spoof)
    lan.over.wait(SPOOFING_S)
    process.send_signal(signal.SIGINT)  # it sends the true bindings again before it ends
    process.wait()
    lan.over.wait(LIFE_BETWEEN_S)


def rules() -> list[dict[str, object]]:
    """Return the labels' rules, in the form of the reference reader; the first match wins."""
    bulb, camera, hub = ip_of("bulb"), ip_of("camera"), ip_of("hub")
    plug, eth = ip_of("plug"), {"eth_src": mac_of("bulb")}
    return [
        # False bindings; then, when arpspoof ends, the true ones in other devices' names.
        rule("malicious", "Spoofing", eth, etype="arp", arp_op=2, arp_spa=[GATEWAY_IP, plug]),
        # arpspoof knocks at its target first, so that the kernel learns the address.
        rule("malicious", "Spoofing", eth, ip_src=bulb, ip_dst=plug),
        rule("related", "Spoofing", ip_src=plug, ip_dst=bulb),
        rule("malicious", "DoS", eth, ip_src=FORGED, ip_dst=SERVER_IP, proto="tcp", dport=80),
        rule("malicious", "DoS", eth, ip_src=bulb, ip_dst=camera, proto="tcp", dport=80),
        rule("related", "DoS", ip_src=camera, ip_dst=bulb, proto="tcp", sport=80),
        rule("malicious", "Recon", eth, ip_src=bulb, ip_dst=hub, proto="tcp"),
        rule("related", "Recon", ip_src=hub, ip_dst=bulb, proto="tcp"),
        rule("related", "Spoofing", eth, ip_src_not=[bulb, "0.0.0.0"], etype="ipv4"),
        rule("related", "Spoofing", eth_dst=mac_of("bulb"), ip_dst_not=bulb, etype="ipv4"),
    ]


def rule(label: str, family: str, *eth: dict[str, str], **match: object) -> dict[str, object]:
    for more in eth:
        match.update(more)
    return {"label": label, "family": family, "match": match}


def span(pcap: bytes) -> tuple[int, float]:
    """Return packets and seconds of a little-endian classic pcap with microseconds."""
    times, at = [], 24
    while at < len(pcap):
        seconds, micros, caplen = struct.unpack_from("<III", pcap, at)
        times.append(seconds + micros / 1e6)
        at += 16 + caplen
    return len(times), round(times[-1] - times[0], 1)


def describe(pcap: bytes, packed: Path, started: str) -> dict[str, object]:
    """Return the capture's entry of labels.json."""
    names = {mac_of(d): d for d in DEVICES}
    packets, seconds = span(pcap)
    return {
        "file": packed.name,
        "kind": "pcap",
        "family": "DoS",
        "attack": "SYN floods (forged senders; own address), SYN scan, ARP spoofing by one device",
        "rules": rules(),
        "default": "benign",
        "label_quality": "A",
        "note": "recorded by tests/golden/record_demo.py",
        "group": "demo",
        "gateway_mac": GATEWAY_MAC,
        "gateway_addresses": [GATEWAY_IP, GATEWAY_WAN_IP, GATEWAY_LINK_LOCAL],
        "devices": {GATEWAY_MAC: "gateway", **names},
        "link_type": "EN10MB (1)",
        "start": started,
        "packets": packets,
        "seconds": seconds,
        "sha256_uncompressed": hashlib.sha256(pcap).hexdigest(),
        "bytes_gz": packed.stat().st_size,
    }


def record(output: Path) -> None:
    missing = [tool for tool in (*TOOLS.split(), "arpspoof") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        sys.exit("run it as root" if not missing else f"not installed: {' '.join(missing)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    random.seed(77)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with (
        tempfile.TemporaryDirectory() as scratch,
        tempfile.TemporaryFile("w+") as report,
        Lan(Path(scratch)) as lan,
    ):
        raw = Path(scratch) / "lan.pcap"
        tcpdump = lan.start(
            *("gateway", "tcpdump", "-i", "br0", "-n", "-s", "0", "-B", "16384", "-Z", "root"),
            *("-U", "-w", str(raw)),
            errors=report,
        )
        until(lan, raw.exists)
        services(lan)
        ordinary_life(lan)
        attacks(lan)
        tcpdump.send_signal(signal.SIGINT)
        tcpdump.wait()
        report.seek(0)
        if "\n0 packets dropped by kernel" not in (said := report.read()):
            sys.exit(f"tcpdump lost packets, record again:\n{said}")
        pcap = raw.read_bytes()
    output.mkdir(parents=True, exist_ok=True)
    packed = output / "lan.pcap.gz"
    packed.write_bytes(gzip.compress(pcap, 9, mtime=0))
    labels = {
        "version": 1,
        "about": "rules for every packet of the demo's capture; the first match wins",
        "label_values": ["malicious", "related", "benign", "ignore"],
        "files": [describe(pcap, packed, started)],
    }
    (output / "labels.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    record(Path(sys.argv[1]))
