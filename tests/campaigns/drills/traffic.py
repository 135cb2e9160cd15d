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
QUESTIONS_PORT: Final = 5353
STREAM_BYTES_S: Final = 1_000_000
_CHUNK_S: Final = 0.01


class Stream:
    """One TCP connection that is there already: steady bytes to who has opened it, counted as they
    arrive."""

    def __init__(self, lab: Lab, host: str, server: str, *, port: int = STREAM_PORT) -> None:
        with lab.ip_socket(server) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("0.0.0.0", port))
            listening.listen(1)
            self._receiver = lab.ip_socket(host)
            self._receiver.settimeout(5)
            self._receiver.connect((lab.address(server), port))
            self._sender, _ = listening.accept()
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


class Questions:
    """Devices that ask a server over UDP, as for names, and count who gets no answer."""

    def __init__(
        self,
        lab: Lab,
        devices: Sequence[str],
        server: str,
        *,
        pace_s: float,
        port: int = QUESTIONS_PORT,
    ) -> None:
        self._pace_s = pace_s
        self._server = lab.ip_socket(server, socket.SOCK_DGRAM)
        self._server.bind(("0.0.0.0", port))
        self._server.settimeout(0.05)
        self._where = (lab.address(server), port)
        self._askers = [lab.ip_socket(device, socket.SOCK_DGRAM) for device in devices]
        for asker in self._askers:
            asker.setblocking(False)
        self.sent_ns: list[list[int]] = [[] for _ in devices]
        self._answered: list[set[int]] = [set() for _ in devices]
        self._asking, self._answering = Thread(self._ask), Thread(self._answer)

    def _ask(self, over: threading.Event) -> None:
        while not over.wait(self._pace_s):
            for asker, sent in zip(self._askers, self.sent_ns, strict=True):
                sent.append(time.monotonic_ns())
                with suppress(OSError):  # full or unreachable: then it has no answer
                    asker.sendto((len(sent) - 1).to_bytes(4, "big").ljust(48), self._where)
            self._collect()
        time.sleep(0.2)
        self._collect()

    def _collect(self) -> None:
        for asker, answered in zip(self._askers, self._answered, strict=True):
            with suppress(OSError):
                while True:
                    answered.add(int.from_bytes(asker.recv(2048)[:4], "big"))

    def _answer(self, over: threading.Event) -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                data, asker = self._server.recvfrom(2048)
                if len(data) == 48:
                    self._server.sendto(data.ljust(120), asker)

    def stop(self) -> None:
        """Ask no more."""
        self._asking.stop()
        self._answering.stop()
        for one in (self._server, *self._askers):
            one.close()

    def lost(self, start_ns: int, stop_ns: int) -> tuple[int, int]:
        """Return (without an answer, asked) of those asked in that time; after `stop`."""
        lost = asked = 0
        for sent, answered in zip(self.sent_ns, self._answered, strict=True):
            chosen = [n for n, at in enumerate(sent) if start_ns <= at <= stop_ns]
            asked += len(chosen)
            lost += sum(n not in answered for n in chosen)
        return lost, asked


class Life:
    """What goes on all the time: readings, questions, datagrams, a TCP stream; `account` ends it.

    but: hosts left out. asked: who answers the questions.
    """

    def __init__(
        self, lab: Lab, *, seconds: float, but: Sequence[str] = (), asked: str = "server"
    ) -> None:
        devices = [d for d in lab.devices if d not in but]
        self._lab = lab
        self.readings = Readings(lab, devices, seconds=seconds)
        pairs = [(devices[3], "server"), ("phone", devices[4])]
        pairs = [pair for pair in pairs if not set(pair) & set(but)]
        self.datagrams = Datagrams(lab, pairs, pace_s=0.01, clock=time.monotonic_ns)
        self.questions = Questions(lab, devices[6:9], asked, pace_s=0.02)
        # The device has called: what comes from beyond by itself no router lets in.
        self.stream = Stream(lab, devices[5], "server")
        self.begun_ns = time.monotonic_ns()
        # The lab's own address resolution and the broker's twenty connections are behind us then.
        time.sleep(1.0)

    def account(
        self, report: Report, *, start_ns: int, stop_ns: int, bearable: float = 0.001
    ) -> None:
        """Say what was lost between two monotonic times; ends it all. bearable: share of packets
        that may be lost."""
        for part in (self.stream, self.datagrams, self.questions):
            part.stop()
        for what, (lost, sent) in (
            ("datagrams lost", self.datagrams.lost(start_ns, stop_ns)),
            ("questions without an answer", self.questions.lost(start_ns, stop_ns)),
        ):
            report.expect(lost <= sent * bearable, what, f"{lost} of {sent}")
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
