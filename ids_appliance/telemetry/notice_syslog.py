"""A notice in, a syslog message out: RFC 5424, over UDP (RFC 5426), TCP (RFC 6587) or a socket."""

import os
import socket
from typing import Any, Final

from ids_appliance.config.notices import Syslog
from ids_appliance.errors import NoticeError
from ids_appliance.telemetry.incidents import Notice

MAX_DATAGRAM: Final = 2048
"""What every receiver should take (RFC 5424, section 6.1)."""
CONNECT_S: Final = 5.0
SD_ID: Final = "ids@32473"
"""Private number for examples (RFC 5612): we have none of our own."""
_ERROR, _WARNING, _NOTICE = 3, 4, 5
_SEVERITIES: Final = {"alarm": _ERROR, "decision": _WARNING, "several": _WARNING}
_PARTS: Final = ("attack", "incident", "response", "src_ip", "src_mac", "interface", "dest_ip")


class SyslogTransport:
    """One syslog server or socket; a stream is kept open between notices."""

    name = "syslog"

    def __init__(self, settings: Syslog) -> None:
        self._settings = settings
        self._plug: socket.socket | None = None

    def send(self, notice: Notice) -> None:
        """Send it. Raises NoticeError; over UDP nobody says what arrived."""
        text = message(notice, self._settings.facility)
        stream = self._settings.transport == "tcp" and not self._settings.address.startswith("/")
        try:
            if self._plug is None:
                self._plug = self._connected()
            if stream:
                self._plug.sendall(b"%d %s" % (len(text), text))  # octet counting
            else:
                self._plug.send(text[:MAX_DATAGRAM])
        except OSError as error:
            self.close()
            where = self._settings.address
            raise NoticeError(f"{where} cannot be told: {error.strerror or error}") from error

    def show(self, standing: int) -> None:
        """Nothing is shown here."""

    def close(self) -> None:
        """Let go of the connection."""
        if self._plug is not None:
            self._plug.close()
        self._plug = None

    def _connected(self) -> socket.socket:
        address = self._settings.address
        if address.startswith("/"):
            return _datagrams(socket.AF_UNIX, address)
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if self._settings.transport == "tcp":
            return socket.create_connection((host, int(port)), timeout=CONNECT_S)
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
        return _datagrams(found[0][0], found[0][4])


def _datagrams(family: int, where: Any) -> socket.socket:
    plug = socket.socket(family, socket.SOCK_DGRAM)
    try:
        plug.settimeout(CONNECT_S)
        plug.connect(where)
    except OSError:
        plug.close()
        raise
    return plug


def message(notice: Notice, facility: int) -> bytes:
    """Return a notice as one message of RFC 5424, without control characters in its text."""
    severity = _SEVERITIES.get(str(notice.get("kind")), _NOTICE)
    device = notice.get("device") or {}
    parts = {name: notice[name] for name in _PARTS if notice.get(name)} | {
        f"device_{name}": device[name] for name in ("name", "vendor") if device.get(name)
    }
    data = "".join(f' {name}="{_escaped(str(value))}"' for name, value in parts.items())
    title = "".join(c if c.isprintable() else " " for c in str(notice.get("title", "")))
    # A text that is not ASCII has to say that it is UTF-8 (section 6.4).
    body = title.encode() if title.isascii() else b"\xef\xbb\xbf" + title.encode()
    head = " ".join(
        (
            f"<{facility * 8 + severity}>1",
            str(notice.get("timestamp") or "-"),
            _name(notice.get("host"), 255),
            "ids-appliance",
            str(os.getpid()),
            _name(notice.get("kind"), 32),
            f"[{SD_ID}{data}]",
        )
    )
    return head.encode() + b" " + body


def _escaped(value: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in value[:200])
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _name(value: object, most: int) -> str:
    """Return a header's field: visible ASCII only (PRINTUSASCII), `-` for nothing."""
    kept = "".join(c if "!" <= c <= "~" else "_" for c in str(value or "")[:most])
    return kept or "-"
