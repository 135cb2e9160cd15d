"""Orders of a dashboard in over a Unix socket, drills out: one at a time, seldom enough.

Whoever may ask the gateway may see the reports; whoever has the gateway's token may start a drill.
Nothing that comes in says more than which of the known kinds.
"""

import grp
import hmac
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from ids_appliance.drill.frames import KINDS, Kind
from ids_appliance.drill.messages import MAX_BYTES, SOCKET, Ask, Report, State, read_line
from ids_appliance.drill.run import Drill
from ids_appliance.errors import DrillError, IdsError
from ids_appliance.gateway.sockets import TOKEN

KEPT: Final = 10
PAUSE_S: Final = 5.0
"""Between the end of a drill and the start of the next."""
_READ_S: Final = 2.0
_BACKLOG: Final = 8

Make = Callable[[Kind], Drill]


class Served:
    """Drills for whoever asks at a run directory's socket; a context manager."""

    def __init__(
        self, run_dir: Path, make: Make, *, group: str = "", clock: Callable[[], float]
    ) -> None:
        """clock: monotonic seconds."""
        self._run_dir = run_dir
        self._make = make
        self._group = group
        self._clock = clock
        self._reports: deque[Report] = deque(maxlen=KEPT)
        self._over_s = clock() - PAUSE_S
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> "Served":
        path = self._run_dir / SOCKET
        try:
            gid = grp.getgrnam(self._group).gr_gid if self._group else -1
            path.unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(path))
            os.chmod(path, 0o660)  # nobody connects before listen()
            if gid >= 0:
                os.chown(path, -1, gid)
            self._listener.listen(_BACKLOG)
        except (OSError, KeyError) as error:
            raise DrillError(f"drills cannot be served at {path}: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.close()
        (self._run_dir / SOCKET).unlink(missing_ok=True)
        if self._thread is not None:
            self._thread.join()  # a drill has its own limit

    def serve(self) -> None:
        """Answer until `stop`."""
        while True:
            connection, _ = self._listener.accept()
            if self._stopping.is_set():
                connection.close()
                return
            with connection:
                try:
                    connection.settimeout(_READ_S)
                    answer = self.answer(read_line(connection, MAX_BYTES))
                    connection.sendall(msgspec.json.encode(answer) + b"\n")
                except OSError:
                    continue  # slow, or gone: the next one

    def stop(self) -> None:
        """End `serve`; any thread may."""
        self._stopping.set()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
            knock.connect(str(self._run_dir / SOCKET))

    def answer(self, line: bytes) -> State:
        """Return the answer to one line."""
        try:
            ask = msgspec.json.decode(line, type=Ask)
        except (ValueError, RecursionError):
            return State(error="not a request")
        try:
            if ask.do == "start":
                self._start(ask)
        except IdsError as error:
            return State(error=" ".join(str(error).split()))
        about = {name: kind.about for name, kind in KINDS.items()}
        return State(kinds=about, reports=list(self._reports)[::-1])

    def _start(self, ask: Ask) -> None:
        if not hmac.compare_digest(ask.token.strip().encode(), self._token()):
            raise DrillError(f"a drill needs the token: the content of {self._run_dir / TOKEN}")
        kind = KINDS.get(ask.kind)
        if kind is None:
            raise DrillError(f"there is no drill of that name: {', '.join(KINDS)}")
        if self._thread is not None and self._thread.is_alive():
            raise DrillError("a drill is under way")
        if self._clock() - self._over_s < PAUSE_S:
            raise DrillError(f"a drill has just ended: wait {PAUSE_S:g} s")
        drill = self._make(kind)
        self._reports.append(drill.report)
        self._thread = threading.Thread(target=self._play, args=(drill,), name="drill")
        self._thread.start()

    def _play(self, drill: Drill) -> None:
        try:
            drill.run()
        except IdsError:
            pass  # it stands in the report
        finally:
            self._over_s = self._clock()

    def _token(self) -> bytes:
        nobody = DrillError("no gateway runs here: it has no token")
        try:
            token = (self._run_dir / TOKEN).read_bytes().strip()
        except OSError as error:
            raise nobody from error
        if not token:  # one that starts just now has made the file, and not written it yet
            raise nobody
        return token
