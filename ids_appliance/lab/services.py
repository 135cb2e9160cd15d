"""What the hosts offer each other: broker, web server, names, leases, and devices that answer."""

import contextlib
import os
import selectors
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Final

from ids_appliance.errors import LabError
from ids_appliance.lab.layouts import GATEWAY, HOSTS, mac_of
from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Thread

NEEDS: Final = ("mosquitto", "iperf3", "dnsmasq", "tcpdump", "timeout")
BROKER: Final = 1883
WEB: Final = 80
SERVER: Final = "server"
REPLY: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 32\r\n"
    b'Connection: close\r\n\r\n{"state": "on", "uptime": 86400}'
)
MAX_REQUEST_BYTES: Final = 4096
START_S: Final = 60.0
MIB: Final = (1, 50)
"""Sizes of the files that the web server has."""
_NOTHING_YET_S: Final = 0.02


@contextlib.contextmanager
def offered(lab: Lab) -> Iterator[None]:
    """Start everything and wait until it answers; stop it at the end."""
    for size in MIB:
        with (lab.directory / f"{size}MiB.bin").open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(1 << 20))  # firmware is compressed: looks like this
    start_broker(lab)
    web = [sys.executable, "-m", "http.server", str(WEB), "--directory", str(lab.directory)]
    lab.services["web"] = lab.popen(SERVER, web)
    lab.services["iperf3"] = lab.popen(SERVER, ["iperf3", "-s"])
    lab.services["names"] = lab.popen(lab.border, _dnsmasq(lab))
    ports = [(device, WEB) for device in lab.devices] + [("hub", 8080)]
    answering = Answering(lab, ports)
    try:
        for port in (BROKER, WEB, 5201):
            await_port(lab, SERVER, port)
        await_port(lab, lab.border, 53)
        yield
    finally:
        answering.stop()
        for process in lab.services.values():
            process.kill()
            process.wait()
        lab.services.clear()


def start_broker(lab: Lab) -> None:
    """Start the MQTT broker on the server."""
    conf = lab.directory / "mosquitto.conf"
    conf.write_text(f"listener {BROKER}\nallow_anonymous true\nuser root\n")
    lab.services["broker"] = lab.popen(SERVER, ["mosquitto", "-c", str(conf)])


def stop_broker(lab: Lab) -> None:
    """Let the broker die: its kernel refuses whoever comes."""
    broker = lab.services.pop("broker")
    broker.kill()
    broker.wait()


def await_port(lab: Lab, host: str, port: int) -> None:
    """Return once something listens at a host's TCP port. Raises LabError."""
    pause = threading.Event()
    for _ in range(round(START_S / _NOTHING_YET_S)):
        with lab.inside(host), socket.socket() as tcp:
            if tcp.connect_ex(("127.0.0.1" if port != 53 else _listening(lab), port)) == 0:
                return
        pause.wait(_NOTHING_YET_S)
    raise LabError(f"nothing listens at port {port} of {host} after {START_S:.0f} s")


def _listening(lab: Lab) -> str:
    return lab.next_hop("iot")


def _dnsmasq(lab: Lab) -> list[str]:
    words = ["dnsmasq", "--keep-in-foreground", "--no-hosts", "--no-resolv", "--user=root"]
    words += ["--conf-file=/dev/null", "--pid-file", "--bind-interfaces", "--no-ping"]
    words += [f"--dhcp-leasefile={lab.directory / 'leases'}", "--dhcp-authoritative"]
    words += [f"--address=/home.test/{lab.address(SERVER)}"]
    nets = {str(lab.net(segment).v4[0]): lab.net(segment) for segment in ("iot", "home")}
    for net in nets.values():
        words.append(f"--dhcp-range={net.address4(150)},{net.address4(199)},1h")
    if lab.border == GATEWAY:
        words += ["--interface=iot0", "--interface=guest0"]
    else:
        words += ["--interface=lan0"]
    for host in HOSTS:
        if host.segment in ("iot", "home"):
            words.append(f"--dhcp-host={mac_of(host)},{lab.address(host.name)}")
    return words


class Answering:
    """Small TCP servers on many hosts, all served by one thread."""

    def __init__(self, lab: Lab, ports: list[tuple[str, int]]) -> None:
        self.accepted = 0
        self._selector = selectors.DefaultSelector()
        for host, port in ports:
            listening = lab.ip_socket(host)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("0.0.0.0", port))
            listening.listen(128)
            listening.setblocking(False)
            self._selector.register(listening, selectors.EVENT_READ, "listening")
        self._thread = Thread(self._serve)

    def _serve(self, over: threading.Event) -> None:
        while not over.is_set():
            for key, _ in self._selector.select(timeout=0.1):
                open_ = key.fileobj
                assert isinstance(open_, socket.socket)
                with contextlib.suppress(OSError):
                    if key.data == "listening":
                        self._accept(open_)
                    else:
                        self._answer(open_)

    def _accept(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.setblocking(False)
        self.accepted += 1
        self._selector.register(connection, selectors.EVENT_READ, "connection")

    def _answer(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        with connection:
            if connection.recv(MAX_REQUEST_BYTES):
                connection.sendall(REPLY)

    def stop(self) -> None:
        """End the thread and close every socket."""
        self._thread.stop()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
