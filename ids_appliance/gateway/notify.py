"""The gateway's state in, one datagram to the service manager out (sd_notify(3)).

Without NOTIFY_SOCKET, or with a service manager that does not listen, nothing happens: whether a
gateway works never depends on who started it.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

_MAX_TEXT: Final = 512


class Notify:
    """Tells the service manager; safe to call from any thread, never waits."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment`: os.environ, of which NOTIFY_SOCKET and WATCHDOG_USEC count."""
        name = environment.get("NOTIFY_SOCKET", "")
        # A path, or a name in the abstract namespace, written with a leading @ (unix(7)).
        self._address = "\0" + name[1:] if name.startswith("@") else name
        if not self._address.startswith(("/", "\0")):
            self._address = ""
        microseconds = environment.get("WATCHDOG_USEC", "")
        pid = environment.get("WATCHDOG_PID", "")
        ours = not pid or pid == str(os.getpid())
        self.watchdog_s: float | None = None
        """The service manager kills us after this time without `alive`; None: it does not."""
        if self._address and ours and microseconds.isdigit() and int(microseconds):
            self.watchdog_s = int(microseconds) / 1e6

    def ready(self, status: str = "") -> bool:
        """We work now; True if the service manager was told."""
        return self._send("READY=1", status)

    def alive(self) -> bool:
        """We still work; to be said twice in `watchdog_s`."""
        return self.watchdog_s is not None and self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """Say in a line what we do, for `systemctl status`."""
        return self._send(status=text)

    def reloading(self, now_us: int) -> bool:
        """We read our configuration again; `ready` follows. `now_us`: the monotonic clock."""
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def stopping(self) -> bool:
        """We are about to end."""
        return self._send("STOPPING=1")

    def _send(self, state: str = "", status: str = "") -> bool:
        if not self._address:
            return False
        line = " ".join(status.split())[:_MAX_TEXT]
        message = "\n".join(part for part in (state, f"STATUS={line}" if line else "") if part)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.setblocking(False)
                to.sendto(message.encode("utf-8", "replace"), self._address)
        except (OSError, ValueError):
            return False
        return True
