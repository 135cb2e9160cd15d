"""A tcpdump that writes to a pipe in; its bytes, its complaint and its own counts out.

Who runs it (this machine, a namespace, a container) is a matter of the words it is started with:
see container.py. It is in a process group of its own, so that Ctrl-C on a terminal reaches us only,
and we end it in order: SIGINT lets tcpdump write what it holds and say what the kernel had to drop.
"""

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ids_appliance.errors import InterfaceError, MonitorError, PermissionMissing

READ_BYTES: Final = 1 << 20
ASK_S: Final = 5.0
"""How often tcpdump is asked for its counts (SIGUSR1, tcpdump(8)) while it runs."""
_SAID_BYTES: Final = 1 << 16
_COUNT: Final = re.compile(
    r"(\d+) packets? (captured|received by filter|dropped by kernel|dropped by interface)"
)
_NAMES: Final = {
    "captured": "captured",
    "received by filter": "received",
    "dropped by kernel": "kernel_drops",
    "dropped by interface": "interface_drops",
}


class Dump:
    """One run of tcpdump, from construction to the end of `chunks`."""

    def __init__(self, words: Sequence[str], *, where: str, clock: Callable[[], float]) -> None:
        """`words` start tcpdump with `-w -`; `where` names the place in errors; `clock` gives
        seconds that only grow. Raises MonitorError: the program is not there."""
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except FileNotFoundError as error:
            raise MonitorError(f"{words[0]} is not installed: it is needed to capture") from error
        assert self._process.stdout is not None and self._process.stderr is not None
        self._out = self._process.stdout.fileno()
        self._err = self._process.stderr.fileno()
        with contextlib.suppress(OSError):  # over the limit of this user: the default has to do
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, READ_BYTES)
        os.set_blocking(self._err, False)
        self._where = where
        self._clock = clock
        self._said = b""
        self._asked = clock()
        self.started = False
        """Whether it has said that it listens: from then on frames are seen."""
        self.stopping = False
        self.status: int | None = None
        """Exit code once `chunks` has ended."""
        self.counts = dict.fromkeys(_NAMES.values(), 0)
        """What tcpdump has counted, as of its last answer."""

    def chunks(self, look_s: float = 1.0) -> Iterator[bytes]:
        """Yield what it writes, and b"" when there was nothing for `look_s`; until it has ended.

        Raises InterfaceError, PermissionMissing where it ended before it listened.
        """
        poller = select.poll()
        poller.register(self._out, select.POLLIN)
        poller.register(self._err, select.POLLIN)
        try:
            open_ = True
            while open_:
                data = b""
                for descriptor, _ in poller.poll(look_s * 1000):
                    if descriptor == self._out:
                        data = os.read(self._out, READ_BYTES)
                        open_ = bool(data)
                    elif not self._hear():
                        poller.unregister(self._err)
                if open_:
                    self._ask()
                    yield data
            self.status = self._process.wait()
            while self._hear():
                pass
        finally:
            self.close()
        if not self.started and not self.stopping:
            raise self._failure()

    def _hear(self) -> bool:
        """Take in what it says on standard error; False at the end."""
        try:
            said = os.read(self._err, READ_BYTES)
        except BlockingIOError:
            return False
        self._said = (self._said + said)[-_SAID_BYTES:]
        text = self._said.decode("utf-8", "replace")
        self.started = self.started or "listening on" in text
        for number, what in _COUNT.findall(text):
            self.counts[_NAMES[what]] = int(number)
        # A line is whole once a line end follows; what is counted need not be read again.
        if self.started:
            self._said = self._said[self._said.rfind(b"\n") + 1 :]
        return bool(said)

    def _ask(self) -> None:
        now = self._clock()
        if self.started and now - self._asked >= ASK_S:
            self._asked = now
            self.ask()

    def ask(self) -> None:
        """Let it say its counts; they are in `counts` soon afterwards."""
        if self.started and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)

    def stop(self) -> None:
        """Let it write what it holds, say its counts and end; safe to call twice."""
        if not self.stopping:
            self.stopping = True
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End it at once if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _failure(self) -> Exception:
        lines = self._said.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        # Followed by a second line in brackets or a hint of docker's: the first says it.
        said = next((line for line in lines if ": " in line), lines[-1])
        said = said.removeprefix("tcpdump: ")
        if "permission" in said.lower() or "not permitted" in said.lower():
            return PermissionMissing(
                f"capturing at {self._where} needs CAP_NET_RAW: run it as root ({said})"
            )
        return InterfaceError(f"tcpdump cannot capture at {self._where}: {said}")
