"""Notices to a real HTTP server, a real MQTT broker and real syslog sockets."""

import http.server
import json
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ids_appliance.classify.certificates import Authority, Request
from ids_appliance.classify.tls import Role
from ids_appliance.config.notices import Mqtt, Notices, Syslog, Webhook
from ids_appliance.errors import NoticeError
from ids_appliance.telemetry import notices as module
from ids_appliance.telemetry.channel import Refusal
from ids_appliance.telemetry.notice_syslog import SyslogTransport, message
from ids_appliance.telemetry.notice_webhook import WebhookTransport
from ids_appliance.telemetry.notices import Notices as Told
from ids_appliance.telemetry.notices import secret, transports

NOTICE = {
    "kind": "decision",
    "title": "Kamera im Flur \u201eA\u201c\n: quarantine",
    "attack": "port_scan",
    "host": "gw 1",
    "timestamp": "2026-01-01T12:00:00.000000+00:00",
    "incident": "00ff",
    "src_mac": "02:00:00:00:00:07",
    "device": {"name": 'a"b]c\\', "vendor": "Maker"},
}


class Received(http.server.ThreadingHTTPServer):
    """A server that keeps what it is sent and answers with `status`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.got: list[tuple[str, dict[str, str], Any]] = []
        self.status = 200
        self.changed = threading.Condition()
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust us hangs up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Received

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.changed:
            self.server.got.append((self.path, dict(self.headers), json.loads(body)))
            self.server.changed.notify_all()
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(server: Received) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webhook_gets_json_with_its_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("geheim\n")
    server = Received()
    with serving(server) as where:
        settings = Webhook(url=f"http://{where}/hook?x=1", token_file=str(tmp_path / "token"))
        (made,) = transports(Notices(webhook=settings), "gw")
        made.send(NOTICE)
        (path, headers, body) = server.got[0]
        assert (path, headers["Authorization"], body) == ("/hook?x=1", "Bearer geheim", NOTICE)
        for status, kind in ((500, NoticeError), (429, NoticeError), (404, Refusal)):
            server.status = status
            with pytest.raises(kind) as told:
                made.send(NOTICE)
            assert type(told.value) is kind and "geheim" not in str(told.value)
            assert "hook" not in str(told.value)
    with pytest.raises(NoticeError, match="cannot be told"):
        made.send(NOTICE)


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tmp_path: Path) -> None:
    request = Request("hook", Role.NODE, hosts=("127.0.0.1",))
    Authority.create(tmp_path / "ca").issue(request)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "ca" / "hook.crt", tmp_path / "ca" / "hook.key")
    server = Received(tls)
    with serving(server) as where:
        url = f"https://{where}/"
        with pytest.raises(NoticeError, match="(?i)certificate"):
            WebhookTransport(Webhook(url=url), url=url, token="").send(NOTICE)
        assert server.got == []
        ca = Webhook(url=url, ca=str(tmp_path / "ca" / "ca.crt"))
        WebhookTransport(ca, url=url, token="").send(NOTICE)
        assert server.got[0][2] == NOTICE


@pytest.mark.parametrize(
    "url", ["", "ftp://x/", "https://", "http://a b/", "https://u:p@h/", "http://h:0/", "h/x"]
)
def test_what_is_no_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(NoticeError, match="notices.webhook.url") as told:
        WebhookTransport(Webhook(), url=url, token="")
    assert "u:p" not in str(told.value)


def test_events_go_all_the_way() -> None:
    server = Received()
    with serving(server) as where:
        settings = Notices(webhook=Webhook(url=f"http://{where}/"))
        made = Told(settings, host="gw", clock=time.monotonic)
        decision = {"action": "decided", "subject": "x", "response": "rate_limit", "reason": "dos"}
        event = {"event_type": "decision", "host": "gw", "src_ip": "192.0.2.7"}
        for _ in range(3):
            made.take(event | {"decision": decision})
        with server.changed:
            assert server.changed.wait_for(lambda: server.got, 60)
        made.close()
    assert [one[2]["attack"] for one in server.got] == ["dos"]
    assert made.counters()["notices_suppressed"] == 2
    assert made.counters()["notices_webhook_sent"] == 1
    assert Told(Notices(), host="gw", clock=time.monotonic).counters() == {}


# Syslog -----------------------------------------------------------------------------------------

_FORM = re.compile(
    rb"<132>1 2026-01-01T12:00:00\.000000\+00:00 gw_1 ids-appliance \d+ decision "
    rb'\[ids@32473 attack="port_scan" incident="00ff" src_mac="02:00:00:00:00:07" '
    rb'device_name="a\\"b\\]c\\\\" device_vendor="Maker"\] \xef\xbb\xbfKamera im Flur .*quarantine'
)


def test_syslog_by_datagram_and_by_stream(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.bind(("127.0.0.1", 0))
        plug.settimeout(60)
        made = SyslogTransport(Syslog(address=f"127.0.0.1:{plug.getsockname()[1]}"))
        made.send(NOTICE)
        assert _FORM.fullmatch(plug.recv(4096))
        made.send(NOTICE | {"title": "x" * 5000})
        assert len(plug.recv(8192)) == 2048
        made.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plug:
        plug.bind(str(tmp_path / "log"))
        plug.settimeout(60)
        made = SyslogTransport(Syslog(address=str(tmp_path / "log")))
        made.send(NOTICE)
        assert _FORM.fullmatch(plug.recv(4096))
        made.close()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        where = f"127.0.0.1:{listening.getsockname()[1]}"
        made = SyslogTransport(Syslog(address=where, transport="tcp"))
        made.send(NOTICE)
        made.send(NOTICE)
        made.close()
        with listening.accept()[0] as link, link.makefile("rb") as stream:
            for _ in range(2):
                length = b""
                while (digit := stream.read(1)) != b" ":
                    length += digit
                assert _FORM.fullmatch(stream.read(int(length)))
    with pytest.raises(NoticeError, match="cannot be told"):
        SyslogTransport(Syslog(address=where, transport="tcp")).send(NOTICE)
    with pytest.raises(NoticeError, match="cannot be told"):
        SyslogTransport(Syslog(address=str(tmp_path / "none"))).send(NOTICE)


def test_a_notice_without_anything_is_still_a_message() -> None:
    assert message({}, 0).startswith(b"<5>1 - - ids-appliance ")


# MQTT -------------------------------------------------------------------------------------------


@contextmanager
def broker(directory: Path) -> Iterator[int]:
    """A mosquitto of our own, with a user and a password."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None or shutil.which("mosquitto_passwd") is None:
        pytest.skip("not installed: mosquitto; to install: apt-get install mosquitto")
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as free:
        port = int(free.server_address[1])
    words = directory / "passwords"
    words.touch(0o600)
    command = ["mosquitto_passwd", "-b", str(words), "ids", "geheim"]
    subprocess.run(command, check=True, capture_output=True)
    words.chmod(0o644)
    config = directory / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {words}\nuser root\n"
        "persistence false\nlog_dest stderr\n"
    )
    with subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(3000):
                with socket.socket() as plug:
                    if plug.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert server.poll() is None
                time.sleep(0.02)  # nothing says when it listens
            yield port
        finally:
            server.terminate()


def kept(port: int, topic: str, *, n: int) -> dict[str, Any]:
    """Return n retained messages below a topic."""
    words = ["mosquitto_sub", "-p", str(port), "-u", "ids", "-P", "geheim", "-t", topic]
    words += ["-C", str(n), "-W", "30", "-v"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    pairs = (line.split(" ", 1) for line in done.stdout.splitlines())
    return {topic: text for topic, text in pairs}


def test_mqtt_with_home_assistants_discovery(tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client", reason="not installed: paho-mqtt")
    (tmp_path / "password").write_text("geheim\n")
    with broker(tmp_path) as port:
        settings = Mqtt(
            broker=f"127.0.0.1:{port}", user="ids", password_file=str(tmp_path / "password")
        )
        (made,) = transports(Notices(mqtt=settings), "gw.home 1")
        listener = subprocess.Popen(
            ["mosquitto_sub", "-p", str(port), "-u", "ids", "-P", "geheim", "-C", "2", "-W", "60"]
            + ["-t", "ids-appliance/gw_home_1/notice", "-t", "ids-appliance/gw_home_1/standing"],
            stdout=subprocess.PIPE,
        )
        with listener:
            assert listener.stdout is not None
            made.show(3)
            assert json.loads(listener.stdout.readline()) == {"count": 3}
            made.send(NOTICE)
            assert json.loads(listener.stdout.readline()) == NOTICE
        found = kept(port, "homeassistant/#", n=3)
        for topic, text in found.items():
            entity = json.loads(text)
            assert re.fullmatch(r"homeassistant/[a-z_]+/ids_appliance_gw_home_1/\w+/config", topic)
            assert entity["availability_topic"] == "ids-appliance/gw_home_1/availability"
            assert entity["device"]["identifiers"] == ["ids_appliance_gw_home_1"]
        assert len({json.loads(text)["unique_id"] for text in found.values()}) == 3
        topic = "ids-appliance/gw_home_1/availability"
        assert kept(port, topic, n=1) == {topic: "online"}
        made.close()
        assert kept(port, topic, n=1) == {topic: "offline"}
        (tmp_path / "password").write_text("falsch\n")
        (wrong,) = transports(Notices(mqtt=settings), "gw")
        with pytest.raises(NoticeError, match="refuses us") as told:
            wrong.send(NOTICE)
        assert "falsch" not in str(told.value)
    with pytest.raises(NoticeError, match="cannot be told"):
        made.send(NOTICE)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MQTT", "ids_appliance.telemetry.notice_of_no_kind")
    with pytest.raises(NoticeError, match=r"ids-appliance\[notices\]"):
        transports(Notices(mqtt=Mqtt(broker="127.0.0.1:1883")), "gw")


def test_a_secret_is_one_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert secret("", "x") == ""
    for text in ("", "\n", "a" * 5000, "a\x00b"):
        path.write_text(text)
        with pytest.raises(NoticeError, match="one line with the secret"):
            secret(str(path), "x")
    path.write_text("good\nnot this\n")
    assert secret(str(path), "x") == "good"
    with pytest.raises(NoticeError, match="cannot be read"):
        secret(str(tmp_path / "none"), "x")
