"""A host of the inventory and words in, what they print there out: over ssh(1), one connection.

Words are quoted for the shell at the other end. The connection is shared (ControlMaster), asks for
no password, and what runs there is bounded by timeout(1), so that nothing goes on for long when
this end dies; no host is trusted that known_hosts does not know.
"""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, Self

from ids_appliance.bench.inventory import Host
from ids_appliance.errors import LabError

CONNECT_S: Final = 10
GRACE_S: Final = 15.0
MOST: Final = 400


class Transport(Protocol):
    """Whoever can run words on a host."""

    def run(self, host: Host, words: Sequence[str], *, limit_s: float = 30.0) -> str:
        """Run words that have to succeed; return what they printed. Raises LabError."""


class Ssh:
    """A Transport over ssh; a context manager that ends the shared connections.

    folder: for the connections' sockets. options: further words for ssh, such as -F FILE.
    """

    def __init__(self, folder: Path, *, options: Sequence[str] = ()) -> None:
        self._folder = folder
        self._options = tuple(options)
        self._met: dict[str, Host] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._met.values():
            words = [*self._words(host)[:-1], "-O", "exit", host.ssh]
            subprocess.run(words, capture_output=True, check=False, timeout=GRACE_S)

    def _words(self, host: Host) -> list[str]:
        return [
            "ssh",
            *self._options,
            *("-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}"),
            *("-o", "ServerAliveInterval=5", "-o", "ControlMaster=auto"),
            *("-o", f"ControlPath={self._folder}/%C", "-o", "ControlPersist=60"),
            *("-p", str(host.port), host.ssh),
        ]

    def run(self, host: Host, words: Sequence[str], *, limit_s: float = 30.0) -> str:
        """Transport."""
        self._met[host.role] = host
        bounded = ["timeout", "--kill-after=2", f"{limit_s:g}", *words]
        command = [*self._words(host), "--", shlex.join(bounded)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s + CONNECT_S + GRACE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{host.role} ({host.ssh}) does not answer") from error
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())[-MOST:]
            raise LabError(
                f"{host.role} ({host.ssh}): {' '.join(words)[:80]} "
                f"ended with {done.returncode}: {said or 'it said nothing'}"
            )
        return done.stdout
