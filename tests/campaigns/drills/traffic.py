"""Ordinary life that must not notice anything, and attackers that nothing else was made for.

`Life` measures what devices lose: readings over MQTT (QoS 1), numbered datagrams, a TCP stream.
"""

import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from ids_appliance.lab.measure import Datagrams
from ids_appliance.lab.network import Lab, end_group
from ids_appliance.lab.running import Thread
from tests.campaigns.drills.report import Report

READING_S: Final = 0.25
STREAM_PORT: Final = 7001
STREAM_BYTES_S: Final = 1_000_000
_CHUNK_S: Final = 0.01


class Stream:
    """One TCP connection that is there already: steady bytes to a host, counted as they arrive."""

    def __init__(self, lab: Lab, source: str, target: str, *, port: int = STREAM_PORT) -> None:
        with lab.ip_socket(target) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("0.0.0.0", port))
            listening.listen(1)
            self._sender = lab.ip_socket(source)
            self._sender.settimeout(5)
            self._sender.connect((lab.address(target), port))
            self._receiver, _ = listening.accept()
        self._receiver.settimeout(0.05)
        self.arrivals: list[tuple[int, int]] = []
        """(monotonic ns, bytes) of each read."""
        self._sending, self._receiving = Thread(self._send), Thread(self._receive)

    def _send(self, over: threading.Event) -> None:
        chunk = b"x" * int(STREAM_BYTES_S * _CHUNK_S)
        self._sender.setblocking(False)
        while not over.wait(_CHUNK_S):
            with suppress(BlockingIOError):
                self._sender.send(chunk)

    def _receive(self, over: threading.Event) -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                got = len(self._receiver.recv(65_536))
                self.arrivals.append((time.monotonic_ns(), got))

    def stop(self) -> None:
        """End it."""
        for thread in (self._sending, self._receiving):
            thread.stop()
        self._sender.close()
        self._receiver.close()

    def goodput(self, start_ns: int, stop_ns: int) -> float:
        """Return the bytes per second that arrived in that time."""
        got = sum(n for t, n in self.arrivals if start_ns <= t <= stop_ns)
        return got / max(1e-9, (stop_ns - start_ns) / 1e9)

    def gap_s(self, start_ns: int, stop_ns: int) -> float:
        """Return the longest time without a byte."""
        times = [start_ns, *(t for t, _ in self.arrivals if start_ns <= t <= stop_ns), stop_ns]
        return max(b - a for a, b in zip(times, times[1:], strict=False)) / 1e9


class Readings:
    """Devices that publish with QoS 1 over one connection each, and who listens at the broker."""

    def __init__(self, lab: Lab, devices: Sequence[str], *, seconds: float) -> None:
        self.expected = {device: round(seconds / READING_S) for device in devices}
        self._lab = lab
        self._seconds = seconds
        listen = ["mosquitto_sub", "-h", "127.0.0.1", "-t", "drill/#", "-q", "1", "-F", "%U %t"]
        self._heard = lab.directory / "readings"
        with self._heard.open("wb") as out:
            self._listener = lab.popen("server", listen, stdout=out)
        time.sleep(0.3)  # it says nothing when it has subscribed
        self._publishers = {device: self._publish(device) for device in devices}

    def _publish(self, device: str) -> subprocess.Popen[Any]:
        words = ["mosquitto_pub", "-h", self._lab.address("server"), "-i", f"drill-{device}"]
        words += ["-t", f"drill/{device}", "-q", "1", "-m", '{"t": 21.5}']
        words += ["--repeat", str(self.expected[device]), "--repeat-delay", str(READING_S)]
        return self._lab.popen(device, words, limit_s=self._seconds + 15)

    def stop(self) -> tuple[int, int, float]:
        """Wait for the devices; return (lost, published, longest pause of one of them in s)."""
        end = time.monotonic() + self._seconds + 15
        failed = 0
        for process in self._publishers.values():
            try:
                failed += process.wait(max(0.1, end - time.monotonic())) != 0
            except subprocess.TimeoutExpired:
                failed += 1
        time.sleep(0.2)
        end_group(self._listener)
        times: dict[str, list[float]] = {device: [] for device in self.expected}
        for line in self._heard.read_text().splitlines():
            at, topic = line.split()
            times[topic.removeprefix("drill/")].append(float(at))
        lost = sum(max(0, n - len(times[device])) for device, n in self.expected.items())
        pauses = [b - a for t in times.values() for a, b in zip(t, t[1:], strict=False)]
        return lost + failed, sum(self.expected.values()), max(pauses, default=0.0)


class Life:
    """What goes on all the time: readings, datagrams both ways, a TCP stream; `account` ends it."""

    def __init__(self, lab: Lab, *, seconds: float, but: Sequence[str] = ()) -> None:
        devices = [d for d in lab.devices if d not in but]
        self._lab = lab
        self.readings = Readings(lab, devices, seconds=seconds)
        pairs = [("server", devices[2]), (devices[3], "server"), ("phone", devices[4])]
        pairs = [pair for pair in pairs if not set(pair) & set(but)]
        self.datagrams = Datagrams(lab, pairs, pace_s=0.01, clock=time.monotonic_ns)
        self.stream = Stream(lab, "server", devices[5])
        self.begun_ns = time.monotonic_ns()
        # The lab's own address resolution and the broker's twenty connections are behind us then.
        time.sleep(1.0)

    def account(self, report: Report, *, start_ns: int, stop_ns: int) -> None:
        """Say what was lost between two monotonic times; ends it all."""
        self.stream.stop()
        self.datagrams.stop()
        lost, sent = self.datagrams.lost(start_ns, stop_ns)
        report.expect(
            lost <= sent / 1000, "datagrams lost of established flows", f"{lost} of {sent}"
        )
        share = self.stream.goodput(start_ns, stop_ns) / STREAM_BYTES_S
        gap = self.stream.gap_s(start_ns, stop_ns)
        # The sender itself skips a beat on a busy machine; a stopped flow shows as a gap.
        report.expect(
            gap < 1.0, "TCP stream: longest silence", f"{gap:.2f} s, goodput {share:.2f} of offered"
        )
        lost, published, pause = self.readings.stop()
        report.expect(
            lost == 0 and pause < 5.0,
            "readings lost (MQTT, QoS 1)",
            f"{lost} of {published}, longest pause {pause:.1f} s",
        )


class Attack:
    """A tool's process on a host; ended by `stop` or with the context."""

    def __init__(self, lab: Lab, host: str, *words: str, seconds: float) -> None:
        self.process = lab.popen(host, list(words), limit_s=seconds)

    def __enter__(self) -> "Attack":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill it."""
        end_group(self.process)


def hping(
    lab: Lab,
    host: str,
    target: str,
    *options: str,
    pps: int = 2000,
    seconds: float = 6.0,
) -> Attack:
    """Let hping3 send at a rate; `options` are its own: -S, -2, -a ADDRESS, -p PORT."""
    count = str(int(pps * seconds))
    words = ("hping3", "-q", "-n", "-i", f"u{1_000_000 // pps}", "-c", count, *options, target)
    return Attack(lab, host, *words, seconds=seconds + 2)


def flows(lab: Lab, source: str, target: str, *, family: int = 4, port: int = 0) -> bool:
    """Say whether a host's pings, or with `port` its TCP connections, reach a target's address."""
    if not port:
        words = ["ping", f"-{family}", "-n", "-c", "3", "-i", "0.2", "-W", "1", target]
        return lab.popen(source, words, limit_s=5).wait() == 0
    with lab.ip_socket(source, family=family) as tcp:
        tcp.settimeout(1.5)
        return tcp.connect_ex((target, port)) == 0
