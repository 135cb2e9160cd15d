"""A run directory in, two listening Unix sockets and a token out: one gateway's, and only one's.

    lock         0600: held (flock) as long as the gateway lives; names its process
    read.sock    0660, the configured group's: questions
    write.sock   0600: orders
    token        0600, made anew at each start: lets an order in over read.sock
    panic        left by `panic`: the next gateway observes until enforcement is turned on by hand

The kernel lets go of the lock when a process dies however it dies, so sockets of a dead gateway
are told from those of a live one without guessing.
"""

import fcntl
import grp
import hmac
import os
import secrets
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from ids_appliance.errors import AlreadyRunning, ControlError

READ_SOCKET = "read.sock"
WRITE_SOCKET = "write.sock"
TOKEN = "token"
LOCK = "lock"
PANIC = "panic"
BACKLOG = 64
LONGEST_PATH = 107
"""sizeof(sun_path) - 1; see unix(7)."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel saw it connect (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, connection: socket.socket) -> "Peer":
        """Ask the kernel. Raises OSError."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return cls(*struct.unpack("3i", raw))


class Endpoints:
    """The files of one run directory, taken and given back together."""

    def __init__(self, run_dir: Path, group: str = "") -> None:
        """Take them, replacing those of a dead gateway. Raises AlreadyRunning, ControlError."""
        self._dir = run_dir
        gid = _gid(group) if group else -1
        self._lock = -1
        self._made: list[Path] = []
        self._listeners: list[socket.socket] = []
        try:
            _own_directory(run_dir)
            self._lock = _lock(run_dir / LOCK)
            self.read = self._listen(READ_SOCKET, 0o660, gid)
            self.write = self._listen(WRITE_SOCKET, 0o600, -1)
            self._token = _new_token(run_dir / TOKEN)
            self._made.append(run_dir / TOKEN)
        except OSError as error:
            self.close()
            raise ControlError(
                f"{error.filename or run_dir}: {error.strerror}: the control sockets need a "
                "directory that this process may write (run_dir)"
            ) from error
        except ControlError:
            self.close()
            raise

    def is_token(self, text: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._token.encode())

    def close(self) -> None:
        """Remove sockets and token, then let go of the lock; safe to call twice."""
        for listener in self._listeners:
            listener.close()
        for path in self._made:
            path.unlink(missing_ok=True)
        self._listeners, self._made = [], []
        if self._lock >= 0:
            # The lock's file stays: removing it would let two newcomers lock two different files.
            os.close(self._lock)
            self._lock = -1

    def _listen(self, name: str, mode: int, gid: int) -> socket.socket:
        path = self._dir / name
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise ControlError(f"{path} is too long for a socket: choose a shorter run_dir")
        _make_way(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listeners.append(listener)
        listener.bind(os.fspath(path))
        self._made.append(path)
        # Nobody can connect before listen(), so there is no moment with a wider mode.
        os.chmod(path, mode)
        if gid >= 0:
            try:
                os.chown(path, -1, gid)
            except PermissionError as error:
                raise ControlError(
                    f"{path} cannot be given to group {grp.getgrgid(gid).gr_name}: run the gateway "
                    "as root or as a member of that group, or change `group`"
                ) from error
        listener.setblocking(False)
        listener.listen(BACKLOG)
        return listener


def leave_panic_flag(run_dir: Path) -> Path:
    """Leave word for a gateway that starts later. Raises OSError."""
    run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = run_dir / PANIC
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644))
    return path


def panicked(run_dir: Path) -> bool:
    """True where `panic` was called and enforcement was not turned on by hand since."""
    return (run_dir / PANIC).exists()


def forget_panic(run_dir: Path) -> None:
    """Enforcement was turned on by hand."""
    (run_dir / PANIC).unlink(missing_ok=True)


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ControlError(
            f"group {group!r} does not exist: create it (groupadd {group}), or change `group`"
        ) from error


def _own_directory(path: Path) -> None:
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = path.stat()
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if others or found.st_uid not in (0, os.geteuid()):
        raise ControlError(
            f"{path} can be written by others, who could put sockets of their own there: "
            f"chown root {path} && chmod 755 {path}"
        )


def _lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    # Not for others to read: flock(2) takes any descriptor, and whoever held it first could keep a
    # gateway that has died from coming back.
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise AlreadyRunning(
            f"a gateway is already running at {path.parent} (process {holder}): stop it first, "
            "or give this one a run_dir of its own"
        ) from error
    os.fchmod(descriptor, 0o600)  # one that an earlier release has left
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _make_way(path: Path) -> None:
    """Remove a dead gateway's socket; what is anything else stays."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ControlError(f"{path} is in the way and is no socket: remove it")
    if _answers(path):  # somebody has removed the lock's file under a live gateway
        raise AlreadyRunning(f"a gateway already listens at {path}: stop it first")
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:  # alive, its backlog is full
            return True
        except OSError:
            return False
    return True


def _new_token(path: Path) -> str:
    token = secrets.token_hex(32)
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, token.encode())
    finally:
        os.close(descriptor)
    return token
